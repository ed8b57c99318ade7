"""The message type by which a definition reads events that an earlier one judged.

A proto3 scalar that is not set reads as its default, for its sender could have set it. Where the
definition that judged an event did not have the field, nobody knows that of the sender: then not
set means NULL, as in a file from before the column. So every such field is read as if it were
``optional``, also in records that the table has had. In a record that is new as a whole nothing
changes: an event that carries one comes from a sender that knew it.

One message can stand at several places, and its fields be new in one of them only; so each place
that needs it gets a copy of the message.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FeatureSet,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)

from eventmill.schema.dynamic import message_of
from eventmill.schema.kinds import Kind, is_map
from eventmill.schema.message_type import MessageType
from eventmill.schema.reading_type import reading_type
from eventmill.schema.shape import FieldShape, shape_of
from eventmill.schema.table import Column, TableSpec

_CACHED_TYPES_MAX = 256


def early_type(spec: TableSpec, judged_by: Sequence[Column]) -> MessageType:
    """Return the message type of ``spec`` for events that ``judged_by`` was too old for.

    It is that of ``reading_type``, but for fields without presence, at the top or in records that
    ``judged_by`` has, for which that has no column: they have presence.

    Raises:
        SchemaError: as ``reading_type`` does.
    """
    return _early_type(reading_type(spec), tuple(judged_by))


def early_maps(spec: TableSpec, judged_by: Sequence[Column]) -> list[tuple[str, ...]]:
    """Return the paths of maps that are JSON text and that ``judged_by`` has no column for.

    A map cannot have presence: the caller must see to it that an empty one reads NULL.
    """
    return list(_new_maps(shape_of(early_type(spec, judged_by)), judged_by, ()))


def _new_maps(
    shapes: Sequence[FieldShape], judged_by: Sequence[Column], above: tuple[str, ...]
) -> Iterator[tuple[str, ...]]:
    before = {column.name: column for column in judged_by}
    for shape in shapes:
        path = (*above, shape.name)
        column = before.get(shape.name)
        if column is not None:
            yield from _new_maps(shape.fields, column.fields, path)
        elif shape.kind is Kind.JSON and is_map(shape.field):
            yield path


@functools.lru_cache(_CACHED_TYPES_MAX)
def _early_type(message_type: MessageType, judged_by: tuple[Column, ...]) -> MessageType:
    copies = _Copies(message_type.descriptor_set)
    name = copies.made_of(message_type.full_name, shape_of(message_type), judged_by)
    if name == message_type.full_name:
        return message_type
    return MessageType.load(copies.encoded(), name)


class _Copies:
    """The files of a descriptor set, to which copies of messages are added."""

    def __init__(self, descriptor_set: bytes) -> None:
        self._set = FileDescriptorSet.FromString(descriptor_set)
        self._messages = {
            name: (file, message) for file in self._set.file for name, message in _messages_of(file)
        }
        self._count = 0

    def encoded(self) -> bytes:
        """Return the set with the copies."""
        return self._set.SerializeToString()

    def made_of(self, name: str, shapes: Sequence[FieldShape], judged_by: Sequence[Column]) -> str:
        """Return the full name of a copy of the message ``name``; of itself: none is needed."""
        before = {column.name: column for column in judged_by}
        presence: set[str] = set()
        types: dict[str, str] = {}
        for shape in shapes:
            column = before.get(shape.name)
            field = shape.field
            if column is None:
                if not field.is_repeated and not field.has_presence:
                    presence.add(field.name)
            elif shape.kind is Kind.RECORD:
                self._below(field.name, shape, column, types)
            elif shape.kind is Kind.MAP:
                self._in_map(shape, column, types)
        if not presence and not types:
            return name
        return self._copy(name, presence, types)

    def _below(self, place: str, shape: FieldShape, column: Column, types: dict[str, str]) -> None:
        name = message_of(shape.field).full_name
        made = self.made_of(name, shape.fields, column.fields)
        if made != name:
            types[place] = made

    def _in_map(self, shape: FieldShape, column: Column, types: dict[str, str]) -> None:
        # Key and value of an entry are never absent; only what is below a value may be new.
        before = {part.name: part for part in column.fields}
        for part in shape.fields:
            if part.kind is Kind.RECORD and part.name in before:
                self._below(shape.field.name, part, before[part.name], types)

    def _copy(self, name: str, presence: set[str], types: dict[str, str]) -> str:
        """Add a copy of the message, and return its full name.

        Args:
            name: of the message.
            presence: fields that have presence in the copy.
            types: full name of the message type, of fields that have another one in the copy; of
                a map, that of its values.
        """
        file, message = self._messages[name]
        copy = file.message_type.add(name=self._free_name(file))
        full_name = f"{file.package}.{copy.name}" if file.package else copy.name
        copy.field.MergeFrom(message.field)
        copy.oneof_decl.MergeFrom(message.oneof_decl)
        copy.options.MergeFrom(message.options)
        entries = {nested.name: nested for nested in message.nested_type}
        for field in copy.field:
            entry = entries.get(field.type_name.removeprefix(f".{name}."))
            if entry is not None and entry.options.map_entry:
                # Entries of a map must stand in the message that has the map.
                own = copy.nested_type.add()
                own.CopyFrom(entry)
                field.type_name = f".{full_name}.{entry.name}"
                if field.name in types:
                    own.field[_place_of_value(own)].type_name = f".{types[field.name]}"
            elif field.name in types:
                field.type_name = f".{types[field.name]}"
            if field.name in presence:
                _give_presence(file, copy, field)
        return full_name

    def _free_name(self, file: FileDescriptorProto) -> str:
        taken = {message.name for message in file.message_type}
        while f"Early{self._count}" in taken:
            self._count += 1
        return f"Early{self._count}"


def _give_presence(
    file: FileDescriptorProto, message: DescriptorProto, field: FieldDescriptorProto
) -> None:
    if file.syntax == "editions":
        field.options.features.field_presence = FeatureSet.EXPLICIT
        return
    taken = {oneof.name for oneof in message.oneof_decl} | {one.name for one in message.field}
    name = f"_{field.name}"
    while name in taken:
        name = f"X{name}"
    field.proto3_optional = True
    field.oneof_index = len(message.oneof_decl)
    message.oneof_decl.add(name=name)


def _place_of_value(entry: DescriptorProto) -> int:
    return next(place for place, field in enumerate(entry.field) if field.number == _VALUE)


_VALUE = 2
"""Number of the value in every map's entry."""


def _messages_of(file: FileDescriptorProto) -> Iterator[tuple[str, DescriptorProto]]:
    waiting = [(file.package, message) for message in file.message_type]
    while waiting:
        scope, message = waiting.pop()
        name = f"{scope}.{message.name}" if scope else message.name
        yield name, message
        waiting += [(name, nested) for nested in message.nested_type]
