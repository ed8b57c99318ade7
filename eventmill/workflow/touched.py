"""Which slots have rows that their last run did not see.

Works on every store, by SQL alone: rows that were taken since the last look say which slots they
belong to, and of those slots the rows are counted again where that is not enough to tell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING

from eventmill.base.errors import TableNotFoundError
from eventmill.workflow.definition import WorkflowDefinition
from eventmill.workflow.input_marks import InputMark
from eventmill.workflow.new_rows import InputRows
from eventmill.workflow.timetable import Slot

if TYPE_CHECKING:
    from eventmill.store.port import Store

MARGIN_SECONDS = 120.0
"""How far clocks may differ, and how long a row may be on its way between its ``_ingested_at`` and
being seen by a query: rows so recent are looked at again by the next look."""

Marks = Mapping[str, InputMark | tuple[int, int | None]]
"""What a slot's inputs held just before its last successful run, by table; as a tuple, the fields
of ``InputMark`` in their order."""


@dataclass(frozen=True, slots=True)
class Touched:
    """What one look has found."""

    slots: tuple[Slot, ...]
    """Slots to run again, ascending: they have ended, were run with success, and have rows since
    that came within the allowed lateness."""
    too_late: Mapping[Slot, int]
    """Rows, by slot, that came after the allowed lateness: how many its last run did not see. They
    stay out until somebody runs the slot. A later look says the new number, not what to add."""
    without_slot: Mapping[str, int]
    """New rows, by input table, whose time is NULL: they belong to no slot. Each is counted by one
    look alone, once it is older than the margin."""
    seen: Mapping[str, int]
    """The new ``since``."""


@dataclass(slots=True)
class _Look:
    """One look, and what it has found so far."""

    now: float
    settled_us: int
    """Rows that were taken before are seen by every query, and by every run that has not ended."""
    touched: set[Slot] = field(default_factory=set)
    too_late: dict[Slot, Marks] = field(default_factory=dict)
    """With what the last run of each has seen."""
    without_slot: dict[str, int] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)


def find_touched(
    definition: WorkflowDefinition,
    store: Store,
    *,
    since: Mapping[str, int],
    known: Callable[[Slot], Marks | None],
    now: float,
    running_since: float | None = None,
) -> Touched:
    """Return the slots that have rows which their last run did not see.

    Costs one query an input, over the newest rows alone, while no late rows come.

    Args:
        definition: the workflow.
        store: which has its inputs; one that is missing has no rows.
        since: by table, the ``seen`` of the last look; a table that is not named is looked at for
            as long as the allowed lateness.
        known: returns what the last successful run of a slot had before it (``SlotResult.marks``);
            None: the slot was never run with success, so that no row is late for it.
        now: seconds since 1970.
        running_since: when the oldest attempt began that runs now, seconds since 1970. Rows may
            have come since that it does not see, and what it has seen is ``known`` only later: so
            they are looked at again by the next look. None: none runs.

    Raises:
        QueryError: an input's ``slot_by`` does not fit its table.
        TransientError: call again with the same ``since``.
    """
    settled = min(now, running_since if running_since is not None else now) - MARGIN_SECONDS
    look = _Look(now, _microseconds(settled))
    inputs: dict[str, InputRows] = {}
    for entry in definition.inputs:
        name = str(entry.table)
        begin_us = since.get(name, _microseconds(now - definition.lateness_seconds))
        try:
            spec = store.describe(entry.table).spec
        except TableNotFoundError:
            look.seen[name] = begin_us
            continue
        inputs[name] = InputRows(store, definition.timetable, entry, spec)
        _look_at(definition, name, inputs[name], begin_us, known, look)
    late = {slot: marks for slot, marks in look.too_late.items() if slot not in look.touched}
    return Touched(
        slots=tuple(sorted(look.touched)),
        too_late=_rows_unseen(inputs, late),
        without_slot=look.without_slot,
        seen=look.seen,
    )


def _look_at(
    definition: WorkflowDefinition,
    name: str,
    rows: InputRows,
    begin_us: int,
    known: Callable[[Slot], Marks | None],
    look: _Look,
) -> None:
    settled_us = max(begin_us, look.settled_us)
    new = rows.since(begin_us, settled_us)
    if new.without_slot:
        look.without_slot[name] = new.without_slot
    look.seen[name] = max(begin_us, min(new.newest_us, settled_us))
    unsure: list[tuple[Slot, Marks, bool]] = []
    for slot, arrivals in new.by_slot.items():
        marks = known(slot) if slot[1] <= look.now else None
        if marks is None:
            continue
        mark = _mark(marks, name)
        seen_us = mark.max_ingested_us or 0
        limit_us = _microseconds(slot[1] + definition.lateness_seconds)
        first_us = arrivals.oldest_us
        if first_us <= min(limit_us, seen_us) and arrivals.newest_us > max(limit_us, seen_us):
            # Of these rows the last run saw some: which is the first that it did not see?
            first_us = rows.first_after(slot, seen_us)
        in_time = first_us <= limit_us
        if in_time and arrivals.newest_us > seen_us:
            look.touched.add(slot)
        else:
            unsure.append((slot, marks, in_time))
    counted = rows.count(slot for slot, _, _ in unsure) if unsure else {}
    for slot, marks, in_time in unsure:
        if not _mark(marks, name).is_outgrown_by(counted[slot]):
            continue
        if in_time:
            look.touched.add(slot)
        else:
            look.too_late[slot] = marks


def _rows_unseen(inputs: Mapping[str, InputRows], late: Mapping[Slot, Marks]) -> dict[Slot, int]:
    """Return how many rows of each slot its last run did not see, of all inputs together."""
    unseen = dict.fromkeys(sorted(late), 0)
    for name, rows in inputs.items() if late else ():
        for slot, mark in rows.count(late).items():
            unseen[slot] += max(mark.count - _mark(late[slot], name).count, 0)
    # At least one: another may have gone meanwhile, as a duplicate does when files are compacted.
    return {slot: max(count, 1) for slot, count in unseen.items()}


def _mark(marks: Marks, table: str) -> InputMark:
    held = marks.get(table, InputMark(0, None))
    return held if isinstance(held, InputMark) else InputMark(*held)


def _microseconds(seconds: float) -> int:
    return ceil(seconds * 1_000_000)
