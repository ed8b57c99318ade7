"""What two definitions of a table mean on the wire: renamed fields, and fields read wrongly.

Events that were encoded with the earlier definition are in logs and spools when the later one
is applied; a field that would read them differently must be found though its column looks the
same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from google.protobuf.descriptor import FieldDescriptor

from eventmill.schema.kinds import Kind
from eventmill.schema.message_type import MessageType
from eventmill.schema.shape import FieldShape, shape_of
from eventmill.schema.table import TableSpec

_FD = FieldDescriptor
# Types that read each other's bytes as the same value, where the value fits
# (protobuf.dev/programming-guides/proto3/#updating, looked up 2026-11-23).
_ENCODINGS = {
    **dict.fromkeys(
        (
            _FD.TYPE_INT32,
            _FD.TYPE_INT64,
            _FD.TYPE_UINT32,
            _FD.TYPE_UINT64,
            _FD.TYPE_BOOL,
            _FD.TYPE_ENUM,
        ),
        "plain integer",
    ),
    **dict.fromkeys((_FD.TYPE_SINT32, _FD.TYPE_SINT64), "zigzag integer"),
    **dict.fromkeys((_FD.TYPE_FIXED32, _FD.TYPE_SFIXED32), "32-bit fixed integer"),
    **dict.fromkeys((_FD.TYPE_FIXED64, _FD.TYPE_SFIXED64), "64-bit fixed integer"),
    _FD.TYPE_FLOAT: "32-bit float",
    _FD.TYPE_DOUBLE: "64-bit float",
    _FD.TYPE_STRING: "text",
    _FD.TYPE_BYTES: "bytes",
}


@dataclass(frozen=True, slots=True)
class WireDiff:
    """What differs between the fields of two definitions, by dotted path."""

    renamed: dict[str, str] = field(default_factory=dict)
    """Old name of each field that has a new name under its old number and encoding."""
    misread: dict[str, str] = field(default_factory=dict)
    """How the encoding differs, for each field that would read earlier events wrongly."""


def wire_diff(live: TableSpec, wanted: TableSpec) -> WireDiff:
    """Compare the message types of two definitions.

    Raises:
        SchemaError: a descriptor set does not have the message, or it does not fit a table.
    """
    found = WireDiff()
    if live.fingerprint != wanted.fingerprint:
        before, after = (
            shape_of(MessageType.load(spec.descriptor_set, spec.message)) for spec in (live, wanted)
        )
        _compare(before, after, "", found)
    return found


def _compare(
    live: Iterable[FieldShape], wanted: Iterable[FieldShape], prefix: str, found: WireDiff
) -> None:
    by_name = {shape.name: shape for shape in live}
    by_number = {shape.field.number: shape for shape in live}
    wanted = tuple(wanted)
    names = {shape.name for shape in wanted}
    for shape in wanted:
        path = f"{prefix}{shape.name}"
        before = by_name.get(shape.name)
        if before is None:
            earlier = by_number.get(shape.field.number)
            if earlier is not None and earlier.name not in names:
                found.renamed[path] = earlier.name
            continue
        if before.field.number != shape.field.number:
            found.misread[path] = (
                f"its number would change from {before.field.number} to {shape.field.number},"
                " and events under way would lose it"
            )
        elif _encoding(before) != _encoding(shape):
            found.misread[path] = (
                f"its encoding would change from {_encoding(before)} to {_encoding(shape)}, and"
                " events under way would be read wrongly"
            )
        elif shape.fields:
            _compare(before.fields, shape.fields, f"{path}.", found)


def _encoding(shape: FieldShape) -> str:
    if shape.kind in (Kind.RECORD, Kind.MAP, Kind.JSON):
        return "message"
    if shape.field.message_type is not None:
        return str(shape.field.message_type.full_name)
    return _ENCODINGS[shape.field.type]
