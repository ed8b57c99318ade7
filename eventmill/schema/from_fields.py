"""A message type for a table that nobody wrote a .proto for: made from the table's columns.

Clients of BigQuery name columns, not messages. What they name becomes a message of edition 2023,
which tells an unset value from an empty one (NULL from ``""``), knows REQUIRED, and has its texts
checked for UTF-8 by the parser, which proto2 leaves to whoever reads. A later definition of the
table keeps the number of every field that was there, and gives new ones numbers that were never
used, so that events that lie in the log are read alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from google.protobuf import timestamp_pb2
from google.protobuf.descriptor_pb2 import (
    EDITION_2023,
    DescriptorProto,
    FeatureSet,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)

from eventmill.base.errors import SchemaError
from eventmill.schema.descriptions import clean
from eventmill.schema.options import ColumnOptions, encoded_column_options
from eventmill.schema.table import Column, ColumnType, Mode, TableId, TableSpec

_PACKAGE = "eventmill.fields"
"""What the full name of every message made here begins with."""
_FOLDER = "eventmill/fields/"
_TIMESTAMP_FILE = "google/protobuf/timestamp.proto"
# Numbers that protobuf keeps for itself (protobuf.dev/programming-guides/proto2, "Assigning Field
# Numbers", looked up 2026-11-24).
_OWN_NUMBERS = range(19_000, 20_000)
_F = FieldDescriptorProto
_TYPES = {
    ColumnType.INTEGER: _F.TYPE_INT64,
    ColumnType.FLOAT: _F.TYPE_DOUBLE,
    ColumnType.BOOLEAN: _F.TYPE_BOOL,
    ColumnType.STRING: _F.TYPE_STRING,
    ColumnType.BYTES: _F.TYPE_BYTES,
    # A message, not a number: of a number nobody can see whether it counts seconds.
    ColumnType.TIMESTAMP: _F.TYPE_MESSAGE,
    ColumnType.RECORD: _F.TYPE_MESSAGE,
}
"""The type of a column's field; every other column is text that says its type by ``bq_type``."""
_REFUSED = {
    ColumnType.BIGNUMERIC: "BIGNUMERIC has more digits than a query here can count with; use"
    " NUMERIC, or STRING"
}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def message_from_columns(
    table: TableId, columns: Sequence[Column], live: TableSpec | None = None
) -> tuple[bytes, str]:
    """Return a descriptor set and the name of its message, whose columns are ``columns``.

    Descriptions come back as the mapping shows any comment: without common indentation, and of
    at most 1,024 bytes.

    Args:
        table: the table, for the message's name.
        columns: at least one.
        live: the definition that the table has; None: it is new, or its message was not made
            here.

    Raises:
        SchemaError: a column cannot be made: its name, its type, a RECORD without fields.
    """
    before = _message_in(live) if live is not None and is_from_columns(live) else None
    file_name = f"{_FOLDER}{table.dataset}/{table.table}.proto"
    file = FileDescriptorProto(
        name=file_name,
        package=f"{_PACKAGE}.{table.dataset}",
        syntax="editions",
        edition=EDITION_2023,
    )
    message_name = table.table if before is None else before.name
    if live is not None and before is not None:
        # A copied table keeps the message of its origin, whose name its events are known by.
        file.package = live.message.rpartition(".")[0]
    full_name = f".{file.package}.{message_name}"
    maker = _Maker(file)
    file.message_type.append(maker.message(message_name, full_name, columns, before, ""))
    maker.comment(columns, file.message_type[0], (_MESSAGE, 0))
    result = FileDescriptorSet()
    if any(column.type is ColumnType.TIMESTAMP for column in _every(columns)):
        file.dependency.append(_TIMESTAMP_FILE)
        timestamp_pb2.DESCRIPTOR.CopyToProto(result.file.add())
    result.file.append(file)
    return result.SerializeToString(), full_name.removeprefix(".")


def is_from_columns(spec: TableSpec) -> bool:
    """Return whether the table's message was made here, so that no .proto has the say."""
    return spec.message.startswith(f"{_PACKAGE}.")


_MESSAGE, _NESTED, _FIELD = (
    FileDescriptorProto.MESSAGE_TYPE_FIELD_NUMBER,
    DescriptorProto.NESTED_TYPE_FIELD_NUMBER,
    DescriptorProto.FIELD_FIELD_NUMBER,
)


def _message_in(spec: TableSpec) -> DescriptorProto | None:
    name = spec.message.rpartition(".")[2]
    for file in FileDescriptorSet.FromString(spec.descriptor_set).file:
        for message in file.message_type:
            if f"{file.package}.{message.name}" == spec.message and message.name == name:
                return message
    return None


def _every(columns: Sequence[Column]) -> Iterator[Column]:
    for column in columns:
        for _, each in column.walk():
            yield each


class _Maker:
    """Makes the messages of one file."""

    def __init__(self, file: FileDescriptorProto) -> None:
        self._file = file

    def message(
        self,
        name: str,
        full_name: str,
        columns: Sequence[Column],
        before: DescriptorProto | None,
        path: str,
    ) -> DescriptorProto:
        """Return one message; ``before`` is what it was, with the numbers that stay."""
        if not columns:
            raise SchemaError(f"{path or 'the table'}: give at least one field")
        message = DescriptorProto(name=name)
        known = {} if before is None else {field.name: field for field in before.field}
        nested = {} if before is None else {one.name: one for one in before.nested_type}
        taken = {column.name.lower() for column in columns} | {one.lower() for one in nested}
        last = max((field.number for field in known.values()), default=0)
        for column in columns:
            where = f"{path}.{column.name}" if path else column.name
            _check(column, where)
            old = known.get(column.name)
            if old is None:
                last = last + 1 if last + 1 not in _OWN_NUMBERS else _OWN_NUMBERS.stop
            field = _field(column, last if old is None else old.number)
            message.field.append(field)
            if column.type is not ColumnType.RECORD:
                continue
            inner = "" if old is None else old.type_name.rpartition(".")[2]
            if inner not in nested:
                inner = _free_name(column.name, taken)
            message.field[-1].type_name = f"{full_name}.{inner}"
            below = self.message(
                inner, f"{full_name}.{inner}", column.fields, nested.get(inner), where
            )
            message.nested_type.append(below)
        return message

    def comment(
        self, columns: Sequence[Column], message: DescriptorProto, place: tuple[int, ...]
    ) -> None:
        """Write the columns' descriptions as comments of the message's fields."""
        nested = 0
        for index, column in enumerate(columns):
            text = clean(column.description)
            if text:
                location = self._file.source_code_info.location.add()
                location.path.extend((*place, _FIELD, index))
                location.span.extend((0, 0, 0))
                location.leading_comments = "".join(f" {line}\n" for line in text.split("\n"))
            if column.type is ColumnType.RECORD:
                below = message.nested_type[nested]
                self.comment(column.fields, below, (*place, _NESTED, nested))
                nested += 1


def _check(column: Column, path: str) -> None:
    if column.type in _REFUSED:
        raise SchemaError(f"column {path}: {_REFUSED[column.type]}")
    if not _NAME.fullmatch(column.name):
        raise SchemaError(
            f"column {path}: a column's name has letters, digits and underscores, and does not"
            " begin with a digit"
        )


def _field(column: Column, number: int) -> FieldDescriptorProto:
    type_ = _TYPES.get(column.type, _F.TYPE_STRING)
    field = FieldDescriptorProto(
        name=column.name,
        # Said, so that a column is known by its own name alone, not by a camel-case twin too.
        json_name=column.name,
        number=number,
        label=_F.LABEL_REPEATED if column.mode is Mode.REPEATED else _F.LABEL_OPTIONAL,
        type=type_,
    )
    if column.type is ColumnType.TIMESTAMP:
        field.type_name = ".google.protobuf.Timestamp"
    bq_type = "" if column.type in _TYPES else column.type.value
    if bq_type or column.default_value:
        options = encoded_column_options(ColumnOptions(bq_type, column.default_value))
        field.options.ParseFromString(options)
    if column.mode is Mode.REQUIRED:
        field.options.features.field_presence = FeatureSet.LEGACY_REQUIRED
    return field


def _free_name(column: str, taken: set[str]) -> str:
    """Return a name for a RECORD's message that no field and no message beside it has."""
    name = "".join(part[:1].upper() + part[1:] for part in column.split("_") if part) + "Record"
    if name[0].isdigit():  # a column such as _1
        name = f"R{name}"
    while name.lower() in taken:
        name += "_"
    taken.add(name.lower())
    return name
