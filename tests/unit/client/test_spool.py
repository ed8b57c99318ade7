"""The spool: what is read back after any end of a process, any cut, and any damaged byte."""

import errno
import os
import random
import shutil
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spool_world import (
    SALT,
    WAIT,
    Owner,
    adopted_from,
    decoded,
    full_disk,
    numbers_of,
    record,
    refuse_opens,
)

from eventmill.client.spool.owner import OwnerFolder, is_locked
from eventmill.client.spool.reading import read_records
from eventmill.client.spool.record import (
    ENCODED,
    HEAD_BYTES,
    HEADER,
    ROW,
    decode_records,
    encode_record,
)
from eventmill.client.spool.segment import MemorySegment
from eventmill.client.spool.spool import SpoolFullError

# -- records ------------------------------------------------------------------------------------


@given(
    st.lists(
        st.tuples(st.sampled_from([ENCODED, ROW]), st.binary(max_size=9), st.binary(max_size=99)),
        max_size=8,
    ),
    st.floats(allow_nan=False),
    st.integers(0, 2**32 - 1),
)
def test_records_are_read_as_they_were_written(events, staged_at, salt):
    content = b"".join(encode_record(*event, staged_at, salt=salt) for event in events)
    found = decode_records(content, salt=salt, count_max=99, bytes_max=1 << 20, is_rest=True)
    assert list(zip(found.ids, found.payloads, strict=True)) == [event[1:] for event in events]
    assert found.rows == [place for place, event in enumerate(events) if event[0] == ROW]
    assert found.staged_at == (staged_at if events else None)
    assert (found.end, found.damaged) == (len(content), [])


@pytest.mark.parametrize("is_rest", [True, False])
def test_a_segment_cut_at_any_byte_gives_every_whole_record_before_the_cut(is_rest):
    records = [record(number, 10 + number) for number in range(6)]
    content = b"".join(records)
    ends = [len(b"".join(records[: count + 1])) for count in range(len(records))]
    for cut in range(len(content) + 1):
        found = decoded(content[:cut], is_rest=is_rest)
        whole = sum(end <= cut for end in ends)
        assert found.ids == [b"id-%d" % number for number in range(whole)], cut
        assert found.damaged == [], cut


def test_what_is_handed_out_at_once_is_limited_but_never_nothing():
    content = b"".join(record(number, 100) for number in range(10))
    one = len(record(0, 100))
    assert len(decoded(content, count_max=3).ids) == 3
    assert len(decoded(content, bytes_max=4 * one).ids) == 4
    assert len(decoded(content, bytes_max=1).ids) == 1


def forged_payload():
    """Return an event that is a piece of another owner's spool, record for record."""
    return b"".join(
        encode_record(ENCODED, b"forged-%d" % number, b"f" * 30, 1.0, salt=SALT + 1)
        for number in range(200)
    )


@pytest.mark.parametrize("bytes_max", [1, 64, 1 << 20])
def test_records_within_an_event_are_never_taken_for_events(bytes_max):
    memory = MemorySegment(1, SALT)
    memory.append(encode_record(HEADER, b"", b"{}", 0.0, salt=SALT))
    for insert_id in (b"outer-1", b"outer-2"):
        memory.append(encode_record(ENCODED, insert_id, forged_payload(), 1.0, salt=SALT))
    ids, at = [], 0
    while at < memory.size:
        found = read_records(memory, at, memory.size, bytes_max, 10_000)
        assert found.damaged == []
        ids += found.ids
        at += found.end
    assert ids == [b"outer-1", b"outer-2"]


def test_records_within_a_torn_or_damaged_event_are_not_taken_for_events_either():
    outer = encode_record(ENCODED, b"outer", forged_payload(), 1.0, salt=SALT)
    content = outer + record(1)
    # In the head every byte, further on some: the search for the next record is the same.
    for at in [*range(HEAD_BYTES + 60), *range(HEAD_BYTES + 60, len(outer), 97)]:
        damaged = bytearray(content)
        damaged[at] ^= 0xFF
        found = decoded(bytes(damaged))
        assert (found.ids, found.damaged) == ([b"id-1"], [(0, len(outer))]), at
        assert decoded(content[:at]).ids == []


def test_a_segment_sent_as_an_event_is_not_read_as_events_even_if_its_own_head_is_lost(tmp_path):
    one = Owner(tmp_path, "one")
    one.append(1, 2, 3)
    (name,) = [name for name in os.listdir(one.path) if name.endswith(".seg")]
    other = Owner(tmp_path, "other")
    event = encode_record(
        ENCODED, b"id-4", (one.path / name).read_bytes(), 1.0, salt=other.spool.salt
    )
    with other.spool.lock:
        other.spool.append(event, "")
    other.crash()
    content = (other.path / name).read_bytes()
    at = content.index(event)
    (other.path / name).write_bytes(content[:at] + b"?" + content[at + 1 :])
    heir, taken = adopted_from(tmp_path)
    assert taken == []
    assert heir.spool.dropped == {"damaged": 1}


# -- any damage, seen from the one who adopts ---------------------------------------------------


def test_any_damaged_byte_costs_its_own_event_which_is_kept_and_counted(tmp_path):
    left = Owner(tmp_path / "left", "gone")
    left.append(*range(5), size=3)
    left.crash()
    (name,) = [name for name in os.listdir(left.path) if name.endswith(".seg")]
    content = (left.path / name).read_bytes()
    header_bytes = len(content) - 5 * (HEAD_BYTES + len(b"id-0") + 3)
    for at in range(len(content)):
        for mask in (0x01, 0x0D, 0x80, 0xFF):  # 0x0D makes an event a header
            folder = tmp_path / f"{at}-{mask}"
            shutil.copytree(tmp_path / "left", folder)
            damaged = bytearray(content)
            damaged[at] ^= mask
            (folder / "gone" / name).write_bytes(damaged)
            heir, taken = adopted_from(folder)
            hit = (at - header_bytes) // (HEAD_BYTES + 7) if at >= header_bytes else None
            assert numbers_of(taken) == [n for n in range(5) if n != hit], (at, mask)
            assert heir.spool.dropped["damaged"] == (hit is not None), (at, mask)
            assert heir.spool.adopted_count == 5, (at, mask)
            (kept,) = (folder / ".damaged").iterdir()
            assert kept.read_bytes() in bytes(damaged)
            assert len(kept.read_bytes()) == (header_bytes if hit is None else HEAD_BYTES + 7)
            for each in taken:
                heir.spool.settle(each)
            heir.spool.close()
            assert not (folder / "gone").exists()
            shutil.rmtree(folder)


def test_a_torn_end_is_ignored_without_an_error(tmp_path, caplog):
    left = Owner(tmp_path / "left", "gone")
    left.append(1, 2, 3, size=5)
    left.crash()
    (name,) = [name for name in os.listdir(left.path) if name.endswith(".seg")]
    content = (left.path / name).read_bytes()
    one = HEAD_BYTES + len(b"id-1") + 5
    for cut in range(len(content) + 1):
        folder = tmp_path / str(cut)
        shutil.copytree(tmp_path / "left", folder)
        (folder / "gone" / name).write_bytes(content[:cut])
        heir, taken = adopted_from(folder)
        whole = max(0, 3 - -((cut - len(content)) // one))
        assert numbers_of(taken) == list(range(1, whole + 1)), cut
        assert not heir.spool.dropped
        for each in taken:
            heir.spool.settle(each)
        assert os.listdir(folder) == [], cut
    assert caplog.text == ""


def test_damage_under_a_living_owner_is_counted_and_nobody_waits_for_it(tmp_path):
    own = Owner(tmp_path)
    own.append(1, 2, 3)
    (name,) = [name for name in os.listdir(own.path) if name.endswith(".seg")]
    content = bytearray((own.path / name).read_bytes())
    content[-1] ^= 0xFF
    (own.path / name).write_bytes(content)
    taken = own.take_all()
    assert numbers_of(taken) == [1, 2]
    for each in taken:
        own.spool.settle(each)
    assert own.spool.dropped == {"damaged": 1}
    assert own.spool.left_of_first(3) == 0


# -- in and out ---------------------------------------------------------------------------------


@pytest.mark.parametrize("is_on_disk", [True, False])
def test_events_larger_than_a_batch_and_a_segment_pass_in_order(tmp_path, is_on_disk):
    own = Owner(tmp_path if is_on_disk else None, segment_bytes=2_000)
    own.append(*range(10), size=9_000)
    taken = own.take_all(bytes_max=1_000)
    assert numbers_of(taken) == list(range(10))
    assert len(taken) == 10
    for each in taken:
        own.spool.settle(each)
    assert own.spool.unread_bytes == 0
    assert own.spool.left_of_first(10) == 0


@pytest.mark.parametrize("seed", range(5))
def test_in_whatever_order_it_is_settled_a_crash_repeats_from_the_first_gap_on(tmp_path, seed):
    rng = random.Random(seed)
    own = Owner(tmp_path, segment_bytes=400)
    own.append(*range(30))
    taken = own.take_all(count_max=rng.randint(1, 4))
    settled = rng.sample(taken, rng.randrange(1, len(taken)))
    for each in settled:
        own.spool.settle(each)
    gap = min(numbers_of(each for each in taken if each not in settled))
    own.crash()
    heir, again = adopted_from(tmp_path)
    assert set(numbers_of(again)) >= set(range(30)) - set(numbers_of(settled))
    assert min(numbers_of(again)) == gap
    assert len(numbers_of(again)) == len(set(numbers_of(again)))
    assert {each.fingerprint for each in again} == {"fingerprint"}
    for each in rng.sample(again, len(again)):
        heir.spool.settle(each)
    heir.spool.close()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("damage", ["", "missing", "short", "flipped", "another's"])
def test_a_checkpoint_that_is_lost_costs_repeats_under_the_same_insert_ids(tmp_path, damage):
    own = Owner(tmp_path, segment_bytes=1_000)
    own.append(*range(20))
    first = own.take_all(count_max=5)[0]
    own.spool.settle(first)
    own.crash()
    acked = own.path / "acked"
    content = acked.read_bytes()
    if damage == "missing":
        acked.unlink()
    elif damage:
        changed = {"short": content[:7], "flipped": b"\xff" + content[1:], "another's": b"x" * 99}
        acked.write_bytes(changed[damage])
    _, again = adopted_from(tmp_path)
    assert numbers_of(again) == list(range(5 if damage == "" else 0, 20))


def test_a_folder_goes_when_all_is_acked_and_stays_otherwise(tmp_path):
    for is_settled in (True, False):
        own = Owner(tmp_path, str(is_settled), segment_bytes=300)
        own.append(*range(20))
        for each in own.take_all(count_max=3):
            if is_settled:
                own.spool.settle(each)
        own.spool.close()
        assert own.path.exists() is not is_settled
        assert not is_locked(str(own.path))


# -- adoption -----------------------------------------------------------------------------------


def test_only_what_a_process_has_left_is_adopted_and_empty_leftovers_are_removed(tmp_path):
    living = Owner(tmp_path, "living")
    living.append(1)
    gone = Owner(tmp_path, "gone")
    gone.append(3)
    gone.crash()
    for name, content in (("empty", None), ("no-record", b"")):
        folder = OwnerFolder.create(str(tmp_path), name)
        if content is not None:
            Path(folder.path, "0000000001.seg").write_bytes(content)
        folder.release()
    heir, taken = adopted_from(tmp_path)
    assert numbers_of(taken) == [3]
    assert sorted(os.listdir(tmp_path)) == ["gone", "living"]
    assert heir.spool.adopt() == 0
    # What an heir leaves has its own heir.
    heir.crash()
    _, taken = adopted_from(tmp_path, "second heir")
    assert numbers_of(taken) == [3]


def test_of_those_who_adopt_at_once_one_wins(tmp_path):
    for turn in range(30):
        folder = tmp_path / str(turn)
        for name in ("a", "b"):
            left = Owner(folder, name)
            left.append(1)
            left.crash()
        heirs = [Owner(folder, f"heir-{number}") for number in range(4)]
        start = threading.Barrier(len(heirs))

        def adopt(heir, start=start):
            start.wait(WAIT)
            heir.spool.adopt()
            for each in heir.take_all():
                heir.spool.settle(each)

        threads = [threading.Thread(target=adopt, args=(heir,)) for heir in heirs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT)
        assert sum(heir.spool.adopted_count for heir in heirs) == 2
        assert os.listdir(folder) == []


@pytest.mark.parametrize("from_call", [2, 4])
def test_a_folder_that_cannot_be_opened_whole_is_left_for_another(
    tmp_path, monkeypatch, caplog, from_call
):
    left = Owner(tmp_path, "gone", segment_bytes=100)
    left.append(1, 2, 3)
    left.crash()
    calls = refuse_opens(monkeypatch, errno.EMFILE, from_call=from_call)
    heir = Owner(tmp_path, "heir")
    assert heir.spool.adopt() == 0
    assert calls
    assert "cannot be taken over" in caplog.text
    monkeypatch.undo()
    assert not is_locked(str(left.path))
    heir.spool.adopt()
    assert numbers_of(heir.take_all()) == [1, 2, 3]


# -- limits -------------------------------------------------------------------------------------


def test_adopted_bytes_count_towards_the_limit(tmp_path):
    left = Owner(tmp_path, "gone", segment_bytes=1_000)
    left.append(*range(10), size=200)
    left.crash()
    heir = Owner(tmp_path, "heir", segment_bytes=1_000, bytes_max=3_000)
    heir.spool.adopt()
    assert heir.spool.bytes > 2_000
    with pytest.raises(SpoolFullError, match="quota"):
        heir.append(*range(10), size=200)
    assert 0 < heir.spool.staged_count < 5
    # What others left is not dropped for what is new.
    assert heir.drop_oldest() == heir.spool.staged_count
    for each in heir.take_all():
        heir.spool.settle(each)
    assert heir.spool.adopted_count == 10
    heir.append(*range(5), size=200)


def test_dropping_the_oldest_counts_exactly_and_never_what_is_on_its_way(tmp_path):
    own = Owner(tmp_path, segment_bytes=400)
    own.append(*range(40))
    on_its_way = own.spool.take(bytes_max=1 << 20, count_max=3)
    dropped = 0
    while count := own.drop_oldest():
        dropped += count
    assert dropped == 40 - 3 == own.spool.dropped["oldest"]
    assert own.spool.left_of_first(40) == 3
    own.append(40, 41)
    taken = own.take_all()
    assert numbers_of(taken) == [40, 41]
    own.crash()
    # Until it is settled, what was on its way is on the disk.
    _, again = adopted_from(tmp_path)
    assert set(numbers_of(again)) >= {*numbers_of([on_its_way]), 40, 41}


@pytest.mark.parametrize("fault", ["no space", "a part of it", "a part, which stays"])
def test_a_disk_without_space_leaves_nothing_half_written(tmp_path, monkeypatch, fault):
    own = Owner(tmp_path, segment_bytes=150)
    own.append(1)
    for number in (2, 3, 4):  # some of them would begin a segment
        before = own.spool.bytes
        full_disk(monkeypatch, fault, own.spool)
        with pytest.raises(SpoolFullError, match="disk"):
            own.append(number)
        monkeypatch.undo()
        assert own.spool.bytes == before
        own.append(number)
    taken = own.take_all()
    assert numbers_of(taken) == [1, 2, 3, 4]
    assert not own.spool.dropped
    for each in taken:
        own.spool.settle(each)
    own.spool.close()
    assert [name for name in os.listdir(tmp_path) if name != ".damaged"] == []
