"""A pipeline's output as files, for the launcher to take up once the job has ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa

from eventmill.base.errors import OutputError
from eventmill.beam.counters import Counters
from eventmill.beam.rows import as_dict, json_text

_BATCH_ROWS_MIN, _BATCH_ROWS_MAX = 100, 10_000


class WriteRows(beam.PTransform):
    """Writes rows as Parquet shards, by Beam's own file IO into any file system it knows."""

    def __init__(self, prefix: str, schema: pa.Schema, table: str) -> None:
        """Prepare.

        Args:
            prefix: beginning of the files' paths.
            schema: columns of the output.
            table: its name, for errors.
        """
        super().__init__(f"Write {table}")
        self._prefix = prefix
        self._schema = schema
        self._table = table

    def expand(self, rows: beam.PCollection) -> Any:  # noqa: ANN401 - names of files
        """Write ``rows``."""
        return (
            rows
            | beam.BatchElements(_BATCH_ROWS_MIN, _BATCH_ROWS_MAX)
            | "Columns" >> beam.ParDo(_ToColumns(self._schema, self._table))
            | beam.io.WriteToParquetBatched(
                self._prefix, self._schema, codec="zstd", file_name_suffix=".parquet"
            )
        )


class WriteDeadLetters(beam.PTransform):
    """Writes dead letters as lines of JSON."""

    def __init__(self, prefix: str) -> None:
        super().__init__("Write dead letters")
        self._prefix = prefix

    def expand(self, letters: beam.PCollection) -> Any:  # noqa: ANN401 - names of files
        """Write ``letters``."""
        return (
            letters
            | "As JSON" >> beam.Map(json_text)
            | beam.io.WriteToText(self._prefix, file_name_suffix=".ndjson")
        )


class _ToColumns(beam.DoFn):
    """Lists of rows become Arrow tables of the output's columns."""

    def __init__(self, schema: pa.Schema, table: str) -> None:
        self._schema = schema
        self._table = table
        self._counters = Counters()

    def process(self, rows: Sequence[object]) -> Iterator[pa.Table]:
        """Yield the table of one list of rows.

        Raises:
            OutputError: a row does not fit; the message names the column and the value.
        """
        dicts = [self._known(as_dict(row)) for row in rows]
        arrays = [self._column(field, [row.get(field.name) for row in dicts])
                  for field in self._schema]  # fmt: skip
        self._counters.written(len(dicts))
        yield pa.Table.from_arrays(arrays, schema=self._schema)

    def _known(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        for name in row:
            if self._schema.get_field_index(name) < 0:
                raise OutputError(
                    f"the pipeline gives a column {name!r}, which the output {self._table} has"
                    f" not; it has {', '.join(self._schema.names)}"
                )
        return row

    def _column(self, field: pa.Field, values: list[Any]) -> pa.Array:
        try:
            return pa.array(values, field.type)
        except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError, ValueError, OverflowError):
            for value in values:
                self._check(field, value)
            raise

    def _check(self, field: pa.Field, value: Any) -> None:  # noqa: ANN401 - any value
        try:
            pa.array([value], field.type)
        except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError, ValueError, OverflowError) as error:
            raise OutputError(
                f"the pipeline gives {value!r:.200} ({type(value).__name__}) in the column"
                f" {field.name!r} of {self._table}, which is {field.type}: {error}"
            ) from None
