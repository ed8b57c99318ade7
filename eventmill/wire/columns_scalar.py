"""Converters of single values for ``columns_fast``: enums, times, texts and documents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor

from eventmill.schema.dynamic import enum_of, holder_of, message_of
from eventmill.schema.json_text import map_text, message_text
from eventmill.schema.kinds import Kind, is_map
from eventmill.schema.shape import FieldShape
from eventmill.schema.table import ColumnType, Mode
from eventmill.schema.values import enum_names, text_reader
from eventmill.schema.wire_walk import bytes_field

Found: TypeAlias = pa.BooleanArray | None
"""Marks of doubtful values; None: there is none."""
Convert: TypeAlias = Callable[[pa.Array], tuple[pa.Array, Found]]

_TIMESTAMP = pa.timestamp("us", tz="UTC")


def moment_converter(kind: Kind) -> Convert:
    """Return the converter of (seconds, nanos) to a TIMESTAMP, or to seconds as FLOAT."""

    def convert_timestamp(array: pa.StructArray) -> tuple[pa.Array, Found]:
        # Nanos are never negative in a valid timestamp, so that dividing cuts digits off.
        micros = pc.divide(array.field(1).cast(pa.int64()), 1000)
        made = pc.add(pc.multiply(array.field(0), 1_000_000), micros)
        return _where_valid(array, made.cast(_TIMESTAMP)), None

    def convert_duration(array: pa.StructArray) -> tuple[pa.Array, Found]:
        fraction = pc.divide(array.field(1).cast(pa.float64()), 1e9)
        made = pc.add(array.field(0).cast(pa.float64(), safe=False), fraction)
        return _where_valid(array, made), None

    return convert_timestamp if kind is Kind.TIMESTAMP else convert_duration


def scalar_converter(shape: FieldShape, arrow_type: pa.DataType) -> Convert | None:
    """Return the converter of a scalar, or of a wrapped one; None: it is the column's already."""
    convert = _plain_converter(shape, arrow_type)
    if shape.wrapped is None:
        return convert

    def convert_wrapper(array: pa.StructArray) -> tuple[pa.Array, Found]:
        inner, found = (array.field(0), None) if convert is None else convert(array.field(0))
        return _where_valid(array, inner), found

    return convert_wrapper


def _where_valid(array: pa.StructArray, made: pa.Array) -> pa.Array:
    if not array.null_count:
        return made
    return pc.if_else(array.is_valid(), made, pa.scalar(None, made.type))


def _plain_converter(shape: FieldShape, arrow_type: pa.DataType) -> Convert | None:
    field = shape.scalar
    if shape.kind is Kind.ENUM_NAME:
        return _enum_converter(field)
    if shape.kind is Kind.TEXT:
        return _text_converter(shape.type, arrow_type)
    if field.type == FieldDescriptor.TYPE_ENUM:
        return _enum_number_converter(field)
    if field.cpp_type in (
        FieldDescriptor.CPPTYPE_INT32,
        FieldDescriptor.CPPTYPE_UINT32,
        FieldDescriptor.CPPTYPE_FLOAT,
    ) or shape.kind in (Kind.MICROSECONDS, Kind.NUMERIC):
        return lambda array: (array.cast(arrow_type), None)
    return None


def _enum_converter(field: FieldDescriptor) -> Convert:
    names = enum_names(field)
    numbers = pa.array(sorted(names), pa.int32())
    texts = pa.array([names[number] for number in sorted(names)], pa.string())
    is_dense = sorted(names) == list(range(len(names)))
    last = len(names) - 1

    def convert(array: pa.Int32Array) -> tuple[pa.Array, Found]:
        if is_dense:
            limits = pc.min_max(array)
            low, high = limits["min"].as_py(), limits["max"].as_py()
            if low is None or (low >= 0 and high <= last):
                return texts.take(array), None
        places = pc.index_in(array, value_set=numbers)
        made = texts.take(places)
        if made.null_count == array.null_count:
            return made, None
        found = _unknown_numbers(array, made) if enum_of(field).is_closed else None
        return pc.coalesce(made, array.cast(pa.string())), found

    return convert


def _enum_number_converter(field: FieldDescriptor) -> Convert:
    numbers = pa.array(sorted(enum_names(field)), pa.int32())

    def convert(array: pa.Int32Array) -> tuple[pa.Array, Found]:
        found = None
        if enum_of(field).is_closed:
            places = pc.index_in(array, value_set=numbers)
            if places.null_count != array.null_count:
                found = _unknown_numbers(array, places)
        return array.cast(pa.int64()), found

    return convert


def _unknown_numbers(array: pa.Array, looked_up: pa.Array) -> Found:
    """Mark numbers without a name: a closed enum does not take them, so they count as unset."""
    return pc.and_(array.is_valid(), looked_up.is_null())


def _text_converter(type_: ColumnType, arrow_type: pa.DataType) -> Convert:
    read = text_reader(type_)
    null = pa.scalar(None, pa.string())

    def convert_json(array: pa.StringArray) -> tuple[pa.Array, Found]:
        return pc.if_else(pc.equal(array, ""), null, array), None

    def convert(array: pa.StringArray) -> tuple[pa.Array, Found]:
        return one_by_one(array, read, arrow_type)

    return convert_json if type_ is ColumnType.JSON else convert


def document_converter(shape: FieldShape) -> Convert:
    """Return the converter of raw messages, as lists of pieces, to JSON text."""
    if is_map(shape.field):
        return _map_document_converter(shape.field)
    parse = message_factory.GetMessageClass(message_of(shape.field)).FromString

    def convert_repeated(array: pa.ListArray) -> tuple[pa.Array, Found]:
        texts, found = one_by_one(array.values, lambda raw: message_text(parse(raw)), pa.string())
        made = pa.ListArray.from_arrays(array.offsets, texts)
        return made, of_parents(array, found)

    def convert(array: pa.ListArray) -> tuple[pa.Array, Found]:
        return one_by_one(
            array,
            lambda pieces: message_text(parse(b"".join(pieces))) if pieces else None,
            pa.string(),
        )

    return convert_repeated if shape.mode is Mode.REPEATED else convert


def _map_document_converter(field: FieldDescriptor) -> Convert:
    """Return the converter of a map's raw entries: read as a message that has only the map."""
    parse = message_factory.GetMessageClass(holder_of(field)).FromString

    def text_of(entries: list[bytes] | None) -> str:
        message = parse(b"".join(bytes_field(field.number, raw) for raw in entries or ()))
        return map_text(field, getattr(message, field.name))

    return lambda array: one_by_one(array, text_of, pa.string())


def one_by_one(
    array: pa.Array, convert: Callable[[Any], Any], arrow_type: pa.DataType
) -> tuple[pa.Array, Found]:
    """Convert value by value; one that cannot be is doubtful.

    Every value that counts has been judged good, so a bad one is the member of a oneof, or the
    value of a key, that a later one on the wire replaces.
    """
    values: list[Any] = []
    bad: list[bool] = []
    for value in array.to_pylist():
        try:
            values.append(convert(value))
            bad.append(False)
        except (ValueError, OverflowError, TypeError):
            # TypeError is of JSON: protobuf hands out bytes where a proto2 text is not UTF-8.
            values.append(None)
            bad.append(True)
    return pa.array(values, arrow_type), pa.array(bad) if any(bad) else None


def of_parents(array: pa.ListArray, found: Found) -> Found:
    """Return which lists hold an element that is marked."""
    if found is None:
        return None
    parents = set(pc.list_parent_indices(array).filter(found).to_pylist())
    return pa.array([index in parents for index in range(len(array))])
