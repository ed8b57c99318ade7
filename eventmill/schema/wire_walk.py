"""The wire format, where protobuf's own reader does not tell enough.

Why bytes do not parse: protobuf says only *that* parsing failed. The walk here finds the one
cause that a sender can act on, a string that is not UTF-8, and leaves the rest as malformed. And
where in the bytes each field stands, so that one can be left out.
"""

from __future__ import annotations

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from eventmill.schema.dynamic import message_of
from eventmill.schema.kinds import is_map

_VARINT, _FIXED64, _BYTES, _GROUP_START, _GROUP_END, _FIXED32 = range(6)
_VARINT_BYTES_MAX = 10
_DEPTH_MAX = 100
"""Depth at which protobuf stops (its default recursion limit)."""


class MalformedError(ValueError):
    """The bytes are not in the wire format."""


def find_bad_text(descriptor: Descriptor, event: bytes) -> str | None:
    """Return the path of the first string field that is not UTF-8; None: there is none.

    Raises:
        MalformedError: the wire format is broken before such a field.
    """
    return _walk(descriptor, event, 0, len(event), "", 0)


def split_fields(event: bytes) -> list[tuple[int, bytes]]:
    """Return the number and the bytes of each field at the event's own level, in order.

    Raises:
        MalformedError: the bytes are not in the wire format.
    """
    fields = []
    at = 0
    while at < len(event):
        start = at
        tag, at = _varint(event, at, len(event))
        at = _skip_any(event, at, tag, 0)
        fields.append((tag >> 3, event[start:at]))
    return fields


def encode_varint(number: int) -> bytes:
    """Return ``number``, at least 0, in the wire format's base 128."""
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def bytes_field(number: int, value: bytes) -> bytes:
    """Return field ``number`` of a message as it is on the wire, holding ``value``."""
    return encode_varint(number << 3 | _BYTES) + encode_varint(len(value)) + value


def _walk(
    descriptor: Descriptor, data: bytes, at: int, end: int, prefix: str, depth: int
) -> str | None:
    if depth > _DEPTH_MAX:
        raise MalformedError("nested too deeply")
    counts: dict[int, int] = {}
    while at < end:
        tag, at = _varint(data, at, end)
        number, wire_type = tag >> 3, tag & 7
        if wire_type != _BYTES:
            at = _skip(data, at, end, wire_type)
            continue
        length, at = _varint(data, at, end)
        if at + length > end:
            raise MalformedError("cut short")
        start, at = at, at + length
        field = descriptor.fields_by_number.get(number)
        if field is None:
            continue
        path = f"{prefix}{field.name}"
        if field.is_repeated and not is_map(field):
            index = counts[number] = counts.get(number, -1) + 1
            path += f"[{index}]"
        if field.type == FieldDescriptor.TYPE_STRING and not _is_text(data[start:at]):
            return path
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            found = _walk(message_of(field), data, start, at, f"{path}.", depth + 1)
            if found is not None:
                return found
    return None


def _is_text(raw: bytes) -> bool:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    for _ in range(_VARINT_BYTES_MAX):
        if at >= end:
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise MalformedError("a number is cut short or too long")


def _skip_any(data: bytes, at: int, tag: int, depth: int) -> int:
    """Return where the value behind ``tag`` ends, also that of a group."""
    if tag & 7 == _BYTES:
        length, at = _varint(data, at, len(data))
        if at + length > len(data):
            raise MalformedError("cut short")
        return at + length
    if tag & 7 != _GROUP_START:
        return _skip(data, at, len(data), tag & 7)
    if depth > _DEPTH_MAX:
        raise MalformedError("nested too deeply")
    while True:
        inner, at = _varint(data, at, len(data))
        if inner & 7 == _GROUP_END:
            if inner >> 3 != tag >> 3:
                raise MalformedError("a group ends as another")
            return at
        at = _skip_any(data, at, inner, depth + 1)


def _skip(data: bytes, at: int, end: int, wire_type: int) -> int:
    if wire_type == _VARINT:
        return _varint(data, at, end)[1]
    if wire_type in (_FIXED64, _FIXED32):
        at += 8 if wire_type == _FIXED64 else 4
        if at > end:
            raise MalformedError("cut short")
        return at
    raise MalformedError(f"wire type {wire_type}")
