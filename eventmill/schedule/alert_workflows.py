"""The rules about workflows: failed, late or never begun, broken, rows too late, nobody schedules.

They look at slots in the run book and at what the timetable says should be there, so that a run
that never began is found as one that failed is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from eventmill.base.clock import utc_datetime
from eventmill.base.quantity import format_seconds
from eventmill.schedule.alert_facts import WorkflowFacts
from eventmill.schedule.alert_finding import Finding, Severity
from eventmill.schedule.book_rows import Origin, SlotRow, SlotState, WorkflowRow
from eventmill.workflow.definition import WorkflowDefinition
from eventmill.workflow.timetable import Slot

WORKFLOW_FAILED = "workflow_failed"
WORKFLOW_LATE = "workflow_late"
WORKFLOW_BROKEN = "workflow_broken"
ROWS_TOO_LATE = "rows_too_late"
SCHEDULER_DEAD = "scheduler_dead"

BEGUN_WITHIN_SECONDS = 180.0
"""How long after it was due a slot must have been begun. With the default delay of a minute and
an evaluation every half, a slot that nobody runs is told within five minutes of its end."""
SILENT_SECONDS_MAX = 60.0
"""A scheduler that was not heard of for so long is dead: six of its heartbeats are missing."""
LOOK_BACK_SECONDS = 30 * 86_400.0
"""What failed longer ago than this is history, not news."""
BACKFILL_SILENT_SECONDS = 900.0
"""A backfill that has touched none of its slots for so long was broken off."""
HANDED_BACK_SECONDS = 86_400.0
HANDED_SLOTS_MAX = 100
"""How far back, and how many slots, is looked for what another scheduler has left out."""


def find_failed(facts: WorkflowFacts, now: float) -> Iterator[Finding]:
    """Yield each workflow with a slot that failed for good and has not succeeded since."""
    slots = facts.failed(now - LOOK_BACK_SECONDS)
    for row in facts.live():
        failed = slots.get(row.name, ())
        if not failed:
            continue
        lasting = [slot for slot in failed if slot.state is SlotState.FAILED]
        newest = (lasting or failed)[-1]
        some = f"{len(failed)} slots" if len(failed) > 1 else "a slot"
        run = f" (`eventmill workflow log {newest.run_id}`)" if newest.run_id else ""
        again = (
            f"`eventmill workflow backfill {row.name} --from {_text(failed[0].start_seconds)}"
            f" --to {_text(failed[-1].end_seconds)}`"
        )
        goes_on = len(failed) - len(lasting)
        yield _finding(
            WORKFLOW_FAILED,
            row,
            f"{some} of {row.name} failed, the newest from {_text(newest.start_seconds)}:"
            f" {_sentence(newest.reason)}{run}. Once it is mended, {again} runs what failed again"
            f"{f'; {goes_on} of them are run again now' if goes_on else ''}",
        )


def find_late(facts: WorkflowFacts, now: float) -> Iterator[Finding]:
    """Yield each workflow with a slot that is not begun, or not done, when it should be."""
    rows = {row.name: row for row in facts.live() if row.paused_at is None}
    flows = [
        (definition, row)
        for definition in facts.definitions()
        if (row := rows.get(definition.name)) is not None
    ]
    unfinished, leases = facts.unfinished(), facts.leases()
    absent = facts.absent(
        [(row.name, slot) for flow, row in flows for slot in _should_be_begun(flow, row, now)]
    )
    for definition, row in flows:
        slots = _awaited(unfinished.get(row.name, ()), row, now)
        late = [slot for slot in slots if _is_late(definition, slot, leases, now)]
        left = sorted(slot.slot for slot in late if slot.origin is Origin.BACKFILL)
        due = [slot.slot for slot in late if slot.origin is not Origin.BACKFILL]
        missing = absent.get(row.name, ())
        starts = sorted({slot[0] for slot in (*due, *missing)})
        told = []
        if starts:
            who = f"does {row.handed_to} run it" if row.handed_to else "does a scheduler run"
            told.append(
                f"{_some(row, starts)} not {'begun' if missing else 'done'}, which was due:"
                f" {who}, and is it busy? `eventmill workflow runs {row.name}`"
            )
        if left:
            told.append(
                f"{_some(row, [slot[0] for slot in left])} left of a backfill that was broken off,"
                f" and no scheduler takes it on: `eventmill workflow backfill {row.name} --from"
                f" {_text(left[0][0])} --to {_text(left[-1][1])}` goes on"
            )
        if told:
            yield _finding(WORKFLOW_LATE, row, "; ".join(told))


def _some(row: WorkflowRow, starts: Sequence[int]) -> str:
    """Return how many slots there are, ascending, up to the verb."""
    if len(starts) == 1:
        return f"the slot of {row.name} from {_text(starts[0])} is"
    return f"{len(starts)} slots of {row.name} from {_text(starts[0])} are"


def unjudged_late(facts: WorkflowFacts) -> frozenset[str]:
    """Return the workflows of whose slots nothing is known: their folders were never good here."""
    known = {definition.name for definition in facts.definitions()}
    return frozenset(_subject(row) for row in facts.live() if row.name not in known)


def find_broken(facts: WorkflowFacts, now: float) -> Iterator[Finding]:
    """Yield each workflow whose folder cannot be used as it is."""
    for row in facts.live():
        if row.fault:
            yield _finding(
                WORKFLOW_BROKEN,
                row,
                f"the folder of {row.name} cannot be used, and the last good state of it is run:"
                f" {_sentence(row.fault)}",
            )


def find_too_late(facts: WorkflowFacts, now: float) -> Iterator[Finding]:
    """Yield each workflow with rows that came after the lateness it allows."""
    found = facts.too_late()
    for row in facts.live():
        slots = found.get(row.name, ())
        if not slots:
            continue
        count = sum(slot.too_late_rows for slot in slots)
        yield _finding(
            ROWS_TOO_LATE,
            row,
            f"{count:,} rows came too late for {len(slots)} slots of {row.name} and are not in its"
            f" output: `eventmill workflow backfill {row.name} --again"
            f" --from {_text(slots[0].start_seconds)} --to {_text(slots[-1].end_seconds)}`",
            Severity.WARNING,
        )


def find_dead_scheduler(facts: WorkflowFacts, now: float) -> Iterator[Finding]:
    """Yield a finding when workflows wait for a scheduler and none was heard of lately."""
    heard = facts.heard_at(now)
    waiting = [row.name for row in facts.live() if not row.handed_to and row.paused_at is None]
    if heard is None or not waiting:
        return  # none was ever started here: nobody has relied on one
    scheduler, at = heard
    if abs(now - at) <= SILENT_SECONDS_MAX:
        return
    yield Finding(
        rule=SCHEDULER_DEAD,
        subject="scheduler",
        summary=(
            f"no scheduler was heard of since {utc_datetime(at):%Y-%m-%d %H:%M:%S} UTC, for"
            f" {format_seconds(max(0, round(now - at)))}, and {len(waiting)} workflows wait for"
            " one: start `eventmill serve` or `eventmill scheduler run`"
        ),
        labels={"scheduler": scheduler},
    )


WORKFLOW_RULES: Mapping[str, Callable[[WorkflowFacts, float], Iterator[Finding]]] = {
    WORKFLOW_FAILED: find_failed,
    WORKFLOW_LATE: find_late,
    WORKFLOW_BROKEN: find_broken,
    ROWS_TOO_LATE: find_too_late,
    SCHEDULER_DEAD: find_dead_scheduler,
}
"""Each rule about workflows, by name."""


def _awaited(slots: Sequence[SlotRow], row: WorkflowRow, now: float) -> Sequence[SlotRow]:
    """Leave out what is caught up with on purpose, while that goes on.

    Whoever has begun a backfill watches it; and slots of before the workflow was known are many,
    where its ``start`` lies back.
    """
    mine: list[SlotRow] = []
    others: list[SlotRow] = []
    for slot in slots:
        is_old = slot.origin is Origin.BACKFILL or slot.due_at < row.first_seen_at
        (mine if is_old else others).append(slot)
    goes_on = any(
        slot.state is SlotState.RUNNING or now - slot.changed_at < BACKFILL_SILENT_SECONDS
        for slot in mine
    )
    return others if goes_on else slots


def _is_late(
    definition: WorkflowDefinition, slot: SlotRow, leases: Mapping[int, float], now: float
) -> bool:
    begun_by = slot.due_at + BEGUN_WITHIN_SECONDS
    if slot.state is SlotState.WAITING and not slot.attempts:
        return now > begun_by
    if slot.state is SlotState.RUNNING:
        if now > leases.get(slot.run_id or 0, now) + BEGUN_WITHIN_SECONDS:
            return True  # its program is gone, and nobody has noticed
        if definition.freshness_seconds is None:
            return False  # its time limit ends it, and that is told as a failure
    return now > max(slot.due_at, slot.end_seconds + definition.done_within_seconds)


def _should_be_begun(
    definition: WorkflowDefinition, row: WorkflowRow, now: float
) -> Iterator[Slot]:
    """Yield slots that the book should have by now: it enters each when it is due.

    A scheduler enters all that came before as well. Another one that calls ``workflow run`` may
    have left out any of them.
    """
    timetable = definition.timetable
    first = definition.start_at_seconds
    if first is None:
        first = timetable.slot_at(row.first_seen_at)[0]
    earliest = float(first)
    if row.handed_to:
        earliest = max(first, row.planned_until or 0, now - HANDED_BACK_SECONDS)
    moment = now - definition.delay_seconds - BEGUN_WITHIN_SECONDS
    slot = timetable.slot_at(timetable.slot_at(moment)[0] - 1)
    for _ in range(HANDED_SLOTS_MAX if row.handed_to else 1):
        if slot[0] < earliest:
            return
        yield slot
        slot = timetable.slot_at(slot[0] - 1)


def _subject(row: WorkflowRow) -> str:
    return f"dataflow-workflow-{row.name}"


def _finding(
    rule: str, row: WorkflowRow, summary: str, severity: Severity = Severity.CRITICAL
) -> Finding:
    return Finding(
        rule=rule,
        subject=_subject(row),
        summary=summary,
        owner=row.owner,
        severity=severity,
        aliases=(row.name,),
        labels={"workflow": row.name},
    )


def _text(seconds: int) -> str:
    return f"{utc_datetime(seconds):%Y-%m-%dT%H:%M:%SZ}"


def _sentence(text: str) -> str:
    return " ".join(text.split()) or "its run does not say why"
