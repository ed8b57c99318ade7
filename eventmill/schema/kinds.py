"""How each type of field becomes a column: the first row of the mapping, type by type."""

from __future__ import annotations

from enum import Enum, auto

from google.protobuf.descriptor import FieldDescriptor

from eventmill.schema.dynamic import message_of
from eventmill.schema.table import ColumnType

TIMESTAMP = "google.protobuf.Timestamp"
DURATION = "google.protobuf.Duration"
STRUCT = "google.protobuf.Struct"
VALUE = "google.protobuf.Value"
LIST_VALUE = "google.protobuf.ListValue"
FIELD_MASK = "google.protobuf.FieldMask"
WRAPPERS = frozenset(
    f"google.protobuf.{name}Value"
    for name in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
)
JSON_MESSAGES = frozenset((STRUCT, VALUE, LIST_VALUE))

_FD = FieldDescriptor
INTEGER_TYPES = frozenset(
    (
        _FD.TYPE_INT32,
        _FD.TYPE_INT64,
        _FD.TYPE_UINT32,
        _FD.TYPE_UINT64,
        _FD.TYPE_SINT32,
        _FD.TYPE_SINT64,
        _FD.TYPE_FIXED32,
        _FD.TYPE_FIXED64,
        _FD.TYPE_SFIXED32,
        _FD.TYPE_SFIXED64,
    )
)
UINT64_TYPES = frozenset((_FD.TYPE_UINT64, _FD.TYPE_FIXED64))


class Kind(Enum):
    """How the value of a field becomes the value of its column."""

    SCALAR = auto()
    """As it is: INTEGER, FLOAT, BOOLEAN, STRING, BYTES, and GEOGRAPHY as its text."""
    ENUM_NAME = auto()
    TIMESTAMP = auto()
    """A Timestamp message."""
    DURATION = auto()
    """A Duration message, to seconds."""
    JSON = auto()
    """A message, or a map, to compact JSON text."""
    TEXT = auto()
    """A string field whose text must read as the column's type: JSON, DATE, NUMERIC, ..."""
    MICROSECONDS = auto()
    """A 64-bit integer of microseconds since 1970, to TIMESTAMP."""
    DAYS = auto()
    """A 32-bit integer of days since 1970, to DATE."""
    NUMERIC = auto()
    """An integer, to NUMERIC, which holds all that 64 bits do."""
    RECORD = auto()
    MAP = auto()
    """Rows of key and value, ascending by key; ``fields`` are these two, or the key alone."""


def is_map(field: FieldDescriptor) -> bool:
    """Return whether ``field`` is a ``map<K, V>``."""
    entry = field.message_type
    return bool(field.is_repeated and entry is not None and entry.GetOptions().map_entry)


_TEXT_TYPES = ("JSON", "DATE", "TIME", "DATETIME", "TIMESTAMP", "NUMERIC")
_INTEGERS = {ColumnType.INTEGER: Kind.SCALAR, ColumnType.NUMERIC: Kind.NUMERIC}
_SCALARS: dict[int, dict[ColumnType, Kind]] = {
    **dict.fromkeys(INTEGER_TYPES, _INTEGERS),
    **{
        type_: {**_INTEGERS, ColumnType.TIMESTAMP: Kind.MICROSECONDS}
        for type_ in (_FD.TYPE_INT64, _FD.TYPE_SINT64, _FD.TYPE_SFIXED64)
    },
    **{
        type_: {**_INTEGERS, ColumnType.DATE: Kind.DAYS}
        for type_ in (_FD.TYPE_INT32, _FD.TYPE_SINT32, _FD.TYPE_SFIXED32)
    },
    _FD.TYPE_STRING: {
        ColumnType.STRING: Kind.SCALAR,
        ColumnType.GEOGRAPHY: Kind.SCALAR,
        **{ColumnType(name): Kind.TEXT for name in _TEXT_TYPES},
    },
    _FD.TYPE_ENUM: {ColumnType.STRING: Kind.ENUM_NAME, ColumnType.INTEGER: Kind.SCALAR},
    _FD.TYPE_BOOL: {ColumnType.BOOLEAN: Kind.SCALAR},
    _FD.TYPE_BYTES: {ColumnType.BYTES: Kind.SCALAR},
    _FD.TYPE_DOUBLE: {ColumnType.FLOAT: Kind.SCALAR},
    _FD.TYPE_FLOAT: {ColumnType.FLOAT: Kind.SCALAR},
}
_DOCUMENTS = {ColumnType.STRING: Kind.JSON, ColumnType.JSON: Kind.JSON}


def kinds_of(field: FieldDescriptor) -> dict[ColumnType, Kind]:
    """Return the column types that a field can have, and how it becomes each of them.

    The first one is the field's own; the others are for ``bq_type``.
    """
    if field.message_type is None:
        return _SCALARS[field.type]
    message = message_of(field)
    name = message.full_name
    if is_map(field):
        return {ColumnType.RECORD: Kind.MAP, **_DOCUMENTS}
    if name == TIMESTAMP:
        return {ColumnType.TIMESTAMP: Kind.TIMESTAMP}
    if name == DURATION:
        return {ColumnType.FLOAT: Kind.DURATION}
    if name in JSON_MESSAGES:
        return _DOCUMENTS
    if name in WRAPPERS:
        return kinds_of(message.fields_by_name["value"])
    return {ColumnType.RECORD: Kind.RECORD, **_DOCUMENTS}
