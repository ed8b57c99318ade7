"""The scheduler as a service: real time, real threads, its end."""

from __future__ import annotations

import threading

import pytest
from schedule_world import HOUR, Bodies, Folder, Result, definition

from eventmill.base.clock import SYSTEM_CLOCK
from eventmill.base.errors import QueryCancelledError
from eventmill.base.settings import ScheduleSettings
from eventmill.schedule.book import RunBook
from eventmill.schedule.chore import Chore
from eventmill.schedule.scheduler import Scheduler
from eventmill.testing.contracts import ServiceContract
from eventmill.testing.fakes import FakeClock

WAIT_SECONDS = 10.0


@pytest.fixture
def book(tmp_path):
    book = RunBook(str(tmp_path / "schedule.db"))
    yield book
    book.close()


class TestScheduler(ServiceContract):
    @pytest.fixture
    def service(self, book):
        return Scheduler(book, Folder(definition()), Bodies(SYSTEM_CLOCK))


def many_slots(count, **changes):
    start = int(SYSTEM_CLOCK.now() // HOUR - count) * HOUR
    return definition(start_at_seconds=start, **changes)


def wait_until(condition):
    deadline = SYSTEM_CLOCK.monotonic() + WAIT_SECONDS
    while not condition():
        assert SYSTEM_CLOCK.monotonic() < deadline, "it did not come about"
        SYSTEM_CLOCK.sleep(0.01)


def test_it_runs_what_is_due_and_notes_its_end(book):
    bodies = Bodies(SYSTEM_CLOCK)
    scheduler = Scheduler(book, Folder(many_slots(20)), bodies)
    scheduler.start()
    wait_until(lambda: book.count_slots("hourly", 0, 1e11, ["succeeded"]) == 20)
    assert scheduler.stop(WAIT_SECONDS)
    assert len(bodies.calls) == 20
    assert book.stopped_at(scheduler.runner.name) is not None


def test_stopping_ends_what_runs_and_leaves_it_due_again(book):
    bodies = Bodies(SYSTEM_CLOCK)
    begun = threading.Event()

    def until_cancelled(cancel):
        begun.set()
        assert cancel.wait(WAIT_SECONDS)
        raise QueryCancelledError("the query was cancelled")

    bodies.acts["hourly"] = [until_cancelled]
    scheduler = Scheduler(book, Folder(many_slots(1)), bodies)
    scheduler.start()
    assert begun.wait(WAIT_SECONDS)
    began = SYSTEM_CLOCK.monotonic()
    assert scheduler.stop(WAIT_SECONDS)
    assert SYSTEM_CLOCK.monotonic() - began < 5
    (slot,) = book.slots("hourly")
    assert (slot.state, slot.attempts, slot.reason) == ("waiting", 0, "its scheduler was stopped")
    assert book.runs()[0].state == "cancelled"


def test_a_body_that_does_not_end_holds_the_stop_up_for_a_bounded_time(book, monkeypatch):
    monkeypatch.setattr("eventmill.schedule.scheduler.STOP_SECONDS", 0.3)
    bodies = Bodies(SYSTEM_CLOCK)
    begun, released = threading.Event(), threading.Event()
    before = set(threading.enumerate())

    def deaf(cancel):
        begun.set()
        released.wait(WAIT_SECONDS)
        return Result()

    bodies.acts["hourly"] = [deaf]
    scheduler = Scheduler(book, Folder(many_slots(1)), bodies)
    scheduler.start()
    assert begun.wait(WAIT_SECONDS)
    assert scheduler.stop(WAIT_SECONDS)
    (slot,) = book.slots("hourly")
    (run,) = book.runs()
    assert (slot.state, run.state) == ("waiting", "cancelled")
    released.set()
    wait_until(lambda: set(threading.enumerate()) <= before)
    assert book.runs()[0].state == "cancelled"  # its late success is not believed


def test_a_body_that_takes_too_long_is_stopped_and_tried_again(book):
    bodies = Bodies(SYSTEM_CLOCK)

    def until_cancelled(cancel):
        assert cancel.wait(WAIT_SECONDS)
        raise QueryCancelledError("the query was cancelled")

    bodies.acts["hourly"] = [until_cancelled]
    slow = many_slots(1, timeout_seconds=0.2, retries=1, retry_base_seconds=0.01)
    scheduler = Scheduler(book, Folder(slow), bodies)
    scheduler.start()
    wait_until(lambda: book.count_slots("hourly", 0, 1e11, ["succeeded"]) == 1)
    assert scheduler.stop(WAIT_SECONDS)
    second, first = book.runs()
    assert (first.state, second.state) == ("timed_out", "succeeded")
    assert "its timeout" in first.error


def test_a_running_body_keeps_its_lease(book):
    bodies = Bodies(SYSTEM_CLOCK)
    bodies.acts["hourly"] = [lambda cancel: SYSTEM_CLOCK.sleep(3.5) or Result()]
    settings = ScheduleSettings(lease_seconds=1.5)
    schedulers = [Scheduler(book, Folder(many_slots(1)), bodies, settings=settings)]
    schedulers[0].start()
    wait_until(lambda: bodies.calls)
    schedulers.append(Scheduler(book, Folder(many_slots(1)), bodies, settings=settings))
    schedulers[1].start()
    wait_until(lambda: book.count_slots("hourly", 0, 1e11, ["succeeded"]) == 1)
    for scheduler in schedulers:
        assert scheduler.stop(WAIT_SECONDS)
    assert len(bodies.calls) == 1
    assert book.runs()[0].ended_at - book.runs()[0].started_at > 3 * 1.0


def test_a_chore_that_fails_is_made_again_and_a_long_one_comes_round_less_often():
    clock = FakeClock()
    made = []

    def work():
        made.append(clock.monotonic())
        clock.advance(2.0)
        if len(made) == 1:
            raise OSError("no disk")

    chore = Chore("chore", 0.01, work, clock=clock, share_max=0.1)
    chore.begin_when_due()
    wait_until(lambda: chore.turns == 1)
    assert chore.stop(WAIT_SECONDS)
    assert chore.failures == 1
    assert chore.due_at == pytest.approx(made[1] + 20.0)
    chore.begin_when_due()
    assert chore.wait(WAIT_SECONDS)
    assert len(made) == 2
