"""The message type by which a table's events are judged and read: its .proto, and what that had.

A field that the .proto has no more keeps its column, and events that have it are still under way:
in the log, in spools, with senders of an older version. Its number, name and type are in the
record of removed fields, so that it can be put back for reading. The .proto itself, what is
generated from it, and the judgement on rows of names and values do without.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

from google.protobuf import (
    any_pb2,
    duration_pb2,
    field_mask_pb2,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)

from eventmill.base.errors import SchemaError
from eventmill.schema.message_type import MessageType
from eventmill.schema.options import ColumnOptions, encoded_column_options
from eventmill.schema.removed_fields import Removed, removed_fields
from eventmill.schema.table import Column, ColumnType, TableSpec
from eventmill.schema.values import RowReader
from eventmill.schema.wire_fields import WireField

_P = FieldDescriptorProto
_WELL_KNOWN = (any_pb2, duration_pb2, field_mask_pb2, struct_pb2, timestamp_pb2, wrappers_pb2)
_CACHED_TYPES_MAX = 256


def reading_type(spec: TableSpec) -> MessageType:
    """Return the message type of a table with the removed fields that still have a column.

    A field without a record of what is below it, a message that became JSON text, is not put
    back: events that have it keep it whole, as events from a newer sender do.

    Raises:
        SchemaError: the descriptor set does not have the message, or its record is damaged.
    """
    return _reading_type(spec.descriptor_set, spec.message, spec.columns)


@functools.lru_cache(_CACHED_TYPES_MAX)
def _reading_type(descriptor_set: bytes, message: str, columns: tuple[Column, ...]) -> MessageType:
    plain = MessageType.load(descriptor_set, message)
    removed = removed_fields(descriptor_set)
    if not removed:
        return plain
    files = _Files(descriptor_set)
    files.put_back(message, removed, columns)
    if not files.are_changed:
        return plain
    try:
        found = MessageType.load(files.encoded(), message)
        RowReader(found, columns)
    except SchemaError:
        # What was removed does not go together with what came after it. The table must be read in
        # any case, and then those fields are kept with their events.
        return plain
    return found


class _Files:
    """The files of a descriptor set, to which fields are added."""

    def __init__(self, descriptor_set: bytes) -> None:
        self._set = FileDescriptorSet.FromString(descriptor_set)
        self._messages: dict[str, tuple[FileDescriptorProto, DescriptorProto]] = {}
        self.are_changed = False
        for file in self._set.file:
            self._list(file, file.package, file.message_type)

    def encoded(self) -> bytes:
        """Return the set, its files in an order that need not be that of imports."""
        return self._set.SerializeToString()

    def put_back(self, name: str, removed: Removed, columns: tuple[Column, ...]) -> None:
        """Give the message ``name`` the removed fields that fill ``columns``, at every depth."""
        file, message = self._messages[name]
        fields = {field.name: field for field in message.field}
        numbers = {field.number for field in message.field}
        for column in columns:
            field = fields.get(column.name)
            if field is not None:
                below = removed.below.get(column.name)
                if below and column.fields and field.type == _P.TYPE_MESSAGE:
                    self.put_back(field.type_name.removeprefix("."), below, column.fields)
                continue
            one = removed.fields.get(column.name)
            if one is not None and one.number not in numbers:
                below = removed.below.get(column.name, Removed())
                self._add(file, name, message, one, below, column)

    def _add(
        self,
        file: FileDescriptorProto,
        name: str,
        message: DescriptorProto,
        one: WireField,
        below: Removed,
        column: Column,
        *,
        is_below: bool = False,
    ) -> None:
        type_name = ""
        if one.type in (_P.TYPE_MESSAGE, _P.TYPE_ENUM):
            type_name = self._type_of(file, name, message, one, below, column)
            if not type_name:
                return
        field = message.field.add(
            name=one.name,
            number=one.number,
            type=one.type,
            label=_P.LABEL_REPEATED if one.is_repeated else _P.LABEL_OPTIONAL,
            type_name=type_name or None,
        )
        # With presence, also where it had none: an event without the field must read NULL, not 0.
        # Where the whole message was removed, the message has it.
        has_presence = not is_below or one.has_presence
        if file.syntax == "proto3" and has_presence and not one.is_repeated:
            field.proto3_optional = True
            field.oneof_index = len(message.oneof_decl)
            message.oneof_decl.add(name=f"_{one.name}")
        if column.type is not ColumnType.RECORD:
            field.options.MergeFromString(encoded_column_options(ColumnOptions(column.type.value)))
        # A number that is reserved, as the plan tells people to, is none that a field may have.
        message.ClearField("reserved_range")
        message.ClearField("reserved_name")
        self.are_changed = True

    def _type_of(
        self,
        file: FileDescriptorProto,
        name: str,
        message: DescriptorProto,
        one: WireField,
        below: Removed,
        column: Column,
    ) -> str:
        """Return the full name, with a dot before it, of a field's type; empty: it is not known."""
        if one.type_name.startswith("google.protobuf."):
            return self._well_known(file, one.type_name)
        is_map = one.is_repeated and one.type_name.endswith(f".{_entry_name(one.name)}")
        own = _entry_name(one.name) if is_map else f"Removed_{one.name}"
        if any(nested.name == own for nested in message.nested_type):
            return ""
        if one.type == _P.TYPE_MESSAGE and not column.fields:
            return ""
        made = message.nested_type.add(name=own)
        full_name = f"{name}.{own}"
        if one.type == _P.TYPE_ENUM:
            # Names of values stand beside their enum: in a message of its own none is taken.
            enum = made.enum_type.add(name="Values")
            for value, number in one.values:
                enum.value.add(name=value, number=number)
            if len({number for _, number in one.values}) < len(one.values):
                enum.options.allow_alias = True
            return f".{full_name}.Values"
        made.options.map_entry = is_map
        self._messages[full_name] = (file, made)
        for part in column.fields:
            field = below.fields.get(part.name)
            if field is not None:
                deeper = below.below.get(part.name, Removed())
                self._add(file, full_name, made, field, deeper, part, is_below=True)
        return f".{full_name}"

    def _well_known(self, file: FileDescriptorProto, name: str) -> str:
        if name not in self._messages:
            for module in _WELL_KNOWN:
                if name.rpartition(".")[2] in module.DESCRIPTOR.message_types_by_name:
                    added = self._set.file.add()
                    module.DESCRIPTOR.CopyToProto(added)
                    self._list(added, added.package, added.message_type)
        if name not in self._messages:
            return ""
        holder = self._messages[name][0].name
        if holder != file.name and holder not in file.dependency:
            file.dependency.append(holder)
        return f".{name}"

    def _list(
        self, file: FileDescriptorProto, scope: str, messages: Iterable[DescriptorProto]
    ) -> None:
        for message in messages:
            name = f"{scope}.{message.name}" if scope else message.name
            self._messages[name] = (file, message)
            self._list(file, name, message.nested_type)


def _entry_name(field: str) -> str:
    """Return the name that protoc gives to the entries of a map field."""
    return "".join(word[:1].upper() + word[1:] for word in field.split("_")) + "Entry"
