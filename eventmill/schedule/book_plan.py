"""Entering slots into the run book: those that came due, those to be repaired, those asked for."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from eventmill.schedule.book import RunBook
from eventmill.schedule.book_rows import Origin, SlotState
from eventmill.workflow.timetable import Slot

LATE_ROWS = "late rows"
"""Reason of a slot that waits because rows of it came after its last success."""
REPLACED = "the schedule has other slots by now"
"""Reason of a slot that failed and was left out when its time was run by another schedule."""
_ROWS_A_TRANSACTION = 5_000


@dataclass(frozen=True, slots=True)
class PlannedSlot:
    """A slot that came due."""

    slot: Slot
    due_at: float
    skipped: str = ""
    """Why it is not to be run; empty: it is."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What came due of one workflow."""

    workflow: str
    planned_until: int
    """Seconds since 1970; the slots before it are all in ``slots``, in the book, or passed over."""
    slots: Sequence[PlannedSlot]


@dataclass(frozen=True, slots=True)
class BackfillEntry:
    """What entering a backfill has found."""

    waiting: int
    """Slots that are to be run now."""
    succeeded: int
    """Slots left as they are, because they have succeeded."""
    running: int
    """Slots that somebody is running."""


class Planning:
    """The part of the book in which slots are entered. Safe from any thread."""

    def __init__(self, book: RunBook) -> None:
        """Write into ``book``, which stays the caller's."""
        self._file = book.file

    def enter(self, plans: Iterable[Plan], now: float) -> int:
        """Enter what came due, in one transaction; return how many slots are new.

        Promise: a slot that the book has already stays as it is, so several schedulers may plan
        the same; of a workflow that was paused or handed over meanwhile, nothing is entered.
        """
        entered = 0
        with self._file.writing() as db:
            for plan in plans:
                moved = db.execute(
                    "UPDATE workflows SET planned_until = MAX(COALESCE(planned_until, ?1), ?1)"
                    " WHERE name = ?2 AND paused_at IS NULL AND handed_to = ''",
                    (plan.planned_until, plan.workflow),
                )
                if moved.rowcount:
                    entered += db.executemany(
                        "INSERT OR IGNORE INTO slots (workflow, start_seconds, end_seconds, state,"
                        " origin, reason, due_at, not_before, changed_at)"
                        " VALUES (?, ?, ?, ?, 'schedule', ?, ?, ?, ?)",
                        [_planned(plan.workflow, planned, now) for planned in plan.slots],
                    ).rowcount
        return entered

    def note_late(
        self,
        workflow: str,
        *,
        seen_before: str,
        seen: Mapping[str, int],
        touched: Iterable[Slot],
        too_late: Mapping[Slot, int],
        now: float,
    ) -> int | None:
        """Let slots that new rows touch run again, and note how far the look came.

        A slot that waits or runs stays as it is; of one that runs, whether its body has seen the
        rows is known when it has ended, to a later look.

        Args:
            workflow: whose slots they are.
            seen_before: the text that ``RunBook.seen`` gave before the look.
            seen: per input table, the newest ``_ingested_at`` seen now, in microseconds since 1970.
            touched: slots with new rows, within the lateness allowed.
            too_late: rows of each slot that came beyond it, all that its last success lacks.
            now: seconds since 1970.

        Returns:
            how many slots wait again; None: somebody else has looked meanwhile, and nothing was
            changed.
        """
        with self._file.writing() as db:
            moved = db.execute(
                "UPDATE workflows SET seen = ? WHERE name = ? AND seen = ?",
                (json.dumps(dict(seen), sort_keys=True), workflow, seen_before),
            )
            if not moved.rowcount:
                return None
            keys = [(workflow, *slot) for slot in touched]
            again = db.executemany(
                "UPDATE slots SET state = 'waiting', origin = 'schedule', reason = ?, attempts = 0,"
                f" not_before = ?, changed_at = ? {_WHERE_KEY} AND state = 'succeeded'",
                [(LATE_ROWS, now, now, *key) for key in keys],
            ).rowcount
            db.executemany(
                f"UPDATE slots SET too_late_rows = ? {_WHERE_KEY}",
                [(rows, workflow, *slot) for slot, rows in too_late.items()],
            )
            return max(again, 0)

    def enter_backfill(
        self, workflow: str, slots: Iterable[Slot], *, again: bool, now: float
    ) -> BackfillEntry:
        """Let slots wait for a backfill, a few thousand in a transaction.

        Promise: calling it again for the same slots changes nothing of those that still wait, so
        a backfill that was broken off goes on.

        Args:
            workflow: whose slots they are.
            slots: which; those that the book does not have are entered.
            again: also those that have succeeded.
            now: seconds since 1970.
        """
        counts = dict.fromkeys(SlotState, 0)
        left = iter(slots)
        while part := list(islice(left, _ROWS_A_TRANSACTION)):
            with self._file.writing() as db:
                for slot in part:
                    counts[_enter_for_backfill(db, (workflow, *slot), again, now)] += 1
        return BackfillEntry(
            waiting=counts[SlotState.WAITING],
            succeeded=counts[SlotState.SUCCEEDED],
            running=counts[SlotState.RUNNING],
        )

    def skip_replaced(self, workflow: str, slots: Sequence[Slot], now: float) -> int:
        """Let failed slots of an earlier schedule be skipped; return how many.

        Nothing runs a slot that the schedule does not have any more, so it would be told as
        failed for ever.

        Args:
            workflow: whose slots they are.
            slots: those of the schedule as it is, ascending and without a gap; what lies among
                them and is none of them is skipped.
            now: seconds since 1970.
        """
        kept = set(slots)
        with self._file.writing() as db:
            failed = db.execute(
                "SELECT start_seconds, end_seconds FROM slots WHERE workflow = ?"
                " AND state = 'failed' AND start_seconds >= ? AND end_seconds <= ?",
                (workflow, slots[0][0], slots[-1][1]),
            ).fetchall()
            replaced = [tuple(row) for row in failed if tuple(row) not in kept]
            db.executemany(
                f"UPDATE slots SET state = 'skipped', reason = ?, changed_at = ? {_WHERE_KEY}",
                [(REPLACED, now, workflow, *slot) for slot in replaced],
            )
        return len(replaced)

    def skip(self, workflow: str, slot: Slot, reason: str, now: float) -> bool:
        """Let a slot that waits be skipped; return whether it waited."""
        with self._file.writing() as db:
            done = db.execute(
                f"UPDATE slots SET state = 'skipped', reason = ?, changed_at = ? {_WHERE_KEY}"
                " AND state = 'waiting'",
                (reason, now, workflow, *slot),
            )
            return done.rowcount > 0


_WHERE_KEY = "WHERE workflow = ? AND start_seconds = ? AND end_seconds = ?"


def _planned(workflow: str, planned: PlannedSlot, now: float) -> tuple[object, ...]:
    state = SlotState.SKIPPED if planned.skipped else SlotState.WAITING
    due_at = planned.due_at
    return workflow, *planned.slot, state.value, planned.skipped, due_at, due_at, now


def _enter_for_backfill(
    db: sqlite3.Connection, key: tuple[str, int, int], again: bool, now: float
) -> SlotState:
    """Let one slot wait if it is to; return the state that it has then."""
    found = db.execute(f"SELECT state FROM slots {_WHERE_KEY}", key).fetchone()
    if found is None:
        db.execute(
            "INSERT INTO slots (workflow, start_seconds, end_seconds, state, origin, reason,"
            " due_at, not_before, changed_at) VALUES (?1, ?2, ?3, 'waiting', ?4, ?4, ?5, ?5, ?5)",
            (*key, Origin.BACKFILL.value, now),
        )
        return SlotState.WAITING
    state = SlotState(found["state"])
    kept = (SlotState.WAITING, SlotState.RUNNING)
    if state in kept or (state is SlotState.SUCCEEDED and not again):
        return state
    db.execute(
        "UPDATE slots SET state = 'waiting', origin = ?, reason = ?, attempts = 0, not_before = ?,"
        f" changed_at = ? {_WHERE_KEY}",
        (Origin.BACKFILL.value, Origin.BACKFILL.value, now, now, *key),
    )
    return SlotState.WAITING
