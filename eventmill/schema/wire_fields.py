"""One field as it is on the wire, and whether another definition reads its bytes alike."""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import FieldDescriptorProto

from eventmill.schema.kinds import is_map
from eventmill.schema.message_type import real_oneof

_FD = FieldDescriptor
_PLAIN, _ZIGZAG = "plain integer", "zigzag integer"
_FIXED32, _FIXED64 = "32-bit fixed integer", "64-bit fixed integer"
_INT32, _INT64 = (-(2**31), 2**31 - 1), (-(2**63), 2**63 - 1)
_UINT32, _UINT64 = (0, 2**32 - 1), (0, 2**64 - 1)
# Types of one encoding read each other's bytes as the same value where it fits
# (protobuf.dev/programming-guides/proto3/#updating, looked up 2026-11-23).
_INTEGERS: dict[int, tuple[str, tuple[int, int]]] = {
    _FD.TYPE_BOOL: (_PLAIN, (0, 1)),
    _FD.TYPE_INT32: (_PLAIN, _INT32),
    _FD.TYPE_INT64: (_PLAIN, _INT64),
    _FD.TYPE_UINT32: (_PLAIN, _UINT32),
    _FD.TYPE_UINT64: (_PLAIN, _UINT64),
    _FD.TYPE_ENUM: (_PLAIN, _INT32),
    _FD.TYPE_SINT32: (_ZIGZAG, _INT32),
    _FD.TYPE_SINT64: (_ZIGZAG, _INT64),
    _FD.TYPE_FIXED32: (_FIXED32, _UINT32),
    _FD.TYPE_SFIXED32: (_FIXED32, _INT32),
    _FD.TYPE_FIXED64: (_FIXED64, _UINT64),
    _FD.TYPE_SFIXED64: (_FIXED64, _INT64),
}
_TYPE_WORDS: dict[int, str] = {
    number: name.removeprefix("TYPE_").lower() for name, number in FieldDescriptorProto.Type.items()
}
_UNSET = {
    _FD.TYPE_STRING: '""',
    _FD.TYPE_BYTES: "no bytes",
    _FD.TYPE_BOOL: "false",
}


@dataclass(frozen=True, slots=True)
class WireField:
    """What of a field decides how bytes are read."""

    name: str
    number: int
    type: int
    """One of ``FieldDescriptor.TYPE_*``."""
    is_repeated: bool
    has_presence: bool
    oneof: str
    """The oneof that a person wrote around it; empty for none."""
    type_name: str
    """Full name of its message or enum; empty for a scalar."""
    values: tuple[tuple[str, int], ...] = ()
    """Names and numbers of its enum, as declared."""
    is_closed: bool = False
    """Whether its enum drops numbers that it does not list."""
    message: Descriptor | None = None
    """Its message; None: a scalar, or a field known from a record alone."""
    is_map: bool = False
    full_name: str = ""
    """Empty: known from a record alone."""

    @property
    def type_text(self) -> str:
        """The type as a .proto writes it."""
        if self.is_map:
            return "map"
        return self.type_name or _TYPE_WORDS[self.type]

    @property
    def is_own_message(self) -> bool:
        """Whether it holds a message that is not one of protobuf's own."""
        return self.type == _FD.TYPE_MESSAGE and not self.type_name.startswith("google.protobuf.")

    @property
    def unset_text(self) -> str:
        """What rows hold for the field where it is not set and has no presence."""
        return self.values[0][0] if self.values else _UNSET.get(self.type, "0")


def wire_field(field: FieldDescriptor) -> WireField:
    """Return a field of a message type as it is on the wire."""
    enum, message = field.enum_type, field.message_type
    named = message or enum
    return WireField(
        name=field.name,
        number=field.number,
        type=field.type,
        is_repeated=field.is_repeated,
        has_presence=field.has_presence,
        oneof=real_oneof(field),
        type_name=named.full_name if named is not None else "",
        values=tuple((value.name, value.number) for value in enum.values) if enum else (),
        is_closed=enum is not None and enum.is_closed,
        message=message,
        is_map=is_map(field),
        full_name=field.full_name,
    )


def misreading(before: WireField, after: WireField) -> str:
    """Return how ``after`` would read bytes of ``before`` wrongly; empty: it reads them alike."""
    change = f"its type would change from {before.type_text} to {after.type_text}"
    was, now = _encoding(before), _encoding(after)
    if was != now:
        are_numbers = before.type in _INTEGERS and after.type in _INTEGERS
        detail = f", from {was} to {now} on the wire" if are_numbers else ""
        return f"{change}{detail}, and events under way would be read wrongly"
    if before.is_repeated != after.is_repeated:
        words = ("one value", "a list")
        return (
            f"it would change from {words[before.is_repeated]} to {words[after.is_repeated]}, and"
            " events under way would be read wrongly"
        )
    if after.is_closed and before.type != _FD.TYPE_ENUM:
        return f"{change}, which drops the numbers that it does not list"
    if before.type in _INTEGERS and after.type in _INTEGERS:
        low, high = _INTEGERS[before.type][1]
        least, most = _INTEGERS[after.type][1]
        if low < least or high > most:
            return f"{change}, which cannot hold every number that events under way may have"
    return ""


def _encoding(field: WireField) -> str:
    if field.is_own_message:
        return "message"
    if field.type in _INTEGERS:
        return _INTEGERS[field.type][0]
    # Of any other type, only the same one reads the bytes.
    return field.type_name or _TYPE_WORDS[field.type]
