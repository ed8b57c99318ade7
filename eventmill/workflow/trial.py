"""A workflow's body on rows from files or cases: in memory, touching no table of any store."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from eventmill.base.clock import SYSTEM_CLOCK
from eventmill.base.errors import QueryError, UsageError
from eventmill.schema.table import TableId, TableSpec
from eventmill.store.ensure import ensure_table
from eventmill.store.memory import MemoryStore
from eventmill.store.own_columns import INGESTED_AT, INSERT_ID
from eventmill.store.slots import SlotKey
from eventmill.wire.answer import QueryResult
from eventmill.workflow.definition import Body, WorkflowDefinition, WorkflowInput
from eventmill.workflow.input_marks import partition_filter
from eventmill.workflow.slot_run import choose_body, run_slot
from eventmill.workflow.sql_body import sql_name
from eventmill.workflow.timetable import Slot
from eventmill.workflow.trial_rows import (
    RowFault,
    TrialRow,
    inferred_columns,
    put_rows,
    spec_of_columns,
)

if TYPE_CHECKING:
    from eventmill.workflow.beam import BeamOptions


class Trial:
    """A store in memory with a workflow's inputs; used by one thread."""

    def __init__(self, definition: WorkflowDefinition, *, taken_at: float | None = None) -> None:
        """Prepare a store without tables.

        Args:
            definition: the workflow.
            taken_at: when its rows were taken (``_ingested_at``), seconds since 1970; None: now.
        """
        self.store = MemoryStore(SYSTEM_CLOCK if taken_at is None else _StillClock(taken_at))
        self.notes: list[str] = []
        """What was taken for granted, a sentence each."""
        self._definition = definition
        self._inputs: dict[TableId, WorkflowInput] = {one.table: one for one in definition.inputs}

    def close(self) -> None:
        """Forget the rows."""
        self.store.close()

    def fill(self, rows: Mapping[str, Iterable[TrialRow]]) -> list[RowFault]:
        """Make the workflow's inputs of ``rows``, by table; return the rows that do not fit.

        An input without a .proto gets columns that its rows fit into, and ``notes`` says which.

        Raises:
            UsageError: a table is no input of the workflow; or nothing says what columns an input
                has: it has neither rows nor a .proto.
        """
        given = {TableId.parse(name): found for name, found in rows.items()}
        for table in given:
            if table not in self._inputs:
                known = ", ".join(str(one) for one in self._inputs)
                raise UsageError(
                    f"{table} is no input of the workflow {self._definition.name}; its inputs are"
                    f" {known}"
                )
        faults: list[RowFault] = []
        for table, entry in self._inputs.items():
            found = given.get(table, ())
            spec = entry.spec
            if spec is None:
                found = list(found)
                spec = self._inferred(table, found)
            self.store.apply(spec)
            faults += put_rows(self.store, spec, found)
        return faults

    def run(
        self,
        slot: Slot,
        body: Body | None = None,
        *,
        log: Callable[[str], None],
        cancel: threading.Event | None = None,
        beam: BeamOptions | None = None,
    ) -> QueryResult:
        """Run the body over one slot; return what the output table would hold of it, in order.

        Raises:
            EventmillError: as ``slot_run.run_slot`` does.
        """
        chosen = choose_body(self._definition, body)
        try:
            if chosen == "beam":
                self._run_beam(slot, log, cancel, beam)
            else:
                run_slot(
                    self._definition, self.store, slot, generation=1, body=chosen, log=log,
                    cancel=cancel,
                )  # fmt: skip
        except QueryError as error:
            if self.notes:
                raise type(error)(f"{error} ({'; '.join(self.notes)})") from error
            raise
        output = self._definition.output
        return self.store.query(
            f"SELECT * FROM {sql_name(output.table)} WHERE {partition_filter(output)}"  # noqa: S608
            f" ORDER BY CAST(SPLIT({INSERT_ID}, '/')[OFFSET(2)] AS INT64)",
            row_limit=None,
        )

    def _inferred(self, table: TableId, rows: list[TrialRow]) -> TableSpec:
        columns = inferred_columns(rows)
        if not columns:
            raise UsageError(
                f"nothing says which columns the input {table} has: give it rows, or its .proto by"
                " the key proto of [[input]] in workflow.toml"
            )
        told = ", ".join(f"{column.name} {column.type}" for column in columns)
        self.notes.append(f"the columns of {table} are inferred from its rows: {told}")
        return spec_of_columns(table, columns)

    def _run_beam(
        self,
        slot: Slot,
        log: Callable[[str], None],
        cancel: threading.Event | None,
        options: BeamOptions | None,
    ) -> None:
        from eventmill.workflow.beam import run_beam_on_rows  # starts processes

        inputs = {
            str(table): self.store.query(
                f"SELECT *, {INSERT_ID}, {INGESTED_AT} FROM {sql_name(table)}"  # noqa: S608
                f" WHERE {partition_filter(self.store.describe(table).spec)}",
                row_limit=None,
            ).to_arrow()
            for table in self._inputs
        }
        outcome = run_beam_on_rows(
            self._definition, inputs, slot, log=log, cancel=cancel, options=options
        )
        for letter in outcome.dead_letters:
            log(f"{letter.step}: {letter.reason}: {letter.message}: {letter.row}")
        ensure_table(self.store, self._definition.output)
        key = SlotKey(self._definition.name, *slot)
        self.store.replace_slot(self._definition.output.table, key, outcome.rows, generation=1)


class _StillClock:
    """A clock that stands at one moment, at which all rows are taken."""

    def __init__(self, now: float) -> None:
        self._now = now

    def now(self) -> float:
        """Return the one moment that there is."""
        return self._now

    def monotonic(self) -> float:
        """Return seconds that do pass."""
        return SYSTEM_CLOCK.monotonic()

    def sleep(self, seconds: float) -> None:
        """Block the calling thread."""
        SYSTEM_CLOCK.sleep(seconds)
