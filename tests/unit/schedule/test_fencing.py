"""A run that stood still while its lease ended: what it wanted to write is refused by the store."""

from __future__ import annotations

import random
from contextlib import closing

import pytest
from schedule_project import HOUR, START, START_TEXT, sale_spec, sell, totals, write_workflow
from schedule_world import WallClock

from eventmill.base.errors import StaleAttemptError
from eventmill.schedule.book import RunBook
from eventmill.schedule.book_claims import Claims, Runner
from eventmill.schedule.book_file import IN_MEMORY
from eventmill.schedule.book_plan import Plan, PlannedSlot, Planning
from eventmill.schedule.book_rows import Origin
from eventmill.schedule.run_work import RunWork
from eventmill.store.local.store import LocalStore
from eventmill.store.memory import MemoryStore
from eventmill.workflow.reading import read_workflow
from eventmill.workflow.slot_run import run_slot

SLOT = (START, START + HOUR)
NOW = START + 40.0 * HOUR


@pytest.fixture(params=["local", "memory"])
def store(request, tmp_path):
    opened = LocalStore.open(str(tmp_path / "data")) if request.param == "local" else MemoryStore()
    with closing(opened) as store:
        store.apply(sale_spec(tmp_path))
        sell(store, 0, 5)
        yield store


class StandingStill:
    """A store whose caller stands still just before it replaces a slot."""

    def __init__(self, store, meanwhile):
        self._store = store
        self._meanwhile = meanwhile
        self.refused = []

    def __getattr__(self, name):
        return getattr(self._store, name)

    def replace_slot(self, *words, **named):
        self._meanwhile()
        try:
            return self._store.replace_slot(*words, **named)
        except StaleAttemptError as error:
            self.refused.append(error)
            raise


def test_its_rows_are_refused_and_those_of_the_later_run_stay(store, tmp_path):
    definition = read_workflow(
        str(write_workflow(tmp_path, schedule=f'start = "{START_TEXT}"\nretries = 3'))
    )
    clock = WallClock(NOW)
    book = RunBook(IN_MEMORY)
    claims = Claims(book)
    book.note_workflow("hourly", "", "", NOW)
    Planning(book).enter([Plan("hourly", SLOT[1], [PlannedSlot(SLOT, NOW)])], NOW)

    def work_on(place, name):
        runner = Runner(name, Origin.SCHEDULE)
        claim = claims.claim_next("hourly", runner, clock.now(), attempts_max=4)

        def run(definition, slot, **given):
            return run_slot(definition, place, slot, **given)

        return RunWork(claims, claim, definition, run, clock=clock, rng=random.Random(1))

    def meanwhile():
        clock.advance(31)
        sell(store, 0, 100)  # so that the rows of both runs can be told apart
        (lost,) = claims.expire(clock.now())
        assert lost.runner == "first"
        assert work_on(store, "second").run().state == "succeeded"
        assert totals(store) == [(0, 105, 2)]

    still = StandingStill(store, meanwhile)
    first = work_on(still, "first")
    assert first.run().state == "lost"
    assert len(still.refused) == 1  # the edge: it came to the store, and was refused there
    assert totals(store) == [(0, 105, 2)]
    second, before = book.runs()
    assert (before.state, second.state) == ("lost", "succeeded")
    assert book.slots("hourly")[0].run_id == second.id
    book.close()
