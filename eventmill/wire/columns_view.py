"""A message type as the Arrow reader is told of it.

The reader's own ideas of well-known types, maps, oneofs, enums and recursion are not the
mapping's, and some are wrong. So it never sees the table's message, but a plain one made here
with the same field numbers and wire types: timestamps as two integers, maps as repeated entries,
enums as integers, oneof members as optional fields, and what becomes JSON text as raw bytes.
Raw bytes are always repeated: pieces of one message on the wire join to that message.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto

from eventmill.schema.dynamic import DynamicMessage, DynamicValue, message_of
from eventmill.schema.kinds import Kind
from eventmill.schema.message_type import real_oneof
from eventmill.schema.shape import FieldShape

_P = FieldDescriptorProto
_PACKAGE = "eventmill.view"
_MOMENT = "Moment"
_SAME_ON_THE_WIRE = {
    # Values above the largest INTEGER have been rejected, so both readings are equal.
    FieldDescriptor.TYPE_UINT64: _P.TYPE_INT64,
    FieldDescriptor.TYPE_FIXED64: _P.TYPE_SFIXED64,
    FieldDescriptor.TYPE_ENUM: _P.TYPE_INT32,
}


def view_of(descriptor: Descriptor, shapes: Sequence[FieldShape]) -> Descriptor:
    """Return the plain message that has the fields of ``shapes``, in that order.

    Members of a oneof that have no column follow as raw bytes, so that it can be seen whether
    they are set.
    """
    file = FileDescriptorProto(name="eventmill_view.proto", package=_PACKAGE, syntax="proto3")
    moment = file.message_type.add(name=_MOMENT)
    _add_field(moment, "seconds", 1, _P.TYPE_INT64)
    _add_field(moment, "nanos", 2, _P.TYPE_INT32)
    name = _add_message(file, descriptor, shapes)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")


def oneofs_of(descriptor: Descriptor) -> list[list[str]]:
    """Return the names of the members of each oneof with more than one."""
    members: dict[str, list[str]] = {}
    for field in descriptor.fields:
        oneof = real_oneof(field)
        if oneof:
            members.setdefault(oneof, []).append(field.name)
    return [names for names in members.values() if len(names) > 1]


def _add_message(
    file: FileDescriptorProto, descriptor: Descriptor, shapes: Iterable[FieldShape]
) -> str:
    name = f"M{len(file.message_type)}"
    message = file.message_type.add(name=name)
    # Adding further messages to the file leaves this one where it is.
    known = set()
    for shape in shapes:
        known.add(shape.name)
        _add_shape(file, message, shape)
    in_oneofs = {member for oneof in oneofs_of(descriptor) for member in oneof}
    for field in descriptor.fields:
        if field.name in in_oneofs and field.name not in known:
            _add_field(message, field.name, field.number, _P.TYPE_BYTES, is_repeated=True)
    return name


def _add_shape(file: FileDescriptorProto, message: DynamicMessage, shape: FieldShape) -> None:
    field = shape.field
    if shape.kind is Kind.JSON:
        _add_field(message, field.name, field.number, _P.TYPE_BYTES, is_repeated=True)
        return
    type_name = ""
    if shape.kind in (Kind.TIMESTAMP, Kind.DURATION):
        type_name = _MOMENT
    elif shape.wrapped is not None:
        type_name = f"M{len(file.message_type)}"
        wrapper = file.message_type.add(name=type_name)
        _add_field(wrapper, "value", 1, _wire_type(shape.wrapped))
    elif shape.fields:
        type_name = _add_message(file, message_of(field), shape.fields)
    _add_field(
        message,
        field.name,
        field.number,
        _P.TYPE_MESSAGE if type_name else _wire_type(field),
        is_repeated=field.is_repeated,
        is_optional=not type_name and not field.is_repeated and field.has_presence,
        type_name=type_name,
    )


def _wire_type(field: FieldDescriptor) -> DynamicValue:
    return _SAME_ON_THE_WIRE.get(field.type, field.type)


def _add_field(
    message: DynamicMessage,
    name: str,
    number: int,
    type_: DynamicValue,
    *,
    is_repeated: bool = False,
    is_optional: bool = False,
    type_name: str = "",
) -> None:
    field = message.field.add(
        name=name,
        number=number,
        type=type_,
        label=_P.LABEL_REPEATED if is_repeated else _P.LABEL_OPTIONAL,
        # Two fields may have JSON names that clash in proto3; their numbers never do.
        json_name=f"f{number}",
    )
    if type_name:
        field.type_name = f".{_PACKAGE}.{type_name}"
    if is_optional:
        field.proto3_optional = True
        field.oneof_index = len(message.oneof_decl)
        message.oneof_decl.add(name=f"_{number}")
