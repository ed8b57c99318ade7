"""A query's answer as bytes: JSON, NDJSON, CSV and Arrow's stream format.

Values keep everything they hold; ``wire.rows_text`` says how each is written. How a column's
values are converted is chosen once, by its Arrow type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import date
from enum import StrEnum
from itertools import repeat
from typing import Any, TypeAlias

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from eventmill.wire.answer import QueryResult
from eventmill.wire.arrow_stream import encode_arrow
from eventmill.wire.rows_text import (
    base64_text,
    csv_pieces,
    datetime_text,
    decimal_text,
    float_value,
    ndjson_pieces,
    time_text,
    timestamp_text,
)

_ROWS_A_CHUNK = 1024

Convert: TypeAlias = Callable[[Any], Any]


class Format(StrEnum):
    """Every form in which an answer can be asked for."""

    JSON = "json"
    NDJSON = "ndjson"
    CSV = "csv"
    ARROW = "arrow"

    @property
    def content_type(self) -> str:
        """The media type of the form."""
        return _CONTENT_TYPES[self]


_CONTENT_TYPES = {
    Format.JSON: "application/json",
    Format.NDJSON: "application/x-ndjson",
    Format.CSV: "text/csv; charset=utf-8",
    Format.ARROW: "application/vnd.apache.arrow.stream",
}


def encode_rows(result: QueryResult, form: Format) -> Iterator[bytes]:
    """Return ``result`` in ``form``, in pieces of about a thousand rows."""
    if form is Format.JSON:
        return _json(result)
    if form is Format.NDJSON:
        return ndjson_pieces(json_rows(result))
    if form is Format.CSV:
        return csv_pieces(result.column_names, json_rows(result))
    return encode_arrow(result)


def column_type(type_: pa.DataType) -> str:
    """Return the GoogleSQL name of an Arrow type, such as ``ARRAY<STRUCT<a INT64>>``."""
    if pa.types.is_struct(type_):
        inside = ", ".join(f"{field.name} {column_type(field.type)}" for field in type_)
        return f"STRUCT<{inside}>"
    if pa.types.is_list(type_) or pa.types.is_large_list(type_):
        return f"ARRAY<{column_type(type_.value_type)}>"
    if pa.types.is_map(type_):
        key, value = column_type(type_.key_type), column_type(type_.item_type)
        return f"ARRAY<STRUCT<key {key}, value {value}>>"
    if pa.types.is_timestamp(type_):
        return "TIMESTAMP" if type_.tz else "DATETIME"
    for belongs, name in _SCALARS:
        if belongs(type_):
            return name
    return str(type_).upper()


_SCALARS: tuple[tuple[Callable[[Any], bool], str], ...] = (
    (pa.types.is_integer, "INT64"),
    (pa.types.is_floating, "FLOAT64"),
    (pa.types.is_boolean, "BOOL"),
    (pa.types.is_string, "STRING"),
    (pa.types.is_large_string, "STRING"),
    (pa.types.is_binary, "BYTES"),
    (pa.types.is_large_binary, "BYTES"),
    (pa.types.is_date, "DATE"),
    (pa.types.is_time, "TIME"),
    (pa.types.is_decimal, "NUMERIC"),
    (pa.types.is_null, "INT64"),  # GoogleSQL gives a bare NULL this type
    (pa.types.is_interval, "INTERVAL"),
    (pa.types.is_duration, "INTERVAL"),
)


def json_rows(result: QueryResult) -> Iterator[list[dict[str, Any]]]:
    """Yield rows in JSON's types, some at a time."""
    table = result.to_arrow()
    names = list(table.column_names)
    readers = [_reader(field.type) for field in table.schema]
    for batch in table.to_batches(max_chunksize=_ROWS_A_CHUNK):
        columns = [read(values) for values, read in zip(batch.columns, readers, strict=True)]
        rows = zip(*columns, strict=True) if columns else repeat((), batch.num_rows)
        yield [dict(zip(names, row, strict=True)) for row in rows]


def _json(result: QueryResult) -> Iterator[bytes]:
    columns = [
        {"name": field.name, "type": column_type(field.type)} for field in result.to_arrow().schema
    ]
    yield b'{"columns":%b,"rows":[' % orjson.dumps(columns)
    separator = b""
    for rows in json_rows(result):
        if rows:
            yield separator + orjson.dumps(rows)[1:-1]
            separator = b","
    yield b'],"stats":%b}' % orjson.dumps(asdict(result.stats))


def _reader(type_: pa.DataType) -> Callable[[pa.Array], list[Any]]:
    """Return what makes a list in JSON's types of a column of ``type_``."""
    if pa.types.is_timestamp(type_) and type_.unit == "us":
        end = "Z" if type_.tz else ""
        return lambda values: _moments(values, end)
    if pa.types.is_floating(type_):
        return _floats
    convert = _convert(type_)
    if convert is None:
        return lambda values: values.to_pylist()
    return lambda values: [
        None if value is None else convert(value) for value in values.to_pylist()
    ]


def _floats(values: pa.Array) -> list[Any]:
    """Return floats as ``float_value`` does; most columns have no value that JSON lacks."""
    listed: list[Any] = values.to_pylist()
    if pc.all(pc.is_finite(values)).as_py() is not False:  # None: there is no value at all
        return listed
    return [None if value is None else float_value(value) for value in listed]


def _moments(values: pa.Array, end: str) -> list[str | None]:
    """Return moments as ``timestamp_text`` and ``datetime_text`` do, a tenth of the time each.

    As numbers first: to turn an aware one into text, Arrow wants a time zone database, which not
    every machine has.
    """
    texts = values.cast(pa.int64()).cast(pa.timestamp("us")).cast(pa.string()).to_pylist()
    return [None if text is None else f"{text[:10]}T{text[11:]}{end}" for text in texts]


def _convert(type_: pa.DataType) -> Convert | None:
    """Return how a value of ``type_`` becomes one of JSON's; None when it is one already."""
    if pa.types.is_struct(type_):
        return _convert_struct({field.name: _convert(field.type) for field in type_})
    if pa.types.is_list(type_) or pa.types.is_large_list(type_):
        return _convert_list(_convert(type_.value_type))
    if pa.types.is_map(type_):
        return _convert_map(_convert(type_.key_type), _convert(type_.item_type))
    if pa.types.is_timestamp(type_):
        return timestamp_text if type_.tz else datetime_text
    return next((convert for belongs, convert in _CONVERTS if belongs(type_)), None)


def _convert_struct(fields: dict[str, Convert | None]) -> Convert | None:
    changed = {name: convert for name, convert in fields.items() if convert is not None}
    if not changed:
        return None

    def convert(value: dict[str, Any]) -> dict[str, Any]:
        for name, below in changed.items():
            if value[name] is not None:
                value[name] = below(value[name])
        return value

    return convert


def _convert_list(element: Convert | None) -> Convert | None:
    if element is None:
        return None
    return lambda values: [None if value is None else element(value) for value in values]


def _convert_map(key: Convert | None, value: Convert | None) -> Convert:
    def convert(pairs: list[tuple[Any, Any]]) -> list[dict[str, Any]]:
        return [
            {
                "key": key(k) if key else k,
                "value": value(v) if value and v is not None else v,
            }
            for k, v in pairs
        ]

    return convert


_CONVERTS: tuple[tuple[Callable[[pa.DataType], bool], Convert], ...] = (
    (pa.types.is_floating, float_value),
    (pa.types.is_binary, base64_text),
    (pa.types.is_large_binary, base64_text),
    (pa.types.is_date, date.isoformat),
    (pa.types.is_time, time_text),
    (pa.types.is_decimal, decimal_text),
    (pa.types.is_interval, str),
    (pa.types.is_duration, str),
)
