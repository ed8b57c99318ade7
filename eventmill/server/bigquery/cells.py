"""Rows of an answer as BigQuery's API writes them: ``{"f": [{"v": ...}]}``, every scalar a text.

Whole columns are converted at once; what a column is, is decided once for each answer.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, TypeAlias

import pyarrow as pa

from eventmill.schema.table import Column, ColumnType, Mode

Cells: TypeAlias = list[Any]
"""One value a row, in JSON's types; None: NULL."""
_Convert: TypeAlias = Callable[[pa.Array], Cells]


def columns_of_arrow(
    schema: pa.Schema, known: Mapping[str, Column] | None = None
) -> tuple[Column, ...]:
    """Return the columns of an answer.

    Args:
        schema: of the answer.
        known: what a column is, by its name in lower case, where that is known better than by its
            Arrow type, which has one text for STRING, JSON and GEOGRAPHY; None: of none.
    """
    better = known or {}
    return tuple(_column(f.name, f.type, better.get(f.name.lower())) for f in schema)


def _column(name: str, type_: pa.DataType, known: Column | None) -> Column:
    mode = Mode.NULLABLE
    if pa.types.is_list(type_) or pa.types.is_large_list(type_):
        mode, type_ = Mode.REPEATED, type_.value_type
    elif pa.types.is_map(type_):
        mode = Mode.REPEATED
        type_ = pa.struct([("key", type_.key_type), ("value", type_.item_type)])
    if pa.types.is_struct(type_):
        below = {column.name: column for column in known.fields} if known else {}
        fields = tuple(_column(f.name, f.type, below.get(f.name)) for f in type_)
        return Column(name, ColumnType.RECORD, mode, fields=fields)
    kind = _column_type(type_)
    if known is not None and kind is ColumnType.STRING and known.type in _TEXT_TYPES:
        kind = known.type
    return Column(name, kind, mode)


_TEXT_TYPES = (ColumnType.JSON, ColumnType.GEOGRAPHY)


def _column_type(type_: pa.DataType) -> ColumnType:
    if pa.types.is_timestamp(type_):
        return ColumnType.TIMESTAMP if type_.tz else ColumnType.DATETIME
    for belongs, kind in _KINDS:
        if belongs(type_):
            return kind
    return ColumnType.STRING  # such as INTERVAL, whose text is what there is of it


_KINDS: tuple[tuple[Callable[[Any], bool], ColumnType], ...] = (
    (pa.types.is_integer, ColumnType.INTEGER),
    (pa.types.is_null, ColumnType.INTEGER),  # GoogleSQL gives a bare NULL this type
    (pa.types.is_floating, ColumnType.FLOAT),
    (pa.types.is_boolean, ColumnType.BOOLEAN),
    (pa.types.is_binary, ColumnType.BYTES),
    (pa.types.is_large_binary, ColumnType.BYTES),
    (pa.types.is_date, ColumnType.DATE),
    (pa.types.is_time, ColumnType.TIME),
    (pa.types.is_decimal, ColumnType.NUMERIC),
)


def encode_rows(rows: pa.Table, *, int64_timestamps: bool) -> list[dict[str, Any]]:
    """Return rows in the form of the API.

    Args:
        rows: of an answer.
        int64_timestamps: write a TIMESTAMP as whole microseconds; else as seconds with a point,
            which loses microseconds in far centuries.
    """
    if not rows.num_columns:
        return [{"f": []} for _ in range(rows.num_rows)]
    columns = [
        _converter(arrow_field.type, int64_timestamps)(_whole(rows.column(index)))
        for index, arrow_field in enumerate(rows.schema)
    ]
    return _records(columns)


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def _records(columns: Sequence[Cells]) -> list[dict[str, Any]]:
    return [{"f": [{"v": cell} for cell in row]} for row in zip(*columns, strict=True)]


def _converter(type_: pa.DataType, int64_timestamps: bool) -> _Convert:
    if pa.types.is_struct(type_):
        return _struct_converter([_converter(f.type, int64_timestamps) for f in type_])
    if pa.types.is_list(type_) or pa.types.is_large_list(type_):
        return _list_converter(_converter(type_.value_type, int64_timestamps))
    if pa.types.is_map(type_):
        pair = pa.struct([("key", type_.key_type), ("value", type_.item_type)])
        plain = pa.list_(pair)
        convert = _list_converter(_converter(pair, int64_timestamps))
        return lambda array: convert(array.cast(plain))
    if pa.types.is_timestamp(type_) and type_.tz:
        return _int64_timestamps if int64_timestamps else _float_timestamps
    for belongs, convert_array in _ARRAY_CONVERTERS:
        if belongs(type_):
            return convert_array
    return lambda array: _each(array, str)


def _each(array: pa.Array, convert: Callable[[Any], Any]) -> Cells:
    return [None if value is None else convert(value) for value in array.to_pylist()]


def _texts(array: pa.Array) -> Cells:
    cells: Cells = array.cast(pa.string()).to_pylist()
    return cells


def _plain(array: pa.Array) -> Cells:
    cells: Cells = array.to_pylist()
    return cells


def _int64_timestamps(array: pa.Array) -> Cells:
    return _texts(array.cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()))


def _float_timestamps(array: pa.Array) -> Cells:
    micros = array.cast(pa.timestamp("us", tz="UTC")).cast(pa.int64())
    return _each(micros, lambda value: repr(value / 1e6))


def float_text(value: float) -> str:
    """Return a FLOAT64 as the API writes it."""
    if math.isfinite(value):
        return repr(value)
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def numeric_text(value: Decimal) -> str:
    """Return a NUMERIC as the API writes it: without an exponent, and no zeros at its end."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def _interval(value: Any) -> str:  # noqa: ANN401 - pyarrow has no types
    sign = "-" if value.months < 0 else ""
    years, months = divmod(abs(value.months), 12)
    clock = "-" if value.nanoseconds < 0 else ""
    seconds, nanos = divmod(abs(value.nanoseconds), 1_000_000_000)
    fraction = f".{nanos // 1000:06}" if nanos else ""
    time_part = f"{clock}{seconds // 3600}:{seconds // 60 % 60}:{seconds % 60}{fraction}"
    return f"{sign}{years}-{months} {value.days} {time_part}"


_ARRAY_CONVERTERS: tuple[tuple[Callable[[Any], bool], _Convert], ...] = (
    (pa.types.is_string, _plain),
    (pa.types.is_large_string, _plain),
    (pa.types.is_integer, _texts),
    (pa.types.is_boolean, _texts),
    (pa.types.is_floating, lambda array: _each(array, float_text)),
    (pa.types.is_binary, lambda array: _each(array, _base64)),
    (pa.types.is_large_binary, lambda array: _each(array, _base64)),
    (pa.types.is_timestamp, lambda array: _each(array, datetime.isoformat)),
    (pa.types.is_date, lambda array: _each(array, date.isoformat)),
    (pa.types.is_time, lambda array: _each(array, time.isoformat)),
    (pa.types.is_decimal, lambda array: _each(array, numeric_text)),
    (pa.types.is_null, _plain),
    (pa.types.is_interval, lambda array: _each(array, _interval)),
)


def _struct_converter(fields: Sequence[_Convert]) -> _Convert:
    def convert(array: pa.StructArray) -> Cells:
        # flatten, unlike field, hides what lies below a NULL and keeps to the array's slice.
        children = array.flatten()
        cells: Cells = _records([f(child) for f, child in zip(fields, children, strict=True)])
        if array.null_count:
            valid = array.is_valid().to_pylist()
            cells = [cell if is_set else None for cell, is_set in zip(cells, valid, strict=True)]
        return cells

    return convert


def _list_converter(element: _Convert) -> _Convert:
    def convert(array: pa.ListArray) -> Cells:
        values = [{"v": cell} for cell in element(array.flatten())]
        cells: Cells = []
        at = 0
        for length in array.value_lengths().to_pylist():
            # The API has no NULL in the place of an array.
            cells.append(values[at : at + (length or 0)])
            at += length or 0
        return cells

    return convert
