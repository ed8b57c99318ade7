"""Draining a spool: what ended processes left is sent once, and nothing else is touched."""

import errno
import os
import threading
from pathlib import Path

import pytest
from drain_world import (
    FINGERPRINT,
    drain_of,
    drained,
    header_of,
    left,
    living,
    names_in,
    segment_of,
    table_folder,
    waiting,
)
from file_steps import FileSteps
from spool_world import WAIT, refusing

from eventmill.base.errors import (
    AccessError,
    BackPressureError,
    BatchError,
    PermanentError,
    TableNotFoundError,
    UnavailableError,
)
from eventmill.client.drain import bring_back
from eventmill.client.spool.dead import dead_letters_in
from eventmill.client.spool.owner import OwnerFolder, is_locked
from eventmill.testing.events import build
from eventmill.testing.fakes import FakeClock

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no spool on this system")


@pytest.fixture
def spool(tmp_path):
    return tmp_path / "spool"


# -- what is sent -------------------------------------------------------------------------------


def test_what_several_processes_left_is_sent_once_as_it_was_staged(sink, spool):
    left(spool, "1-a", *[f"a{n}" for n in range(30)], segment_bytes=300)
    left(spool, "2-b", "b0", "b1")
    steps = []
    work = drain_of(sink, spool)
    assert work.run(60.0, lambda: steps.append(work.found_bytes - work.left_bytes))
    expected = {name.encode(): build(name) for name in [*(f"a{n}" for n in range(30)), "b0", "b1"]}
    assert sink.rows == expected
    assert {batch.fingerprint for batch in sink.batches} == {FINGERPRINT}
    assert (work.tally.accepted, work.tally.duplicates) == (32, 0)
    assert steps == sorted(steps)
    assert steps[-1] == work.found_bytes > 0
    assert names_in(spool) == []
    # Once: whoever wants more makes another.
    left(spool, "3-c", "c0")
    assert work.run(60.0, lambda: None)
    assert waiting(spool) == {"ended": 1}
    assert not is_locked(str(table_folder(spool) / "3-c"))


def test_what_living_processes_and_other_drains_have_is_not_touched(sink, spool):
    own = living(spool, "1-living", "mine")
    held = left(spool, "2-held", "theirs")
    other = OwnerFolder.adopt(str(held))
    left(spool, "3-ended", "left")
    before = segment_of(own.path).read_bytes()
    assert drained(sink, spool)[1]
    assert list(sink.rows) == [b"left"]
    assert segment_of(own.path).read_bytes() == before
    assert waiting(spool) == {"living": 2}
    other.release()
    drained(sink, spool)
    assert set(sink.rows) == {b"left", b"theirs"}
    assert len(own.take_all()) == 1


def test_drains_at_the_same_time_send_each_event_once(sink, spool):
    for turn in range(15):
        for number in range(4):
            left(spool, f"{number}-{turn}", f"{turn}.{number}.a", f"{turn}.{number}.b")
        works = [drain_of(sink, spool) for _ in range(3)]
        start = threading.Barrier(len(works))

        def run(work, start=start):
            start.wait(WAIT)
            work.run(60.0, lambda: None)

        threads = [threading.Thread(target=run, args=(work,)) for work in works]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT)
        assert sum(work.tally.accepted for work in works) == 8
        assert sum(work.tally.duplicates for work in works) == 0
        assert names_in(spool) == []


def test_what_ends_while_a_drain_runs_is_sent_as_well(sink, spool):
    left(spool, "1-a", "a")
    work = drain_of(sink, spool)
    late = iter(["b"])
    assert work.run(60.0, lambda: [left(spool, "2-b", name) for name in late])
    assert set(sink.rows) == {b"a", b"b"}


def test_rows_are_encoded_and_those_that_do_not_fit_go_to_quarantine(sink, spool):
    rows = [("row", b'{"name": "row", "ok": true}'), ("bad", b'{"seconds": "soon"}')]
    left(spool, "1-a", "first", rows=rows)
    work, is_done = drained(sink, spool)
    assert is_done
    assert sink.rows == {b"first": build("first"), b"row": build("row", ok=True)}
    assert [(event.insert_id, event.field) for event in sink.quarantined] == [("bad", "seconds")]
    assert (work.tally.accepted, work.tally.rejected) == (2, 1)
    assert names_in(spool) == []


# -- damage -------------------------------------------------------------------------------------


def test_damaged_events_are_kept_aside_and_counted(sink, spool):
    path = segment_of(left(spool, "1-a", "a0", "a1", "a2"))
    content = bytearray(path.read_bytes())
    content[content.index(build("a1"))] ^= 0xFF
    path.write_bytes(content)
    work, is_done = drained(sink, spool)
    assert is_done
    assert set(sink.rows) == {b"a0", b"a2"}
    assert work.damaged_count == 1
    (kept,) = table_folder(spool).joinpath(".damaged").glob("1-a-1-*.bin")
    assert b"a1" in kept.read_bytes()
    assert names_in(spool) == []
    assert waiting(spool) == {"damaged": 0}, "bytes are there, but no events any more"


@pytest.mark.parametrize("cut", [1, 10, 25])
def test_a_torn_end_was_never_staged(sink, spool, cut):
    path = segment_of(left(spool, "1-a", "a0", "a1"))
    path.write_bytes(path.read_bytes()[:-cut])
    work, is_done = drained(sink, spool)
    assert is_done
    assert set(sink.rows) == {b"a0"}
    assert work.damaged_count == 0
    assert names_in(spool) == []


@pytest.mark.parametrize("at", [0, 3, 25, 60])
def test_a_damaged_header_costs_no_event(sink, spool, at):
    path = segment_of(left(spool, "1-a", "a0", "a1"))
    content = bytearray(path.read_bytes())
    content[at] ^= 0xFF
    path.write_bytes(content)
    _, is_done = drained(sink, spool)
    assert is_done
    assert set(sink.rows) == {b"a0", b"a1"}
    assert {batch.fingerprint for batch in sink.batches} == {""}
    assert names_in(spool) == []


# -- waiting ------------------------------------------------------------------------------------


def test_time_mends_what_it_can(sink, spool):
    left(spool, "1-a", "a")
    sink.errors = [UnavailableError("down"), BackPressureError("slow", retry_after_seconds=7.0)]
    clock = FakeClock()
    work = drain_of(sink, spool, clock)
    assert work.run(60.0, lambda: None)
    assert set(sink.rows) == {b"a"}
    assert len(clock.slept) == 2
    assert clock.slept[1] == 7.0
    assert work.why_waiting == ""


def test_when_time_is_over_the_rest_is_left_and_nothing_is_locked(sink, spool):
    left(spool, "1-a", "a")
    left(spool, "2-b", "b")
    sink.errors = [None, *[BackPressureError("slow down", retry_after_seconds=50.0)] * 9]
    clock = FakeClock()
    work = drain_of(sink, spool, clock)
    assert not work.run(120.0, lambda: None)
    assert clock.monotonic() == 120.0
    assert set(sink.rows) == {b"a"}
    assert work.why_waiting == "slow down"
    assert waiting(spool) == {"ended": 1}
    sink.errors.clear()
    assert drained(sink, spool)[1]
    assert set(sink.rows) == {b"a", b"b"}


def test_without_time_nothing_is_sent_and_nothing_locked(sink, spool):
    left(spool, "1-a", "a")
    _, is_done = drained(sink, spool, timeout_seconds=0.0)
    assert not is_done
    assert not sink.rows
    assert waiting(spool) == {"ended": 1}


@pytest.mark.parametrize("error", [TableNotFoundError("no table"), AccessError("not allowed")])
@pytest.mark.parametrize("where", ["put", "describe"])
def test_what_somebody_must_mend_is_told_at_once_and_makes_no_dead_letters(
    sink, spool, error, where
):
    left(spool, "1-a", "a")
    if where == "put":
        sink.errors = [error]
    else:
        sink.describe_error = error
    clock = FakeClock()
    work = drain_of(sink, spool, clock)
    assert not work.run(300.0, lambda: None)
    assert clock.slept == []
    assert work.why_waiting == str(error)
    assert waiting(spool) == {"ended": 1}
    sink.describe_error = None
    assert drained(sink, spool)[1]
    assert set(sink.rows) == {b"a"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, MemoryError])
def test_whatever_breaks_it_off_leaves_events_without_a_lock(sink, spool, error):
    left(spool, "1-a", "a")
    left(spool, "2-b", "b")
    sink.errors = [None, error()]
    work = drain_of(sink, spool)
    with pytest.raises(error):
        work.run(60.0, lambda: None)
    assert work.tally.accepted == 1
    assert waiting(spool) == {"ended": 1}
    assert drained(sink, spool)[1]
    assert set(sink.rows) == {b"a", b"b"}


def test_ctrl_c_while_it_takes_over_leaves_no_lock_behind(sink, spool, monkeypatch):
    path = left(spool, "1-a", "a", "b", segment_bytes=60)
    work = drain_of(sink, spool)
    real, calls = os.pread, []

    def pread(*args):
        calls.append(args)
        if len(calls) == 2:  # the checkpoint was read, and now a header
            raise KeyboardInterrupt
        return real(*args)

    before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else None
    monkeypatch.setattr(os, "pread", pread)
    with pytest.raises(KeyboardInterrupt):
        work.run(60.0, lambda: None)
    monkeypatch.undo()
    assert not is_locked(str(path))
    if before is not None:
        assert len(os.listdir("/proc/self/fd")) == before
    assert drained(sink, spool)[1]
    assert set(sink.rows) == {b"a", b"b"}


# -- dead letters -------------------------------------------------------------------------------


def test_what_is_not_taken_becomes_a_dead_letter_and_can_be_sent_again(sink, spool):
    left(spool, "1-a", "a0", "a1")
    left(spool, "2-b", "b0")
    sink.errors = [PermanentError("no thanks")]
    work, is_done = drained(sink, spool)
    assert is_done
    assert work.undelivered_why == "no thanks"
    assert work.tally.undelivered == {"PermanentError": 2}
    assert set(sink.rows) == {b"b0"}
    assert waiting(spool) == {"dead letters": 2}
    (path,) = map(Path, dead_letters_in(str(table_folder(spool))))
    assert header_of(path)["error"] == "no thanks"
    # Nobody sends them unasked.
    drained(sink, spool)
    assert waiting(spool) == {"dead letters": 2}
    assert bring_back(str(table_folder(spool))) == 1
    assert waiting(spool) == {"ended": 2}
    assert drained(sink, spool)[1]
    assert {name: sink.rows[name] for name in (b"a0", b"a1")} == {
        b"a0": build("a0"), b"a1": build("a1"),
    }  # fmt: skip
    assert sink.batches[-1].fingerprint == FINGERPRINT
    assert names_in(spool) == []


def test_of_a_batch_that_one_event_spoils_that_one_is_a_dead_letter(sink, spool):
    names = [f"a{n}" for n in range(20)]
    left(spool, "1-a", *names)
    real = sink.put

    def put(batch, *, timeout_seconds=None):
        if b"a13" in batch.insert_ids:
            raise BatchError("spoilt")
        return real(batch, timeout_seconds=timeout_seconds)

    sink.put = put
    assert drained(sink, spool)[1]
    assert set(sink.rows) == {name.encode() for name in names} - {b"a13"}
    assert waiting(spool) == {"dead letters": 1}


@pytest.mark.parametrize(("name", "from_call"), [("mkdir", 1), ("fdatasync", 1), ("rename", 1)])
def test_a_dead_letter_that_cannot_be_written_leaves_its_events(
    sink, spool, monkeypatch, name, from_call
):
    left(spool, "1-a", "a0")
    sink.errors = [PermanentError("no thanks")]
    work = drain_of(sink, spool)
    monkeypatch.setattr(os, name, refusing(errno.ENOSPC))
    with pytest.raises(OSError, match="No space"):
        work.run(60.0, lambda: None)
    monkeypatch.undo()
    assert waiting(spool) == {"ended": 1}
    assert work.tally.undelivered == {}
    # Tried again and again, it would fill the disk.
    assert not list(table_folder(spool).glob(".dead/*"))
    assert drained(sink, spool)[1]
    assert set(sink.rows) == {b"a0"}


def test_what_was_taken_is_counted_even_if_the_dead_letter_beside_it_fails(
    sink, spool, monkeypatch
):
    left(spool, "1-a", "a0", "a1")
    sink.errors = [BatchError("spoilt"), None, BatchError("spoilt")]
    work = drain_of(sink, spool)
    monkeypatch.setattr(os, "fdatasync", refusing(errno.EIO))
    with pytest.raises(OSError, match="Input/output"):
        work.run(60.0, lambda: None)
    assert work.tally.accepted == 1
    assert waiting(spool) == {"ended": 2}


def test_a_dead_letter_survives_a_power_cut_before_its_events_leave_the_spool(sink, spool):
    source = str(segment_of(left(spool, "1-a", "a0")))
    sink.errors = [PermanentError("no thanks")]
    with FileSteps() as steps:
        assert drained(sink, spool)[1]
    (dead,) = dead_letters_in(str(table_folder(spool)))
    unfinished = str(Path(dead).parent / f".new-{Path(dead).name}")
    table = str(table_folder(spool))
    gone = steps.seen.index(("unlink", source))
    order = [
        steps.seen.index(step)
        for step in [
            ("fdatasync", unfinished),
            ("rename", unfinished),
            ("fsync", f"{table}/.dead"),
            ("fsync", table),
        ]
    ]
    assert order == sorted(order)
    assert order[-1] < gone
    assert not [step for step in steps.seen[:gone] if step[0] == "pwrite" and "acked" in step[1]]
