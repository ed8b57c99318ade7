"""The record of fields and enum values that a table's .proto had once and has no more.

A number that was used stays used: events that were encoded with it may be in logs and spools.
The .proto forgets a removed field unless its author reserves the number, so the record goes
along with the table, in field ``RECORD_NUMBER`` of its descriptor set. Every other reader of the
set skips that field.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)
from google.protobuf.message import DecodeError, Message

from eventmill.base.errors import SchemaError
from eventmill.schema.wire_fields import WireField

RECORD_NUMBER = 51974
"""Field of the stored ``FileDescriptorSet``; protobuf defines field 1 there, the files."""

_P = FieldDescriptorProto


@dataclass(slots=True)
class Removed:
    """What one level of a table's message has no more."""

    fields: dict[str, WireField] = field(default_factory=dict)
    """Removed fields by name."""
    values: dict[str, tuple[tuple[str, int], ...]] = field(default_factory=dict)
    """Removed values (name, number) of enums, by the name of the field that holds the enum."""
    below: dict[str, Removed] = field(default_factory=dict)
    """What the messages below lack, by the name of the field that holds the message."""

    def __bool__(self) -> bool:
        return bool(self.fields or self.values or any(self.below.values()))


def removed_fields(descriptor_set: bytes) -> Removed:
    """Return the record in a stored descriptor set; an empty one when there is none.

    Raises:
        SchemaError: the bytes are no descriptor set with a record.
    """
    try:
        return _from_proto(DescriptorProto.FromString(_SetView.FromString(descriptor_set).record))
    except DecodeError as error:
        raise SchemaError(
            "the record of removed fields in the table's descriptor set cannot be read: apply the"
            " .proto to a table under another name"
        ) from error


def with_removed_fields(descriptor_set: bytes, removed: Removed) -> bytes:
    """Return the descriptor set with this record in place of the one it may have."""
    view = _SetView.FromString(descriptor_set)
    if not view.record and not removed:
        return descriptor_set
    view.record = _to_proto(removed, "").SerializeToString() if removed else b""
    encoded: bytes = view.SerializeToString()
    return encoded


def _to_proto(removed: Removed, name: str) -> DescriptorProto:
    """Return a level as a message of its removed fields, each level below nested by its field."""
    level = DescriptorProto(name=name)
    oneofs: dict[str, int] = {}
    for one in removed.fields.values():
        found = level.field.add(
            name=one.name,
            number=one.number,
            type=one.type,
            label=_P.LABEL_REPEATED if one.is_repeated else _P.LABEL_OPTIONAL,
            type_name=one.type_name,
            proto3_optional=one.has_presence,
        )
        if one.oneof:
            found.oneof_index = oneofs.setdefault(one.oneof, len(oneofs))
    for oneof in oneofs:
        level.oneof_decl.add(name=oneof)
    enums = {one.name: one.values for one in removed.fields.values() if one.values}
    for holder, values in {**removed.values, **enums}.items():
        enum = level.enum_type.add(name=holder)
        for value, number in values:
            enum.value.add(name=value, number=number)
    for holder, below in removed.below.items():
        if below:
            level.nested_type.append(_to_proto(below, holder))
    return level


def _from_proto(level: DescriptorProto) -> Removed:
    values = {
        enum.name: tuple((value.name, value.number) for value in enum.value)
        for enum in level.enum_type
    }
    fields = {
        one.name: WireField(
            name=one.name,
            number=one.number,
            type=one.type,
            is_repeated=one.label == _P.LABEL_REPEATED,
            has_presence=one.proto3_optional,
            oneof=level.oneof_decl[one.oneof_index].name if one.HasField("oneof_index") else "",
            type_name=one.type_name,
            values=values.pop(one.name, ()),
        )
        for one in level.field
    }
    below = {nested.name: _from_proto(nested) for nested in level.nested_type}
    return Removed(fields, values, below)


def _view_class() -> type[Message]:
    """Make the message that sees the record and leaves the files as they are encoded."""
    package = "eventmill.removed_fields_view"
    file = FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    view = file.message_type.add(name="Set")
    view.field.add(name="file", number=1, type=_P.TYPE_BYTES, label=_P.LABEL_REPEATED)
    view.field.add(name="record", number=RECORD_NUMBER, type=_P.TYPE_BYTES, label=_P.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.Set"))


_SetView: Any = _view_class()
