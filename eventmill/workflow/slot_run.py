"""One attempt at one slot: marks of the inputs, the body, and the slot's rows replaced."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from eventmill.base.clock import SYSTEM_CLOCK, Clock, utc_datetime
from eventmill.base.errors import (
    QueryCancelledError,
    QueryError,
    SchemaConflictError,
    TableNotFoundError,
    UsageError,
)
from eventmill.schema.table import TableSpec
from eventmill.store.ensure import ensure_table
from eventmill.store.slots import SlotKey, SlotStore
from eventmill.workflow.definition import Body, WorkflowDefinition
from eventmill.workflow.input_marks import InputMark, ask, take_mark
from eventmill.workflow.sql_body import slot_parameters
from eventmill.workflow.timetable import Slot

if TYPE_CHECKING:
    import pyarrow as pa

    from eventmill.store.port import Store
    from eventmill.workflow.beam import BeamOptions


MISSING_INPUT = "missing_input"
"""Among an error's facts, the name of the input table that is not there."""


@dataclass(frozen=True, slots=True)
class SlotResult:
    """What one successful attempt did."""

    input_rows: int
    """Rows of the slot that its inputs held before the body ran."""
    output_rows: int
    """Rows that the slot has now."""
    replaced_rows: int
    """Rows that it had before, which are gone."""
    seconds: float
    """How long it took."""
    marks: Mapping[str, InputMark]
    """By table, what the inputs held of the slot before the body ran: all of it was seen."""
    counts: Mapping[str, int | float] = field(default_factory=dict)
    """What the body counted beside its rows: ``counts.sql``, or the counters of the pipeline."""


def run_slot(
    definition: WorkflowDefinition,
    store: Store,
    slot: Slot,
    *,
    generation: int,
    body: Body | None = None,
    log: Callable[[str], None],
    cancel: threading.Event | None = None,
    beam: BeamOptions | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> SlotResult:
    """Run the body over one slot, and put its rows in the place of whatever the slot had.

    Promise: on return the output table holds the slot's rows, all of them, as durable as acked
    events; on error it holds those of before, unless the error is transient. The output table is
    made when it is missing, and given the columns that it lacks.

    Args:
        definition: the workflow.
        store: which has its tables.
        slot: [start, end).
        generation: grows with each attempt at the slot.
        body: which one; None: the first that the workflow has.
        log: told a line for each step.
        cancel: when set, the attempt ends soon, with QueryCancelledError.
        beam: how Beam bodies are run; None: the defaults.
        clock: measures the workflow's timeout.

    Raises:
        UsageError: the workflow has no such body, or the store cannot replace slots.
        TableNotFoundError: an input is missing.
        QueryCancelledError: ``cancel`` was set, or the timeout has passed.
        QueryError: the SQL, or an input's ``slot_by``, does not fit the tables.
        PipelineError: the Beam body failed.
        OutputError: the rows do not fit the output table; nothing was changed.
        SchemaConflictError: the output table does not allow what the .proto says.
        StaleAttemptError: a later attempt has written the slot.
        TransientError: call again.
    """
    chosen = choose_body(definition, body)
    if not isinstance(store, SlotStore):
        raise UsageError(f"{store!r} cannot replace the rows of a slot: run workflows on another")
    attempt = _Attempt(definition, store, slot, cancel, clock)
    log(f"slot {utc_datetime(slot[0]):%Y-%m-%dT%H:%M:%SZ} of {slot[1] - slot[0]} s, {chosen} body")
    inputs = attempt.find_inputs()
    attempt.ensure_output()
    marks = attempt.take_marks(inputs, log)
    if chosen == "beam":
        rows, counts = attempt.beam_rows(generation, log, beam)
    else:
        rows, counts = attempt.sql_rows(), attempt.sql_counts()
    attempt.check_time()
    log(f"the body gave {rows.num_rows:,} rows after {attempt.seconds:.3f} s")
    for name, count in sorted(counts.items()):
        log(f"{name}: {count:,}")
    key = SlotKey(definition.name, *slot)
    outcome = store.replace_slot(definition.output.table, key, rows, generation=generation)
    log(f"{definition.output.table} has {outcome.rows:,} rows of it, in place of"
        f" {outcome.replaced_rows:,}")  # fmt: skip
    return SlotResult(
        input_rows=sum(mark.count for mark in marks.values()),
        output_rows=outcome.rows,
        replaced_rows=outcome.replaced_rows,
        seconds=attempt.seconds,
        marks=marks,
        counts=counts,
    )


def choose_body(definition: WorkflowDefinition, body: Body | None) -> Body:
    """Return the body to run; UsageError when the workflow has no such one."""
    if body is None:
        return definition.bodies[0]
    if body not in definition.bodies:
        raise UsageError(
            f"the workflow {definition.name} has no {body} body; it has:"
            f" {', '.join(definition.bodies)}"
        )
    return body


class _Attempt:
    """The steps of one attempt, all within its time."""

    def __init__(
        self,
        definition: WorkflowDefinition,
        store: Store,
        slot: Slot,
        cancel: threading.Event | None,
        clock: Clock,
    ) -> None:
        self._definition = definition
        self._store = store
        self._slot = slot
        self._start, self._end = utc_datetime(slot[0]), utc_datetime(slot[1])
        self._cancel = cancel
        self._clock = clock
        self._began = clock.monotonic()

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return self._clock.monotonic() - self._began

    def check_time(self) -> float:
        """Return the seconds that are left; raise when there are none, or it was cancelled."""
        if self._cancel is not None and self._cancel.is_set():
            raise QueryCancelledError(f"the run of {self._definition.name} was cancelled")
        left = self._definition.timeout_seconds - self.seconds
        if left <= 0:
            raise QueryCancelledError(
                f"the run of {self._definition.name} took longer than"
                f" {self._definition.timeout_seconds:g} s; give it more by timeout in workflow.toml"
            )
        return left

    def find_inputs(self) -> dict[str, TableSpec]:
        """Return the live definition of each input."""
        specs = {}
        for entry in self._definition.inputs:
            self.check_time()
            try:
                specs[str(entry.table)] = self._store.describe(entry.table).spec
            except TableNotFoundError as error:
                missing = TableNotFoundError(
                    f"{entry.table}, an input of the workflow {self._definition.name}, does not"
                    " exist: make it with `eventmill table apply`, or correct table in [[input]]"
                )
                missing.facts = {MISSING_INPUT: str(entry.table)}
                raise missing from error
        return specs

    def ensure_output(self) -> None:
        """Make sure that the output table has the columns that the .proto says."""
        spec = self._definition.output
        self.check_time()
        try:
            ensure_table(self._store, spec, again=True)
        except SchemaConflictError as error:
            raise SchemaConflictError(
                f"{spec.table}, the output of the workflow {self._definition.name}, cannot become"
                f" what its .proto says: {error}"
            ) from error

    def take_marks(
        self, specs: Mapping[str, TableSpec], log: Callable[[str], None]
    ) -> dict[str, InputMark]:
        """Count what each input holds of the slot now."""
        marks = {}
        for entry in self._definition.inputs:
            name = str(entry.table)
            marks[name] = take_mark(
                self._store,
                entry,
                specs[name],
                self._start,
                self._end,
                timeout_seconds=self.check_time(),
                cancel=self._cancel,
            )
            log(f"{name} has {marks[name].count:,} rows of it")
        return marks

    def sql_rows(self) -> pa.Table:
        """Return the rows of ``query.sql``."""
        return self._ask(self._definition.sql or "")

    def sql_counts(self) -> dict[str, int | float]:
        """Return the counts of ``counts.sql``; none without it."""
        if self._definition.counts_sql is None:
            return {}
        rows = self._ask(self._definition.counts_sql).to_pylist()
        if len(rows) == 1 and all(type(value) in (int, float) for value in rows[0].values()):
            return dict(rows[0])
        raise QueryError(
            f"counts.sql of the workflow {self._definition.name} gave {rows[:2]}: it has to give"
            " one row of numbers, such as SELECT COUNT(*) AS events"
        )

    def _ask(self, sql: str) -> pa.Table:
        return ask(
            self._store,
            sql,
            slot_parameters(sql, self._start, self._end),
            timeout_seconds=self.check_time(),
            cancel=self._cancel,
        ).to_arrow()

    def beam_rows(
        self, generation: int, log: Callable[[str], None], options: BeamOptions | None
    ) -> tuple[pa.Table, Mapping[str, int | float]]:
        """Return the rows of ``pipeline.py`` and its counters."""
        from eventmill.workflow.beam import (
            PipelineCancelledError,
            PipelineTimeoutError,
            run_beam_slot,  # starts processes: SQL does without
        )

        try:
            outcome = run_beam_slot(
                self._definition,
                self._store,
                self._slot,
                generation=generation,
                log=log,
                cancel=self._cancel,
                timeout_seconds=self.check_time(),
                options=options,
            )
        except (PipelineCancelledError, PipelineTimeoutError) as error:
            raise QueryCancelledError(str(error)) from error
        return outcome.rows, outcome.counters
