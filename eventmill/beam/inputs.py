"""The inputs of a workflow, as ``build`` in ``pipeline.py`` sees them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam

from eventmill.base.errors import UsageError
from eventmill.beam.read_table import Method, ReadTable
from eventmill.beam.slot import BeamSlot
from eventmill.schema.table import TableId
from eventmill.workflow.beam.job import JobInput
from eventmill.workflow.sql_body import SLOT_END, SLOT_START, sql_name


class Inputs(Mapping[str, beam.PCollection]):
    """Rows of each input by the table's name, with or without its project."""

    def __init__(self, pipeline: beam.Pipeline, inputs: Sequence[JobInput], slot: BeamSlot) -> None:
        self._pipeline = pipeline
        self._slot = slot
        self._inputs = {TableId.parse(entry.table): entry for entry in inputs}
        self._rows: dict[TableId, beam.PCollection] = {}
        self._reads = 0

    def __getitem__(self, name: str) -> beam.PCollection:
        """Return the rows of an input that belong to the slot; read once however often asked.

        Raises:
            UsageError: ``workflow.toml`` names no such input.
        """
        table = self._table(name)
        if table not in self._rows:
            condition = self._inputs[table].condition
            sql = f"SELECT * FROM {sql_name(table)} WHERE {condition}"  # noqa: S608 - a workflow's
            self._rows[table] = self._read(table, sql, {}, "EXPORT", str(table))
        return self._rows[table]

    def read(
        self,
        name: str,
        *,
        sql: str,
        params: Mapping[str, Any] | None = None,
        method: Method = "EXPORT",
    ) -> beam.PCollection:
        """Return the rows of a query of your own.

        Args:
            name: the input that it reads, as ``workflow.toml`` has it.
            sql: GoogleSQL; ``@slot_start`` and ``@slot_end`` are given.
            params: values of further parameters.
            method: of BigQuery, see ``ReadTable``.
        """
        table = self._table(name)
        self._reads += 1
        return self._read(table, sql, params or {}, method, f"{table} by query {self._reads}")

    def __iter__(self) -> Iterator[str]:
        return iter([f"{table.dataset}.{table.table}" for table in self._inputs])

    def __len__(self) -> int:
        return len(self._inputs)

    def _table(self, name: str) -> TableId:
        parts = name.count(".") + 1
        for table in self._inputs:
            if name == str(table) or (parts == 2 and name == f"{table.dataset}.{table.table}"):
                return table
        raise UsageError(
            f"{name!r} is no input of this workflow; [[input]] in workflow.toml names"
            f" {', '.join(self) or 'none'}"
        )

    def _read(
        self, table: TableId, sql: str, params: Mapping[str, Any], method: Method, label: str
    ) -> beam.PCollection:
        moments = {SLOT_START: self._slot.start, SLOT_END: self._slot.end}
        read = ReadTable(table, sql=sql, params={**moments, **params}, method=method)
        return self._pipeline | f"Read {label}" >> read
