"""Single values of a workflow's rows as the types of their columns: without loss, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from eventmill.schema import times
from eventmill.schema.table import Column, ColumnType
from eventmill.schema.text_values import read_json
from eventmill.wire.columns_arrow import element_type_of
from eventmill.wire.output_faults import OutputFaults, Spot


def fit_values(values: pa.Array, column: Column, spot: Spot, faults: OutputFaults) -> pa.Array:
    """Return ``values`` as the type of one value of ``column``, which is no RECORD.

    What cannot be is noted in ``faults``, and is NULL or as it was in what is returned.
    """
    target = element_type_of(column)
    if pt.is_null(values.type):
        return pa.nulls(len(values), target)
    if not _takes(column.type, values.type):
        faults.add(spot.path, f"is {column.type}, the rows have {values.type}{_way_out(column)}")
        return pa.nulls(len(values), target)
    made = values if values.type == target else _cast(values, target, column, spot, faults)
    is_bad = _outside(made, column.type)
    if is_bad is not None:
        faults.add_rows(spot, is_bad, _OUTSIDE[column.type], made)
    return made


def plain(values: pa.Array) -> pa.Array:
    """Return values without the ways in which Arrow may write them shorter."""
    if isinstance(values, pa.ExtensionArray):
        return plain(values.storage)
    if pt.is_dictionary(values.type):
        return plain(values.dictionary_decode())
    if pt.is_run_end_encoded(values.type):
        return plain(pc.run_end_decode(values))
    return values


# -- which type may become which ----------------------------------------------------------


def _is_exact_number(kind: pa.DataType) -> bool:
    return bool(pt.is_integer(kind) or pt.is_decimal(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(
        pt.is_binary(kind)
        or pt.is_large_binary(kind)
        or pt.is_binary_view(kind)
        or pt.is_fixed_size_binary(kind)
    )


_TAKEN: dict[ColumnType, Callable[[pa.DataType], bool]] = {
    ColumnType.INTEGER: _is_exact_number,
    ColumnType.FLOAT: lambda kind: pt.is_floating(kind) or pt.is_integer(kind),
    ColumnType.BOOLEAN: pt.is_boolean,
    ColumnType.STRING: _is_text,
    ColumnType.GEOGRAPHY: _is_text,
    ColumnType.JSON: _is_text,
    ColumnType.BYTES: _is_bytes,
    ColumnType.TIMESTAMP: lambda kind: pt.is_timestamp(kind) and kind.tz is not None,
    ColumnType.DATETIME: lambda kind: pt.is_timestamp(kind) and kind.tz is None,
    ColumnType.DATE: pt.is_date,
    ColumnType.TIME: pt.is_time,
    ColumnType.NUMERIC: _is_exact_number,
    ColumnType.BIGNUMERIC: _is_exact_number,
}
_SQL_NAMES = {
    ColumnType.INTEGER: "INT64",
    ColumnType.FLOAT: "FLOAT64",
    ColumnType.BOOLEAN: "BOOL",
}


def _takes(type_: ColumnType, kind: pa.DataType) -> bool:
    return bool(_TAKEN[type_](kind))


def _way_out(column: Column) -> str:
    name = _SQL_NAMES.get(column.type, column.type)
    return f": CAST(... AS {name}), or change the .proto"


# -- casting ------------------------------------------------------------------------------


def _cast(
    values: pa.Array, target: pa.DataType, column: Column, spot: Spot, faults: OutputFaults
) -> pa.Array:
    try:
        return values.cast(target)
    except pa.ArrowInvalid:
        is_bad = _refused(values, target)
        what = f"{column.type} cannot hold the value without loss"
        faults.add_rows(spot, is_bad, what, values)
        return pa.nulls(len(values), target)


def _refused(values: pa.Array, target: pa.DataType) -> pa.BooleanArray:
    """Return which values cannot be cast, found by halves: it is for the message alone."""
    is_bad = [False] * len(values)
    parts = [(0, len(values))]
    while parts:
        start, length = parts.pop()
        try:
            values.slice(start, length).cast(target)
        except pa.ArrowInvalid:
            if length == 1:
                is_bad[start] = True
            else:
                half = length // 2
                parts += [(start, half), (start + half, length - half)]
    return pa.array(is_bad, pa.bool_())


# -- ranges -------------------------------------------------------------------------------


def _outside(values: pa.Array, type_: ColumnType) -> pa.BooleanArray | None:
    """Return which values the column does not take though their type fits; None: takes all."""
    if type_ is ColumnType.JSON:
        return _no_json(values)
    bounds = _BOUNDS.get(type_)
    if bounds is None:
        return None
    numbers = values.view(pa.int32() if type_ is ColumnType.DATE else pa.int64())
    found = pc.min_max(numbers)
    low, high = found["min"].as_py(), found["max"].as_py()
    if low is None or (low >= bounds[0] and high <= bounds[1]):
        return None
    return pc.or_(pc.less(numbers, bounds[0]), pc.greater(numbers, bounds[1]))


def _no_json(values: pa.StringArray) -> pa.BooleanArray | None:
    bad = list(_texts_without_json(pc.unique(values).to_pylist()))
    return pc.is_in(values, value_set=pa.array(bad, pa.string())) if bad else None


def _texts_without_json(texts: list[str | None]) -> Iterator[str]:
    for text in texts:
        if text is None:
            continue
        try:
            orjson.loads(text)
        except orjson.JSONDecodeError:
            # What an event's judgement takes is taken here: it goes by the standard library.
            try:
                read_json(text)
            except ValueError:
                yield text


_MOMENTS = (times.MICROSECONDS_MIN, times.MICROSECONDS_MAX)
_BOUNDS = {
    ColumnType.TIMESTAMP: _MOMENTS,
    ColumnType.DATETIME: _MOMENTS,
    ColumnType.DATE: (times.DAYS_MIN, times.DAYS_MAX),
}
_OUTSIDE = {
    ColumnType.TIMESTAMP: "lies outside the years 1 to 9999",
    ColumnType.DATETIME: "lies outside the years 1 to 9999",
    ColumnType.DATE: "lies outside the years 1 to 9999",
    ColumnType.JSON: "is not JSON",
}
