"""Files that load jobs read: NDJSON and Parquet, row by row, and the columns that they suggest."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.json
import pyarrow.parquet as pq

from eventmill.schema.problem import EventProblem, Reason
from eventmill.schema.table import Column, ColumnType
from eventmill.server.bigquery.cells import columns_of_arrow
from eventmill.server.bigquery.errors import invalid

_GZIP_MAGIC = b"\x1f\x8b"
_SAMPLE_ROWS = 1_000
_SAMPLE_BYTES = 8_000_000
_BATCH_ROWS = 1_000
_LINE_BYTES_MAX = 10_000_000
"""Bytes of one line; an event has less, and a file without line breaks must not fill the memory."""

Rows = Iterator[Mapping[str, Any] | EventProblem]
"""Rows of a file in their order; a problem where one cannot even be read."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file that a job loads."""

    rows: Callable[[], Rows]
    """Begins to read the rows, anew at each call."""
    columns: Callable[[], tuple[Column, ...]]
    """Reads the columns that the file suggests."""


def source_of(path: str, source_format: str) -> Source:
    """Return the rows of the file at ``path``.

    Args:
        path: of the file.
        source_format: ``NEWLINE_DELIMITED_JSON`` or ``PARQUET``.
    """
    if source_format == "PARQUET":
        return Source(lambda: _parquet_rows(path), lambda: _parquet_columns(path))
    return Source(lambda: _json_rows(path), lambda: _json_columns(path))


# -- NDJSON ------------------------------------------------------------------------------


def _open(path: str) -> io.BufferedIOBase:
    with open(path, "rb") as file:
        is_gzip = file.read(2) == _GZIP_MAGIC
    return gzip.open(path, "rb") if is_gzip else open(path, "rb")


def _lines(path: str) -> Iterator[bytes]:
    with closing(_open(path)) as file:
        try:
            while line := file.readline(_LINE_BYTES_MAX + 1):
                if len(line) > _LINE_BYTES_MAX:
                    raise invalid(f"a line of the file has over {_LINE_BYTES_MAX:,} bytes")
                line = line.strip()
                if line:
                    yield line
        except (OSError, EOFError) as error:
            raise invalid(f"the file cannot be read: {error}") from None


def _json_rows(path: str) -> Rows:
    for line in _lines(path):
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            yield EventProblem(Reason.MALFORMED_JSON, "", f"not JSON: {error}")
            continue
        if not isinstance(row, Mapping):
            yield EventProblem(Reason.MALFORMED_JSON, "", "a line must be a JSON object")
            continue
        yield row


def _json_columns(path: str) -> tuple[Column, ...]:
    sample, size = [], 0
    for line in islice(_lines(path), _SAMPLE_ROWS):
        sample.append(line)
        size += len(line)
        if size > _SAMPLE_BYTES:
            break
    if not sample:
        raise invalid("the file has no rows from which columns could be told: give a schema")
    options = pa.json.ReadOptions(use_threads=False, block_size=2 * size + 1_000_000)
    try:
        schema = pa.json.read_json(io.BytesIO(b"\n".join(sample)), read_options=options).schema
    except pa.ArrowInvalid as error:
        raise invalid(f"the columns of the file cannot be told ({error}): give a schema") from None
    return tuple(_guessed(column) for column in columns_of_arrow(_without_null(schema)))


def _without_null(schema: pa.Schema) -> pa.Schema:
    """Return the schema with text where the sample has nothing but null."""
    return pa.schema([field.with_type(_texts_for_null(field.type)) for field in schema])


def _texts_for_null(type_: pa.DataType) -> pa.DataType:
    if pa.types.is_null(type_):
        return pa.string()
    if pa.types.is_list(type_):
        return pa.list_(_texts_for_null(type_.value_type))
    if pa.types.is_struct(type_):
        return pa.struct([field.with_type(_texts_for_null(field.type)) for field in type_])
    return type_


def _guessed(column: Column) -> Column:
    # A time without a zone in text is a moment in UTC, as BigQuery detects it.
    kind = ColumnType.TIMESTAMP if column.type is ColumnType.DATETIME else column.type
    return replace(column, type=kind, fields=tuple(_guessed(below) for below in column.fields))


# -- Parquet -----------------------------------------------------------------------------


def _parquet_columns(path: str) -> tuple[Column, ...]:
    with _parquet(path) as file:
        return columns_of_arrow(file.schema_arrow)


def _parquet_rows(path: str) -> Rows:
    with _parquet(path) as file:
        try:
            for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                yield from _plain(batch).to_pylist()
        except (pa.ArrowException, OSError) as error:
            raise invalid(f"the Parquet file cannot be read: {error}") from None


def _parquet(path: str) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise invalid(f"the file is not Parquet: {error}") from None


def _plain(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return the rows with times in microseconds, as finer ones have no Python value."""
    schema = pa.schema([field.with_type(_micros(field.type)) for field in batch.schema])
    if schema.equals(batch.schema):
        return batch
    columns = [
        column if column.type == field.type else column.cast(field.type, safe=False)
        for column, field in zip(batch.columns, schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _micros(type_: pa.DataType) -> pa.DataType:
    if pa.types.is_timestamp(type_) and type_.unit == "ns":
        return pa.timestamp("us", type_.tz)
    if pa.types.is_time64(type_):
        return pa.time64("us")
    if pa.types.is_dictionary(type_):
        return _micros(type_.value_type)
    if pa.types.is_struct(type_):
        return pa.struct([field.with_type(_micros(field.type)) for field in type_])
    if pa.types.is_list(type_) or pa.types.is_large_list(type_):
        return pa.list_(_micros(type_.value_type))
    return type_
