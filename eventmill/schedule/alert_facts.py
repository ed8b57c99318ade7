"""What the rules about workflows ask the run book: one question for all workflows, not one each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import groupby

from eventmill.schedule.book import RunBook
from eventmill.schedule.book_rows import SLOT_COLUMNS, SlotRow, WorkflowRow, slot_row
from eventmill.schema.table import TableId
from eventmill.workflow.definition import WorkflowDefinition
from eventmill.workflow.timetable import Slot

_MARKLESS = SLOT_COLUMNS.replace("marks", "NULL AS marks")
"""Columns of a slot without what its inputs held, which no rule asks for."""
_FAILED = f"SELECT {_MARKLESS} FROM slots WHERE state = 'failed' AND changed_at >= ?"  # noqa: S608
# Ids of runs are microseconds since 1970, which bounds how far back the index is read.
_AGAIN = (
    f"SELECT {_MARKLESS} FROM slots AS s WHERE state IN ('waiting', 'running')"  # noqa: S608
    " AND run_id IS NOT NULL AND EXISTS (SELECT 1 FROM runs AS r WHERE r.workflow = s.workflow"
    " AND r.id BETWEEN ? AND s.run_id AND r.start_seconds = s.start_seconds"
    " AND r.end_seconds = s.end_seconds AND r.state IN ('failed', 'timed_out', 'lost')"
    " AND (r.attempt >= r.attempts_max OR r.origin = 'command')"
    " AND r.ended_at > COALESCE(s.succeeded_at, 0))"
)
_TOO_LATE = f"SELECT {_MARKLESS} FROM slots WHERE too_late_rows > 0"  # noqa: S608
_UNFINISHED = (
    f"SELECT {_MARKLESS} FROM slots WHERE state IN ('waiting', 'running')"  # noqa: S608
    " AND succeeded_at IS NULL ORDER BY workflow, start_seconds"
)
_LEASES = "SELECT id, lease_until FROM runs WHERE state = 'running'"
_BEATS = "SELECT scheduler, at FROM heartbeats WHERE at <= ? ORDER BY at DESC LIMIT 1"
_PRESENT = "SELECT 1 FROM slots WHERE workflow = ? AND start_seconds = ? AND end_seconds = ?"

SlotsByWorkflow = Mapping[str, Sequence[SlotRow]]


class WorkflowFacts:
    """What is known of workflows: their definitions, and their slots in the run book."""

    def __init__(
        self, book: RunBook, definitions: Callable[[], Sequence[WorkflowDefinition]]
    ) -> None:
        """Keep both.

        Args:
            book: the run book.
            definitions: returns the workflows that are scheduled here, as they are now.
        """
        self.book = book
        self.definitions = definitions

    def outputs(self) -> frozenset[TableId]:
        """Return the tables that workflows write."""
        return frozenset(definition.output.table for definition in self.definitions())

    def live(self) -> list[WorkflowRow]:
        """Return the workflows whose folders are there, ascending by name."""
        return [row for row in self.book.workflows() if row.removed_at is None]

    def failed(self, since: float) -> SlotsByWorkflow:
        """Return the slots that failed for good since a moment and have not succeeded after it.

        Those that are being run again are among them, until they succeed.
        """
        with self.book.file.reading() as db:
            rows = [slot_row(row) for row in db.execute(_FAILED, (since,))]
            rows += [slot_row(row) for row in db.execute(_AGAIN, (int(since * 1e6),))]
        return _by_workflow(rows)

    def too_late(self) -> SlotsByWorkflow:
        """Return the slots with rows that came too late, however old they are."""
        with self.book.file.reading() as db:
            return _by_workflow([slot_row(row) for row in db.execute(_TOO_LATE)])

    def unfinished(self) -> SlotsByWorkflow:
        """Return the slots that wait or run and never succeeded."""
        with self.book.file.reading() as db:
            return _by_workflow([slot_row(row) for row in db.execute(_UNFINISHED)])

    def leases(self) -> Mapping[int, float]:
        """Return until when each run that is running has its lease."""
        with self.book.file.reading() as db:
            return {int(number): float(until) for number, until in db.execute(_LEASES)}

    def absent(self, slots: Collection[tuple[str, Slot]]) -> Mapping[str, Sequence[Slot]]:
        """Return which of ``slots`` the book does not have, by workflow."""
        found: dict[str, list[Slot]] = defaultdict(list)
        with self.book.file.reading() as db:
            for workflow, slot in slots:
                if db.execute(_PRESENT, (workflow, *slot)).fetchone() is None:
                    found[workflow].append(slot)
        return found

    def heard_at(self, now: float) -> tuple[str, float] | None:
        """Return the scheduler that was heard of last, and when; None: none ever was.

        What was heard in a time to come is of a clock that was set back since, and tells nothing,
        unless there is nothing else.
        """
        with self.book.file.reading() as db:
            row = db.execute(_BEATS, (now,)).fetchone()
        return self.book.heartbeat() if row is None else (str(row[0]), float(row[1]))


def _by_workflow(rows: Sequence[SlotRow]) -> SlotsByWorkflow:
    def order(row: SlotRow) -> tuple[str, int, int]:
        return row.workflow, row.start_seconds, row.end_seconds

    def groups() -> Iterator[tuple[str, list[SlotRow]]]:
        for name, found in groupby(sorted(rows, key=order), key=lambda row: row.workflow):
            yield name, list(found)

    return dict(groups())
