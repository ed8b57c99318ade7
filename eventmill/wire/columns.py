"""Encoded events to Arrow columns, by the mapping of ``schema.values``.

Two ways that agree on every row: the fast one reads the wire format straight into Arrow and
brings what it finds to the mapping's types column by column; the other parses each event and
reads it value by value. The fast one hands single rows to the other where the wire holds what
only a parser gets right.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from eventmill.schema.early_type import early_maps, early_type
from eventmill.schema.reading_type import reading_type
from eventmill.schema.shape import shape_of
from eventmill.schema.table import Column, TableSpec
from eventmill.schema.values import RowReader
from eventmill.wire.columns_arrow import arrow_schema_of
from eventmill.wire.columns_fast import FastReader


class ColumnReader:
    """Reads events of one table into record batches of ``arrow_schema``."""

    def __init__(
        self,
        spec: TableSpec,
        *,
        fast: bool | None = None,
        columns: tuple[Column, ...] | None = None,
        judged_by: Sequence[Column] | None = None,
    ) -> None:
        """Compile the reader.

        Args:
            spec: the table, by the definition that the events are read by.
            fast: False: value by value; True or None: straight from the wire to Arrow.
            columns: of the rows; those that the message of ``spec`` does not have are NULL, or
                empty lists. None: those of ``spec``.
            judged_by: columns of an earlier definition, which judged the events: what it does
                not have and an event does not set is NULL. None: it was ``spec``.

        Raises:
            SchemaError: the message does not fit the columns.
        """
        columns = spec.columns if columns is None else columns
        self._message_type = reading_type(spec)
        self._early_maps: list[tuple[str, ...]] = []
        if judged_by is not None:
            self._message_type = early_type(spec, judged_by)
            self._early_maps = early_maps(spec, judged_by)
        self._rows = RowReader(self._message_type, columns)
        self.arrow_schema: pa.Schema = arrow_schema_of(columns)
        self._fast: FastReader | None = None
        if fast is not False and not self._early_maps:
            self._fast = FastReader(
                self._message_type.descriptor,
                shape_of(self._message_type),
                columns,
                self.arrow_schema,
            )

    @property
    def is_fast(self) -> bool:
        """Whether events are read straight from the wire to Arrow."""
        return self._fast is not None

    def read(self, events: pa.BinaryArray) -> pa.RecordBatch:
        """Return one row an event, in order.

        Args:
            events: encoded messages without nulls, each of which ``EventCheck`` found good.
        """
        if self._fast is None:
            return self._read_rows(events)
        try:
            batch, doubtful = self._fast.read(events)
        except ValueError:
            # Of a text that the wire sets twice a proto2 parser judges neither, and EventCheck
            # the last; the fast reader wants UTF-8 of both.
            return self._read_rows(events)
        if not doubtful:
            return batch
        redone = self._read_rows(events.take(pa.array(doubtful, pa.int64())))
        places = list(range(len(events)))
        for at, index in enumerate(doubtful):
            places[index] = len(events) + at
        both = pa.Table.from_batches([batch, redone]).combine_chunks()
        return both.take(pa.array(places, pa.int64())).combine_chunks().to_batches()[0]

    def _read_rows(self, events: pa.BinaryArray) -> pa.RecordBatch:
        parse, read = self._message_type.parse, self._rows.read
        rows = [read(parse(event)) for event in events.to_pylist()]
        for path in self._early_maps:
            for row in rows:
                _without_empty_map(row, path)
        return pa.RecordBatch.from_pylist(rows, schema=self.arrow_schema)


def _without_empty_map(row: Any, path: Sequence[str]) -> None:  # noqa: ANN401 - a dict or a list
    """Put NULL in the place of the JSON text at ``path`` where it is that of an empty map."""
    if isinstance(row, list):
        for element in row:
            _without_empty_map(element, path)
    elif row is not None and len(path) > 1:
        _without_empty_map(row[path[0]], path[1:])
    elif row is not None and row[path[0]] == _EMPTY_MAP:
        row[path[0]] = None


_EMPTY_MAP = "{}"
