"""Running slots under leases: claimed by one, renewed while it lives, finished, or lost.

A claim is a run: a row with a lease. Whoever holds it renews the lease; when the lease ends first,
the run is *lost* and its slot is due again. The run's id grows with every claim and goes with the
rows to the store, which refuses those of an overtaken run: so a process that stood still for an
hour and wakes up cannot undo what a later run wrote.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from eventmill.schedule.book import RunBook
from eventmill.schedule.book_rows import (
    RUN_COLUMNS,
    SELECT_RUNS,
    SELECT_SLOTS,
    Marks,
    Origin,
    RunRow,
    RunState,
    SlotRow,
    SlotState,
    marks_text,
    run_row,
    slot_row,
)
from eventmill.workflow.timetable import Slot

LEASE_SECONDS = 30.0
"""How long a claim holds without being renewed."""
RENEW_SECONDS = 10.0
"""How often its holder renews it: two renewals may fail before the third is too late."""
STOPPED = "its scheduler was stopped"
"""Reason of a slot that is due again because the program that ran it was asked to end."""
_ERROR_CHARACTERS = 2_000


class Refusal(Enum):
    """Why no slot was claimed."""

    NONE_DUE = auto()
    """No slot of the workflow is to be run now, or it is paused."""
    WORKFLOW_FULL = auto()
    """As many of its slots run as may."""
    ALL_FULL = auto()
    """As many slots of all workflows run as may."""


@dataclass(frozen=True, slots=True)
class Runner:
    """Who claims, and how."""

    name: str
    """Host, process and a random part: no two are the same."""
    origin: Origin
    lease_seconds: float = LEASE_SECONDS


@dataclass(frozen=True, slots=True)
class Claim:
    """A slot that this process may run until its lease ends."""

    run_id: int
    """Microseconds since 1970, strictly growing; the generation for ``replace_slot``."""
    workflow: str
    slot: Slot
    attempt: int
    attempts_max: int
    reason: str
    origin: Origin
    body: str
    marks: Marks | None
    """What the inputs held just before the last success; None: there was none."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended, and what becomes of its slot."""

    state: RunState
    error: str = ""
    retry_after_seconds: float = 0.0
    """Pause before the next attempt, when one is left."""
    slot_skipped: str = ""
    """Of a cancelled run: why its slot is not to be run any more; empty: it is due again."""
    is_counted: bool = True
    """Whether it is one of the attempts that the slot has."""
    input_rows: int | None = None
    output_rows: int | None = None
    replaced_rows: int | None = None
    late_rows: int | None = None
    seconds: float | None = None
    marks: Marks | None = None


class Claims:
    """The part of the book that runs slots. Safe from any thread."""

    def __init__(self, book: RunBook) -> None:
        """Claim in ``book``, which stays the caller's."""
        self._file = book.file

    # -- claiming -------------------------------------------------------------------------

    def claim_next(
        self,
        workflow: str,
        runner: Runner,
        now: float,
        *,
        attempts_max: int,
        parallel_max: int = 1,
        runs_max: int | None = None,
        body: str = "",
    ) -> Claim | Refusal:
        """Claim the earliest slot of a workflow that is due by the schedule.

        Promise: of all that call at one time, in whatever process, one gets a slot.

        Args:
            workflow: whose slot.
            runner: who runs it.
            now: seconds since 1970.
            attempts_max: how often the slot may be tried before it has failed.
            parallel_max: slots of the workflow that may run at one time, whoever runs them.
            runs_max: slots of all workflows that schedulers may run at one time; None: any.
            body: which body is going to run.
        """
        with self._file.writing() as db:
            row = db.execute(
                f"{SELECT_SLOTS} WHERE state = 'waiting' AND workflow = ?"
                " AND origin = 'schedule' AND not_before <= ? AND NOT EXISTS (SELECT * FROM"
                " workflows WHERE name = workflow AND paused_at IS NOT NULL)"
                " ORDER BY start_seconds LIMIT 1",
                (workflow, now),
            ).fetchone()
            if row is None:
                return Refusal.NONE_DUE
            own, scheduled = db.execute(
                "SELECT COALESCE(SUM(workflow = ?), 0), COALESCE(SUM(origin = 'schedule'), 0)"
                " FROM runs WHERE state = 'running'",
                (workflow,),
            ).fetchone()
            if own >= parallel_max:
                return Refusal.WORKFLOW_FULL
            if runs_max is not None and scheduled >= runs_max:
                return Refusal.ALL_FULL
            return _start(db, slot_row(row), runner, now, attempts_max=attempts_max, body=body)

    def claim_backfill(
        self, workflow: str, bounds: Slot, runner: Runner, now: float, *, attempts_max: int
    ) -> Claim | float | None:
        """Claim the earliest slot that waits among those that start within ``bounds``.

        Returns:
            the claim; or when the next one may be tried again, seconds since 1970; or None: none
            of them waits.
        """
        with self._file.writing() as db:
            rows = db.execute(
                f"{SELECT_SLOTS} WHERE state = 'waiting' AND workflow = ?"
                " AND start_seconds >= ? AND start_seconds < ?"
                " ORDER BY not_before > ?, start_seconds LIMIT 1",
                (workflow, *bounds, now),
            ).fetchall()
            if not rows:
                return None
            found = slot_row(rows[0])
            if found.not_before > now and found.attempts:
                return found.not_before
            return _start(db, found, runner, now, attempts_max=attempts_max, body="")

    def claim_slot(
        self,
        workflow: str,
        slot: Slot,
        runner: Runner,
        now: float,
        *,
        attempts_max: int,
        attempt: int | None = None,
        body: str = "",
    ) -> Claim | RunRow:
        """Claim one slot whatever became of it, unless it runs.

        Returns:
            the claim, or the run that holds the slot.
        """
        key = (workflow, *slot)
        with self._file.writing() as db:
            _expire(db, now)
            db.execute(
                "INSERT OR IGNORE INTO slots (workflow, start_seconds, end_seconds, state, origin,"
                " reason, due_at, not_before, changed_at)"
                " VALUES (?1, ?2, ?3, 'waiting', ?4, '', ?5, ?5, ?5)",
                (*key, runner.origin.value, now),
            )
            found = _slot(db, key)
            if found.state is SlotState.RUNNING:
                return _run(db, found.run_id)
            if found.state is not SlotState.WAITING or attempt is not None:
                db.execute(
                    f"UPDATE slots SET attempts = ?, reason = '' {_WHERE_KEY}",
                    ((attempt or 1) - 1, *key),
                )
                found = _slot(db, key)
            return _start(db, found, runner, now, attempts_max=attempts_max, body=body)

    # -- holding --------------------------------------------------------------------------

    def renew(self, run_id: int, now: float) -> str | None:
        """Renew the lease of a run.

        Returns:
            why the run was asked to end, empty when it was not; None: it is lost, and its slot
            may be somebody else's by now.
        """
        with self._file.writing() as db:
            row = db.execute(
                "UPDATE runs SET lease_until = ? + lease_seconds WHERE id = ?"
                " AND state = 'running' RETURNING cancel",
                (now, run_id),
            ).fetchone()
            return None if row is None else str(row[0])

    def ask_cancel(self, run_id: int, reason: str) -> bool:
        """Ask whoever holds a run to end it; return whether it was running."""
        with self._file.writing() as db:
            done = db.execute(
                "UPDATE runs SET cancel = ? WHERE id = ? AND state = 'running'", (reason, run_id)
            )
            return done.rowcount > 0

    def log(self, run_id: int, lines: Sequence[tuple[float, str, str]]) -> None:
        """Add lines to a run's log, each with its moment and its level."""
        with self._file.writing() as db:
            _log(db, run_id, lines)

    def finish(
        self, run_id: int, ending: Ending, now: float, lines: Sequence[tuple[float, str, str]] = ()
    ) -> bool:
        """Write down how a run ended, its last lines of log, and what becomes of its slot.

        Returns:
            False: the run was lost before, and nothing but the log was changed.
        """
        with self._file.writing() as db:
            _log(db, run_id, lines)
            return _finish(db, run_id, ending, now)

    def expire(self, now: float) -> list[RunRow]:
        """Declare the runs lost whose leases have ended, and their slots due again.

        A lease that reaches further than a lease can, because the clock was set back since, is
        shortened to what it would be now: its holder, if there is one, renews it.
        """
        with self._file.writing() as db:
            return _expire(db, now)

    # -- when to look again ---------------------------------------------------------------

    def due_workflows(self, now: float) -> list[str]:
        """Return the workflows with slots to be run now, that which waits longest first."""
        with self._file.reading() as db:
            rows = db.execute(
                "SELECT workflow FROM slots WHERE state = 'waiting' AND origin = 'schedule'"
                " AND not_before <= ? GROUP BY workflow ORDER BY MIN(not_before), workflow",
                (now,),
            )
            return [str(row[0]) for row in rows]

    def next_change_at(self, now: float) -> float | None:
        """Return when the next slot is to be run that is not yet, or the next lease ends."""
        with self._file.reading() as db:
            row = db.execute(
                "SELECT MIN(not_before) FROM slots WHERE state = 'waiting'"
                " AND origin = 'schedule' AND not_before > ?1",
                (now,),
            ).fetchone()
            lease = db.execute("SELECT MIN(lease_until) FROM runs WHERE state = 'running'")
            found = [float(moment) for (moment,) in (row, lease.fetchone()) if moment is not None]
            return min(found, default=None)


_WHERE_KEY = "WHERE workflow = ? AND start_seconds = ? AND end_seconds = ?"


def _slot(db: sqlite3.Connection, key: tuple[str, int, int]) -> SlotRow:
    found = db.execute(f"{SELECT_SLOTS} {_WHERE_KEY}", key).fetchone()
    return slot_row(found)


def _run(db: sqlite3.Connection, run_id: int | None) -> RunRow:
    found = db.execute(f"{SELECT_RUNS} WHERE id = ?", (run_id,)).fetchone()
    return run_row(found)


def _start(
    db: sqlite3.Connection,
    found: SlotRow,
    runner: Runner,
    now: float,
    *,
    attempts_max: int,
    body: str,
) -> Claim:
    # SQLite remembers the highest id ever given, of runs that are no longer kept too: the next
    # one is above it even when the clock was set back.
    row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'runs'").fetchone()
    run_id = max(int(now * 1e6), (int(row[0]) if row else 0) + 1)
    attempt = found.attempts + 1
    attempts_max = max(attempts_max, attempt)
    key = (found.workflow, *found.slot)
    db.execute(
        "INSERT INTO runs (id, workflow, start_seconds, end_seconds, attempt, attempts_max, state,"
        " origin, reason, body, runner, started_at, lease_seconds, lease_until)"
        " VALUES (?, ?, ?, ?, ?, ?, 'running', ?, ?, ?, ?, ?, ?, ?)",
        (run_id, *key, attempt, attempts_max, runner.origin.value, found.reason, body,
         runner.name, now, runner.lease_seconds, now + runner.lease_seconds),
    )  # fmt: skip
    db.execute(
        "UPDATE slots SET state = 'running', run_id = ?, attempts = ?, changed_at = ?"
        f" {_WHERE_KEY}",
        (run_id, attempt, now, *key),
    )
    return Claim(
        run_id=run_id,
        workflow=found.workflow,
        slot=found.slot,
        attempt=attempt,
        attempts_max=attempts_max,
        reason=found.reason,
        origin=runner.origin,
        body=body,
        marks=found.marks,
    )


def _log(db: sqlite3.Connection, run_id: int, lines: Sequence[tuple[float, str, str]]) -> None:
    db.executemany(
        "INSERT INTO run_log (run_id, at, level, text) VALUES (?, ?, ?, ?)",
        [(run_id, *line) for line in lines],
    )


def _expire(db: sqlite3.Connection, now: float) -> list[RunRow]:
    db.execute(
        "UPDATE runs SET lease_until = ?1 + lease_seconds WHERE state = 'running'"
        " AND lease_until > ?1 + lease_seconds",
        (now,),
    )
    rows = db.execute(
        f"{SELECT_RUNS} WHERE state = 'running' AND lease_until <= ?",
        (now,),
    )
    lost = [run_row(row) for row in rows.fetchall()]
    for run in lost:
        told = f"{run.runner} has not been heard of for {now - run.lease_until:.0f} s after its"
        ending = Ending(RunState.LOST, error=f"{told} lease ended")
        _finish(db, run.id, ending, now)
        _log(db, run.id, [(now, "error", ending.error)])
    return lost


def _finish(db: sqlite3.Connection, run_id: int, ending: Ending, now: float) -> bool:
    error = ending.error[:_ERROR_CHARACTERS]
    row = db.execute(
        "UPDATE runs SET state = ?, error = ?, ended_at = ?, input_rows = ?, output_rows = ?,"
        " replaced_rows = ?, late_rows = ?, seconds = ? WHERE id = ? AND state = 'running'"
        f" RETURNING {RUN_COLUMNS}",
        (ending.state.value, error, now, ending.input_rows, ending.output_rows,
         ending.replaced_rows, ending.late_rows, ending.seconds, run_id),
    ).fetchone()  # fmt: skip
    if row is None:
        return False
    run = run_row(row)
    where = f"{_WHERE_KEY} AND run_id = ?"
    key = (run.workflow, *run.slot, run_id)
    if run.state is RunState.SUCCEEDED:
        db.execute(
            "UPDATE slots SET state = 'succeeded', reason = '', attempts = 0, not_before = ?,"
            " changed_at = ?, succeeded_at = ?, input_rows = ?, output_rows = ?,"
            f" late_rows = late_rows + ?, too_late_rows = 0, marks = ? {where}",
            (now, now, now, ending.input_rows, ending.output_rows, ending.late_rows or 0,
             marks_text(ending.marks or {}), *key),
        )  # fmt: skip
        return True
    found = _slot(db, key[:3])
    state, reason, not_before, attempts = _after(run, found.origin, ending, error, now)
    db.execute(
        "UPDATE slots SET state = ?, reason = ?, not_before = ?, attempts = ?, changed_at = ?"
        f" {where}",
        (state.value, reason, not_before, attempts, now, *key),
    )
    return True


def _after(
    run: RunRow, origin: Origin, ending: Ending, error: str, now: float
) -> tuple[SlotState, str, float, int]:
    """Return state, reason, next moment and attempts of the slot of a run without success."""
    if ending.slot_skipped:
        return SlotState.SKIPPED, ending.slot_skipped, now, run.attempt
    if origin is Origin.COMMAND:  # whoever called the command decides whether to call it again
        return SlotState.FAILED, error, now, run.attempt
    if run.state is RunState.CANCELLED or not ending.is_counted:
        return SlotState.WAITING, error, now + ending.retry_after_seconds, run.attempt - 1
    if run.attempt >= run.attempts_max:
        return SlotState.FAILED, error, now, run.attempt
    told = f"attempt {run.attempt} of {run.attempts_max} {run.state.value.replace('_', ' ')}"
    return SlotState.WAITING, f"{told}: {error}", now + ending.retry_after_seconds, run.attempt
