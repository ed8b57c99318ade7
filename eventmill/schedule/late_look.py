"""The look for late rows: slots whose inputs have grown since their last success run again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from eventmill.base.clock import Clock
from eventmill.base.errors import EventmillError, TableNotFoundError
from eventmill.schedule.book import RunBook
from eventmill.schedule.book_plan import Planning
from eventmill.schedule.due import slot_text
from eventmill.schema.table import TableId
from eventmill.workflow.definition import WorkflowDefinition
from eventmill.workflow.input_marks import InputMark
from eventmill.workflow.timetable import Slot
from eventmill.workflow.touched import MARGIN_SECONDS, Touched, find_touched

if TYPE_CHECKING:
    from eventmill.store.port import Store

_logger = logging.getLogger("eventmill.schedule")
OpenedStore = Callable[[], AbstractContextManager["Store"]]
"""Opens the store for one piece of work."""
_Stats = tuple[int, int, float | None]
_Held = dict[TableId, _Stats | None]


@dataclass(frozen=True, slots=True)
class LateFindings:
    """What one look over all workflows did."""

    looked: int
    """Workflows with an input that had changed."""
    again: int
    """Slots that wait again."""


@dataclass(slots=True)
class _Looked:
    """What the inputs of a workflow were when it was last looked at."""

    held: _Held
    changed_at: float
    """When they were first seen to be so, seconds since 1970."""
    is_settled: bool = False
    """Whether a look has seen everything that came until then."""


class LateLook:
    """Looks over workflows for late rows. For one thread."""

    def __init__(
        self,
        book: RunBook,
        opened: OpenedStore,
        *,
        clock: Clock,
        find: Callable[..., Touched] = find_touched,
    ) -> None:
        """Look in the store that ``opened`` opens, and write into ``book``.

        Args:
            book: the caller's.
            opened: opens the store for one look.
            clock: tells how late rows are.
            find: looks at one workflow, as ``workflow.touched.find_touched`` does.
        """
        self._book = book
        self._planning = Planning(book)
        self._opened = opened
        self._find = find
        self._clock = clock
        self._looked: dict[str, _Looked] = {}

    def look(self, definitions: Iterable[WorkflowDefinition]) -> LateFindings:
        """Look at every workflow with an input that has changed since its last look.

        A workflow whose look fails keeps its place: the next look begins where it began.
        """
        looked = again = 0
        stats: _Held = {}
        running: dict[str, float] = {}
        for run in self._book.running():
            running[run.workflow] = min(run.started_at, running.get(run.workflow, inf))
        with self._opened() as store:
            for definition in definitions:
                try:
                    held = {one.table: _stats(store, one.table, stats) for one in definition.inputs}
                    if not self._has_changed(definition.name, held):
                        continue
                    looked += 1
                    again += self._look_at(definition, store, running.get(definition.name))
                except EventmillError as error:
                    _logger.warning("%s: no look for late rows: %s", definition.name, error)
        return LateFindings(looked, again)

    def _has_changed(self, name: str, held: _Held) -> bool:
        before = self._looked.get(name)
        if before is None or before.held != held:
            before = self._looked[name] = _Looked(held, self._clock.now())
        return not before.is_settled

    def _look_at(
        self, definition: WorkflowDefinition, store: Store, running_since: float | None
    ) -> int:
        name = definition.name
        before, since = self._book.seen(name)
        now = self._clock.now()
        touched = self._find(
            definition,
            store,
            since=since,
            known=lambda slot: self._marks(name, slot),
            now=now,
            running_since=running_since,
        )
        again = self._planning.note_late(
            name,
            seen_before=before,
            seen=touched.seen,
            touched=touched.slots,
            too_late=touched.too_late,
            now=now,
        )
        for slot, rows in touched.too_late.items():
            _logger.warning(
                "%s: %d rows of %s came too late for it; `eventmill workflow backfill` takes them",
                name, rows, slot_text(slot),
            )  # fmt: skip
        for table, rows in touched.without_slot.items():
            _logger.warning("%s: %d new rows of %s have no time, so no slot", name, rows, table)
        looked = self._looked[name]
        settled = min(now, running_since if running_since is not None else now) - MARGIN_SECONDS
        looked.is_settled = settled > looked.changed_at
        return again or 0

    def _marks(self, name: str, slot: Slot) -> dict[str, InputMark] | None:
        row = self._book.slot(name, slot)
        if row is None or row.marks is None:
            return None
        return {table: InputMark(*mark) for table, mark in row.marks.items()}


def _stats(store: Store, table: TableId, stats: _Held) -> _Stats | None:
    """Return what moves when rows came into ``table``; None: there is no such table."""
    if table not in stats:
        try:
            found = store.stats(table)
        except TableNotFoundError:
            stats[table] = None
        else:
            stats[table] = (found.accepted, found.ahead_rows, found.newest_event_at)
    return stats[table]
