"""The deduplication window is exact against a plain set, also when writes are undone."""

from hypothesis import given
from hypothesis import strategies as st

from eventmill.store.local.dedup import BUCKET_SECONDS, DedupWindow, hash_ids

ids = st.lists(st.integers(0, 12).map(lambda n: b"id-%d" % n), min_size=1, max_size=8)


def admit(window, keys, now):
    """Admit one batch alone; return its places."""
    (places,) = window.admit([keys], now)
    return list(places)


@given(st.lists(st.tuples(st.lists(ids, min_size=1, max_size=4), st.booleans()), max_size=12))
def test_the_window_answers_as_a_plain_set_would_also_after_undone_writes(steps):
    window = DedupWindow(86_400)
    stored = set()
    for group, fails in steps:
        expected, before = [], set(stored)
        for insert_ids in group:
            expected.append([])
            for index, insert_id in enumerate(insert_ids):
                if insert_id in stored:
                    expected[-1].append(index)
                stored.add(insert_id)
        repeated = window.admit([hash_ids(insert_ids, 7) for insert_ids in group], 1000.0)
        assert [list(places) for places in repeated] == expected
        if fails:
            window.forget()
            stored = before
        assert len(window) == len(stored)


def test_of_a_batch_that_repeats_another_of_its_group_the_rest_is_new():
    window = DedupWindow(86_400)
    first, second = hash_ids([b"a", b"b"], 1), hash_ids([b"b", b"c"], 1)
    assert window.admit([first, second], 5.0) == [[], [0]]
    window.forget()
    assert len(window) == 0
    assert admit(window, second, 5.0) == []


def test_what_is_undone_is_the_latest_group_and_no_other():
    window = DedupWindow(86_400)
    kept, repeated, gone = hash_ids([b"kept", b"kept", b"gone"], 1)
    assert admit(window, [kept], 5.0) == []
    assert admit(window, [repeated, gone], 5.0) == [0]
    window.forget()
    assert admit(window, [kept, gone], 5.0) == [0]
    assert admit(window, [repeated], 5.0) == [0]
    window.forget()  # the latest group had nothing new
    assert len(window) == 2


def test_an_id_is_known_for_the_whole_window_and_dropped_an_hour_later_at_most():
    window = DedupWindow(2 * BUCKET_SECONDS)
    keys = hash_ids([b"x"], 1)
    admit(window, keys, 100.0)
    window.expire(100.0 + 2 * BUCKET_SECONDS)
    assert admit(window, keys, 100.0 + 2 * BUCKET_SECONDS) == [0]
    assert window.expire(100.0 + 3 * BUCKET_SECONDS + 1) == 1
    assert admit(window, keys, 100.0 + 3 * BUCKET_SECONDS + 1) == []


def test_restored_ids_are_duplicates_and_expire_by_the_time_they_were_stored():
    window = DedupWindow(BUCKET_SECONDS)
    keys = hash_ids([b"old", b"new"], 1)
    now = 3 * BUCKET_SECONDS
    window.restore(keys[:1], 2 * BUCKET_SECONDS, now)
    window.restore(keys[1:], now, now)
    window.restore(keys, now, now)  # seen twice, as after a race with compaction
    assert window.expire(now + BUCKET_SECONDS) == 1
    assert admit(window, keys, now + BUCKET_SECONDS) == [1]


def test_an_id_stored_again_after_the_window_is_known_by_its_later_time_after_a_restart():
    window = DedupWindow(BUCKET_SECONDS)
    keys = hash_ids([b"again"], 1)
    now = 5 * BUCKET_SECONDS
    window.restore(keys, 0.0, now)
    window.restore(keys, now, now)
    window.expire(now)
    assert admit(window, keys, now) == [0]


def test_a_window_of_zero_finds_repeats_only_within_one_batch():
    window = DedupWindow(0)
    keys = hash_ids([b"a", b"b", b"a"], 1)
    assert admit(window, keys, 1.0) == [2]
    assert admit(window, keys, 1.0) == [2]
    window.forget()
    assert len(window) == 0


def test_the_seed_changes_every_hash():
    assert hash_ids([b"a"], 1) != hash_ids([b"a"], 2)
    assert len(hash_ids([b"a"], 1)[0]) == 16
