"""How soon alerts are told, in virtual time: the real scheduler and the real engine together."""

import random

import pytest
from schedule_world import HOUR, Bodies, Folder, definition

from eventmill.base.errors import QueryError
from eventmill.schedule.alert_book import AlertBook
from eventmill.schedule.alert_facts import WorkflowFacts
from eventmill.schedule.alert_files import AlertFiles
from eventmill.schedule.alerts import AlertEngine
from eventmill.schedule.book import RunBook
from eventmill.schedule.scheduler import Scheduler
from eventmill.store.memory import MemoryStore
from eventmill.testing.fakes import FakeClock

pytestmark = pytest.mark.slow

NOON = 1_790_000_000 - 1_790_000_000 % HOUR
EVERY_SECONDS = 30.0


class Hook:
    name = "hook"

    def __init__(self, clock):
        self.clock, self.told = clock, []

    def tell(self, message):
        found = (message.notice.value, message.finding.rule, message.finding.subject)
        self.told.append((self.clock.now(), *found))

    def first(self, *found):
        return next(at for at, *told in self.told if tuple(told) == found)


class World:
    """A scheduler whose turns and evaluations take no time; ``run`` lets them come when due."""

    def __init__(self, folder, **changes):
        self.clock = FakeClock(NOON + 10.0)
        self.store = MemoryStore(self.clock)
        self.book = RunBook(str(folder / "schedule.db"))
        self.alert_book = AlertBook(self.book.file.path)
        for file in (self.book.file, self.alert_book._file):
            file._db.execute("PRAGMA synchronous=OFF")  # a power cut is no part of these tests
        self.flow = definition(delay_seconds=60.0, **changes)
        self.bodies = Bodies(self.clock)
        self.scheduler = Scheduler(
            self.book, Folder(self.flow), self.bodies, clock=self.clock, rng=random.Random(1),
            begin=lambda work, name: work(),
        )  # fmt: skip
        self.hook = Hook(self.clock)
        self.files = AlertFiles({"hook": self.hook}, (), (), {})
        facts = WorkflowFacts(self.book, lambda: [self.flow])
        self.engine = AlertEngine(
            self.store, self.alert_book, facts, lambda: self.files, self.clock, random.Random(2)
        )
        self.evaluate_at = self.clock.now() + 17.0

    def run(self, until, *, scheduler=True, beats=False):
        while self.clock.now() < until:
            wait = self.scheduler.turn() if scheduler else 10.0
            if beats:
                self.book.beat(self.scheduler.runner.name, self.clock.now())
            if self.clock.now() >= self.evaluate_at:
                self.engine.evaluate()
                self.engine.tell()
                self.evaluate_at = self.clock.now() + EVERY_SECONDS
            left = min(wait, self.evaluate_at - self.clock.now(), until - self.clock.now())
            self.clock.advance(max(left, 0.01))


@pytest.fixture
def make(tmp_path):
    made = []

    def world(**changes):
        made.append(World(tmp_path, **changes))
        return made[0]

    yield world
    made[0].alert_book.close()
    made[0].book.close()
    made[0].store.close()


def fail(cancel):
    raise QueryError("there is no table local.raw.events")


SUBJECT = "dataflow-workflow-hourly"
FAILED = ("firing", "workflow_failed", SUBJECT)
LATE = ("firing", "workflow_late", SUBJECT)


def test_a_failed_run_is_told_within_one_evaluation_and_its_end_as_soon(make):
    world = make(retries=0)
    world.bodies.acts["hourly"] = [fail]
    world.run(NOON + HOUR + 200)
    (slot,) = world.book.slots("hourly")
    assert slot.state == "failed"
    assert 0 <= world.hook.first(*FAILED) - slot.changed_at <= EVERY_SECONDS
    assert len(world.hook.told) == 1
    with world.book.file.writing() as db:  # as a backfill of it does
        db.execute("UPDATE slots SET state = 'succeeded', succeeded_at = ?", (world.clock.now(),))
    mended_at = world.clock.now()
    world.run(mended_at + 100)
    ended_at = world.hook.first("resolved", *FAILED[1:])
    assert ended_at - mended_at <= EVERY_SECONDS
    assert len(world.hook.told) == 2


def test_a_slot_missed_because_the_scheduler_is_gone_is_told_within_five_minutes_of_its_end(make):
    world = make()
    world.run(NOON + 600)
    assert world.book.heartbeat() is not None
    world.run(NOON + 2 * HOUR, scheduler=False)  # evaluated from outside
    assert world.hook.first(*LATE) - (NOON + HOUR) <= 300
    dead_at = world.hook.first("firing", "scheduler_dead", "scheduler")
    assert dead_at - (NOON + 600) <= 60 + EVERY_SECONDS
    assert {told[2] for told in world.hook.told} == {"workflow_late", "scheduler_dead"}
    assert len(world.hook.told) == 2


def test_a_slot_missed_by_a_scheduler_that_lives_but_plans_nothing_is_told_as_early(make):
    world = make()
    world.run(NOON + 600)
    world.run(NOON + 2 * HOUR - 400, scheduler=False, beats=True)
    assert world.hook.first(*LATE) - (NOON + HOUR) <= 300
    assert len(world.hook.told) == 1


def test_a_slot_that_is_planned_and_never_run_is_told_as_early(make):
    world = make()
    world.scheduler._claim_ready = lambda now: world.scheduler._ready.clear()
    world.run(NOON + HOUR + 400)
    assert [slot.state for slot in world.book.slots("hourly")] == ["waiting"]
    assert world.hook.first(*LATE) - (NOON + HOUR) <= 300


def test_nothing_is_told_of_hours_without_a_fault(make):
    world = make()
    world.run(NOON + 6 * HOUR)
    assert len(world.book.slots("hourly")) == 5
    assert world.hook.told == []
