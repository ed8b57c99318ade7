"""``flush``, ``close`` and ``stats`` come back in time, whatever hangs."""

import os
import threading
import time

import pytest

from eventmill.base.errors import UnavailableError
from eventmill.client import live
from eventmill.client.batch_uploader import BatchUploader
from eventmill.client.prometheus import prometheus_text
from eventmill.client.spool import segment
from eventmill.client.spool.owner import is_locked, orphans
from eventmill.testing.events import build_type

Build = build_type().cls
WAIT = 10.0
MUCH = 3.0
"""Seconds that a call may take which is to take 0.1: two busy cores are two busy cores."""


class Gate:
    """Where calls hang until it is opened; ``arrived`` is set by the first of them."""

    def __init__(self):
        self.arrived = threading.Event()
        self.opened = threading.Event()

    def pass_through(self):
        self.arrived.set()
        assert self.opened.wait(30)


@pytest.fixture
def gate():
    gate = Gate()
    yield gate
    gate.opened.set()


@pytest.fixture
def uploader_of(sink, tmp_path, gate):
    made = []

    def make(**options):
        options = {"spool_dir": str(tmp_path), "flush_interval_seconds": 0.0, **options}
        made.append(BatchUploader(sink, "contract.builds", **options))
        return made[-1]

    yield make
    sink.gate.set()
    gate.opened.set()
    for uploader in made:
        uploader.close(WAIT)


def in_time(call, *arguments):
    begun = time.monotonic()
    result = call(*arguments)
    assert time.monotonic() - begun < MUCH
    return result


def until(condition):
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.mark.parametrize("durability", ["memory", "process", "host"])
def test_a_sink_that_hangs_delays_nobody(uploader_of, sink, durability):
    options = {"spool_dir": None} if durability == "memory" else {}
    events = uploader_of(durability=durability, **options)
    sink.gate.clear()
    events.stage(Build())
    assert sink.arrived.wait(WAIT)
    events.stage(Build())
    assert in_time(events.flush, 0.1) == 2
    assert in_time(events.flush, 0) == 2
    assert in_time(events.close, 0.1) == 2


def hang_in_fdatasync(monkeypatch, gate):
    real = os.fdatasync

    def fdatasync(descriptor):
        gate.pass_through()
        real(descriptor)

    monkeypatch.setattr(segment.os, "fdatasync", fdatasync)


@pytest.mark.parametrize("durability", ["process", "host"])
def test_a_disk_that_hangs_in_a_sync_delays_nobody(
    uploader_of, sink, monkeypatch, gate, durability
):
    hang_in_fdatasync(monkeypatch, gate)
    events = uploader_of(durability=durability)
    with pytest.raises(UnavailableError, match=r"not synced within 0\.1 s"):
        in_time(events.stage_and_wait, Build(name="a"), "a", 0.1)
    assert gate.arrived.wait(WAIT)
    assert events.stage(Build(name="b"), insert_id="b")
    assert in_time(events.flush, WAIT) == 0  # events are sent all the same
    assert set(sink.rows) == {b"a", b"b"}
    assert in_time(events.close, 0.1) == 0
    # What the hanging thread uses stays as it is, and goes when that thread comes back.
    (folder,) = orphans(events.spool_folder)
    assert is_locked(folder)
    gate.opened.set()
    until(lambda: not list(orphans(events.spool_folder)))


def test_what_is_left_under_a_disk_that_hangs_is_sent_once_it_comes_back(
    uploader_of, sink, monkeypatch, gate
):
    hang_in_fdatasync(monkeypatch, gate)
    events = uploader_of(durability="host")
    sink.gate.clear()
    events.stage(Build(), insert_id="left")
    assert gate.arrived.wait(WAIT)
    assert in_time(events.close, 0.1) == 1
    sink.gate.set()
    sink.rows.clear()
    (folder,) = orphans(events.spool_folder)
    assert is_locked(folder)
    gate.opened.set()
    until(lambda: not is_locked(folder))
    heir = uploader_of()
    heir.stage(Build(), insert_id="next")
    until(lambda: set(sink.rows) == {b"left", b"next"})


def test_a_disk_that_hangs_in_a_write_delays_only_who_stages(
    uploader_of, sink, monkeypatch, gate, caplog
):
    real = os.pwrite

    def pwrite(descriptor, content, offset):
        if b"hangs" in content:
            gate.pass_through()
        return real(descriptor, content, offset)

    monkeypatch.setattr(segment.os, "pwrite", pwrite)
    events = uploader_of()
    sink.gate.clear()
    events.stage(Build(name="a"))
    assert sink.arrived.wait(WAIT)
    hanging = threading.Thread(target=events.stage, args=(Build(name="hangs"),))
    hanging.start()
    assert gate.arrived.wait(WAIT)
    assert not events._lock.acquire(timeout=0.01)
    assert in_time(events.stats).left >= 1
    assert "eventmill_uploader_left_events" in in_time(prometheus_text, events)
    assert in_time(events.flush, 0.1) >= 1
    assert in_time(events.close, 0.1) >= 1
    assert "hangs" in caplog.text
    gate.opened.set()
    hanging.join(WAIT)
    assert not hanging.is_alive()


def test_a_signal_that_strikes_under_the_lock_may_flush_and_close(uploader_of, sink):
    events = uploader_of()
    with events._lock:  # where the thread is that the signal's function runs in
        events.stage(Build())
        assert in_time(events.flush, WAIT) == 0
        assert len(sink.rows) == 1
        events.stage(Build())
        assert in_time(events.close, 0.5) == 0
    assert len(sink.rows) == 2


def test_who_waits_for_a_sync_when_the_uploader_is_closed_is_told(uploader_of, monkeypatch, gate):
    hang_in_fdatasync(monkeypatch, gate)
    events = uploader_of()
    told = []
    events.stage(Build())
    events.begin_sync_wait(told.append)
    assert gate.arrived.wait(WAIT)
    events.stage(Build())
    events.begin_sync_wait(told.append)  # for the sync after the one that hangs
    closing = threading.Thread(target=events.close, args=(WAIT,))
    closing.start()
    until(lambda: events._syncing._stopping.is_set())
    assert told == []
    gate.opened.set()
    closing.join(WAIT)
    assert told == [None, None]
    events.begin_sync_wait(told.append)
    until(lambda: len(told) == 3)
    assert isinstance(told[2], OSError)
    until(lambda: not events._syncing.running)


def test_the_thread_that_syncs_rests_while_nobody_waits(uploader_of, monkeypatch):
    events = uploader_of()
    looks = []
    real = events._syncing._sync
    monkeypatch.setattr(events._syncing, "_sync", lambda: (looks.append(1), real()))
    assert events.stage_and_wait(Build(), timeout_seconds=WAIT)
    time.sleep(0.05)
    assert 1 <= len(looks) <= 3


def test_the_end_of_the_program_waits_for_all_uploaders_together(
    uploader_of, sink, monkeypatch, tmp_path
):
    monkeypatch.setattr(live, "EXIT_SECONDS_MAX", 0.3)
    sink.gate.clear()
    hanging = [uploader_of(spool_dir=str(tmp_path / str(number))) for number in range(20)]
    kept = uploader_of(close_at_exit=False)
    for uploader in hanging:
        uploader.stage(Build())
    in_time(live._close_at_exit)
    assert all(uploader._is_closed for uploader in hanging)
    assert kept.stage(Build())


def test_without_a_second_thread_the_first_sends_everything(uploader_of, sink, monkeypatch):
    events = uploader_of(batch_bytes=2000)
    events.stage(Build())
    assert events.flush(WAIT) == 0
    calls = []

    def no_thread(self):
        calls.append(self.name)
        raise RuntimeError("can't start new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    sink.gate.clear()
    for _ in range(100):
        events.stage(Build(name="x" * 100))
    sink.gate.set()
    assert events.flush(WAIT) == 0
    assert calls
    assert len(sink.rows) == 101


def test_without_any_thread_events_wait_and_the_next_stage_tries_again(
    uploader_of, sink, monkeypatch, caplog
):
    events = uploader_of()

    def no_thread(self):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_thread)
        for _ in range(3):
            assert events.stage(Build())
        assert in_time(events.flush, 0.05) == 3
    assert caplog.text.count("can't start new thread") == 1
    events.stage(Build())
    assert events.flush(WAIT) == 0
    assert len(sink.rows) == 4
