"""Waiting for the disk in an event loop: many share a sync, and a disk that hangs holds nobody."""

import asyncio
import errno
import os
import threading
import time

import pytest
import uvloop
from loop_world import run_leaping, run_without_executor, waits_of

from eventmill.base.errors import UnavailableError, UsageError
from eventmill.client.async_uploader import AsyncBatchUploader
from eventmill.client.spool import segment
from eventmill.testing.events import build_type

Build = build_type().cls
WAIT = 10.0


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request):
    return lambda coroutine: run_without_executor(request.param, coroutine)


@pytest.fixture
def uploader_of(sink):
    made = []

    def make(**options):
        made.append(AsyncBatchUploader(sink, "contract.builds", **options))
        return made[-1]

    yield make
    for uploader in made:
        uploader._uploader.close(WAIT)
        assert waits_of(uploader) == 0


class Disk:
    """Counts syncs, and lets them wait or fail."""

    def __init__(self, monkeypatch):
        self.gate = threading.Event()
        self.gate.set()
        self.arrived = threading.Event()
        self.calls = 0
        self.error = None
        self._real = os.fdatasync
        monkeypatch.setattr(segment.os, "fdatasync", self.fdatasync)

    def fdatasync(self, descriptor):
        self.calls += 1
        self.arrived.set()
        assert self.gate.wait(20)
        if self.error:
            raise self.error
        self._real(descriptor)


@pytest.fixture
def disk(monkeypatch):
    disk = Disk(monkeypatch)
    yield disk
    disk.gate.set()
    disk.error = None


def test_tasks_that_wait_for_the_disk_share_its_syncs(run, uploader_of, tmp_path, disk):
    events = uploader_of(spool_dir=str(tmp_path))
    disk.gate.clear()

    async def program():
        tasks = [asyncio.create_task(events.stage_and_wait(Build())) for _ in range(200)]
        await asyncio.sleep(0.01)
        assert not any(task.done() for task in tasks)
        disk.gate.set()
        assert await asyncio.gather(*tasks) == [True] * 200

    run(program())
    assert events._uploader._spool.synced_count == 200
    assert 1 <= disk.calls <= 4


def test_a_disk_that_hangs_holds_no_loop_and_no_close(uploader_of, sink, tmp_path, disk):
    events = uploader_of(spool_dir=str(tmp_path))
    disk.gate.clear()

    async def program():
        waiting = asyncio.create_task(events.stage_and_wait(Build(), timeout_seconds=3600))
        await asyncio.sleep(0)
        assert disk.arrived.wait(WAIT)
        with pytest.raises(UnavailableError, match="not synced within 3600 s"):
            await waiting
        waiting = asyncio.create_task(events.stage_and_wait(Build()))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    _, seconds = run_leaping(program())
    assert seconds == pytest.approx(3600)
    assert waits_of(events) == 0
    assert events.stats().staged == 2
    assert asyncio.run(events.flush(WAIT)) == 0  # what is on the disk in part is sent all the same
    begun = time.monotonic()
    assert asyncio.run(events.close(0.05)) == 0
    assert time.monotonic() - begun < 5.0


def test_a_disk_that_fails_is_told_and_tried_again(run, uploader_of, tmp_path, disk):
    events = uploader_of(spool_dir=str(tmp_path))
    disk.error = OSError(errno.EIO, os.strerror(errno.EIO))

    async def program():
        with pytest.raises(UnavailableError, match="cannot be synced"):
            await events.stage_and_wait(Build())
        disk.error = None
        assert await events.stage_and_wait(Build(), timeout_seconds=WAIT)

    run(program())
    assert events._uploader._spool.synced_count == 2


def test_memory_has_nothing_to_wait_for(run, uploader_of):
    events = uploader_of()

    async def program():
        with pytest.raises(UsageError, match="memory"):
            await events.stage_and_wait(Build())

    run(program())
    assert events.stats().staged == 0
