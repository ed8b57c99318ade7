"""The rules about workflows: failed, late or never begun, broken, rows too late, nobody schedules.

They look at slots in the run book and at what the timetable says should be there, so that a run
that never began is found as one that failed is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from eventmill.base.clock import utc_datetime
from eventmill.base.quantity import format_seconds
from eventmill.schedule.alert_finding import Finding, Severity
from eventmill.schedule.book import RunBook
from eventmill.schedule.book_rows import SlotRow, SlotState, WorkflowRow
from eventmill.schema.table import TableId
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
"""Failed slots and late rows older than this are history, not news."""


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


def find_failed(facts: WorkflowFacts, now: float) -> Iterator[Finding]:
    """Yield each workflow with a slot that failed for good and has not succeeded since."""
    for row in _live(facts):
        failed = facts.book.slots(
            row.name, from_=now - LOOK_BACK_SECONDS, states=(SlotState.FAILED,)
        )
        if not failed:
            continue
        newest = failed[-1]
        some = f"{len(failed)} slots" if len(failed) > 1 else "a slot"
        run = f" (`eventmill workflow log {newest.run_id}`)" if newest.run_id else ""
        again = (
            f"`eventmill workflow backfill {row.name} --from {_text(failed[0].start_seconds)}"
            f" --to {_text(newest.end_seconds)}`"
        )
        yield _finding(
            WORKFLOW_FAILED,
            row,
            f"{some} of {row.name} failed, the newest from {_text(newest.start_seconds)}:"
            f" {_sentence(newest.reason)}{run}. Once it is mended, {again} runs what failed again",
        )


def find_late(facts: WorkflowFacts, now: float) -> Iterator[Finding]:
    """Yield each workflow with a slot that is not begun, or not done, when it should be."""
    rows = {row.name: row for row in _live(facts)}
    for definition in facts.definitions():
        row = rows.get(definition.name)
        if row is None or row.paused_at is not None:
            continue
        late = [
            slot
            for slot in facts.book.unfinished(definition.name)
            if slot.succeeded_at is None and _is_late(definition, slot, now)
        ]
        missing = _missing(facts.book, definition, row, now)
        starts = sorted({*(slot.start_seconds for slot in late), *(slot[0] for slot in missing)})
        if not starts:
            continue
        some = f"{len(starts)} slots" if len(starts) > 1 else "the slot"
        who = f"does {row.handed_to} run it" if row.handed_to else "does a scheduler run"
        yield _finding(
            WORKFLOW_LATE,
            row,
            f"{some} of {row.name} from {_text(starts[0])} {'are' if len(starts) > 1 else 'is'} not"
            f" {'begun' if missing else 'done'}, which was due:"
            f" {who}, and is it busy? `eventmill workflow runs {row.name}`",
        )


def find_broken(facts: WorkflowFacts, now: float) -> Iterator[Finding]:
    """Yield each workflow whose folder cannot be used as it is."""
    for row in _live(facts):
        if row.fault:
            yield _finding(
                WORKFLOW_BROKEN,
                row,
                f"the folder of {row.name} cannot be used, and the last good state of it is run:"
                f" {row.fault}",
            )


def find_too_late(facts: WorkflowFacts, now: float) -> Iterator[Finding]:
    """Yield each workflow with rows that came after the lateness it allows."""
    for row in _live(facts):
        slots = [
            slot
            for slot in facts.book.slots(row.name, from_=now - LOOK_BACK_SECONDS)
            if slot.too_late_rows
        ]
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
    heard = facts.book.heartbeat()
    waiting = [row.name for row in _live(facts) if not row.handed_to and row.paused_at is None]
    if heard is None or not waiting:
        return  # none was ever started here: nobody has relied on one
    scheduler, at = heard
    if now - at <= SILENT_SECONDS_MAX:
        return
    yield Finding(
        rule=SCHEDULER_DEAD,
        subject="scheduler",
        summary=(
            f"no scheduler was heard of since {utc_datetime(at):%Y-%m-%d %H:%M:%S} UTC, for"
            f" {format_seconds(round(now - at))}, and {len(waiting)} workflows wait for one: start"
            " `eventmill serve` or `eventmill scheduler run`"
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


def _live(facts: WorkflowFacts) -> list[WorkflowRow]:
    return [row for row in facts.book.workflows() if row.removed_at is None]


def _is_late(definition: WorkflowDefinition, slot: SlotRow, now: float) -> bool:
    if slot.state is SlotState.WAITING and not slot.attempts:
        return now > slot.due_at + BEGUN_WITHIN_SECONDS
    if slot.state is SlotState.RUNNING and definition.freshness_seconds is None:
        return False  # its time limit ends it, and that is told as a failure
    return now > max(slot.due_at, slot.end_seconds + definition.done_within_seconds)


def _missing(
    book: RunBook, definition: WorkflowDefinition, row: WorkflowRow, now: float
) -> list[Slot]:
    """Return the last slot that should have been begun, when the book does not have it."""
    timetable = definition.timetable
    moment = now - definition.delay_seconds - BEGUN_WITHIN_SECONDS
    slot = timetable.slot_at(timetable.slot_at(moment)[0] - 1)
    first = definition.start_at_seconds
    if first is None:
        first = timetable.slot_at(row.first_seen_at)[0]
    if slot[0] < first or book.slot(row.name, slot) is not None:
        return []
    return [slot]


def _finding(
    rule: str, row: WorkflowRow, summary: str, severity: Severity = Severity.CRITICAL
) -> Finding:
    return Finding(
        rule=rule,
        subject=f"dataflow-workflow-{row.name}",
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
