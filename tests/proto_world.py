"""Schemas for tests: .proto text compiled, and random descriptors with random bytes for them."""

from __future__ import annotations

import functools
import os
import random
import struct
import tempfile
from typing import Any

from google.protobuf import (
    any_pb2,
    duration_pb2,
    empty_pb2,
    field_mask_pb2,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import (
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)

from eventmill.schema.compile import compile_protos
from eventmill.schema.kinds import DURATION, TIMESTAMP
from eventmill.schema.message_type import MessageType
from eventmill.schema.wire_walk import bytes_field, encode_varint

P = FieldDescriptorProto
IMPORTS = (
    "any",
    "duration",
    "empty",
    "field_mask",
    "struct",
    "timestamp",
    "wrappers",
)


@functools.cache
def compiled(body: str, syntax: str = 'syntax = "proto3";') -> bytes:
    """Compile ``body`` after a head with all well-known imports, our options, and package t."""
    lines = [syntax, "package t;"]
    lines += [f'import "google/protobuf/{name}.proto";' for name in IMPORTS]
    lines += ['import "bqschema/options.proto";', 'import "eventmill/options.proto";']
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "t.proto")
        with open(path, "w", encoding="utf-8") as file:
            file.write("\n".join([*lines, body]))
        return compile_protos([path])


def message_type(body: str, name: str = "M", syntax: str = 'syntax = "proto3";') -> MessageType:
    """Compile ``body`` and load the message ``t.<name>``."""
    return MessageType.load(compiled(body, syntax), f"t.{name}")


PROTO2 = 'syntax = "proto2";'

SCALARS = [
    P.TYPE_DOUBLE,
    P.TYPE_FLOAT,
    P.TYPE_INT64,
    P.TYPE_UINT64,
    P.TYPE_INT32,
    P.TYPE_FIXED64,
    P.TYPE_FIXED32,
    P.TYPE_BOOL,
    P.TYPE_STRING,
    P.TYPE_BYTES,
    P.TYPE_UINT32,
    P.TYPE_SFIXED32,
    P.TYPE_SFIXED64,
    P.TYPE_SINT32,
    P.TYPE_SINT64,
]
KEYS = [t for t in SCALARS if t not in (P.TYPE_DOUBLE, P.TYPE_FLOAT, P.TYPE_BYTES)]
WELL_KNOWN = [
    "Timestamp",
    "Duration",
    "Struct",
    "Value",
    "ListValue",
    "Any",
    "FieldMask",
    "Empty",
    "StringValue",
    "BoolValue",
    "Int32Value",
    "Int64Value",
    "UInt64Value",
    "UInt32Value",
    "DoubleValue",
    "FloatValue",
    "BytesValue",
]
_WELL_KNOWN_FILES = (
    any_pb2,
    duration_pb2,
    empty_pb2,
    field_mask_pb2,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)


class RandomSchema:
    """A message type drawn from ``rng``: every kind of field, nesting, maps, oneofs, options."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.is_proto2 = rng.random() < 0.3
        self._file = FileDescriptorProto(
            name="r.proto", package="r", syntax="proto2" if self.is_proto2 else "proto3"
        )
        self._file.dependency.extend(module.DESCRIPTOR.name for module in _WELL_KNOWN_FILES)
        enum = self._file.enum_type.add(name="E")
        numbers = rng.sample(range(1, 9), rng.randrange(4))
        if rng.random() < 0.3:
            numbers.append(-3)
        for number in [0, *numbers]:
            enum.value.add(name=f"V{number}".replace("-", "N"), number=number)
        self._count = rng.randrange(1, 5)
        for index in range(self._count):
            self._message(index)
        files = FileDescriptorSet()
        for module in _WELL_KNOWN_FILES:
            module.DESCRIPTOR.CopyToProto(files.file.add())
        files.file.append(self._file)
        self.descriptor_set = files.SerializeToString()

    def load(self) -> MessageType:
        return MessageType.load(self.descriptor_set, "r.M0")

    def _message(self, index: int) -> None:
        message = self._file.message_type.add(name=f"M{index}")
        self._add(message, "always", 1, P.TYPE_INT32)
        number = 2
        for _ in range(self._rng.randrange(6)):
            if self._rng.random() < 0.2:
                number = self._oneof(message, index, number)
                continue
            self._field(message, index, number)
            # Far numbers have tags of more than one byte.
            number += self._rng.choice((1, 1, 1, 300))
        for field in message.field:
            if field.proto3_optional:
                field.oneof_index = len(message.oneof_decl)
                message.oneof_decl.add(name=f"_{field.name}")
        # Fields need not stand in the order of their numbers.
        fields = self._rng.sample(list(message.field), len(message.field))
        del message.field[:]
        message.field.extend(fields)

    def _oneof(self, message: Any, index: int, number: int) -> int:
        place = len(message.oneof_decl)
        message.oneof_decl.add(name=f"o{number}")
        for _ in range(self._rng.randrange(1, 4)):
            field = self._plain(message, index, number)
            field.oneof_index = place
            number += 1
        return number

    def _field(self, message: Any, index: int, number: int) -> None:
        choice = self._rng.random()
        if choice < 0.25:
            self._map(message, index, number)
        elif choice < 0.5:
            self._plain(message, index, number).label = P.LABEL_REPEATED
        else:
            field = self._plain(message, index, number)
            if not self.is_proto2 and choice < 0.6 and field.type != P.TYPE_MESSAGE:
                field.proto3_optional = True

    def _plain(self, message: Any, index: int, number: int) -> Any:
        choice = self._rng.random()
        name = f"f{number}"
        if choice < 0.4:
            return self._scalar(message, name, number)
        if choice < 0.5:
            field = self._add(message, name, number, P.TYPE_ENUM, ".r.E")
            if self._rng.random() < 0.2:
                _set_bq_type(field, "INTEGER")
            return field
        if choice < 0.75 or index + 1 >= self._count:
            known = self._rng.choice(WELL_KNOWN)
            field = self._add(message, name, number, P.TYPE_MESSAGE, f".google.protobuf.{known}")
            if known in ("Struct", "Value", "ListValue", "Any") and self._rng.random() < 0.3:
                _set_bq_type(field, "JSON")
            return field
        below = self._rng.randrange(index + 1, self._count)
        field = self._add(message, name, number, P.TYPE_MESSAGE, f".r.M{below}")
        if self._rng.random() < 0.2:
            _set_bq_type(field, self._rng.choice(("JSON", "STRING")))
        return field

    def _scalar(self, message: Any, name: str, number: int) -> Any:
        field = self._add(message, name, number, self._rng.choice(SCALARS))
        types = {
            P.TYPE_INT64: ["TIMESTAMP"],
            P.TYPE_SINT32: ["DATE"],
            P.TYPE_STRING: ["JSON", "DATE", "NUMERIC", "TIME", "DATETIME", "TIMESTAMP"],
        }.get(field.type)
        if types and self._rng.random() < 0.3:
            _set_bq_type(field, self._rng.choice(types))
        return field

    def _map(self, message: Any, index: int, number: int) -> None:
        entry = message.nested_type.add(name=f"F{number}Entry")
        entry.options.map_entry = True
        self._add(entry, "key", 1, self._rng.choice(KEYS))
        value = self._plain(entry, index, 2)
        value.name, value.json_name = "value", "value"
        value.ClearField("options")
        type_name = f".r.{message.name}.F{number}Entry"
        field = self._add(message, f"f{number}", number, P.TYPE_MESSAGE, type_name)
        field.label = P.LABEL_REPEATED
        if self._rng.random() < 0.1:
            _set_bq_type(field, "JSON")

    def _add(self, message: Any, name: str, number: int, type_: int, type_name: str = "") -> Any:
        field = message.field.add(
            name=name, number=number, type=type_, label=P.LABEL_OPTIONAL, json_name=name
        )
        if type_name:
            field.type_name = type_name
        return field


def _set_bq_type(field: Any, name: str) -> None:
    field.options.MergeFromString(bytes_field(74700, bytes_field(1, name.encode())))


class RandomWire:
    """Bytes for a message type drawn from ``rng``: valid, and in every form that parsers allow."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def event(self, descriptor: Descriptor, depth: int = 0) -> bytes:
        rng = self._rng
        if descriptor.full_name == TIMESTAMP:
            seconds = rng.choice((0, 1, -1, -62135596800, 253402300799, rng.randrange(2**33)))
            nanos = rng.choice((0, 1, 999, 999_999_999, rng.randrange(10**9)))
            return self._number(1, seconds) + self._number(2, nanos)
        if descriptor.full_name == DURATION:
            sign = rng.choice((1, -1))
            seconds = sign * rng.choice((0, 1, 315_576_000_000, rng.randrange(2**33)))
            return self._number(1, seconds) + self._number(2, sign * rng.randrange(10**9))
        fields = list(descriptor.fields)
        count = rng.randrange(2 * len(fields) + 1) if fields else 0
        pieces = [self._field(rng.choice(fields), depth) for _ in range(count)]
        is_entry = descriptor.GetOptions().map_entry
        if is_entry and fields[1].enum_type is not None:
            pieces = [self._field(field, depth) for field in fields]
        # protobuf drops a map's entry that has a foreign field, or a number that a closed enum
        # lacks before one that it has; no encoder writes either.
        if not is_entry and rng.random() < 0.1:
            pieces.append(self._number(19_999, 5) if rng.random() < 0.5 else b"\xf3\x01\xf4\x01")
        rng.shuffle(pieces)
        return b"".join(pieces)

    def _number(self, number: int, value: int) -> bytes:
        return encode_varint(number << 3) + self._varint(value)

    def _varint(self, value: int) -> bytes:
        encoded = encode_varint(value % 2**64)
        if self._rng.random() < 0.1 and len(encoded) < 9:
            # A varint may be longer than it needs to be.
            encoded = encoded[:-1] + bytes((encoded[-1] | 0x80, 0x80, 0x00))
        return encoded

    def _field(self, field: FieldDescriptor, depth: int) -> bytes:
        if field.message_type is not None:
            if depth > 4:
                return b""
            return bytes_field(field.number, self.event(field.message_type, depth + 1))
        if field.type in (P.TYPE_STRING, P.TYPE_BYTES):
            return bytes_field(field.number, self._bytes(field))
        if field.is_repeated and self._rng.random() < 0.5:
            values = b"".join(self._scalar(field)[1] for _ in range(self._rng.randrange(4)))
            return bytes_field(field.number, values)
        wire_type, value = self._scalar(field)
        return encode_varint(field.number << 3 | wire_type) + value

    def _bytes(self, field: FieldDescriptor) -> bytes:
        if field.type == P.TYPE_BYTES:
            return self._rng.randbytes(self._rng.randrange(4))
        texts = ("", "a", "b", "ä€😀", "[1]", "2024-02-29", "1.5", "12:30:01.5", "\x00")
        moments = ("2024-02-29T12:00:00", "2024-02-29T12:00:00.123456Z")
        return self._rng.choice(texts + moments).encode()

    def _scalar(self, field: FieldDescriptor) -> tuple[int, bytes]:
        rng, kind = self._rng, field.type
        if kind == P.TYPE_DOUBLE:
            nan = [] if field.containing_type.full_name.endswith(".Value") else [float("nan")]
            return 1, struct.pack("<d", rng.choice([0.0, -0.0, 1.5, 3.0, 1e300, *nan]))
        if kind == P.TYPE_FLOAT:
            return 5, struct.pack("<f", rng.choice((0.0, 0.1, -2.5, float("inf"))))
        if kind in (P.TYPE_FIXED64, P.TYPE_SFIXED64):
            return 1, struct.pack("<q", rng.choice((0, 1, 2**63 - 1, rng.randrange(2**62))))
        if kind in (P.TYPE_FIXED32, P.TYPE_SFIXED32):
            return 5, struct.pack("<I", rng.choice((0, 1, 2**32 - 1, rng.randrange(2**32))))
        if kind == P.TYPE_ENUM:
            return 0, self._varint(rng.choice((0, 1, 2, 3, 5, 77, -3, 2**32 + 1)))
        if kind == P.TYPE_BOOL:
            return 0, self._varint(rng.choice((0, 1, 2)))
        return 0, self._varint(rng.choice((0, 1, 2, 20_000, 2**31, 2**32 + 7, 2**62)))
