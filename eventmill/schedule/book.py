"""The run book: what every workflow's slots and runs are, in one SQLite file that many share.

Schedulers, the commands and the alerts of several processes have it open at one time. This module
reads it and notes what concerns a whole workflow; ``book_plan`` enters slots, ``book_claims`` runs
them under leases.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence

from eventmill.schedule.book_file import BookFile
from eventmill.schedule.book_rows import (
    SELECT_RUNS,
    SELECT_SLOTS,
    SELECT_WORKFLOWS,
    LogLine,
    RunRow,
    SlotRow,
    SlotState,
    WorkflowRow,
    run_row,
    slot_row,
)
from eventmill.workflow.timetable import Slot

KEPT_LOG_SECONDS = 30 * 86_400.0
"""How long the lines of a run's log are kept."""
KEPT_RUN_SECONDS = 90 * 86_400.0
"""How long a run that has ended is kept; what it did stays on its slot."""
KEPT_SLOT_SECONDS = 400 * 86_400.0
"""How long a slot is kept after its last change: a year can be compared with the one before."""
_PRUNED_MAX = 5_000


class RunBook:
    """One connection to the book. Safe from any thread."""

    def __init__(self, path: str) -> None:
        """Open the book at ``path``, made when it is missing; ``book_file.IN_MEMORY`` for none.

        Raises:
            UnavailableError: SQLite cannot open it.
            CorruptStoreError: a newer version of Eventmill wrote it.
        """
        self.file = BookFile(path)

    def __repr__(self) -> str:
        return f"RunBook({self.file.path!r})"

    def close(self) -> None:
        """Close the connection; a second call does nothing."""
        self.file.close()

    # -- reading --------------------------------------------------------------------------

    def workflows(self) -> list[WorkflowRow]:
        """Return every workflow that was ever seen, ascending by name."""
        with self.file.reading() as db:
            rows = db.execute(f"{SELECT_WORKFLOWS} ORDER BY name")
            return [WorkflowRow(**dict(row)) for row in rows]

    def workflow(self, name: str) -> WorkflowRow | None:
        """Return the row of one workflow; None: nobody has seen it."""
        statement = f"{SELECT_WORKFLOWS} WHERE name = ?"
        with self.file.reading() as db:
            row = db.execute(statement, (name,)).fetchone()
            return None if row is None else WorkflowRow(**dict(row))

    def planned(self) -> list[tuple[str, float, int | None]]:
        """Return of each workflow whose slots schedulers plan: name, first seen, planned until."""
        with self.file.reading() as db:
            rows = db.execute(
                "SELECT name, first_seen_at, planned_until FROM workflows"
                " WHERE paused_at IS NULL AND handed_to = ''"
            )
            return [tuple(row) for row in rows]

    def slots(
        self,
        workflow: str,
        from_: float | None = None,
        to: float | None = None,
        states: Collection[str] | None = None,
    ) -> list[SlotRow]:
        """Return the slots of a workflow that start in [from_, to), ascending.

        Args:
            workflow: whose.
            from_: seconds since 1970; None: from the first.
            to: seconds since 1970; None: to the last.
            states: only slots in one of these; None: in any.
        """
        where, values = "workflow = ?", [workflow]
        bounds = (("start_seconds >= ?", from_), ("start_seconds < ?", to))
        return self._slots(where, values, bounds, states, "ORDER BY start_seconds, end_seconds")

    def latest_slots(self, workflow: str, limit: int) -> list[SlotRow]:
        """Return the ``limit`` slots of a workflow that start last, the newest first."""
        order = f"ORDER BY start_seconds DESC, end_seconds DESC LIMIT {int(limit)}"
        return self._slots("workflow = ?", [workflow], (), None, order)

    def slot(self, workflow: str, slot: Slot) -> SlotRow | None:
        """Return one slot; None: the book does not have it."""
        where = "workflow = ? AND start_seconds = ? AND end_seconds = ?"
        found = self._slots(where, [workflow, *slot], (), None, "")
        return found[0] if found else None

    def count_slots(self, workflow: str, from_: float, to: float, states: Collection[str]) -> int:
        """Return how many slots of a workflow start in [from_, to) and are in one of ``states``."""
        listed = ", ".join(f"'{SlotState(state).value}'" for state in states)
        statement = (
            "SELECT COUNT(*) FROM slots WHERE workflow = ? AND start_seconds >= ?"
            f" AND start_seconds < ? AND state IN ({listed})"
        )
        with self.file.reading() as db:
            return int(db.execute(statement, (workflow, from_, to)).fetchone()[0])

    def unfinished(self, workflow: str | None = None, limit: int = 100_000) -> list[SlotRow]:
        """Return slots that wait or run, by workflow and start; None: of every workflow."""
        where = "1 = 1" if workflow is None else "workflow = ?"
        values = [] if workflow is None else [workflow]
        states = (SlotState.RUNNING, SlotState.WAITING)
        order = f"ORDER BY workflow, start_seconds LIMIT {int(limit)}"
        return self._slots(where, values, (), states, order)

    def runs(self, workflow: str | None = None, limit: int = 100) -> list[RunRow]:
        """Return the ``limit`` newest runs, the newest first; None: of every workflow."""
        where = "" if workflow is None else "WHERE workflow = ?"
        statement = f"{SELECT_RUNS} {where} ORDER BY id DESC LIMIT ?"
        values = (limit,) if workflow is None else (workflow, limit)
        with self.file.reading() as db:
            return [run_row(row) for row in db.execute(statement, values)]

    def run(self, run_id: int) -> RunRow | None:
        """Return one run; None: there is none, or it is no longer kept."""
        statement = f"{SELECT_RUNS} WHERE id = ?"
        with self.file.reading() as db:
            row = db.execute(statement, (run_id,)).fetchone()
            return None if row is None else run_row(row)

    def running(self) -> list[RunRow]:
        """Return the runs that are running, by the end of their leases."""
        statement = f"{SELECT_RUNS} WHERE state = 'running' ORDER BY lease_until"
        with self.file.reading() as db:
            return [run_row(row) for row in db.execute(statement)]

    def run_log(self, run_id: int, after: int = 0, limit: int = 10_000) -> list[LogLine]:
        """Return lines of a run's log, oldest first, beginning behind the line ``after``."""
        with self.file.reading() as db:
            rows = db.execute(
                "SELECT id, run_id, at, level, text FROM run_log WHERE run_id = ? AND id > ?"
                " ORDER BY id LIMIT ?",
                (run_id, after, limit),
            )
            return [LogLine(*row) for row in rows]

    def heartbeat(self) -> tuple[str, float] | None:
        """Return the scheduler that was heard of last, and when; None: none ever was."""
        with self.file.reading() as db:
            row = db.execute(
                "SELECT scheduler, at FROM heartbeats ORDER BY at DESC LIMIT 1"
            ).fetchone()
            return None if row is None else (str(row[0]), float(row[1]))

    def stopped_at(self, scheduler: str) -> float | None:
        """Return when ``scheduler`` said that it ends; None: it did not say so."""
        with self.file.reading() as db:
            row = db.execute(
                "SELECT stopped_at FROM heartbeats WHERE scheduler = ?", (scheduler,)
            ).fetchone()
            return None if row is None or row[0] is None else float(row[0])

    def seen(self, workflow: str) -> tuple[str, dict[str, int]]:
        """Return how far the last look for late rows of a workflow came.

        Returns:
            the text that ``Planning.note_late`` wants back, and per input table the newest
            ``_ingested_at`` that it saw, in microseconds since 1970.
        """
        with self.file.reading() as db:
            row = db.execute("SELECT seen FROM workflows WHERE name = ?", (workflow,)).fetchone()
        text = "{}" if row is None else str(row[0])
        return text, json.loads(text)

    # -- whole workflows ------------------------------------------------------------------

    def note_workflows(
        self, found: Mapping[str, tuple[str, str]], faults: Mapping[str, str], now: float
    ) -> None:
        """Note which workflows there are now; the folders of all others are gone.

        Args:
            found: owner and timetable of each that can be run, by name.
            faults: of each folder that cannot be used as it is now, why. A name may be in both:
                then its last good definition is being run.
            now: seconds since 1970; of workflows that are new, the moment they were first seen.
        """
        known = {row.name: row for row in self.workflows()}
        told = {
            name: (*found.get(name, ("", "")), faults.get(name, "")) for name in (*found, *faults)
        }
        changed = [
            (name, *texts, now) for name, texts in told.items() if not _stands(known, name, texts)
        ]
        gone = [(now, name) for name, row in known.items()
                if name not in told and row.removed_at is None]  # fmt: skip
        if not changed and not gone:
            return
        with self.file.writing() as db:
            db.executemany(
                "INSERT INTO workflows (name, owner, timetable, fault, fault_at, first_seen_at)"
                " VALUES (?1, ?2, ?3, ?4, iif(?4 = '', NULL, ?5), ?5) ON CONFLICT (name) DO UPDATE"
                " SET owner = iif(?3 = '', owner, ?2), timetable = iif(?3 = '', timetable, ?3),"
                " fault_at = iif(?4 = '', NULL, iif(?4 = fault, fault_at, ?5)), fault = ?4,"
                " removed_at = NULL",
                changed,
            )
            db.executemany("UPDATE workflows SET removed_at = ? WHERE name = ?", gone)

    def note_workflow(self, name: str, owner: str, timetable: str, now: float) -> None:
        """Note one workflow, which a command has seen."""
        with self.file.writing() as db:
            db.execute(
                "INSERT INTO workflows (name, owner, timetable, first_seen_at) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (name) DO UPDATE SET owner = excluded.owner,"
                " timetable = excluded.timetable",
                (name, owner, timetable, now),
            )

    def pause(self, name: str, by: str, now: float) -> bool:
        """Let no scheduler plan or run slots of a workflow; return whether that is new.

        A slot that runs goes on.
        """
        with self.file.writing() as db:
            done = db.execute(
                "UPDATE workflows SET paused_at = ?, paused_by = ?"
                " WHERE name = ? AND paused_at IS NULL",
                (now, by, name),
            )
            return done.rowcount > 0

    def resume(self, name: str) -> bool:
        """Take a pause, or a hand-over to another scheduler, back; return whether there was one."""
        with self.file.writing() as db:
            done = db.execute(
                "UPDATE workflows SET paused_at = NULL, paused_by = '', handed_to = ''"
                " WHERE name = ? AND (paused_at IS NOT NULL OR handed_to != '')",
                (name,),
            )
            return done.rowcount > 0

    def hand_over(self, name: str, to: str) -> None:
        """Note that the scheduler ``to``, such as ``cron``, calls ``workflow run`` from now on.

        Ours then plans no slots of the workflow. What waits already it still runs, and what late
        rows touch: the other one knows of neither.
        """
        with self.file.writing() as db:
            db.execute("UPDATE workflows SET handed_to = ? WHERE name = ?", (to, name))

    # -- schedulers -----------------------------------------------------------------------

    def beat(self, scheduler: str, now: float) -> None:
        """Note that a scheduler is alive."""
        with self.file.writing() as db:
            db.execute(
                "INSERT INTO heartbeats (scheduler, started_at, at) VALUES (?1, ?2, ?2)"
                " ON CONFLICT (scheduler) DO UPDATE SET at = ?2, stopped_at = NULL",
                (scheduler, now),
            )

    def note_stopped(self, scheduler: str, now: float) -> None:
        """Note that a scheduler ends, because it was asked to."""
        with self.file.writing() as db:
            db.execute(
                "UPDATE heartbeats SET at = ?1, stopped_at = ?1 WHERE scheduler = ?2",
                (now, scheduler),
            )

    def prune(self, now: float) -> int:
        """Forget what is older than the book keeps, a part at a time; return the rows removed."""
        statements = (
            ("DELETE FROM run_log WHERE id IN (SELECT id FROM run_log WHERE at < ? LIMIT ?)",
             KEPT_LOG_SECONDS),
            (("DELETE FROM runs WHERE id IN (SELECT id FROM runs WHERE ended_at < ?"
             " ORDER BY id LIMIT ?)"), KEPT_RUN_SECONDS),
            (("DELETE FROM slots WHERE (workflow, start_seconds, end_seconds) IN (SELECT workflow,"
             " start_seconds, end_seconds FROM slots WHERE changed_at < ? AND state IN"
             " ('succeeded', 'failed', 'skipped') LIMIT ?)"), KEPT_SLOT_SECONDS),
            (("DELETE FROM heartbeats WHERE scheduler IN (SELECT scheduler FROM heartbeats"
             " WHERE at < ? LIMIT ?)"), KEPT_RUN_SECONDS),
        )  # fmt: skip
        with self.file.writing() as db:
            return sum(
                db.execute(statement, (now - kept, _PRUNED_MAX)).rowcount
                for statement, kept in statements
            )

    def _slots(
        self,
        where: str,
        values: Sequence[object],
        bounds: Sequence[tuple[str, float | None]],
        states: Collection[str] | None,
        order: str,
    ) -> list[SlotRow]:
        given = [*values, *(value for _, value in bounds if value is not None)]
        where += "".join(f" AND {text}" for text, value in bounds if value is not None)
        if states is not None:
            # Literals, so that SQLite sees that its index of unfinished slots serves.
            listed = ", ".join(f"'{SlotState(state).value}'" for state in states)
            where += f" AND state IN ({listed})"
        statement = f"{SELECT_SLOTS} WHERE {where} {order}"
        with self.file.reading() as db:
            return [slot_row(row) for row in db.execute(statement, given)]


def _stands(known: Mapping[str, WorkflowRow], name: str, texts: tuple[str, str, str]) -> bool:
    """Tell whether the book says of a workflow what is told now."""
    row = known.get(name)
    if row is None or row.removed_at is not None or row.fault != texts[2]:
        return False
    return texts[1] == "" or (row.owner, row.timetable) == texts[:2]
