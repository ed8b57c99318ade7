"""One claimed slot being run: the body in one thread, its lease and its time limit in another.

The second thread is needed because a body may be inside the database for an hour without a step
of Python's own.
"""

from __future__ import annotations

import logging
import random
import threading
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from eventmill.base.clock import Clock, backoff_seconds
from eventmill.base.errors import (
    EventmillError,
    StaleAttemptError,
    TableNotFoundError,
    TransientError,
)
from eventmill.base.quantity import format_seconds
from eventmill.schedule.book_claims import LEASE_SECONDS, Claim, Claims, Ending
from eventmill.schedule.book_rows import Marks, RunState
from eventmill.workflow.definition import Body, WorkflowDefinition
from eventmill.workflow.slot_run import MISSING_INPUT
from eventmill.workflow.timetable import Slot

if TYPE_CHECKING:
    from eventmill.workflow.slot_run import SlotResult

RETRY_CAP_SECONDS = 600.0
"""Longest pause before a retry."""
END_SECONDS = 10.0
"""How long a body that was asked to end may take; then the run is written down without it."""
_LINES_MAX = 10_000
_LINE_CHARACTERS = 10_000
_logger = logging.getLogger("eventmill.schedule")


class SlotRunner(Protocol):
    """Runs one slot on a store, as ``workflow.slot_run.run_slot`` does."""

    def __call__(
        self,
        definition: WorkflowDefinition,
        slot: Slot,
        *,
        generation: int,
        body: Body | None,
        log: Callable[[str], None],
        cancel: threading.Event,
    ) -> SlotResult:
        """Run the body and replace the slot's rows; end early once ``cancel`` is set."""
        ...


class RunWork:
    """Runs one claim to its end, once. ``cancel`` may be called from any thread."""

    def __init__(
        self,
        claims: Claims,
        claim: Claim,
        definition: WorkflowDefinition,
        run: SlotRunner,
        *,
        clock: Clock,
        rng: random.Random,
        lease_seconds: float = LEASE_SECONDS,
        look_seconds: float = 1.0,
        body: Body | None = None,
    ) -> None:
        """Prepare to run ``claim``.

        Args:
            claims: where it was claimed.
            claim: the slot and its lease.
            definition: of its workflow.
            run: runs the body.
            clock: of the lease and the time limit.
            rng: draws the pause before a retry.
            lease_seconds: of the claim; it is renewed three times within it.
            look_seconds: how often the time limit is looked at, and new lines of log written.
            body: which body; None: the workflow's first.
        """
        self.claim = claim
        self.definition = definition
        self.ending: Ending | None = None
        """How it ended, as the book has it; None: it has not ended."""
        self._claims = claims
        self._run = run
        self._clock = clock
        self._rng = rng
        self._lease_seconds = lease_seconds
        self._look_seconds = look_seconds
        self._body = body
        self._cancel = threading.Event()
        self._done = threading.Event()
        self._lock = threading.Lock()
        self._lines: list[tuple[float, str, str]] = []
        self._line_count = 0
        self._is_written = False
        self._asked = Ending(RunState.RUNNING)
        self._asked_at = 0.0

    def run(self) -> Ending:
        """Run the slot and write its end into the book; return the end."""
        began = self._clock.monotonic()
        keeper = threading.Thread(
            target=self._keep, args=(began,), name=f"lease {self.claim.workflow}", daemon=True
        )
        keeper.start()
        try:
            ending = self._attempt(began)
        finally:
            self._done.set()
            keeper.join()
        self._write(ending)
        return self.ending or ending

    def cancel(self, reason: str, *, slot_skipped: str = "") -> None:
        """Ask the body to end; with ``slot_skipped`` its slot is not run again, for that reason."""
        self._ask(Ending(RunState.CANCELLED, error=reason, slot_skipped=slot_skipped))

    def cancel_for(self, reason: str) -> None:
        """Ask the body to end for another slot; its own is not run again unless it has rows.

        A slot that is being repaired keeps the rows of its last success, and waits for a repair.
        """
        self.cancel(reason, slot_skipped="" if self.claim.marks is not None else reason)

    def abandon(self) -> None:
        """Write the run down as cancelled although its body has not ended; it may not write rows.

        Whatever the body does later, the store refuses once the slot's next run has written.
        """
        self._write(self._asked if self._cancel.is_set() else Ending(RunState.CANCELLED))

    # -- the body's thread ----------------------------------------------------------------

    def _attempt(self, began: float) -> Ending:
        claim = self.claim
        try:
            result = self._run(
                self.definition,
                claim.slot,
                generation=claim.run_id,
                body=self._body,
                log=self._log_info,
                cancel=self._cancel,
            )
        except StaleAttemptError as error:
            return Ending(RunState.LOST, error=f"overtaken: {error}")
        except TableNotFoundError as error:
            if self._awaits_table(error):
                return self._waiting(error)
            return self._failed(str(error), began)
        except EventmillError as error:
            return self._failed(str(error), began)
        except Exception as error:  # noqa: BLE001 - told on the run, with its traceback
            self._log("error", traceback.format_exc())
            return self._failed(f"unexpected {type(error).__name__}: {error}", began)
        marks = {table: (mark.count, mark.max_ingested_us) for table, mark in result.marks.items()}
        return Ending(
            RunState.SUCCEEDED,
            input_rows=result.input_rows,
            output_rows=result.output_rows,
            replaced_rows=result.replaced_rows,
            late_rows=late_rows(claim.marks, marks),
            seconds=result.seconds,
            marks=marks,
        )

    def _failed(self, told: str, began: float) -> Ending:
        if self._cancel.is_set():
            return self._asked
        self._log("error", told)
        seconds = self._clock.monotonic() - began
        is_over = seconds >= self.definition.timeout_seconds
        return Ending(
            RunState.TIMED_OUT if is_over else RunState.FAILED,
            error=told,
            retry_after_seconds=self._retry_seconds(),
            seconds=seconds,
        )

    def _awaits_table(self, error: TableNotFoundError) -> bool:
        """Tell whether it is an input that is not there yet, for which the workflow waits."""
        missing = error.facts.get(MISSING_INPUT)
        return any(one.required and str(one.table) == missing for one in self.definition.inputs)

    def _waiting(self, error: TableNotFoundError) -> Ending:
        """Return the end of an attempt that does not count: a table that it needs is missing."""
        told = f"it waits for a table: {error}"
        self._log("warning", told)
        waited = self._clock.now() - self.claim.slot[1]
        pause = min(max(waited / 4, self.definition.retry_base_seconds), RETRY_CAP_SECONDS)
        return Ending(RunState.FAILED, error=told, retry_after_seconds=pause, is_counted=False)

    def _retry_seconds(self) -> float:
        return backoff_seconds(
            self.claim.attempt - 1,
            self._rng,
            base_seconds=self.definition.retry_base_seconds,
            cap_seconds=RETRY_CAP_SECONDS,
        )

    # -- the keeper's thread --------------------------------------------------------------

    def _keep(self, began: float) -> None:
        renewed = began
        while not self._done.wait(self._look_seconds):
            now = self._clock.monotonic()
            limit = self.definition.timeout_seconds
            if now - began >= limit:
                told = f"stopped after {format_seconds(limit)}, its timeout"
                self._ask(
                    Ending(
                        RunState.TIMED_OUT,
                        error=told,
                        retry_after_seconds=self._retry_seconds(),
                        seconds=now - began,
                    )
                )
            if now - renewed >= self._lease_seconds / 3 and self._renew():
                renewed = now
            if now - renewed >= self._lease_seconds:
                self._ask(Ending(RunState.LOST, error="its lease could not be renewed in time"))
            self._flush()
            if self._cancel.is_set() and now - self._asked_at >= END_SECONDS:
                self._write(self._asked)

    def _renew(self) -> bool:
        try:
            told = self._claims.renew(self.claim.run_id, self._clock.now())
        except TransientError as error:
            _logger.warning("the lease of run %d is not renewed: %s", self.claim.run_id, error)
            return False
        if told is None:
            self._ask(Ending(RunState.LOST, error="its lease had ended"))
        elif told:
            self.cancel_for(told)
        return True

    # -- both -----------------------------------------------------------------------------

    def _ask(self, ending: Ending) -> None:
        with self._lock:
            if self._cancel.is_set():
                return  # the first reason holds
            self._asked = ending
            self._asked_at = self._clock.monotonic()
            self._cancel.set()
        self._log("warning", f"asked to end: {ending.error}")

    def _log_info(self, text: str) -> None:
        self._log("info", text)

    def _log(self, level: str, text: str) -> None:
        with self._lock:
            self._line_count += 1
            if self._line_count > _LINES_MAX:
                return
            if self._line_count == _LINES_MAX:
                level, text = "warning", f"{_LINES_MAX:,} lines are kept; no more of this run"
            self._lines.append((self._clock.now(), level, text[:_LINE_CHARACTERS]))

    def _flush(self) -> None:
        with self._lock:
            lines, self._lines = self._lines, []
        if not lines:
            return
        try:
            self._claims.log(self.claim.run_id, lines)
        except TransientError as error:
            _logger.warning("lines of run %d wait: %s", self.claim.run_id, error)
            with self._lock:
                self._lines = lines + self._lines

    def _write(self, ending: Ending) -> None:
        with self._lock:
            if self._is_written:
                return
            self._is_written = True
            lines, self._lines = self._lines, []
        try:
            if not self._claims.finish(self.claim.run_id, ending, self._clock.now(), lines):
                ending = Ending(RunState.LOST, error="its lease had ended before it was done")
            self.ending = ending
        except TransientError as error:
            # Without an end in the book its lease runs out: the slot is then run once more.
            _logger.warning("the end of run %d is not written: %s", self.claim.run_id, error)


def late_rows(before: Marks | None, after: Marks) -> int | None:
    """Return how many input rows came between two runs; None: there was no success before."""
    if before is None:
        return None
    return sum(
        max(0, count - before.get(table, (0, None))[0]) for table, (count, _) in after.items()
    )
