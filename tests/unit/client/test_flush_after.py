"""Flushing before a function ends: in time, told what is left, plain and async."""

import asyncio
import threading
import time

import pytest
from loop_world import run_leaping

from eventmill.base.errors import UsageError
from eventmill.client import flush_after as module
from eventmill.client.async_uploader import AsyncBatchUploader
from eventmill.client.batch_uploader import BatchUploader
from eventmill.client.flush_after import flush_after
from eventmill.testing.events import build_type
from eventmill.testing.fakes import FakeClock

Build = build_type().cls
WAIT = 10.0
NEVER = {"flush_interval_seconds": 3600.0}


@pytest.fixture
def events(sink):
    events = BatchUploader(sink, "contract.builds", **NEVER)
    yield events
    sink.gate.set()
    events.close(WAIT)


@pytest.fixture
def async_events(sink):
    events = AsyncBatchUploader(sink, "contract.builds", **NEVER)
    yield events
    sink.gate.set()
    events._uploader.close(WAIT)


@pytest.fixture
def budgets(monkeypatch):
    """Return a list in which the budget of each flush in plain code is noted."""
    noted = []

    def wait(flushes, timeout_seconds, clock):
        noted.append(timeout_seconds)
        return 0

    monkeypatch.setattr(module, "wait_in_thread", wait)
    return noted


def test_a_decorated_function_has_sent_its_events_when_it_returns(events, sink):
    @flush_after(events, budget_seconds=WAIT)
    def answer(name, *, count):
        """Answer."""
        for _ in range(count):
            events.stage(Build(name=name))
        return name.upper()

    assert answer("a", count=3) == "A"
    assert len(sink.rows) == 3
    assert (answer.__name__, answer.__doc__) == ("answer", "Answer.")
    answer("b", count=1)
    assert len(sink.rows) == 4


def test_a_function_that_fails_has_sent_its_events_too(events, sink):
    @flush_after(events, budget_seconds=WAIT)
    def answer():
        events.stage(Build())
        raise LookupError("its own")

    with pytest.raises(LookupError, match="its own"):
        answer()
    assert len(sink.rows) == 1


def test_a_block_has_sent_its_events_and_says_what_is_left(events, sink):
    with flush_after(events, budget_seconds=WAIT) as flushed:
        events.stage(Build())
        assert sink.rows == {}
    assert flushed.left == 0
    assert len(sink.rows) == 1
    sink.gate.clear()
    with flush_after(events, budget_seconds=0.01) as flushed:
        events.stage(Build())
        events.stage(Build())
    assert flushed.left == 2


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_code_in_a_loop_may_use_either_uploader(events, async_events, sink, kind):
    uploader = events if kind == "plain" else async_events

    @flush_after(uploader, budget_seconds=WAIT)
    async def answer(name):
        uploader.stage(Build(name=name))
        await asyncio.sleep(0)
        return name.upper()

    async def program():
        assert await answer("a") == "A"
        assert len(sink.rows) == 1
        async with flush_after(uploader, budget_seconds=WAIT) as flushed:
            uploader.stage(Build())
        assert flushed.left == 0
        assert len(sink.rows) == 2

    asyncio.run(program())


def test_the_loop_turns_while_it_waits_and_a_cancelled_wait_leaves_nothing(events, sink):
    sink.gate.clear()

    @flush_after(events, budget_seconds=WAIT)
    async def answer():
        events.stage(Build())

    async def program():
        task = asyncio.create_task(answer())
        while not events._sending._hurry:
            await asyncio.sleep(0.001)
        for _ in range(10):
            await asyncio.sleep(0)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(program())
    assert not events._sending._hurry
    assert not events._sending.settled._watches


def test_a_sink_that_hangs_costs_the_budget_and_no_more(events, sink, caplog):
    sink.gate.clear()
    told = []

    @flush_after(events, budget_seconds=0.05, on_left=told.append)
    def answer():
        events.stage(Build())
        return "in time"

    begun = time.monotonic()
    assert answer() == "in time"
    assert time.monotonic() - begun < 3.0
    assert told == [1]
    assert caplog.text == ""

    @flush_after(events, budget_seconds=3600, on_left=told.append)
    async def answer_later():
        return events.stage(Build())

    took, seconds = run_leaping(answer_later())
    assert (took, seconds) == (True, pytest.approx(3600))
    assert told == [1, 2]


def test_what_is_left_is_logged_with_its_place_once_a_minute(sink, tmp_path, caplog):
    clock = FakeClock()
    events = BatchUploader(sink, "contract.builds", spool_dir=str(tmp_path), clock=clock, **NEVER)
    flushing = flush_after(events, budget_seconds=0, clock=clock)
    sink.gate.clear()
    for _ in range(3):
        with flushing:
            events.stage(Build())
    (record,) = caplog.records
    assert "1 events were not sent within 0 s" in record.getMessage()
    assert events.spool_folder in record.getMessage()
    sink.gate.set()
    clock.advance(60)
    assert events.close(WAIT) == 0


def test_an_on_left_that_fails_does_not_fail_the_function(events, sink, caplog):
    sink.gate.clear()

    def broken(left):
        raise RuntimeError("broken callback")

    with flush_after(events, budget_seconds=0, on_left=broken) as flushed:
        events.stage(Build())
    assert flushed.left == 1
    assert "broken callback" in caplog.text


def test_several_uploaders_are_flushed_at_the_same_time(events, sink):
    class Hanging(type(sink)):
        pass

    hanging_sink = Hanging()
    hanging_sink.gate.clear()
    hanging = BatchUploader(hanging_sink, "contract.builds", **NEVER)
    with flush_after(hanging, events, budget_seconds=0.3) as flushed:
        hanging.stage(Build())
        events.stage(Build())
    assert flushed.left == 1
    assert len(sink.rows) == 1
    hanging_sink.gate.set()
    assert hanging.close(WAIT) == 0


@pytest.mark.parametrize(
    ("budget_seconds", "remaining_millis", "expected"),
    [
        (0.5, 3000, 0.5),
        (5.0, 3000, 2.9),
        (None, 3000, 2.9),
        (5.0, 50, 0.0),
        (5.0, -10, 0.0),
        (0, None, 0),
    ],
)
def test_the_smaller_limit_holds_and_something_is_left_to_the_answer(
    events, budgets, budget_seconds, remaining_millis, expected
):
    remaining = None if remaining_millis is None else lambda: remaining_millis
    with flush_after(events, budget_seconds=budget_seconds, remaining_millis=remaining):
        assert budgets == []  # it is asked at the end
    assert budgets == [pytest.approx(expected)]


def test_the_platform_is_asked_with_the_functions_own_arguments(events, budgets):
    class Context:
        millis = 800

        def get_remaining_time_in_millis(self):
            return self.millis

    @flush_after(
        events,
        remaining_millis=lambda event, context: context.get_remaining_time_in_millis(),
        reserve_seconds=0.3,
    )
    def answer(event, context):
        context.millis = 500
        return event

    assert answer({"a": 1}, Context()) == {"a": 1}
    assert budgets == [pytest.approx(0.2)]
    with flush_after(events, remaining_millis=Context().get_remaining_time_in_millis):
        pass
    assert budgets[1:] == [pytest.approx(0.7)]


def test_calls_from_many_threads_are_each_told_of_their_own(events, sink):
    @flush_after(events, budget_seconds=WAIT)
    def answer(number):
        events.stage(Build(), insert_id=f"i-{number}")
        return number

    def call(number):
        assert answer(number) == number
        sent.append(b"i-%d" % number in sink.rows)

    sent = []
    threads = [threading.Thread(target=call, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert sent == [True] * 8


def test_generators_are_refused_as_they_end_after_their_call(events):
    flushing = flush_after(events, budget_seconds=1)

    def plain():
        yield

    async def in_a_loop():
        yield

    for function in (plain, in_a_loop):
        with pytest.raises(UsageError, match="generator"):
            flushing(function)


@pytest.mark.parametrize(
    "arguments",
    [{}, {"budget_seconds": -1}, {"budget_seconds": 1, "reserve_seconds": -1}],
)
def test_arguments_that_make_no_sense_are_a_usage_error(events, arguments):
    with pytest.raises(UsageError):
        flush_after(events, **arguments)
    with pytest.raises(UsageError):
        flush_after(budget_seconds=1)
