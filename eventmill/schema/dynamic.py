"""Names for what only a descriptor knows the type of.

Messages here come from descriptors at run time, and rows from people: no annotation can say
their fields. These names say at least which of the two it is.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

DynamicMessage: TypeAlias = Any
"""A protobuf message, or a container of a message's repeated or map field."""
DynamicValue: TypeAlias = Any
"""The value of a field, an element or a key: of the type that its descriptor says."""


def message_of(field: FieldDescriptor) -> Descriptor:
    """Return the message type of a message field."""
    message = field.message_type
    if message is None:
        raise TypeError(f"{field.full_name} is no message field")
    return message


def enum_of(field: FieldDescriptor) -> EnumDescriptor:
    """Return the enum of an enum field."""
    enum = field.enum_type
    if enum is None:
        raise TypeError(f"{field.full_name} is no enum field")
    return enum


def holder_of(field: FieldDescriptor) -> Descriptor:
    """Return the message type that has ``field`` (of an extension: the one it extends)."""
    holder = field.containing_type
    if holder is None:
        raise TypeError(f"{field.full_name} belongs to no message")
    return holder
