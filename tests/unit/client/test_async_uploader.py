"""The batch uploader of event loops: nothing blocks the loop, and no wait leaves anything."""

import asyncio
import errno
import inspect
import threading

import pytest
import uvloop
from loop_world import run_leaping, run_without_executor, until, waits_of

from eventmill.base.errors import BackPressureError, UsageError
from eventmill.client.async_uploader import AsyncBatchUploader
from eventmill.client.batch_uploader import BatchUploader
from eventmill.client.options import UploaderOptions
from eventmill.schema.problem import EventProblem
from eventmill.testing.events import build_type

Build = build_type().cls
WAIT = 10.0
LARGE = "x" * 900_000
SMALL_SPOOL = {"spool_bytes_max": 2_000_000, "flush_interval_seconds": 0.0}


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request):
    return lambda coroutine: run_without_executor(request.param, coroutine)


@pytest.fixture
def uploader_of(sink):
    made = []

    def make(**options):
        options = {"retry_base_seconds": 0.001, "retry_cap_seconds": 0.01, **options}
        made.append(AsyncBatchUploader(sink, "contract.builds", **options))
        return made[-1]

    yield make
    sink.gate.set()
    for uploader in made:
        uploader._uploader.close(WAIT)
        assert waits_of(uploader) == 0


def filled(events, sink):
    """Stage until one batch waits in the sink, and the spool has room for no other event."""
    sink.gate.clear()
    sink.arrived.clear()
    events.stage(Build(name=LARGE), insert_id="first")
    assert sink.arrived.wait(WAIT)
    events.stage(Build(name=LARGE), insert_id="second")


def test_events_are_sent_by_the_end_of_the_block(run, sink):
    async def program():
        async with AsyncBatchUploader(sink, "contract.builds") as events:
            for number in range(100):
                assert events.stage(Build(name=str(number)))
            assert await events.flush(WAIT) == 0
            assert len(sink.rows) == 100
            events.stage({"name": "last"}, insert_id="last")
        assert b"last" in sink.rows
        assert await events.close() == 0
        with pytest.raises(UsageError, match="closed"):
            events.stage(Build())
        return events.stats()

    before = set(threading.enumerate())
    stats = run(program())
    assert (stats.staged, stats.acked, stats.left) == (101, 101, 0)
    for thread in set(threading.enumerate()) - before:
        thread.join(WAIT)  # the one that has closed tells so in its last line
        assert not thread.is_alive()


def test_one_uploader_serves_one_loop_after_the_other(run, uploader_of, sink):
    events = uploader_of(**SMALL_SPOOL)

    async def program():
        events.stage(Build(name=LARGE))
        await asyncio.gather(*(events.stage_when_room(Build(name=LARGE)) for _ in range(5)))
        assert await events.flush(WAIT) == 0

    run(program())
    run(program())
    assert len(sink.rows) == 12


def test_what_does_not_fit_is_told_at_once(run, uploader_of):
    events = uploader_of()

    async def program():
        with pytest.raises(EventProblem):
            await events.stage_when_room(Build(name="x" * 20_000_000))
        with pytest.raises(UsageError):
            await events.stage_when_room("text")

    run(program())


def test_a_full_spool_is_told_at_once_and_the_event_stays_the_callers(uploader_of, sink):
    events = uploader_of(**SMALL_SPOOL)
    filled(events, sink)
    with pytest.raises(BackPressureError, match="is full"):
        events.stage(Build(name=LARGE))
    assert events.stats().dropped == {}
    assert events.stats().staged == 2


@pytest.mark.parametrize(
    ("on_full", "took"), [("drop_newest", False), ("drop_oldest", True)], ids=lambda value: value
)
def test_a_full_spool_may_drop_and_then_nobody_waits(run, uploader_of, sink, on_full, took):
    events = uploader_of(**SMALL_SPOOL, on_full=on_full)
    filled(events, sink)

    async def program():
        return await events.stage_when_room(Build(name=LARGE))

    assert run(program()) is took
    assert events.stats().dropped == {on_full.removeprefix("drop_"): 1}


def test_to_block_is_refused_with_what_to_write_instead(sink):
    with pytest.raises(UsageError, match="stage_when_room"):
        AsyncBatchUploader(sink, "contract.builds", on_full="block")


def test_tasks_that_wait_for_room_let_others_run_and_come_in_order(run, uploader_of, sink):
    events = uploader_of(**SMALL_SPOOL, in_flight_max=1)
    filled(events, sink)
    came_in = []

    async def stage(number):
        await events.stage_when_room(Build(name=LARGE), insert_id=f"i-{number}")
        came_in.append(number)

    async def program():
        tasks = [asyncio.create_task(stage(number)) for number in range(6)]
        for _ in range(20):
            await asyncio.sleep(0)  # the loop turns while all of them wait
        assert came_in == []
        assert waits_of(events) == 1  # an ack wakes one of them
        sink.gate.set()
        await asyncio.gather(*tasks)
        assert await events.flush(WAIT) == 0

    run(program())
    assert came_in == list(range(6))
    assert list(sink.rows) == [b"first", b"second", *(b"i-%d" % n for n in range(6))]


def test_a_wait_for_room_that_is_cancelled_has_taken_nothing(run, uploader_of, sink):
    events = uploader_of(**SMALL_SPOOL)
    filled(events, sink)

    async def program():
        tasks = [asyncio.create_task(events.stage_when_room(Build(name=LARGE))) for _ in range(3)]
        await until(lambda: waits_of(events) == 1)
        tasks[0].cancel()  # the one whose turn it was
        await asyncio.sleep(0.01)
        assert waits_of(events) == 1
        for task in tasks:
            task.cancel()
        assert await asyncio.gather(*tasks, return_exceptions=True)
        assert all(task.cancelled() for task in tasks)
        assert waits_of(events) == 0
        sink.gate.set()
        assert await events.flush(WAIT) == 0

    run(program())
    assert len(sink.rows) == events.stats().staged == 2
    assert events.stats().dropped == {}


def test_a_wait_for_room_that_is_too_long_is_told_and_counted(uploader_of, sink):
    told = []
    events = uploader_of(**SMALL_SPOOL, on_drop=lambda reason, count: told.append((reason, count)))
    filled(events, sink)

    async def program():
        with pytest.raises(BackPressureError, match="stayed full for 3600 s"):
            await events.stage_when_room(Build(name=LARGE), timeout_seconds=3600)

    _, seconds = run_leaping(program())
    assert seconds == pytest.approx(3600)
    assert events.stats().dropped == {"timeout": 1}
    assert told == [("timeout", 1)]
    assert waits_of(events) == 0


def test_a_full_disk_is_looked_at_again_until_it_has_room(
    run, uploader_of, sink, tmp_path, monkeypatch
):
    events = uploader_of(spool_dir=str(tmp_path))
    events.stage(Build(name="a"))
    assert events._uploader.flush(WAIT) == 0
    tries = []

    def append(record, fingerprint):
        tries.append(record)
        if len(tries) < 4:
            raise segment_full()
        return real(record, fingerprint)

    def segment_full():
        from eventmill.client.spool.part import SpoolFullError

        return SpoolFullError("disk", OSError(errno.ENOSPC, "no space"))

    real = events._uploader._spool.append
    monkeypatch.setattr(events._uploader._spool, "append", append)

    async def program():
        assert await events.stage_when_room(Build(name="b"), timeout_seconds=WAIT)
        assert await events.flush(WAIT) == 0

    run(program())
    assert len(tries) == 4
    assert len(sink.rows) == 2


def test_who_waits_for_room_is_told_of_the_close(run, uploader_of, sink):
    events = uploader_of(**SMALL_SPOOL)
    filled(events, sink)

    async def program():
        waiting = asyncio.create_task(events.stage_when_room(Build(name=LARGE)))
        await until(lambda: waits_of(events) == 1)
        assert await events.close(0.05) == 2
        with pytest.raises(UsageError, match="closed"):
            await waiting

    run(program())


def test_a_flush_lets_others_run_and_waits_only_for_what_was_staged_before(run, uploader_of, sink):
    events = uploader_of(flush_interval_seconds=0.0)

    async def program():
        sink.gate.clear()
        events.stage(Build(name="a"))
        flushing = asyncio.create_task(events.flush())
        await until(lambda: waits_of(events) == 2)
        events.stage(Build(name="b"))
        assert not flushing.done()
        sink.gate.set()
        assert await flushing == 0
        assert await events.flush() == 0

    run(program())


def test_a_flush_ends_in_time_while_the_sink_hangs(uploader_of, sink):
    events = uploader_of(flush_interval_seconds=0.0)
    sink.gate.clear()
    events.stage(Build())
    assert sink.arrived.wait(WAIT)
    left, seconds = run_leaping(events.flush(3600))
    assert (left, seconds) == (1, pytest.approx(3600))
    assert waits_of(events) == 0
    assert run_leaping(events.flush(0))[0] == 1


def test_a_cancelled_flush_leaves_nothing_behind(run, uploader_of, sink):
    events = uploader_of(flush_interval_seconds=0.0)
    sink.gate.clear()
    events.stage(Build())

    async def program():
        threads = set(threading.enumerate())
        flushing = asyncio.create_task(events.flush())
        await until(lambda: waits_of(events) == 2)
        flushing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await flushing
        assert waits_of(events) == 0
        assert set(threading.enumerate()) <= threads

    run(program())
    assert events.stats().left == 1


def test_a_loop_that_ends_under_a_wait_does_no_harm_to_the_sending(uploader_of, sink, caplog):
    events = uploader_of(flush_interval_seconds=0.0)
    sink.gate.clear()
    events.stage(Build())
    loop = asyncio.new_event_loop()
    flushing = loop.create_task(events.flush())
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    loop.close()
    assert waits_of(events) == 2
    sink.gate.set()
    assert events._uploader.flush(WAIT) == 0
    assert "Event loop is closed" not in caplog.text
    assert [worker.failures for worker in events._uploader._sending._workers] == [0]
    flushing._log_destroy_pending = False  # it never ended, which is what this is about
    flushing.get_coro().close()


def test_close_says_what_is_left_and_the_next_one_sends_it(run, uploader_of, sink, tmp_path):
    events = uploader_of(spool_dir=str(tmp_path), flush_interval_seconds=0.0)
    sink.gate.clear()
    for number in range(3):
        events.stage(Build(), insert_id=f"i-{number}")
    assert run(events.close(0.05)) == 3
    assert run(events.close(0.05)) == 0
    sink.gate.set()
    heir = uploader_of(spool_dir=str(tmp_path))

    async def program():
        heir.stage(Build(), insert_id="next")
        await until(lambda: len(sink.rows) == 4)

    run(program())


def test_a_close_ends_in_time_while_the_sink_hangs(uploader_of, sink):
    undelivered = []
    events = uploader_of(
        flush_interval_seconds=0.0, on_undelivered=lambda handed, why: undelivered.extend(handed)
    )
    sink.gate.clear()
    events.stage(Build(), insert_id="mine")
    assert sink.arrived.wait(WAIT)
    left, seconds = run_leaping(events.close(3600))
    assert (left, seconds) == (1, pytest.approx(3600))
    assert [event.insert_id for event in undelivered] == ["mine"]


def test_a_cancelled_close_ends_at_once_and_events_wait_in_the_spool(
    run, uploader_of, sink, tmp_path
):
    events = uploader_of(spool_dir=str(tmp_path), flush_interval_seconds=0.0)
    sink.gate.clear()
    events.stage(Build())
    assert sink.arrived.wait(WAIT)

    async def program():
        closing = asyncio.create_task(events.close(3600))
        await until(lambda: waits_of(events) == 2)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        await until(lambda: events._uploader._spool.is_closed)
        await until(lambda: "eventmill-uploader-close" not in names_of_threads())

    run(program())
    assert waits_of(events) == 0
    assert events.stats().left == 1
    with pytest.raises(UsageError, match="closed"):
        events.stage(Build())


def names_of_threads():
    return [thread.name for thread in threading.enumerate()]


def test_a_close_that_finds_no_thread_ends_all_the_same(run, uploader_of, monkeypatch):
    events = uploader_of()
    events.stage(Build())

    def no_thread(self):
        raise RuntimeError("can't start new thread")

    async def program():
        assert await events.flush(WAIT) == 0
        monkeypatch.setattr(threading.Thread, "start", no_thread)
        assert await events.close() == 0

    run(program())
    assert events._uploader._spool.is_closed


def test_the_options_are_those_of_the_batch_uploader():
    own = inspect.signature(BatchUploader).parameters
    waiting = {"on_full", "block_timeout_seconds"}
    expected = {
        name: parameter.annotation
        for name, parameter in own.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and name not in waiting
    }
    options = {
        name: annotation.__forward_arg__
        for name, annotation in UploaderOptions.__annotations__.items()
    }
    assert options == expected
