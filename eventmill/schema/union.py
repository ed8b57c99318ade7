"""One definition out of two versions of the same .proto that each have fields the other lacks."""

from __future__ import annotations

from collections.abc import MutableSequence
from typing import Any, TypeVar

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)

from eventmill.base.errors import SchemaConflictError

_Named = TypeVar("_Named", FileDescriptorProto, DescriptorProto, EnumDescriptorProto)


def with_fields_of(descriptor_set: bytes, other: bytes) -> bytes:
    """Return the set with every message, field and enum value that ``other`` has beyond it.

    What both have stays as ``descriptor_set`` has it; what is added comes last.

    Args:
        descriptor_set: serialized ``FileDescriptorSet``.
        other: another one, of files with the same names.

    Raises:
        SchemaConflictError: a name stands for two numbers, or a number for two fields.
    """
    files = FileDescriptorSet.FromString(descriptor_set)
    by_name = {file.name: file for file in files.file}
    added = []
    for file in FileDescriptorSet.FromString(other).file:
        own = by_name.get(file.name)
        if own is None:
            added.append(file)
            continue
        own.dependency.extend(name for name in file.dependency if name not in own.dependency)
        _add_messages(own.message_type, file.message_type)
        _add_enums(own.enum_type, file.enum_type)
    # Whoever reads a set puts imports first.
    return FileDescriptorSet(file=[*added, *files.file]).SerializeToString()


def _add_messages(
    own: MutableSequence[DescriptorProto], other: MutableSequence[DescriptorProto]
) -> None:
    by_name = _by_name(own)
    for message in other:
        if message.name not in by_name:
            own.append(message)
            continue
        kept = by_name[message.name]
        _add_messages(kept.nested_type, message.nested_type)
        _add_enums(kept.enum_type, message.enum_type)
        _add_fields(kept, message)


def _add_fields(own: DescriptorProto, other: DescriptorProto) -> None:
    by_number = {field.number: field for field in own.field}
    names = {field.name for field in own.field}
    for field in other.field:
        kept = by_number.get(field.number)
        if kept is not None:
            _refuse_another(own.name, kept, field)
            continue
        if field.name in names:
            raise SchemaConflictError(
                f"field {own.name}.{field.name} has two numbers, {field.number} and another: give"
                " the newer one another name"
            )
        oneof = other.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else ""
        added = own.field.add()
        added.CopyFrom(field)
        if oneof:
            added.oneof_index = _oneof_of(own, oneof, field)


def _refuse_another(message: str, kept: FieldDescriptorProto, given: FieldDescriptorProto) -> None:
    """Raise SchemaConflictError when one number stands for two different fields."""
    for word, before, after in (
        ("name", kept.name, given.name),
        ("type", kept.type, given.type),
        ("type", kept.type_name, given.type_name),
        ("mode", kept.label, given.label),
    ):
        if before != after:
            raise SchemaConflictError(
                f"field {kept.number} of {message} ({kept.name}) has another {word} in the table:"
                " give the new field a number and a name of its own"
            )


def _oneof_of(message: DescriptorProto, name: str, field: FieldDescriptorProto) -> int:
    """Return the place of a oneof, made where it is missing.

    Those that the compiler makes for ``optional`` fields stand behind all others.
    """
    names = [oneof.name for oneof in message.oneof_decl]
    if name in names:
        return names.index(name)
    place = len(names)
    if not field.proto3_optional:
        made = {one.oneof_index for one in message.field if one.proto3_optional}
        place = min(made, default=place)
        for one in message.field:
            if one.HasField("oneof_index") and one.oneof_index >= place and one is not field:
                one.oneof_index += 1
    names.insert(place, name)
    options: dict[str, Any] = {oneof.name: oneof for oneof in message.oneof_decl}
    kept = [options.get(each) for each in names]
    copies = [None if oneof is None else oneof.SerializeToString() for oneof in kept]
    del message.oneof_decl[:]
    for each, copy in zip(names, copies, strict=True):
        oneof = message.oneof_decl.add(name=each)
        if copy is not None:
            oneof.ParseFromString(copy)
    return place


def _add_enums(
    own: MutableSequence[EnumDescriptorProto], other: MutableSequence[EnumDescriptorProto]
) -> None:
    by_name = _by_name(own)
    for enum in other:
        kept = by_name.get(enum.name)
        if kept is None:
            own.append(enum)
            continue
        known = {value.number for value in kept.value} | {value.name for value in kept.value}
        kept.value.extend(
            value for value in enum.value if value.number not in known and value.name not in known
        )


def _by_name(items: MutableSequence[_Named]) -> dict[str, _Named]:
    return {item.name: item for item in items}
