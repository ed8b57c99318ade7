"""Which slots have come due, and when the next one will: arithmetic, and a heap over workflows."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from eventmill.base.clock import utc_datetime
from eventmill.schedule.book_plan import Plan, PlannedSlot
from eventmill.workflow.definition import WorkflowDefinition
from eventmill.workflow.timetable import Slot

MISSED_AFTER_SECONDS = 60.0
"""A slot that was due longer ago came due while no scheduler looked; shorter is a restart."""
SKIPPED_ROWS_MAX = 10_000
"""Slots of one catch-up that are entered as skipped; older ones are told by the last of them."""


def slot_text(slot: Slot) -> str:
    """Return a slot as people read it, such as ``2026-03-29T01:00Z/2026-03-29T02:00Z``."""
    return f"{moment_text(slot[0])}/{moment_text(slot[1])}"


def moment_text(seconds: float) -> str:
    """Return a moment as ISO 8601 in UTC, without seconds where there are none."""
    moment = utc_datetime(seconds)
    return f"{moment:%Y-%m-%dT%H:%M}Z" if moment.second == 0 else f"{moment:%Y-%m-%dT%H:%M:%S}Z"


def first_slot(
    definition: WorkflowDefinition, first_seen_at: float, planned_until: int | None
) -> Slot:
    """Return the first slot of a workflow that is not planned yet.

    Of a workflow that was never planned it is the one of ``start_at``, or else the one in which it
    was first seen. After a change of the timetable it is the one that the end of the last planned
    slot lies in, so that no moment is left out.
    """
    given = definition.start_at_seconds
    if planned_until is None:
        return definition.timetable.slot_at(first_seen_at if given is None else given)
    return definition.timetable.slot_at(max(planned_until, given or planned_until))


def due_at(definition: WorkflowDefinition, slot: Slot) -> float:
    """Return when a slot is to be run, in seconds since 1970."""
    return slot[1] + definition.delay_seconds


def plan_due(
    definition: WorkflowDefinition, first: Slot, now: float, first_seen_at: float = 0.0
) -> Plan | None:
    """Return the slots from ``first`` on that are due by now; None: none is.

    Which of those that were missed are to be run the workflow's ``missed`` says; the others are
    planned as skipped, with the reason. None counts as due before the workflow was first seen, so
    that a start in the past is caught up and is not late.
    """
    until = definition.timetable.slot_at(now - definition.delay_seconds)[0]
    if until <= first[0]:
        return None
    kept = _kept(definition)
    found = deque(definition.timetable.slots(first[0], until), maxlen=kept + SKIPPED_ROWS_MAX)
    if not found:
        return None
    late_before = now - MISSED_AFTER_SECONDS
    late = sum(due_at(definition, slot) < late_before for slot in found)
    if definition.missed == "latest":
        kept = 1 if late == len(found) else 0
    planned = [
        PlannedSlot(
            slot,
            max(due_at(definition, slot), first_seen_at),
            _missed_text(definition) if late - index > kept and index < late else "",
        )
        for index, slot in enumerate(found)
    ]
    if found[0][0] > first[0]:
        skipped = f"{_missed_text(definition)}; so were all slots from {moment_text(first[0])}"
        planned[0] = PlannedSlot(found[0], planned[0].due_at, skipped)
    return Plan(definition.name, found[-1][1], planned)


def _kept(definition: WorkflowDefinition) -> int:
    """Return how many missed slots are run at most."""
    if definition.missed == "all":
        return definition.missed_slots_max
    return 1 if definition.missed == "latest" else 0


def _missed_text(definition: WorkflowDefinition) -> str:
    told = "missed while no scheduler ran"
    if definition.missed == "all":
        return f"{told}; the latest {definition.missed_slots_max:,} are caught up"
    return f"{told}; missed = {definition.missed!r}"


@dataclass(slots=True)
class _Entry:
    definition: WorkflowDefinition
    next_slot: Slot
    due_at: float
    first_seen_at: float


class DueHeap:
    """The next slot of each workflow, ordered by when it is due. For one thread."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._heap: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def next_at(self) -> float | None:
        """When the next slot of all is due, in seconds since 1970; None: there is none."""
        while self._heap:
            moment, name = self._heap[0]
            entry = self._entries.get(name)
            if entry is not None and entry.due_at == moment:
                return moment
            heapq.heappop(self._heap)  # of a workflow that has changed since, or is gone
        return None

    def await_slot(
        self, definition: WorkflowDefinition, next_slot: Slot, first_seen_at: float = 0.0
    ) -> None:
        """Await ``next_slot`` of a workflow, and whatever was awaited of it no longer."""
        moment = due_at(definition, next_slot)
        entry = self._entries.get(definition.name)
        if entry is None or entry.due_at != moment:
            heapq.heappush(self._heap, (moment, definition.name))
        self._entries[definition.name] = _Entry(definition, next_slot, moment, first_seen_at)

    def forget(self, names: Iterable[str]) -> None:
        """Await nothing more of the workflows ``names``."""
        for name in names:
            self._entries.pop(name, None)

    def names(self) -> set[str]:
        """Return the workflows of which a slot is awaited."""
        return set(self._entries)

    def take(self, now: float) -> Iterator[tuple[WorkflowDefinition, Plan]]:
        """Yield what is due of each workflow, and await what follows.

        A clock that was set back makes nothing due twice: a slot that was yielded is behind.
        """
        while (moment := self.next_at) is not None and moment <= now:
            _, name = heapq.heappop(self._heap)
            entry = self._entries.pop(name)
            plan = plan_due(entry.definition, entry.next_slot, now, entry.first_seen_at)
            following = entry.next_slot
            if plan is not None:
                following = entry.definition.timetable.slot_at(plan.planned_until)
            self.await_slot(entry.definition, following, entry.first_seen_at)
            if plan is None:
                return  # by less than a rounding error: the next turn takes it
            yield entry.definition, plan
