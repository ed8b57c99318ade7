"""The threads that send: who takes what, and who is woken."""

import threading
import time

import pytest

from eventmill.base.errors import BackPressureError
from eventmill.client.batch_uploader import BatchUploader
from eventmill.testing.events import build_type

Build = build_type().cls
WAIT = 10.0
BATCH = 4_000


@pytest.fixture
def uploader_of(sink):
    made = []

    def make(**options):
        made.append(BatchUploader(sink, "contract.builds", **options))
        return made[-1]

    yield make
    sink.gate.set()
    for uploader in made:
        assert uploader.close(WAIT) == 0


def until(condition):
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def four_senders(uploader_of, sink):
    """Return an uploader whose four threads are free, having had a batch each at one time."""
    events = uploader_of(batch_bytes=BATCH, flush_interval_seconds=0.02)
    sink.gate.clear()
    while events.stats().in_flight < 4:
        events.stage(Build(name="x" * 100))
    sink.gate.set()
    assert events.flush(WAIT) == 0
    sink.batches.clear()
    return events


def test_a_batch_is_taken_whole_however_many_threads_are_free(uploader_of, sink, monkeypatch):
    events = four_senders(uploader_of, sink)
    took = threading.Semaphore(0)
    spool = events._spool
    real = spool.take

    def take(**limits):
        # As long as one thread reads, others see the same batch due.
        time.sleep(0.002)
        taken = real(**limits)
        took.release()
        return taken

    monkeypatch.setattr(spool, "take", take)
    for _ in range(20):
        staged = len(sink.batches)
        while spool.unread_bytes < BATCH:
            events.stage(Build(name="x" * 100))
        assert took.acquire(timeout=WAIT)
        until(lambda before=staged: len(sink.batches) > before)
    assert all(len(batch.payload) > BATCH // 2 for batch in sink.batches)


def test_an_event_staged_while_another_thread_pauses_is_not_kept_waiting(uploader_of, sink):
    events = four_senders(uploader_of, sink)
    sink.errors.append(BackPressureError("asked for a pause", retry_after_seconds=3.0))
    events.stage(Build(name="refused"))
    until(lambda: events._delivery.last_error is not None)
    begun = time.monotonic()
    for number in range(8):
        count = len(sink.batches)
        events.stage(Build(name=str(number)))
        until(lambda before=count: len(sink.batches) > before)
    assert time.monotonic() - begun < 2.0
    assert events.stats().left == 1
