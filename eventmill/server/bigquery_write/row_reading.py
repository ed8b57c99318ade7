"""Rows of a write stream, in the protobuf type that the client made for them, as rows of a table.

Which protobuf type may carry which column type:
docs.cloud.google.com/bigquery/docs/supported-data-types, looked up 2026-11-24.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeAlias

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)
from google.protobuf.message import DecodeError, Message

from eventmill.base.errors import SchemaError
from eventmill.schema.message_type import MessageType
from eventmill.schema.problem import EventProblem, Reason
from eventmill.schema.table import Column, ColumnType
from eventmill.store.own_columns import INGESTED_AT, INSERT_ID

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = date(1970, 1, 1)
_WRAPPERS = "google.protobuf."
_IMPORTS = ("google/protobuf/wrappers.proto", "google/protobuf/timestamp.proto")
_F = FieldDescriptor
_INTEGERS = frozenset(
    (
        _F.CPPTYPE_INT32, _F.CPPTYPE_INT64, _F.CPPTYPE_UINT32, _F.CPPTYPE_UINT64,
    )
)  # fmt: skip
_NUMBERS = _INTEGERS | {_F.CPPTYPE_DOUBLE, _F.CPPTYPE_FLOAT}
_TEXT = frozenset((_F.CPPTYPE_STRING,))
_CARRIERS: Mapping[ColumnType, frozenset[int]] = {
    ColumnType.BOOLEAN: _INTEGERS | {_F.CPPTYPE_BOOL},
    ColumnType.BYTES: _TEXT,  # ``bytes`` and ``string`` have one C++ type
    ColumnType.DATE: _INTEGERS | _TEXT,
    ColumnType.DATETIME: _TEXT,
    ColumnType.FLOAT: frozenset((_F.CPPTYPE_DOUBLE, _F.CPPTYPE_FLOAT)),
    ColumnType.GEOGRAPHY: _TEXT,
    ColumnType.INTEGER: _INTEGERS | {_F.CPPTYPE_ENUM},
    ColumnType.JSON: _TEXT,
    ColumnType.NUMERIC: _NUMBERS | _TEXT,
    ColumnType.BIGNUMERIC: _NUMBERS | _TEXT,
    ColumnType.STRING: _TEXT | {_F.CPPTYPE_ENUM},
    ColumnType.TIME: _TEXT,
    ColumnType.TIMESTAMP: _INTEGERS,
    ColumnType.RECORD: frozenset(),
}
_TYPE_WORDS: dict[int, str] = {
    int(number): name.removeprefix("TYPE_").lower()
    for name, number in FieldDescriptorProto.Type.items()
}
_DECIMALS = (ColumnType.NUMERIC, ColumnType.BIGNUMERIC)

Read: TypeAlias = Callable[[Any], Any]


class RowType:
    """The type that one stream's rows have, against the columns of its table."""

    def __init__(self, descriptor: DescriptorProto, columns: Sequence[Column]) -> None:
        """Compile what reads rows.

        Args:
            descriptor: self-contained, as the first request of a stream gives it.
            columns: of the table.

        Raises:
            SchemaError: a field has no column, or a type that its column does not take.
        """
        self._type = _message_type(descriptor)
        self._read = _message_reader(self._type.descriptor, columns, "", own=True)

    def read(self, row: bytes) -> tuple[dict[str, Any], str | None]:
        """Return a row as values by column, and the insert ID that it carries, None for none.

        Raises:
            EventProblem: it does not parse, or a value is outside of its column's range.
        """
        try:
            message = self._type.parse(row)
        except DecodeError as error:
            raise EventProblem(
                Reason.MALFORMED_EVENT, "", f"the row is no message of the stream's type: {error}"
            ) from error
        values = self._read(message)
        values.pop(INGESTED_AT, None)
        return values, values.pop(INSERT_ID, None)


def _message_type(descriptor: DescriptorProto) -> MessageType:
    file = FileDescriptorProto(name="rows.proto", syntax="proto2", dependency=_IMPORTS)
    file.message_type.append(descriptor)
    files = FileDescriptorSet()
    for name in _IMPORTS:
        files.file.append(_known_file(name))
    files.file.append(file)
    return MessageType.load(files.SerializeToString(), descriptor.name)


def _known_file(name: str) -> FileDescriptorProto:
    from google.protobuf import timestamp_pb2, wrappers_pb2

    known = FileDescriptorProto()
    module: Any = wrappers_pb2 if "wrappers" in name else timestamp_pb2
    module.DESCRIPTOR.CopyToProto(known)
    return known


def _message_reader(
    descriptor: Descriptor, columns: Sequence[Column], prefix: str, *, own: bool = False
) -> Callable[[Message], dict[str, Any]]:
    by_name = {column.name.lower(): column for column in columns}
    reads: dict[str, tuple[str, Read]] = {}
    for field in descriptor.fields:
        if own and field.name in (INSERT_ID, INGESTED_AT):
            reads[field.name] = (field.name, _as_it_is)
            continue
        column = by_name.get(field.name.lower())
        if column is None:
            raise SchemaError(
                f"The source object has fields unknown to BigQuery: root.{prefix}{field.name}."
            )
        reads[field.name] = (column.name, _field_reader(field, column, f"{prefix}{column.name}"))

    def read(message: Message) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for field, value in message.ListFields():
            name, convert = reads[field.name]
            values[name] = convert(value)
        return values

    return read


def _field_reader(field: FieldDescriptor, column: Column, path: str) -> Read:
    one = _value_reader(field, column, path)
    if field.is_repeated:
        return lambda values: [one(value) for value in values]
    return one


def _value_reader(field: FieldDescriptor, column: Column, path: str) -> Read:
    message = field.message_type
    if message is not None and message.full_name.startswith(_WRAPPERS):
        if message.name == "Timestamp":
            return lambda value: _timestamp(value.seconds * 1_000_000 + value.nanos // 1000, path)
        inner = _value_reader(message.fields_by_name["value"], column, path)
        return lambda value: inner(value.value)
    if message is not None:
        if column.type is not ColumnType.RECORD:
            raise _unfit(field, column, path)
        return _message_reader(message, column.fields, f"{path}.")
    if column.type in _DECIMALS and field.type == _F.TYPE_BYTES:
        raise SchemaError(f"{path}: NUMERIC as packed bytes is not read here; send a string")
    if field.cpp_type not in _CARRIERS[column.type]:
        raise _unfit(field, column, path)
    return _scalar_reader(field, column, path)


def _scalar_reader(field: FieldDescriptor, column: Column, path: str) -> Read:
    if field.enum_type is not None and column.type is ColumnType.STRING:
        names = field.enum_type.values_by_number
        return lambda number: names[number].name if number in names else str(number)
    if column.type is ColumnType.TIMESTAMP:
        return lambda value: _timestamp(value, path)
    if column.type is ColumnType.DATE and field.cpp_type in _INTEGERS:
        return lambda value: _day(value, path)
    if column.type is ColumnType.BOOLEAN:
        return bool
    if column.type in _DECIMALS:
        return str
    if column.type is ColumnType.BYTES and field.type == _F.TYPE_STRING:
        return lambda value: value.encode()
    return _as_it_is


def _as_it_is(value: Any) -> Any:  # noqa: ANN401 - any value of a row
    return value


def _unfit(field: FieldDescriptor, column: Column, path: str) -> SchemaError:
    kind = _TYPE_WORDS[field.type]
    return SchemaError(
        f"The proto field mismatched with BigQuery field at {path}, the proto field type {kind},"
        f" BigQuery field type {column.type}."
    )


def _timestamp(microseconds: int, path: str) -> datetime:
    try:
        return _EPOCH + timedelta(microseconds=microseconds)
    except OverflowError:
        raise EventProblem(
            Reason.OUT_OF_RANGE, path, f"{path}: {microseconds} is outside the years 0001 to 9999"
        ) from None


def _day(days: int, path: str) -> str:
    try:
        return (_EPOCH_DAY + timedelta(days=days)).isoformat()
    except OverflowError:
        raise EventProblem(
            Reason.OUT_OF_RANGE, path, f"{path}: day {days} is outside the years 0001 to 9999"
        ) from None
