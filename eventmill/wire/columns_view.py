"""A message type as the Arrow reader is told of it.

The reader's own ideas of well-known types, maps, oneofs, enums and recursion are not the
mapping's, and some are wrong. So it never sees the table's message, but a plain one made here
with the same field numbers and wire types: timestamps as two integers, maps as repeated entries,
enums as integers, oneof members as optional fields, and what becomes JSON text as raw bytes.
Its fields are named by their numbers: two fields of a table may have names between which the
reader makes no difference, such as ``a_b`` and ``aB``.
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
_SECONDS, _NANOS = 1, 2
"""Numbers of the fields of Timestamp and Duration alike."""
_WRAPPED = 1
"""Number of the field of every wrapper."""
_SAME_ON_THE_WIRE = {
    # Values above the largest INTEGER have been rejected, so both readings are equal; NUMERIC,
    # which takes them, is read as it is.
    FieldDescriptor.TYPE_UINT64: _P.TYPE_INT64,
    FieldDescriptor.TYPE_FIXED64: _P.TYPE_SFIXED64,
    FieldDescriptor.TYPE_ENUM: _P.TYPE_INT32,
}


def view_name(number: int) -> str:
    """Return the name that the field with ``number`` has in the view."""
    return f"f{number}"


def view_of(descriptor: Descriptor, shapes: Sequence[FieldShape]) -> Descriptor:
    """Return the plain message that has the fields of ``shapes``, in that order.

    Members of a oneof that have no column follow as raw bytes, so that it can be seen whether
    they are set.
    """
    file = FileDescriptorProto(name="eventmill_view.proto", package=_PACKAGE, syntax="proto3")
    moment = file.message_type.add(name=_MOMENT)
    _add_field(moment, _SECONDS, _P.TYPE_INT64)
    _add_field(moment, _NANOS, _P.TYPE_INT32)
    name = _add_message(file, descriptor, shapes)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")


def oneofs_of(descriptor: Descriptor) -> list[list[int]]:
    """Return the numbers of the members of each oneof with more than one."""
    members: dict[str, list[int]] = {}
    for field in descriptor.fields:
        oneof = real_oneof(field)
        if oneof:
            members.setdefault(oneof, []).append(field.number)
    return [numbers for numbers in members.values() if len(numbers) > 1]


def _add_message(
    file: FileDescriptorProto, descriptor: Descriptor, shapes: Iterable[FieldShape]
) -> str:
    name = f"M{len(file.message_type)}"
    message = file.message_type.add(name=name)
    # Adding further messages to the file leaves this one where it is.
    known = set()
    for shape in shapes:
        known.add(shape.field.number)
        _add_shape(file, message, shape)
    in_oneofs = {member for oneof in oneofs_of(descriptor) for member in oneof}
    for field in descriptor.fields:
        if field.number in in_oneofs and field.number not in known:
            _add_field(message, field.number, _P.TYPE_BYTES, is_repeated=True)
    return name


def _add_shape(file: FileDescriptorProto, message: DynamicMessage, shape: FieldShape) -> None:
    field = shape.field
    if shape.kind is Kind.JSON:
        _add_field(message, field.number, _P.TYPE_BYTES, is_repeated=True)
        return
    type_name = ""
    if shape.kind in (Kind.TIMESTAMP, Kind.DURATION):
        type_name = _MOMENT
    elif shape.wrapped is not None:
        type_name = f"M{len(file.message_type)}"
        wrapper = file.message_type.add(name=type_name)
        _add_field(wrapper, _WRAPPED, _wire_type(shape))
    elif shape.fields:
        type_name = _add_message(file, message_of(field), shape.fields)
    _add_field(
        message,
        field.number,
        _P.TYPE_MESSAGE if type_name else _wire_type(shape),
        is_repeated=field.is_repeated,
        is_optional=not type_name and not field.is_repeated and field.has_presence,
        type_name=type_name,
    )


def _wire_type(shape: FieldShape) -> DynamicValue:
    kept = shape.scalar.type
    return kept if shape.kind is Kind.NUMERIC else _SAME_ON_THE_WIRE.get(kept, kept)


def _add_field(
    message: DynamicMessage,
    number: int,
    type_: DynamicValue,
    *,
    is_repeated: bool = False,
    is_optional: bool = False,
    type_name: str = "",
) -> None:
    field = message.field.add(
        name=view_name(number),
        number=number,
        type=type_,
        label=_P.LABEL_REPEATED if is_repeated else _P.LABEL_OPTIONAL,
    )
    if type_name:
        field.type_name = f".{_PACKAGE}.{type_name}"
    if is_optional:
        field.proto3_optional = True
        field.oneof_index = len(message.oneof_decl)
        message.oneof_decl.add(name=f"_{number}")
