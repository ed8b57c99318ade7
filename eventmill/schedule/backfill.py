"""A backfill: slots of a stretch of time, run by this process under leases, a few at a time."""

from __future__ import annotations

import random
import threading
from collections import Counter
from dataclasses import dataclass, field

from eventmill.base.clock import Clock
from eventmill.base.errors import TransientError
from eventmill.schedule.book import RunBook
from eventmill.schedule.book_claims import Claim, Claims, Runner
from eventmill.schedule.book_plan import BackfillEntry, Planning
from eventmill.schedule.book_rows import RunState, SlotState
from eventmill.schedule.run_work import RunWork, SlotRunner
from eventmill.workflow.definition import WorkflowDefinition
from eventmill.workflow.timetable import Slot

_LOOK_SECONDS = 0.5
_PATIENCE = 20
"""Looks in a row that may fail because the book is busy, before the backfill ends."""


@dataclass
class BackfillProgress:
    """How far a backfill is; read while it runs."""

    done: Counter[RunState] = field(default_factory=Counter)
    """Runs that have ended, by how."""
    input_rows: int = 0
    output_rows: int = 0


class Backfill:
    """Runs slots that wait in a stretch of time. ``stop`` may be called from any thread."""

    def __init__(
        self,
        book: RunBook,
        definition: WorkflowDefinition,
        slots: list[Slot],
        run: SlotRunner,
        runner: Runner,
        *,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        """Prepare to run ``slots``, which are not empty and ascending."""
        self.progress = BackfillProgress()
        self.error: TransientError | None = None
        """Why it ended before its slots did; None: it did not."""
        self._book = book
        self._claims = Claims(book)
        self._definition = definition
        self._slots = slots
        self._bounds = (slots[0][0], slots[-1][0] + 1)
        self._run = run
        self._runner = runner
        self._clock = clock
        self._rng = rng
        self._lock = threading.Lock()
        self._works: set[RunWork] = set()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def enter(self, *, again: bool) -> BackfillEntry:
        """Let the slots wait in the book; see ``Planning.enter_backfill``."""
        now = self._clock.now()
        name = self._definition.name
        self._claims.expire(now)
        planning = Planning(self._book)
        planning.skip_replaced(name, self._slots, now)
        return planning.enter_backfill(name, self._slots, again=again, now=now)

    def start(self, parallel: int) -> None:
        """Begin to run them, ``parallel`` at a time."""
        for index in range(parallel):
            thread = threading.Thread(target=self._work, name=f"backfill {index}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def wait(self, timeout_seconds: float) -> bool:
        """Wait for the end; tell whether it has come."""
        for thread in self._threads:
            thread.join(timeout_seconds / len(self._threads))
        return not any(thread.is_alive() for thread in self._threads)

    def stop(self, reason: str) -> None:
        """Ask what runs to end, and leave what waits waiting."""
        self._stopping.set()
        with self._lock:
            works = list(self._works)
        for work in works:
            work.cancel(reason)

    def abandon(self) -> None:
        """Write down as waiting again what has not ended although it was asked to."""
        with self._lock:
            works = list(self._works)
        for work in works:
            work.abandon()

    def left(self) -> int:
        """Return how many of the slots still wait or run."""
        return self._count(SlotState.WAITING, SlotState.RUNNING)

    def failed(self) -> int:
        """Return how many of the slots have failed."""
        return self._count(SlotState.FAILED)

    def _count(self, *states: SlotState) -> int:
        return self._book.count_slots(self._definition.name, *self._bounds, states)

    def _work(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            try:
                found = self._next()
            except TransientError as error:
                failures += 1
                if failures > _PATIENCE:
                    self.error = error
                    return
                self._stopping.wait(_LOOK_SECONDS)
                continue
            failures = 0
            if found is None:
                return
            if isinstance(found, Claim):
                self._carry_out(found)
            else:
                self._stopping.wait(min(_LOOK_SECONDS, max(0.0, found - self._clock.now())))

    def _next(self) -> Claim | float | None:
        """Return a claim, or when to look again, or None when nothing is left to do."""
        now = self._clock.now()
        self._claims.expire(now)
        name = self._definition.name
        found = self._claims.claim_backfill(
            name, self._bounds, self._runner, now, attempts_max=self._definition.retries + 1
        )
        if found is None and self._count(SlotState.RUNNING):
            return now + _LOOK_SECONDS  # by another thread or process; it may fail and wait again
        return found

    def _carry_out(self, claim: Claim) -> None:
        work = RunWork(
            self._claims,
            claim,
            self._definition,
            self._run,
            clock=self._clock,
            rng=self._rng,
            lease_seconds=self._runner.lease_seconds,
        )
        with self._lock:
            self._works.add(work)
        if self._stopping.is_set():
            work.cancel("the backfill was stopped")
        ending = work.run()
        with self._lock:
            self._works.discard(work)
            self.progress.done[ending.state] += 1
            self.progress.input_rows += ending.input_rows or 0
            self.progress.output_rows += ending.output_rows or 0
