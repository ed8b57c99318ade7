"""A scheduler in virtual time: workflows without folders, bodies that do what a test says."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime

from eventmill.base.settings import ScheduleSettings
from eventmill.schedule.book import RunBook
from eventmill.schedule.book_claims import Claims
from eventmill.schedule.scheduler import Scheduler
from eventmill.schema.table import TableId, TableSpec
from eventmill.testing.fakes import FakeClock
from eventmill.workflow.definition import WorkflowDefinition, WorkflowInput
from eventmill.workflow.every_slots import EverySlots

MINUTE, HOUR, DAY = 60, 3_600, 86_400


def seconds(text):
    """Return a moment such as ``2026-03-29T01:00`` (UTC) in seconds since 1970."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def moments(slots):
    """Return slots as pairs of text in UTC."""
    return [tuple(f"{datetime.fromtimestamp(at, UTC):%m-%dT%H:%M}" for at in s) for s in slots]


def definition(name="hourly", timetable=None, **changes):
    """Return a workflow without a folder."""
    values = {
        "name": name,
        "folder": f"/nowhere/{name}",
        "owner": "owner@example.com",
        "description": "",
        "inputs": (WorkflowInput(TableId.parse("local.raw.events")),),
        "output": TableSpec(TableId.parse(f"local.out.{name}"), b"", "out.Row", (), ""),
        "timetable": timetable or EverySlots(HOUR),
        "bodies": ("sql",),
        "sql": "SELECT 1",
        "pipeline_path": None,
        "start_at_seconds": None,
        "delay_seconds": 0.0,
    }
    return WorkflowDefinition(**{**values, **changes})


@dataclass
class Mark:
    count: int
    max_ingested_us: int | None = None


@dataclass
class Result:
    input_rows: int = 7
    output_rows: int = 3
    replaced_rows: int = 0
    seconds: float = 0.5
    marks: dict = field(default_factory=lambda: {"local.raw.events": Mark(7)})


@dataclass
class Call:
    workflow: str
    slot: tuple
    generation: int
    at: float
    cancel: threading.Event


class Bodies:
    """Runs slots: by default at once and well."""

    def __init__(self, clock):
        self.clock = clock
        self.calls = []
        self.acts = {}
        """Per workflow, what is done at each call in turn: an error to raise, or a function."""

    def __call__(self, definition, slot, *, generation, body, log, cancel):
        self.calls.append(Call(definition.name, slot, generation, self.clock.now(), cancel))
        log(f"running {slot}")
        acts = self.acts.get(definition.name) or []
        act = acts.pop(0) if acts else Result()
        if isinstance(act, BaseException):
            raise act
        return act(cancel) if callable(act) else act

    def slots(self, name="hourly"):
        return [call.slot for call in self.calls if call.workflow == name]


class Folder:
    """Workflows that a test puts there."""

    def __init__(self, *definitions):
        self.definitions = {one.name: one for one in definitions}
        self.faults = {}
        self.has_changed = True

    def put(self, one):
        self.definitions[one.name] = one
        self.has_changed = True

    def remove(self, name):
        del self.definitions[name]
        self.has_changed = True

    def look(self):
        changed, self.has_changed = self.has_changed, False
        return changed


class WallClock(FakeClock):
    """A clock whose wall can be set."""

    def set_back(self, by):
        with self._lock:
            self._now -= by


class World:
    """One book, one scheduler, and time that passes when it is told to."""

    def __init__(self, path, *definitions, now, settings=None, holds=False):
        self.clock = WallClock(now)
        self.path = path
        self.book = RunBook(path)
        self.claims = Claims(self.book)
        self.folder = Folder(*definitions)
        self.bodies = Bodies(self.clock)
        # A run that is held has not begun, so nobody renews its lease.
        self.settings = settings or ScheduleSettings(lease_seconds=1e6 if holds else 30.0)
        self.held = []
        self.holds = holds
        self.scheduler = self.new_scheduler()

    def new_scheduler(self, **changes):
        def begin(work, name):
            if self.holds:
                self.held.append(work)
            else:
                work()

        return Scheduler(
            self.book,
            self.folder,
            self.bodies,
            settings=self.settings,
            clock=self.clock,
            rng=random.Random(6),
            **{"begin": begin, **changes},
        )

    def turn(self):
        return self.scheduler.turn()

    def run_until(self, text_or_seconds):
        """Let time pass as the scheduler would sleep, until a moment and including it."""
        until = seconds(text_or_seconds) if isinstance(text_or_seconds, str) else text_or_seconds
        turns = 0
        while True:
            wait = self.scheduler.turn()
            turns += 1
            assert turns < 200_000, "the scheduler does not sleep"
            left = until - self.clock.now()
            if left <= 0 and wait > 0:
                return
            self.clock.advance(min(wait, max(left, 0.0)))

    def run_for(self, length):
        self.run_until(self.clock.now() + length)

    def release(self, count=1):
        """Let runs that are held go on to their end, the oldest first."""
        for _ in range(count):
            self.held.pop(0)()

    def states(self, name="hourly"):
        return [str(slot.state) for slot in self.book.slots(name)]

    def close(self):
        self.book.close()
