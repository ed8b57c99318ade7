"""Random messages of random types go through the embedded store and come back as they were.

What must come back is worked out here from the message alone, by protobuf's own means: nothing of
the product's own reading of messages is used. A failure names its seed, which makes it again.
"""

from __future__ import annotations

import json
import math
import random
import string
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import (
    descriptor_pool,
    duration_pb2,
    empty_pb2,
    json_format,
    message_factory,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.descriptor_pb2 import (
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)

from eventmill.schema.mapping import spec_from_proto
from eventmill.schema.table import TableId, TableSpec
from eventmill.schema.wire_walk import bytes_field
from eventmill.store.local.compaction import compact_once
from eventmill.store.local.store import LocalStore
from eventmill.wire.batch import Batch

P = FieldDescriptorProto
LEVELS = 15
"""Levels of RECORD that every random type goes down to: the most a table may have."""
TYPES = 48
EVENTS = 16
IMPORTS = (duration_pb2, empty_pb2, struct_pb2, timestamp_pb2, wrappers_pb2)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
GOOGLE = ".google.protobuf."
TEXTS = ("", "a", "B", "ä€\U0001f600", "\uffff", "\x00", "'\"`\\", "x" * 300)
DOUBLES = (0.0, -0.0, 0.1, 5e-324, 1e308, math.inf, -math.inf, math.nan)
FLOATS = (0.0, -0.0, 0.5, 0.1, 1e-45, math.inf, math.nan)
LIMITS = {
    P.TYPE_INT32: (-(2**31), 2**31 - 1),
    P.TYPE_SINT32: (-(2**31), 2**31 - 1),
    P.TYPE_SFIXED32: (-(2**31), 2**31 - 1),
    P.TYPE_INT64: (-(2**63), 2**63 - 1),
    P.TYPE_SINT64: (-(2**63), 2**63 - 1),
    P.TYPE_SFIXED64: (-(2**63), 2**63 - 1),
    P.TYPE_UINT32: (0, 2**32 - 1),
    P.TYPE_FIXED32: (0, 2**32 - 1),
    P.TYPE_UINT64: (0, 2**63 - 1),
    P.TYPE_FIXED64: (0, 2**63 - 1),
}
KEYS = (*LIMITS, P.TYPE_BOOL, P.TYPE_STRING)
SCALARS = (*KEYS, P.TYPE_DOUBLE, P.TYPE_FLOAT, P.TYPE_BYTES)
KNOWN = ("Timestamp", "Duration", "Struct", "Value", "Empty", "StringValue", "Int64Value")
KNOWN += ("DoubleValue", "BoolValue", "BytesValue")
BQ_TYPES = {P.TYPE_STRING: ("DATE", "JSON"), P.TYPE_INT64: ("TIMESTAMP", "NUMERIC")}
MOMENTS = (-62_135_596_800, -1, 0, 1_790_000_000, 253_402_300_799)
"""Seconds since 1970, the first and the last of a TIMESTAMP among them."""


class RandomType:
    """A chain of messages: leaves of many kinds, and in each one field down to the next."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.is_proto2 = rng.random() < 0.3
        self._file = FileDescriptorProto(
            name="r.proto", package="r", syntax="proto2" if self.is_proto2 else "proto3"
        )
        self._file.dependency.extend(module.DESCRIPTOR.name for module in IMPORTS)
        enum = self._file.enum_type.add(name="E")
        for number in (0, 1, 5):
            enum.value.add(name=f"V{number}", number=number)
        self.bq_types: dict[str, str] = {}
        self._add_chain()
        files = FileDescriptorSet()
        for module in IMPORTS:
            module.DESCRIPTOR.CopyToProto(files.file.add())
        files.file.append(self._file)
        self.descriptor_set = files.SerializeToString()
        pool = descriptor_pool.DescriptorPool()
        for file in files.file:
            pool.AddSerializedFile(file.SerializeToString())
        self.message_class = message_factory.GetMessageClass(pool.FindMessageTypeByName("r.M0"))

    def _add_chain(self) -> None:
        left = LEVELS
        while left:
            left -= self._add_message(left)
        self._add_message(0)

    def _add_message(self, left: int) -> int:
        """Add a message above ``left`` levels of RECORD; return how many its way down takes."""
        index = len(self._file.message_type)
        message = self._file.message_type.add(name=f"M{index}")
        self._add(message, "always", 1, P.TYPE_INT32)
        count = self._rng.randrange(1, 4)
        for number in range(2, 2 + count):
            self._add_leaf(message, number, may_be_map=left > 0)
        taken = self._add_way_down(message, 2 + count, f".r.M{index + 1}", left) if left else 0
        # The oneofs that stand for `optional` come after those that people write.
        for field in message.field:
            if field.proto3_optional:
                field.oneof_index = len(message.oneof_decl)
                message.oneof_decl.add(name=f"_{field.name}")
        return taken

    def _add_way_down(self, message: Any, number: int, type_name: str, left: int) -> int:
        """Add the field ``down``; return how many levels of RECORD it takes."""
        choice = self._rng.random()
        if choice < 0.2 and left > 1:
            entry = self._add_map(message, "down", number)
            self._add(entry, "value", 2, type_name)
            return 2
        if choice < 0.4:
            message.oneof_decl.add(name="way")
            self._add(message, "instead", number + 1, P.TYPE_STRING).oneof_index = 0
        down = self._add(message, "down", number, type_name)
        if choice < 0.4:
            down.oneof_index = 0
        elif choice < 0.7:
            down.label = P.LABEL_REPEATED
        return 1

    def _add_leaf(self, message: Any, number: int, *, may_be_map: bool) -> None:
        choice, name = self._rng.random(), f"f{number}"
        if choice < 0.2 and may_be_map:
            self._add_value(self._add_map(message, name, number), "value", 2)
            return
        field = self._add_value(message, name, number)
        if choice < 0.45:
            field.label = P.LABEL_REPEATED
        elif choice < 0.65 and field.type != P.TYPE_MESSAGE:
            field.proto3_optional = not self.is_proto2
        if field.type in BQ_TYPES and self._rng.random() < 0.5:
            bq_type = self._rng.choice(BQ_TYPES[field.type])
            self.bq_types[f"r.{message.name}.{name}"] = bq_type
            field.options.MergeFromString(bytes_field(74700, bytes_field(1, bq_type.encode())))

    def _add_value(self, message: Any, name: str, number: int) -> Any:
        choice = self._rng.random()
        if choice < 0.35:
            return self._add(message, name, number, GOOGLE + self._rng.choice(KNOWN))
        if choice < 0.45:
            field = self._add(message, name, number, ".r.E")
            field.type = P.TYPE_ENUM
            return field
        return self._add(message, name, number, self._rng.choice(SCALARS))

    def _add_map(self, message: Any, name: str, number: int) -> Any:
        """Add a map; return the message of its entries, which lacks the value."""
        entry = message.nested_type.add(name=f"{name.capitalize()}Entry")
        entry.options.map_entry = True
        self._add(entry, "key", 1, self._rng.choice(KEYS))
        field = self._add(message, name, number, f".r.{message.name}.{entry.name}")
        field.label = P.LABEL_REPEATED
        return entry

    def _add(self, message: Any, name: str, number: int, kind: int | str) -> Any:
        field = message.field.add(name=name, number=number, label=P.LABEL_OPTIONAL, json_name=name)
        if isinstance(kind, str):
            field.type, field.type_name = P.TYPE_MESSAGE, kind
        else:
            field.type = kind
        return field


class RandomMessage:
    """Fills messages of a random type; ``is_full`` leaves nothing unset."""

    def __init__(self, rng: random.Random, made: RandomType, *, is_full: bool) -> None:
        self._rng = rng
        self._made = made
        self._is_full = is_full

    def fill(self, message: Any) -> None:
        for field in message.DESCRIPTOR.fields:
            if not self._is_full and self._rng.random() < 0.25:
                continue
            if not field.is_repeated:
                self._fill_one(message, field)
                continue
            # Few ways down: each one doubles what is below.
            few = (1, 1, 1, 2) if field.name == "down" else (1, 2, 3)
            for _ in range(self._rng.choice(few)):
                self._fill_element(getattr(message, field.name), field)

    def _fill_one(self, message: Any, field: FieldDescriptor) -> None:
        if field.message_type is None:
            setattr(message, field.name, self._scalar(field))
        else:
            below = getattr(message, field.name)
            below.SetInParent()
            self._fill_message(below)

    def _fill_element(self, container: Any, field: FieldDescriptor) -> None:
        if is_map(field):
            key, value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
            place = self._scalar(key)
            if value.message_type is None:
                container[place] = self._scalar(value)
            else:
                self._fill_message(container[place])
        elif field.message_type is None:
            container.append(self._scalar(field))
        else:
            self._fill_message(container.add())

    def _fill_message(self, message: Any) -> None:
        rng, name = self._rng, message.DESCRIPTOR.name
        if name == "Timestamp":
            message.seconds = rng.choice(MOMENTS)
            message.nanos = rng.choice((0, 1, 999, 1000, 999_999_999))
        elif name == "Duration":
            # Parts of a second that a double holds exactly, so that there is but one sum.
            sign = rng.choice((-1, 1))
            message.seconds = sign * rng.choice((0, 1, 86_400, 2**31))
            message.nanos = sign * rng.choice((0, 500_000_000, 125_000_000))
        elif name == "Struct":
            message.update({key: self._json() for key in rng.sample(TEXTS, rng.randrange(4))})
        elif name == "Value":
            json_format.ParseDict(self._json(), message)
        elif message.DESCRIPTOR.full_name.startswith("google."):
            for field in message.DESCRIPTOR.fields:
                setattr(message, field.name, self._scalar(field))
        else:
            self.fill(message)

    def _json(self) -> Any:
        flat = (None, True, False, "", "ä\n", 0.5, -1.25, [], {})
        return self._rng.choice((*flat, [list(flat)], {"b": {"": None}, "a": [0.5]}))

    def _scalar(self, field: FieldDescriptor) -> Any:
        rng, kind = self._rng, field.type
        bq_type = self._made.bq_types.get(field.full_name)
        if bq_type in ("DATE", "JSON"):
            # An empty text has no place in a list: it is no date, and a list holds no NULL.
            texts = ("0001-01-01", "2024-02-29") if bq_type == "DATE" else ('{"a": [1.0]}', "null")
            return rng.choice(texts if field.is_repeated else (*texts, ""))
        if bq_type == "TIMESTAMP":
            return rng.choice(MOMENTS) * 1_000_000
        if kind in LIMITS:
            low, high = LIMITS[kind]
            return rng.choice((low, high, 0, 1, rng.randrange(low, high)))
        if kind == P.TYPE_ENUM:
            return rng.choice((0, 1, 5) if self._made.is_proto2 else (0, 1, 5, 77, -2))
        if kind == P.TYPE_BOOL:
            return rng.random() < 0.5
        if kind == P.TYPE_STRING:
            return rng.choice((*TEXTS, "".join(rng.choices(string.printable, k=9))))
        if kind == P.TYPE_BYTES:
            return rng.randbytes(rng.randrange(5))
        return rng.choice(FLOATS if kind == P.TYPE_FLOAT else DOUBLES)


def is_map(field: FieldDescriptor) -> bool:
    below = field.message_type
    return below is not None and below.GetOptions().map_entry


def is_empty(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.name == "Empty"


def expected_row(message: Any, bq_types: dict[str, str]) -> dict[str, Any]:
    """Return the row that a message must be, from what protobuf tells of the message."""
    row: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        if is_empty(field):
            continue
        value = getattr(message, field.name)
        if is_map(field):
            below = field.message_type.fields_by_name["value"]
            row[field.name] = [
                {"key": key}
                if is_empty(below)
                else {"key": key, "value": expected_value(below, value[key], bq_types)}
                for key in sorted(value)
            ]
        elif field.is_repeated:
            row[field.name] = [expected_value(field, element, bq_types) for element in value]
        elif field.has_presence and not message.HasField(field.name):
            row[field.name] = None
        else:
            row[field.name] = expected_value(field, value, bq_types)
    return row


def expected_value(field: FieldDescriptor, value: Any, bq_types: dict[str, str]) -> Any:
    if field.message_type is not None:
        return expected_message(value, bq_types)
    if field.enum_type is not None:
        named = field.enum_type.values_by_number.get(value)
        return named.name if named is not None else str(value)
    bq_type = bq_types.get(field.full_name)
    if bq_type == "DATE":
        return date.fromisoformat(value) if value else None
    if bq_type == "JSON":
        return value or None
    if bq_type == "TIMESTAMP":
        return EPOCH + timedelta(microseconds=value)
    return Decimal(value) if bq_type == "NUMERIC" else value


def expected_message(message: Any, bq_types: dict[str, str]) -> Any:
    name = message.DESCRIPTOR.full_name.removeprefix(GOOGLE[1:])
    if name == "Timestamp":
        return EPOCH + timedelta(seconds=message.seconds, microseconds=message.nanos // 1000)
    if name == "Duration":
        return message.seconds + message.nanos / 1e9
    if name in ("Struct", "Value"):
        said = json_format.MessageToDict(message)
        return json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return message.value if name in KNOWN else expected_row(message, bq_types)


def shown(value: Any) -> Any:
    """Return what shows every difference in its repr, and nothing else: NaN as itself."""
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    if isinstance(value, Decimal):
        return f"NUMERIC {value.normalize():f}"
    if isinstance(value, dict):
        return {name: shown(below) for name, below in value.items()}
    return [shown(below) for below in value] if isinstance(value, list) else value


class Trip:
    """The messages of one seed, their table, and what its rows must be."""

    def __init__(self, seed: int) -> None:
        rng = random.Random(seed)
        self.seed = seed
        self.table = TableId("local", "d", f"t{seed}")
        self.made = RandomType(rng)
        self.spec: TableSpec = spec_from_proto(self.table, self.made.descriptor_set, "r.M0")
        self.events: list[bytes] = []
        self.rows: list[dict[str, Any]] = []
        for place in range(EVENTS):
            message = self.made.message_class()
            # One event with everything set, which is as deep as its type, and one with nothing.
            if place != 1:
                RandomMessage(rng, self.made, is_full=not place).fill(message)
            self.events.append(message.SerializeToString())
            self.rows.append(expected_row(message, self.made.bq_types))

    def send(self, store: LocalStore, places: range) -> None:
        ids = [f"{place:04}".encode() for place in places]
        events = [self.events[place] for place in places]
        verdict = store.put(Batch.build(self.table, self.spec.fingerprint, ids, events))
        assert (verdict.rejected, verdict.duplicates) == ((), 0), f"seed {self.seed}"

    def check(self, store: LocalStore, where: str, count: int) -> None:
        answer = store.query(
            f"SELECT * FROM {self.table.dataset}.{self.table.table} ORDER BY _insert_id"
        )
        found = [{name: row[name] for name in self.rows[0]} for row in answer]
        assert len(found) == count, f"seed {self.seed}, {where}"
        for place, (one, other) in enumerate(zip(found, self.rows, strict=False)):
            assert repr(shown(one)) == repr(shown(other)), (
                f"seed {self.seed}, {where}, event {place}: {self.events[place].hex()}"
            )


def deepest(value: Any) -> int:
    """Return the number of levels of RECORD in a row's value."""
    if isinstance(value, dict):
        return 1 + max(map(deepest, value.values()), default=0)
    return max(map(deepest, value), default=0) if isinstance(value, list) else 0


def check_all(trips: Sequence[Trip], store: LocalStore, where: str, count: int) -> None:
    for trip in trips:
        trip.check(store, where, count)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, TYPES, 12))
def test_random_messages_come_back_as_they_were_from_log_and_lake(first: int, tmp_path: Path):
    trips = [Trip(seed) for seed in range(first, first + 12)]
    folder = str(tmp_path / "store")
    half, whole = range(EVENTS // 2), range(EVENTS)
    with LocalStore.open(folder) as store:
        for trip in trips:
            # The row itself is no RECORD.
            assert deepest(trip.rows[0]) == LEVELS + 1, f"seed {trip.seed}"
            store.apply(trip.spec)
            trip.send(store, half)
        check_all(trips, store, "log", len(half))
        store.seal()
        report = compact_once(folder)
        assert (report.rows, report.errors) == (len(trips) * len(half), [])
        check_all(trips, store, "lake", len(half))
        for trip in trips:
            trip.send(store, whole[len(half) :])
        check_all(trips, store, "lake and log", len(whole))
        store.seal()
        compact_once(folder)
    with LocalStore.open(folder, writer=False) as store:
        check_all(trips, store, "lake, opened anew", len(whole))
