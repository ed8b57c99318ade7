"""A query's answer as bytes: JSON, NDJSON, CSV and Arrow's stream format.

Values keep everything they hold: a float that is not finite is the text ``NaN``, ``Infinity`` or
``-Infinity``, a TIMESTAMP is RFC 3339 in UTC with microseconds, BYTES are base64, NUMERIC is a
text (a JSON number would be rounded on the way), INTEGER is a JSON number.
"""

from __future__ import annotations

import base64
import csv
import io
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import StrEnum
from itertools import repeat
from typing import Any, TypeAlias

import orjson
import pyarrow as pa

from eventmill.wire.answer import QueryResult
from eventmill.wire.arrow_stream import encode_arrow

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
        return _ndjson(result)
    if form is Format.CSV:
        return _csv(result)
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
    converts = [_convert(field.type) for field in table.schema]
    for batch in table.to_batches(max_chunksize=_ROWS_A_CHUNK):
        columns = []
        for values, convert in zip(batch.columns, converts, strict=True):
            listed = values.to_pylist()
            if convert is not None:
                listed = [None if value is None else convert(value) for value in listed]
            columns.append(listed)
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


def _ndjson(result: QueryResult) -> Iterator[bytes]:
    for rows in json_rows(result):
        yield b"".join([orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows])


def _csv(result: QueryResult) -> Iterator[bytes]:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(result.column_names)
    for rows in json_rows(result):
        writer.writerows([_cell(value) for value in row.values()] for row in rows)
        yield text.getvalue().encode()
        text.seek(0)
        text.truncate()
    yield text.getvalue().encode()


def _cell(value: object) -> object:
    if isinstance(value, (dict, list)):
        return orjson.dumps(value).decode()
    if isinstance(value, bool):
        return "true" if value else "false"
    return value


def _convert(type_: pa.DataType) -> Convert | None:
    """Return how a value of ``type_`` becomes one of JSON's; None when it is one already."""
    if pa.types.is_struct(type_):
        return _convert_struct({field.name: _convert(field.type) for field in type_})
    if pa.types.is_list(type_) or pa.types.is_large_list(type_):
        return _convert_list(_convert(type_.value_type))
    if pa.types.is_map(type_):
        return _convert_map(_convert(type_.key_type), _convert(type_.item_type))
    if pa.types.is_timestamp(type_):
        return _timestamp if type_.tz else _datetime
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


def _float(value: float) -> float | str:
    if math.isfinite(value):
        return value
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _timestamp(value: datetime) -> str:
    text = value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")
    return text + "Z"


def _datetime(value: datetime) -> str:
    return value.isoformat(timespec="microseconds")


def _time(value: time) -> str:
    return value.isoformat(timespec="microseconds")


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def _decimal(value: Decimal) -> str:
    return f"{value:f}"


_CONVERTS: tuple[tuple[Callable[[pa.DataType], bool], Convert], ...] = (
    (pa.types.is_floating, _float),
    (pa.types.is_binary, _base64),
    (pa.types.is_large_binary, _base64),
    (pa.types.is_date, date.isoformat),
    (pa.types.is_time, _time),
    (pa.types.is_decimal, _decimal),
    (pa.types.is_interval, str),
    (pa.types.is_duration, str),
)
