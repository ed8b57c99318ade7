"""The scheduler: enters slots as they come due, and runs them under leases.

It sleeps until the next thing is due, and looks at the run book every ten seconds for what others
have written there. Several of them may work on one book, in as many processes; each slot is run
by one.
"""

from __future__ import annotations

import logging
import random
import secrets
import socket
import threading
from collections import deque
from collections.abc import Callable, Sequence
from os import getpid

from eventmill.base.clock import SYSTEM_CLOCK, Clock
from eventmill.base.errors import TransientError
from eventmill.base.service import Service
from eventmill.base.settings import ScheduleSettings
from eventmill.schedule.book import RunBook
from eventmill.schedule.book_claims import STOPPED, Claim, Claims, Refusal, Runner
from eventmill.schedule.book_plan import Plan, PlannedSlot, Planning
from eventmill.schedule.book_rows import Origin, RunRow, RunState
from eventmill.schedule.chore import Chore
from eventmill.schedule.due import MISSED_AFTER_SECONDS, DueHeap, first_slot, slot_text
from eventmill.schedule.run_work import RunWork, SlotRunner
from eventmill.schedule.workflow_folder import WorkflowFolder
from eventmill.workflow.definition import WorkflowDefinition

BEAT_SECONDS = 10.0
"""How often a scheduler says that it is alive, and looks at the book and at the workflows."""
STOP_SECONDS = 10.0
"""How long a stop waits for slots that run; then they are written down as due again."""
_PRUNE_SECONDS = 3_600.0
_PAUSE_SECONDS = 1.0
_AT_ONCE = float("-inf")
_Awaited = tuple[WorkflowDefinition, int | None]
_logger = logging.getLogger("eventmill.schedule")


def runner_name() -> str:
    """Return a name for who runs slots: host, process, and a random part."""
    return f"{socket.gethostname()}/{getpid()}/{secrets.token_hex(4)}"


def start_thread(work: Callable[[], object], name: str) -> None:
    """Do ``work`` in a thread of its own that does not keep the program alive."""
    threading.Thread(target=work, name=name, daemon=True).start()


class Scheduler(Service):
    """Runs the slots of the project's workflows, until it is stopped."""

    def __init__(
        self,
        book: RunBook,
        folder: WorkflowFolder,
        run: SlotRunner,
        *,
        settings: ScheduleSettings | None = None,
        clock: Clock = SYSTEM_CLOCK,
        rng: random.Random | None = None,
        chores: Sequence[Chore] = (),
        begin: Callable[[Callable[[], object], str], None] = start_thread,
    ) -> None:
        """Prepare to run the workflows in ``folder``.

        Args:
            book: where slots and runs are written, the caller's.
            folder: the workflows.
            run: runs the body of one slot.
            settings: None: the defaults.
            clock: tells what is due.
            rng: draws pauses; None: seeded by chance.
            chores: what else is to be done from time to time, such as the look for late rows.
            begin: begins the run of a slot; for tests.
        """
        super().__init__("eventmill-scheduler", restart_pause_seconds=_PAUSE_SECONDS)
        self._settings = settings or ScheduleSettings()
        self.runner = Runner(runner_name(), Origin.SCHEDULE, self._settings.lease_seconds)
        """Who this scheduler is in the book."""
        self._book = book
        self._claims = Claims(book)
        self._planning = Planning(book)
        self._folder = folder
        self._run = run
        self._clock = clock
        self._rng = rng or random.Random(secrets.randbits(64))  # noqa: S311 - pauses, no secrets
        self._chores = chores
        self._begin = begin
        self._due = DueHeap()
        self._ready: deque[str] = deque()
        self._works: dict[int, RunWork] = {}
        self._works_lock = threading.Lock()
        self._all_ended = threading.Event()
        self._all_ended.set()
        self._ended: deque[str] = deque()
        self._awaited: dict[str, _Awaited] = {}
        self._wakeup = threading.Event()
        self._beat_at = _AT_ONCE
        self._prune_at = _AT_ONCE
        self._change_at: float | None = None

    def wake(self) -> None:
        """Let the scheduler look for what there is to do now."""
        self._wakeup.set()

    def run(self, stopping: threading.Event) -> None:
        """Work until ``stopping`` is set, and leave nothing behind that is not due again."""
        self._beat_at = self._prune_at = _AT_ONCE
        try:
            while not stopping.is_set():
                self._wakeup.clear()
                try:
                    wait_seconds = self.turn()
                except TransientError as error:
                    _logger.warning("the scheduler waits: %s", error)
                    stopping.wait(_PAUSE_SECONDS)
                    continue
                if not stopping.is_set():
                    self._wakeup.wait(wait_seconds)
        finally:
            self._end()

    def turn(self) -> float:
        """Do all that is due; return for how many seconds nothing else is.

        Raises:
            TransientError: the book cannot be read or written; the next turn goes on.
        """
        now, ticks = self._clock.now(), self._clock.monotonic()
        if ticks >= self._beat_at:
            self._beat(now, ticks)
        if self._ended:
            self._take_ended(now)
        if self._change_at is not None and now >= self._change_at:
            self._look_at_book(now)
        next_due = self._due.next_at
        if next_due is not None and next_due <= now:
            self._plan(now)
        if self._ready and len(self._works) < self._settings.runs_max:
            self._claim_ready(now)
        for chore in self._chores:
            chore.begin_when_due()
        if self._ended:
            return 0.0
        waits = [self._beat_at - ticks]
        moments = (self._due.next_at, self._change_at)
        waits.extend(moment - now for moment in moments if moment is not None)
        waits.extend(chore.due_at - ticks for chore in self._chores if not chore.running)
        return min(BEAT_SECONDS, max(0.0, min(waits)))

    @property
    def definitions(self) -> Sequence[WorkflowDefinition]:
        """The workflows that it runs now, paused ones included."""
        return list(self._folder.definitions.values())

    # -- looking --------------------------------------------------------------------------

    def _beat(self, now: float, ticks: float) -> None:
        self._book.beat(self.runner.name, now)
        # Only what is in the book counts as looked at: a failure on the way is made good by the
        # next turn.
        if self._folder.look() or self._beat_at == _AT_ONCE:
            found = {
                name: (one.owner, one.timetable.text)
                for name, one in self._folder.definitions.items()
            }
            self._book.note_workflows(found, self._folder.faults, now)
        self._await_slots()
        if ticks >= self._prune_at:
            self._book.prune(now)
            self._prune_at = ticks + _PRUNE_SECONDS
        self._look_at_book(now)
        self._beat_at = ticks + BEAT_SECONDS

    def _await_slots(self) -> None:
        """Await the next slot of each workflow, as the book says which are planned."""
        definitions = self._folder.definitions
        before, awaited = self._awaited, {}
        for name, first_seen_at, planned_until in self._book.planned():
            definition = definitions.get(name)
            if definition is None:
                continue
            known = before.get(name)
            # The same object, not an equal one: a thousand of them are looked at every ten seconds.
            if known is None or known[0] is not definition or known[1] != planned_until:
                known = (definition, planned_until)
                slot = first_slot(definition, first_seen_at, planned_until)
                self._due.await_slot(definition, slot, first_seen_at)
            awaited[name] = known
        self._due.forget(self._due.names() - awaited.keys())
        self._awaited = awaited

    def _look_at_book(self, now: float) -> None:
        """See which runs are lost, and which slots are to be run now."""
        for run in self._claims.expire(now):
            _logger.warning(
                "%s: run %d of %s is lost: %s", run.workflow, run.id, slot_text(run.slot),
                "its lease has ended",
            )  # fmt: skip
        known = set(self._ready)
        self._ready.extend(n for n in self._claims.due_workflows(now) if n not in known)
        self._change_at = self._claims.next_change_at(now)

    def _take_ended(self, now: float) -> None:
        """Let the workflows whose runs have ended run what else they have."""
        known = set(self._ready)
        while self._ended:
            name = self._ended.popleft()
            if name not in known:
                self._ready.append(name)
        self._change_at = self._claims.next_change_at(now)

    # -- planning -------------------------------------------------------------------------

    def _plan(self, now: float) -> None:
        try:
            taken = [
                (definition, self._without_overlap(definition, plan, now))
                for definition, plan in self._due.take(now)
            ]
            self._planning.enter((plan for _, plan in taken), now)
        except BaseException:
            self._awaited = {}  # the next beat reads from the book where planning stands
            self._beat_at = _AT_ONCE
            raise
        known = set(self._ready)
        self._ready.extend(plan.workflow for _, plan in taken if plan.workflow not in known)
        for definition, plan in taken:
            if definition.name in self._awaited:
                self._awaited[definition.name] = (definition, plan.planned_until)

    def _without_overlap(self, definition: WorkflowDefinition, plan: Plan, now: float) -> Plan:
        """Skip what came due while the workflow runs, or cancel what runs, where it says so."""
        if definition.overlap == "queue":
            return plan
        running = [run for run in self._book.running() if run.workflow == definition.name]
        fresh = [
            one for one in plan.slots
            if not one.skipped and one.due_at >= now - MISSED_AFTER_SECONDS
        ]  # fmt: skip
        if not fresh or len(running) < definition.parallel_slots:
            return plan
        oldest = min(running, key=lambda run: run.id)
        if definition.overlap == "cancel":
            self._cancel(oldest, f"{slot_text(fresh[-1].slot)} came due; overlap = 'cancel'")
            return plan
        told = f"{slot_text(oldest.slot)} was still running; overlap = 'skip'"
        slots = [
            PlannedSlot(one.slot, one.due_at, told) if one in fresh else one for one in plan.slots
        ]
        return Plan(plan.workflow, plan.planned_until, slots)

    def _cancel(self, run: RunRow, reason: str) -> None:
        self._claims.ask_cancel(run.id, reason)  # whoever runs it hears of it with the next renewal
        with self._works_lock:
            work = self._works.get(run.id)
        if work is not None:
            work.cancel_for(reason)

    # -- running --------------------------------------------------------------------------

    def _claim_ready(self, now: float) -> None:
        while self._ready and len(self._works) < self._settings.runs_max:
            name = self._ready.popleft()
            definition = self._folder.definitions.get(name)
            if definition is None:
                continue
            claimed = self._claims.claim_next(
                name,
                self.runner,
                now,
                attempts_max=definition.retries + 1,
                parallel_max=definition.parallel_slots,
                runs_max=self._settings.runs_max,
                body=definition.bodies[0],
            )
            if isinstance(claimed, Claim):
                self._ready.append(name)  # behind all others: each has its turn
                self._start_run(claimed, definition)
            elif claimed is Refusal.ALL_FULL:
                self._ready.appendleft(name)
                return

    def _start_run(self, claim: Claim, definition: WorkflowDefinition) -> None:
        work = RunWork(
            self._claims,
            claim,
            definition,
            self._run,
            clock=self._clock,
            rng=self._rng,
            lease_seconds=self.runner.lease_seconds,
        )
        with self._works_lock:
            self._works[claim.run_id] = work
            self._all_ended.clear()
        self._begin(lambda: self._carry_out(work), f"slot of {claim.workflow}")

    def _carry_out(self, work: RunWork) -> None:
        claim = work.claim
        try:
            ending = work.run()
            if ending.state is not RunState.SUCCEEDED:
                _logger.warning(
                    "%s: run %d of %s %s: %s", claim.workflow, claim.run_id, slot_text(claim.slot),
                    ending.state.value.replace("_", " "), ending.error,
                )  # fmt: skip
        finally:
            with self._works_lock:
                self._works.pop(claim.run_id, None)
                if not self._works:
                    self._all_ended.set()
            self._ended.append(claim.workflow)
            self._wakeup.set()

    def _end(self) -> None:
        """Ask what runs to end, and write down as due again what does not in time."""
        with self._works_lock:
            works = list(self._works.values())
        for work in works:
            work.cancel(STOPPED)
        for chore in self._chores:
            chore.ask_to_end()
        ends_at = SYSTEM_CLOCK.monotonic() + STOP_SECONDS  # a thread waits in real time alone
        self._all_ended.wait(STOP_SECONDS)
        with self._works_lock:
            left = list(self._works.values())
        for work in left:
            work.abandon()
        for chore in self._chores:
            chore.stop(max(1.0, ends_at - SYSTEM_CLOCK.monotonic()))
        try:
            self._book.note_stopped(self.runner.name, self._clock.now())
        except TransientError as error:
            _logger.warning("the scheduler's end is not in the run book: %s", error)
