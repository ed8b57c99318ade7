"""Late rows: slots that run again by themselves, and no others."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from schedule_project import HOUR, START, START_TEXT, sale_spec, sell, totals, write_workflow
from schedule_world import WallClock, definition

from eventmill.base.errors import UnavailableError
from eventmill.schedule.book import RunBook
from eventmill.schedule.book_file import IN_MEMORY
from eventmill.schedule.late_look import LateLook
from eventmill.schedule.scheduler import Scheduler
from eventmill.schedule.workflow_folder import WorkflowFolder
from eventmill.store.local.store import LocalStore
from eventmill.workflow.reading import read_workflow
from eventmill.workflow.slot_run import run_slot
from eventmill.workflow.touched import MARGIN_SECONDS, Touched

FIRST_RUN = START + 40 * HOUR
"""When the hours begin to be run: later than any sale, so that the store's clock agrees."""


@pytest.fixture
def world(tmp_path):
    """A store, a scheduler and the look, on one clock; six hours with sales have been run."""
    clock = WallClock(FIRST_RUN)
    write_workflow(
        tmp_path / "workflows", schedule=f'start = "{START_TEXT}"\nlateness = "45h"\n'
    )  # fmt: skip
    book = RunBook(IN_MEMORY)
    with LocalStore.open(str(tmp_path / "data"), clock=clock) as store:
        store.apply(sale_spec(tmp_path))
        for hour in range(6):
            sell(store, hour, hour + 1)

        def run(definition, slot, *, generation, body, log, cancel):
            ran.append((slot[0] - START) // HOUR)
            return run_slot(definition, store, slot, generation=generation, log=log, cancel=cancel)

        ran = []
        folder = WorkflowFolder(str(tmp_path / "workflows"), read_workflow)
        scheduler = Scheduler(book, folder, run, clock=clock, begin=lambda work, name: work())
        made = SimpleNamespace(
            clock=clock, book=book, store=store, scheduler=scheduler, ran=ran,
            look=LateLook(book, lambda: nullcontext(store), clock=clock),
        )  # fmt: skip
        made.find = lambda: made.look.look(scheduler.definitions)
        clock.advance(MARGIN_SECONDS)
        turns(made)
        assert sorted(ran) == list(range(40))
        ran.clear()
        yield made
    book.close()


def turns(world):
    world.clock.advance(10)
    for _ in range(200):
        if world.scheduler.turn() > 0:
            return
    raise AssertionError("the scheduler does not come to rest")


def repaired(world):
    """Look, let the scheduler run what waits, and return the hours that it has run."""
    world.find()
    turns(world)
    found, world.ran[:] = sorted(world.ran), []
    return found


def settle(world):
    """Let what came so far become old, and be looked at for the last time."""
    for _ in range(3):
        world.clock.advance(MARGIN_SECONDS + 1)
        assert repaired(world) == []


def test_a_late_row_lets_its_slot_run_again_and_no_other(world):
    settle(world)
    sell(world.store, 3, 100)
    world.clock.advance(1)
    assert repaired(world) == [3]
    assert totals(world.store)[3] == (3, 104, 2)
    slot = world.book.slots("hourly")[3]
    assert (slot.state, slot.late_rows) == ("succeeded", 1)
    run = world.book.runs()[0]
    assert (run.reason, run.late_rows, run.replaced_rows) == ("late rows", 1, 1)
    settle(world)


def test_an_hour_that_had_no_rows_is_made_when_some_come(world):
    settle(world)
    sell(world.store, 10, 7)
    assert repaired(world) == [10]
    assert totals(world.store)[-1] == (10, 7, 1)


def test_rows_that_come_too_late_are_counted_and_shown_and_not_run(world):
    settle(world)
    world.clock.advance(30 * HOUR)
    turns(world)
    settle_ran = sorted(world.ran)
    assert settle_ran  # hours have passed meanwhile
    world.ran.clear()
    sell(world.store, 2, 5, count=3)
    assert repaired(world) == []
    slot = world.book.slots("hourly")[2]
    assert (slot.state, slot.too_late_rows) == ("succeeded", 3)
    world.find()
    assert world.book.slots("hourly")[2].too_late_rows == 3
    sell(world.store, 30, 5)
    assert repaired(world) == [30]


def test_rows_that_come_while_their_slot_runs_are_not_lost(world):
    settle(world)
    sell(world.store, 3, 100)
    world.find()
    inner = world.scheduler._run

    def with_a_row_in_between(definition, slot, **given):
        result = inner(definition, slot, **given)
        sell(world.store, 3, 1_000)  # the body has not seen it, and the run has not ended
        for _ in range(2):  # nor has it ended when the row is no longer new
            world.clock.advance(MARGIN_SECONDS + 1)
            world.look.look([definition])
        return result

    world.scheduler._run = with_a_row_in_between
    turns(world)
    world.scheduler._run = inner
    assert totals(world.store)[3] == (3, 104, 2)  # the edge: without it
    world.ran.clear()
    assert repaired(world) == [3]
    assert totals(world.store)[3] == (3, 1_104, 3)
    settle(world)


def test_a_workflow_whose_inputs_stand_still_is_not_looked_at_again(world):
    settle(world)
    assert world.find().looked == 0
    sell(world.store, 3, 100)
    assert world.find().looked == 1


class Still:
    """A store whose tables never change."""

    def stats(self, table):
        return SimpleNamespace(accepted=1, ahead_rows=0, newest_event_at=None)


def looking(find, clock):
    book = RunBook(IN_MEMORY)
    for name in ("one", "two"):
        book.note_workflow(name, "", "every 1h", 0.0)
    return book, LateLook(book, lambda: nullcontext(Still()), clock=clock, find=find)


def test_a_look_that_fails_hides_no_other_and_is_made_again():
    clock = WallClock(1_800_000_000.0)
    calls = []

    def find(definition, store, **given):
        calls.append((definition.name, dict(given["since"])))
        if definition.name == "one" and len(calls) < 3:
            raise UnavailableError("no answer")
        return Touched((), {}, {}, {"t": 5})

    book, look = looking(find, clock)
    both = [definition("one"), definition("two")]
    look.look(both)
    assert [name for name, _ in calls] == ["one", "two"]
    assert book.seen("one")[1] == {}
    clock.advance(MARGIN_SECONDS + 1)
    look.look(both)
    clock.advance(MARGIN_SECONDS + 1)
    look.look(both)
    assert calls[2:] == [("one", {}), ("two", {"t": 5})]
    assert book.seen("one")[1] == {"t": 5}
