"""A Parquet file as lines of JSON, for tables whose Parquet files no load job takes.

BigQuery loads Parquet neither into a JSON column ("Unsupported field type: JSON") nor from a column
that may be NULL into one that is REQUIRED ("has changed mode from REQUIRED to NULLABLE").
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Sequence
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from eventmill.schema.table import Column, ColumnType, Mode, TableSpec
from eventmill.store.bigquery.insert_all import exact_type
from eventmill.wire.answer import QueryResult, QueryStats
from eventmill.wire.rows import json_rows

_BATCH_ROWS = 10_000
_NOT_READ = QueryStats(0.0, 0, False, 0)


def needs_json(columns: Sequence[Column]) -> bool:
    """Return whether a table's Parquet files have to be loaded as JSON."""
    return any(
        column.type is ColumnType.JSON or column.mode is Mode.REQUIRED or needs_json(column.fields)
        for column in columns
    )


def write_json(spec: TableSpec, source: str, target: str) -> None:
    """Write the rows of a Parquet file as compressed lines of JSON.

    Args:
        spec: of the table.
        source: path of the Parquet file.
        target: path of the file to write.
    """
    by_name = {column.name: column for column in spec.columns}
    embed = _embedding(spec.columns)
    with pq.ParquetFile(source) as file, gzip.open(target, "wb", compresslevel=1) as lines:
        exact = pa.schema(
            [
                pa.field(field.name, exact_type(field.type, by_name[field.name]))
                if field.name in by_name
                else field
                for field in file.schema_arrow
            ]
        )
        for batch in file.iter_batches(batch_size=_BATCH_ROWS):
            rows = QueryResult(pa.Table.from_batches([batch]).cast(exact), _NOT_READ)
            for chunk in json_rows(rows):
                for row in chunk:
                    embed(row)
                    lines.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))


def _embedded(text: str) -> object:
    """Return what stands for a JSON document in a line of JSON."""
    # A text and null go as they are: embedded they would be a text to be read, and no value.
    is_plain = text.lstrip().startswith(('"', "n"))
    return text if is_plain else orjson.Fragment(text)


def _embedding(columns: Sequence[Column]) -> Callable[[dict[str, Any]], None]:
    """Return what makes, in place, JSON itself of the texts in JSON columns."""
    below = {c.name: _embedding(c.fields) for c in columns if needs_json(c.fields)}
    documents = [column.name for column in columns if column.type is ColumnType.JSON]

    def embed(row: dict[str, Any]) -> None:
        for name in documents:
            value = row.get(name)
            if isinstance(value, list):
                row[name] = [_embedded(text) for text in value]
            elif value is not None:
                row[name] = _embedded(value)
        for name, embed_below in below.items():
            value = row.get(name)
            for each in value if isinstance(value, list) else [value]:
                if each is not None:
                    embed_below(each)

    return embed
