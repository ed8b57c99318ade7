"""Columns of a table as Arrow types."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from eventmill.schema.table import Column, ColumnType, Mode

_TYPES: dict[ColumnType, pa.DataType] = {
    ColumnType.INTEGER: pa.int64(),
    ColumnType.FLOAT: pa.float64(),
    ColumnType.BOOLEAN: pa.bool_(),
    ColumnType.STRING: pa.string(),
    ColumnType.BYTES: pa.binary(),
    ColumnType.TIMESTAMP: pa.timestamp("us", tz="UTC"),
    ColumnType.DATE: pa.date32(),
    ColumnType.TIME: pa.time64("us"),
    ColumnType.DATETIME: pa.timestamp("us"),
    # 38 digits, 9 of them after the point: BigQuery's NUMERIC, and what 128 bits hold.
    ColumnType.NUMERIC: pa.decimal128(38, 9),
    ColumnType.BIGNUMERIC: pa.decimal256(76, 38),
    ColumnType.JSON: pa.string(),
    ColumnType.GEOGRAPHY: pa.string(),
}


def arrow_schema_of(columns: Sequence[Column]) -> pa.Schema:
    """Return the Arrow schema of a table's columns; every field can be null."""
    return pa.schema([pa.field(column.name, arrow_type_of(column)) for column in columns])


def arrow_type_of(column: Column) -> pa.DataType:
    """Return the Arrow type of a column: a list for REPEATED, a struct for RECORD."""
    if column.mode is Mode.REPEATED:
        return pa.list_(element_type_of(column))
    return element_type_of(column)


def element_type_of(column: Column) -> pa.DataType:
    """Return the Arrow type of one value of a column."""
    if column.type is ColumnType.RECORD:
        return pa.struct([pa.field(below.name, arrow_type_of(below)) for below in column.fields])
    return _TYPES[column.type]


def fitted_array(values: pa.Array, arrow_type: pa.DataType) -> pa.Array:
    """Return values of an earlier definition of their column as ``arrow_type``.

    Fields that their structs lack are NULL, or empty lists, at every depth; no list is NULL.
    """
    if values.type == arrow_type:
        return values
    if pa.types.is_list(arrow_type):
        lengths = pc.fill_null(pc.list_value_length(values), 0)
        offsets = pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(lengths)])
        elements = fitted_array(values.flatten(), arrow_type.value_type)
        return pa.ListArray.from_arrays(offsets, elements, type=arrow_type)
    if pa.types.is_struct(arrow_type):
        before = {field.name for field in values.type}
        below = [
            fitted_array(values.field(field.name), field.type)
            if field.name in before
            else absent_array(field.type, len(values))
            for field in arrow_type
        ]
        return pa.StructArray.from_arrays(below, fields=list(arrow_type), mask=values.is_null())
    return values.cast(arrow_type)


def absent_array(arrow_type: pa.DataType, length: int) -> pa.Array:
    """Return ``length`` values of a column that events do not fill: NULLs, or empty lists."""
    if not pa.types.is_list(arrow_type):
        return pa.nulls(length, arrow_type)
    offsets = pa.array([0] * (length + 1), pa.int32())
    return pa.ListArray.from_arrays(offsets, pa.array([], arrow_type.value_type), type=arrow_type)
