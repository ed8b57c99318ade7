"""The fast way: wire format to Arrow by ptars, then Arrow to the mapping, whole columns at once.

A column's converter takes the array that ptars made of a field of the view (``columns_view``)
and returns the array of the column. Rows whose wire form says something that only a parser
resolves (two members of one oneof, a map's key twice, a number that a closed enum lacks) are
marked doubtful on the way and left to the caller.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import ptars
import pyarrow as pa
import pyarrow.compute as pc
from google.protobuf.descriptor import Descriptor

from eventmill.schema.dynamic import message_of
from eventmill.schema.kinds import Kind
from eventmill.schema.shape import FieldShape, pair_columns
from eventmill.schema.table import Column, Mode
from eventmill.wire.columns_arrow import absent_array, arrow_type_of, element_type_of
from eventmill.wire.columns_scalar import (
    Convert,
    Found,
    document_converter,
    moment_converter,
    of_parents,
    scalar_converter,
)
from eventmill.wire.columns_view import oneofs_of, view_name, view_of

_Raw: TypeAlias = Mapping[str, pa.Array]
"""Arrays of the fields of the view, by name."""
_KEY = view_name(1)
"""The key of a map's entry, in the view."""


class FastReader:
    """Reads events of one message type into arrays of given columns."""

    def __init__(
        self,
        descriptor: Descriptor,
        shapes: Sequence[FieldShape],
        columns: Sequence[Column],
        schema: pa.Schema,
    ) -> None:
        view = view_of(descriptor, shapes)
        self._handler = ptars.HandlerPool([view.file]).get_for_message(view)
        self._fields = _FieldsConverter(descriptor, shapes, columns)
        self._schema = schema

    def read(self, events: pa.BinaryArray) -> tuple[pa.RecordBatch, list[int]]:
        """Return the rows of ``events``, and the places of those that must be read anew."""
        raw = self._handler.array_to_record_batch(events)
        arrays, doubtful = self._fields.convert(
            dict(zip(raw.schema.names, raw.columns, strict=True)), raw.num_rows
        )
        batch = pa.RecordBatch.from_arrays(arrays, schema=self._schema)
        places = pc.indices_nonzero(doubtful).to_pylist() if doubtful is not None else []
        return batch, places


@dataclass(frozen=True, slots=True)
class _ColumnSource:
    """Where one column of a level comes from."""

    arrow_type: pa.DataType
    name: str
    """Of the field in the view; empty: no field fills the column."""
    convert: Convert | None
    """None: the field's array is the column's."""


def _sources_of(
    columns: Sequence[Column], shapes: Sequence[FieldShape]
) -> tuple[_ColumnSource, ...]:
    return tuple(
        _ColumnSource(arrow_type_of(column), "", None)
        if shape is None
        else _ColumnSource(
            arrow_type_of(column), view_name(shape.field.number), _converter(shape, column)
        )
        for column, shape in pair_columns(columns, shapes)
    )


def _convert_all(
    sources: Sequence[_ColumnSource], raw: _Raw, length: int
) -> tuple[list[pa.Array], Found]:
    """Return one array a column, and which rows are doubtful."""
    doubtful: Found = None
    arrays: list[pa.Array] = []
    for source in sources:
        if not source.name:
            arrays.append(absent_array(source.arrow_type, length))
        elif source.convert is None:
            arrays.append(raw[source.name])
        else:
            array, found = source.convert(raw[source.name])
            arrays.append(array)
            doubtful = either(doubtful, found)
    return arrays, doubtful


class _FieldsConverter:
    """Converts the fields of one message, at any level."""

    def __init__(
        self, descriptor: Descriptor, shapes: Sequence[FieldShape], columns: Sequence[Column]
    ) -> None:
        self._oneofs = oneofs_of(descriptor)
        self._sources = _sources_of(columns, shapes)

    def convert(self, raw: _Raw, length: int) -> tuple[list[pa.Array], Found]:
        """Return one array a column, and which rows are doubtful."""
        arrays, doubtful = _convert_all(self._sources, raw, length)
        for members in self._oneofs:
            doubtful = either(doubtful, _two_set([raw[view_name(number)] for number in members]))
        return arrays, doubtful


def either(one: Found, other: Found) -> Found:
    """Return where one of two marks holds; None: nowhere."""
    if one is None or other is None:
        return other if one is None else one
    return pc.or_kleene(one, other)


def _where_any(mask: pa.BooleanArray) -> Found:
    return mask if mask.true_count else None


def _two_set(members: Sequence[pa.Array]) -> Found:
    """Return the rows in which two members of one oneof are on the wire."""
    total: Any = None
    for member in members:
        if pa.types.is_list(member.type):
            is_set = pc.greater(pc.list_value_length(member), 0)
        elif member.null_count == len(member):
            continue
        else:
            is_set = member.is_valid()
        count = is_set.cast(pa.int32())
        total = count if total is None else pc.add(total, count)
    return None if total is None else _where_any(pc.greater(total, 1))


def _converter(shape: FieldShape, column: Column) -> Convert | None:
    """Return the converter of a field's array to its column's; None: it is the column's."""
    if shape.kind is Kind.MAP:
        return _map_converter(shape, column)
    if shape.kind is Kind.JSON:
        return document_converter(shape)
    value = _value_converter(shape, column)
    if column.mode is Mode.REPEATED:
        return _list_converter(value, arrow_type_of(column))
    return value


def _value_converter(shape: FieldShape, column: Column) -> Convert | None:
    if shape.kind is Kind.RECORD:
        fields = _FieldsConverter(message_of(shape.field), shape.fields, column.fields)
        return _record_converter(fields, element_type_of(column))
    if shape.kind in (Kind.TIMESTAMP, Kind.DURATION):
        return moment_converter(shape.kind)
    return scalar_converter(shape, element_type_of(column))


def _record_converter(fields: _FieldsConverter, arrow_type: pa.DataType) -> Convert:
    def convert(array: pa.StructArray) -> tuple[pa.Array, Found]:
        arrays, doubtful = fields.convert(_fields_of(array), len(array))
        mask = array.is_null() if array.null_count else None
        if doubtful is not None and mask is not None:
            doubtful = _where_any(pc.and_(doubtful, array.is_valid()))
        return pa.StructArray.from_arrays(arrays, fields=list(arrow_type), mask=mask), doubtful

    return convert


def _list_converter(convert: Convert | None, arrow_type: pa.DataType) -> Convert:
    def convert_list(array: pa.ListArray) -> tuple[pa.Array, Found]:
        values, doubtful = (array.values, None) if convert is None else convert(array.values)
        made = pa.ListArray.from_arrays(array.offsets, values, type=arrow_type)
        return made, of_parents(array, doubtful)

    return convert_list


def _map_converter(shape: FieldShape, column: Column) -> Convert:
    sources = _sources_of(column.fields, shape.fields)
    arrow_type = arrow_type_of(column)

    def convert_map(array: pa.ListArray) -> tuple[pa.Array, Found]:
        entries = array.values
        if not len(entries):
            return absent_array(arrow_type, len(array)), None
        raw = _fields_of(entries)
        order, doubtful = _sorted_entries(pc.list_parent_indices(array), raw[_KEY])
        raw = {name: one.take(order) for name, one in raw.items()}
        # Key and value are never absent: where they are not on the wire, they have their defaults.
        for one in raw.values():
            doubtful = either(doubtful, _absent(one))
        arrays, found = _convert_all(sources, raw, len(entries))
        rows = pa.StructArray.from_arrays(arrays, fields=list(arrow_type.value_type))
        made = pa.ListArray.from_arrays(array.offsets, rows, type=arrow_type)
        return made, of_parents(array, either(doubtful, found))

    return convert_map


def _fields_of(array: pa.StructArray) -> _Raw:
    # By name: their order is the reader's own.
    return {field.name: array.field(index) for index, field in enumerate(array.type)}


def _absent(values: pa.Array) -> Found:
    if pa.types.is_list(values.type):
        return _where_any(pc.equal(pc.list_value_length(values), 0))
    return _where_any(values.is_null()) if values.null_count else None


def _sorted_entries(parents: pa.Array, keys: pa.Array) -> tuple[pa.Array, Found]:
    """Return the order that sorts entries by map and key, and which keys come twice."""
    order = pc.sort_indices(
        pa.table({"parent": parents, "key": keys}),
        sort_keys=[("parent", "ascending"), ("key", "ascending")],
    )
    ordered = keys.take(order)
    same_key = pc.equal(ordered[1:], ordered[:-1])
    same_map = pc.equal(parents[1:], parents[:-1])
    twice = pc.and_kleene(same_key, same_map)
    if not twice.true_count:
        return order, None
    return order, pa.concat_arrays([pa.array([False]), twice])
