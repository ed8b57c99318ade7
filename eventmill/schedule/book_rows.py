"""What stands in the run book, as values: workflows, slots, runs, lines of log."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from eventmill.base.clock import utc_datetime
from eventmill.workflow.timetable import Slot

Marks = Mapping[str, tuple[int, int | None]]
"""Per input table: its rows of a slot, and the newest ``_ingested_at`` of them in microseconds
since 1970 (None: it had no rows)."""


class SlotState(StrEnum):
    """What has become of a slot."""

    WAITING = "waiting"
    """It is to be run: for the first time, again after a failure, or again for late rows."""
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """No attempt is left."""
    SKIPPED = "skipped"
    """It is not going to be run, and ``reason`` says why."""


class RunState(StrEnum):
    """How an attempt ended."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    LOST = "lost"
    """Its lease ended: the process died, or stood still for longer than the lease."""


class Origin(StrEnum):
    """Who asked for a slot to be run."""

    SCHEDULE = "schedule"
    BACKFILL = "backfill"
    """``workflow backfill``: no scheduler takes it, the command runs it when it is called again."""
    COMMAND = "command"
    """``workflow run``, of a person or of another scheduler."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowRow:
    """One workflow that a scheduler or a command has seen."""

    name: str
    owner: str
    timetable: str
    """The timetable as a person reads it."""
    first_seen_at: float
    """Seconds since 1970, as all moments here."""
    planned_until: int | None
    """Slots that start before it have been planned; None: none were yet."""
    paused_at: float | None
    """Since when no scheduler plans or runs its slots; None: it is not paused."""
    paused_by: str
    handed_to: str
    """Which other scheduler calls ``workflow run`` for it, such as ``cron``; empty: none does. Then
    ours plans no slots of it."""
    fault: str
    """Why the folder as it is now cannot be used, the last good definition being run; empty."""
    fault_at: float | None
    removed_at: float | None
    """Since when its folder is gone; None: it is there."""


class _OfOneSlot:
    """What is told of one slot, with its interval in the forms that are asked for."""

    __slots__ = ()
    start_seconds: int
    end_seconds: int

    @property
    def slot(self) -> Slot:
        """Its interval, [start, end)."""
        return self.start_seconds, self.end_seconds

    @property
    def start(self) -> datetime:
        """Its start, an aware UTC datetime."""
        return utc_datetime(self.start_seconds)

    @property
    def end(self) -> datetime:
        """Its end, an aware UTC datetime, not part of it."""
        return utc_datetime(self.end_seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotRow(_OfOneSlot):
    """One slot of a workflow."""

    workflow: str
    start_seconds: int
    end_seconds: int
    state: SlotState
    origin: Origin
    reason: str
    """Why it waits, failed or was skipped; empty when there is nothing to say."""
    due_at: float
    """When it was first to be run."""
    not_before: float
    """When it is to be run next; of meaning while it waits."""
    attempts: int
    """Attempts since it last began to wait anew (due, late rows, backfill)."""
    run_id: int | None
    """The latest run of it; None: there was none."""
    changed_at: float
    succeeded_at: float | None
    """When it last succeeded; its output is in the table since then."""
    input_rows: int | None
    output_rows: int | None
    """Of the last success."""
    late_rows: int
    """Rows that came after a success and were taken in by a later one, all together."""
    too_late_rows: int
    """Rows that came after the lateness allowed, and that its output lacks; a backfill takes them
    in."""
    marks: Marks | None
    """What its inputs held just before its last successful run; None: it had none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow(_OfOneSlot):
    """One attempt at one slot."""

    id: int
    """Microseconds since 1970 at the claim, strictly growing; the generation of its rows."""
    workflow: str
    start_seconds: int
    end_seconds: int
    attempt: int
    """1 for the first of the slot since it last began to wait anew."""
    attempts_max: int
    state: RunState
    origin: Origin
    reason: str
    """Why the slot was waiting."""
    body: str
    """``sql`` or ``beam``; empty: the workflow's first."""
    runner: str
    """Which scheduler or command runs it: host, process and a random part."""
    started_at: float
    lease_until: float
    ended_at: float | None
    cancel: str
    """Why it was asked to end; empty: it was not."""
    error: str
    """What went wrong; empty when nothing did."""
    input_rows: int | None
    output_rows: int | None
    replaced_rows: int | None
    late_rows: int | None
    """Input rows that came since the success before it; None: it has not succeeded."""
    seconds: float | None


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of a run's log."""

    id: int
    """Grows from line to line; ``run_log(run_id, after=id)`` returns those that follow."""
    run_id: int
    at: float
    level: str
    """``info``, ``warning`` or ``error``."""
    text: str


WORKFLOW_COLUMNS = (
    "name, owner, timetable, first_seen_at, planned_until, paused_at, paused_by, handed_to,"
    " fault, fault_at, removed_at"
)
SLOT_COLUMNS = (
    "workflow, start_seconds, end_seconds, state, origin, reason, due_at, not_before, attempts,"
    " run_id, changed_at, succeeded_at, input_rows, output_rows, late_rows, too_late_rows, marks"
)
RUN_COLUMNS = (
    "id, workflow, start_seconds, end_seconds, attempt, attempts_max, state, origin, reason,"
    " body, runner, started_at, lease_until, ended_at, cancel, error, input_rows, output_rows,"
    " replaced_rows, late_rows, seconds"
)

SELECT_WORKFLOWS = f"SELECT {WORKFLOW_COLUMNS} FROM workflows"
SELECT_SLOTS = f"SELECT {SLOT_COLUMNS} FROM slots"
SELECT_RUNS = f"SELECT {RUN_COLUMNS} FROM runs"
"""Beginnings of the statements whose rows the functions below read."""


def slot_row(row: sqlite3.Row) -> SlotRow:
    """Return the slot that stands in ``row``, of ``SLOT_COLUMNS``."""
    values = dict(row)
    values["state"] = SlotState(values["state"])
    values["origin"] = Origin(values["origin"])
    values["marks"] = marks_of(values["marks"])
    return SlotRow(**values)


def run_row(row: sqlite3.Row) -> RunRow:
    """Return the run that stands in ``row``, of ``RUN_COLUMNS``."""
    values = dict(row)
    values["state"] = RunState(values["state"])
    values["origin"] = Origin(values["origin"])
    return RunRow(**values)


def marks_of(text: str | None) -> Marks | None:
    """Return marks from the text that ``marks_text`` made."""
    if text is None:
        return None
    return {table: (count, newest) for table, (count, newest) in json.loads(text).items()}


def marks_text(marks: Marks) -> str:
    """Return marks as the book keeps them."""
    return json.dumps({table: list(mark) for table, mark in sorted(marks.items())})
