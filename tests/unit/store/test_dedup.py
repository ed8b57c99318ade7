"""The deduplication window is exact against a plain set, also when writes are undone."""

from hypothesis import given
from hypothesis import strategies as st

from eventmill.store.local.dedup import BUCKET_SECONDS, DedupWindow, hash_ids

ids = st.lists(st.integers(0, 12).map(lambda n: b"id-%d" % n), min_size=1, max_size=8)


@given(st.lists(st.tuples(ids, st.booleans()), max_size=12))
def test_the_window_answers_as_a_plain_set_would_also_after_undone_writes(steps):
    window = DedupWindow(86_400)
    stored = set()
    undone = repeated = 0
    for insert_ids, fails in steps:
        keys = hash_ids(insert_ids, 7)
        expected, before = [], set(stored)
        for index, insert_id in enumerate(insert_ids):
            if insert_id in stored:
                expected.append(index)
            stored.add(insert_id)
        duplicates = window.admit(keys, 1000.0)
        assert list(duplicates) == expected
        repeated += len(expected)
        if fails:
            window.forget(keys, duplicates, 1000.0)
            stored = before
            undone += 1
        assert len(window) == len(stored)


def test_a_group_is_undone_in_reverse_order():
    window = DedupWindow(86_400)
    first, second = hash_ids([b"a", b"b"], 1), hash_ids([b"b", b"c"], 1)
    answers = [window.admit(first, 5.0), window.admit(second, 5.0)]
    assert list(answers[1]) == [0]
    window.forget(second, answers[1], 5.0)
    window.forget(first, answers[0], 5.0)
    assert len(window) == 0
    assert list(window.admit(second, 5.0)) == []


def test_an_id_is_known_for_the_whole_window_and_dropped_an_hour_later_at_most():
    window = DedupWindow(2 * BUCKET_SECONDS)
    keys = hash_ids([b"x"], 1)
    window.admit(keys, 100.0)
    window.expire(100.0 + 2 * BUCKET_SECONDS)
    assert list(window.admit(keys, 100.0 + 2 * BUCKET_SECONDS)) == [0]
    assert window.expire(100.0 + 3 * BUCKET_SECONDS + 1) == 1
    assert list(window.admit(keys, 100.0 + 3 * BUCKET_SECONDS + 1)) == []


def test_restored_ids_are_duplicates_and_expire_by_the_time_they_were_stored():
    window = DedupWindow(BUCKET_SECONDS)
    keys = hash_ids([b"old", b"new"], 1)
    now = 3 * BUCKET_SECONDS
    window.restore(keys[:1], 2 * BUCKET_SECONDS, now)
    window.restore(keys[1:], now, now)
    window.restore(keys, now, now)  # seen twice, as after a race with compaction
    assert window.expire(now + BUCKET_SECONDS) == 1
    assert list(window.admit(keys, now + BUCKET_SECONDS)) == [1]


def test_an_id_stored_again_after_the_window_is_known_by_its_later_time_after_a_restart():
    window = DedupWindow(BUCKET_SECONDS)
    keys = hash_ids([b"again"], 1)
    now = 5 * BUCKET_SECONDS
    window.restore(keys, 0.0, now)
    window.restore(keys, now, now)
    window.expire(now)
    assert list(window.admit(keys, now)) == [0]


def test_a_window_of_zero_finds_repeats_only_within_one_batch():
    window = DedupWindow(0)
    keys = hash_ids([b"a", b"b", b"a"], 1)
    assert list(window.admit(keys, 1.0)) == [2]
    assert list(window.admit(keys, 1.0)) == [2]
    window.forget(keys, [2], 1.0)
    assert len(window) == 0


def test_the_seed_changes_every_hash():
    assert hash_ids([b"a"], 1) != hash_ids([b"a"], 2)
    assert len(hash_ids([b"a"], 1)[0]) == 16
