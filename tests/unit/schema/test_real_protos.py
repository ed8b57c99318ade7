"""Trees of .proto files that nobody wrote for this project: each message fits a table, or it is
said which field does not and what to do."""

from __future__ import annotations

import importlib
import json
import pkgutil
import random
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import google.api
import opentelemetry.proto
import pyarrow as pa
import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from proto_world import RandomWire

from eventmill.base.errors import SchemaError
from eventmill.schema.check import EventCheck
from eventmill.schema.compile import compile_protos
from eventmill.schema.json_text import message_text
from eventmill.schema.mapping import check_spec, spec_from_proto
from eventmill.schema.message_type import MessageType
from eventmill.schema.rows import RowEncoder
from eventmill.schema.shape import COLUMNS_MAX, RECORD_LEVELS_MAX
from eventmill.schema.table import TableId, TableSpec
from eventmill.schema.wire_walk import bytes_field
from eventmill.wire.columns import ColumnReader

TABLE = TableId("local", "d", "t")
RANDOM_EVENTS = 6
RECURSIVE = re.compile(
    r"field (?P<path>\S+) \(\S+ in \S+\.proto\): (?P<type>\S+) contains itself"
    r' \((?P<cycle>\S+)\), .*bq_type = "JSON" or "STRING" on the field'
)
WITHOUT_COLUMN = re.compile(r"message \S+ in \S+\.proto has no field .*: give it one")


def below(messages: Iterable[Descriptor]) -> Iterator[Descriptor]:
    for message in messages:
        if not message.GetOptions().map_entry:
            yield message
            yield from below(message.nested_types)


def googleapis() -> list[MessageType]:
    """Return every message of the .proto files that googleapis-common-protos brings along."""
    root = Path(next(iter(google.api.__path__))).parents[1]
    files = sorted(root.glob("google/*/**/*.proto"))
    descriptor_set = compile_protos([str(file) for file in files], [str(root)])
    names = []
    for file in files:
        module = str(file.relative_to(root).with_suffix("")).replace("/", ".")
        descriptor = importlib.import_module(f"{module}_pb2").DESCRIPTOR
        names += [one.full_name for one in below(descriptor.message_types_by_name.values())]
    return [MessageType.load(descriptor_set, name) for name in names]


def open_telemetry() -> list[MessageType]:
    """Return every message of OpenTelemetry's generated modules, which come without .proto."""
    found: list[MessageType] = []
    path = opentelemetry.proto.__path__
    for module in pkgutil.walk_packages(path, f"{opentelemetry.proto.__name__}."):
        if module.name.endswith("_pb2"):
            file = importlib.import_module(module.name).DESCRIPTOR
            messages = below(file.message_types_by_name.values())
            found += [MessageType.of(message) for message in messages]
    return found


def spec_or_refusal(message_type: MessageType) -> TableSpec | str:
    # A set made of the descriptors in memory has the files that the message needs, and no more.
    small = MessageType.of(message_type.descriptor)
    try:
        return spec_from_proto(TABLE, small.descriptor_set, small.full_name)
    except SchemaError as error:
        return str(error)


def check_refusal(message_type: MessageType, told: str) -> None:
    """See that the refusal is true, and names a place that is there."""
    found = RECURSIVE.match(told)
    if found is None:
        assert WITHOUT_COLUMN.fullmatch(told), told
        return
    message = message_type.descriptor
    passed = []
    for name in found["path"].split("."):
        passed.append(message.full_name)
        message = message.fields_by_name[name].message_type
    assert message.full_name == found["type"]
    assert message.full_name in passed, told
    cycle = found["cycle"].split(".")
    assert cycle[0] == cycle[-1]
    assert found["path"].endswith(".".join(cycle[:-1]))


def check_events(message_type: MessageType, spec: TableSpec, rng: random.Random) -> int:
    """Take empty and random events all the way to columns; return how many were read."""
    loaded = MessageType.load(spec.descriptor_set, spec.message)
    check, rows = EventCheck(loaded), RowEncoder(loaded)
    wire = RandomWire(rng)
    drawn = [wire.event(message_type.descriptor) for _ in range(RANDOM_EVENTS)]
    bad = {index for index, _ in check.problems(drawn, known_schema=True)}
    events = [rows.encode({})] if not check.problems([b""], known_schema=True) else []
    for index, event in enumerate(drawn):
        if index not in bad:
            message = loaded.parse(event)
            again = rows.encode(json.loads(message_text(message)))
            assert message_text(loaded.parse(again)) == message_text(message)
            events += [event, again]
    array = pa.array(events, pa.binary())
    fast, slow = (ColumnReader(spec, fast=way).read(array) for way in (True, False))
    fast.validate(full=True)
    assert fast.num_rows == len(events)
    # As text, in which NaN equals itself and 0.0 is not -0.0.
    assert repr(fast.to_pylist()) == repr(slow.to_pylist())
    return len(events)


@pytest.mark.parametrize(
    ("tree", "mapped_min", "refused_min", "recursive"),
    [
        (googleapis, 120, 6, "google.api.HttpRule"),
        (open_telemetry, 8, 20, "opentelemetry.proto.common.v1.AnyValue"),
    ],
)
def test_every_message_maps_and_is_read_or_is_refused_by_name(
    tree, mapped_min: int, refused_min: int, recursive: str
):
    mapped: list[str] = []
    refused: list[str] = []
    events = 0
    for message_type in tree():
        outcome = spec_or_refusal(message_type)
        if isinstance(outcome, str):
            check_refusal(message_type, outcome)
            refused.append(message_type.full_name)
            continue
        check_spec(outcome)
        walked = [path for path, _ in outcome.walk()]
        assert len(walked) == len({path.lower() for path in walked}) <= COLUMNS_MAX
        assert max(path.count(".") for path in walked) <= RECORD_LEVELS_MAX
        mapped.append(message_type.full_name)
        # Drawn from the name, so that a message has its events whatever else the tree holds.
        events += check_events(message_type, outcome, random.Random(message_type.full_name))
    assert len(mapped) >= mapped_min, mapped
    assert len(refused) >= refused_min, refused
    assert recursive in refused
    assert events > RANDOM_EVENTS * len(mapped)


def test_comments_of_real_files_become_descriptions():
    (loaded,) = (one for one in googleapis() if one.full_name == "google.type.Money")
    spec = spec_from_proto(TABLE, loaded.descriptor_set, loaded.full_name)
    assert spec.description.startswith("Represents an amount of money")
    assert spec.description.endswith("Defined in google/type/money.proto.")
    described = {column.name: column.description for column in spec.columns}
    assert "ISO 4217" in described["currency_code"]


def test_a_span_fits_a_table_once_what_is_recursive_is_kept_as_json():
    """What the refusal advises, done to somebody else's file, makes a table of it."""
    (span,) = (one for one in open_telemetry() if one.descriptor.name == "Span")
    files = FileDescriptorSet.FromString(span.descriptor_set)
    as_json = bytes_field(74700, bytes_field(1, b"JSON"))
    for file in files.file:
        for message in file.message_type:
            for field in message.field:
                if (message.name, field.name) == ("KeyValue", "value"):
                    field.options.MergeFromString(as_json)
    spec = spec_from_proto(TABLE, files.SerializeToString(), span.full_name)
    event = RowEncoder(MessageType.load(spec.descriptor_set, spec.message)).encode(
        {
            "name": "GET /",
            "startTimeUnixNano": 1_790_000_000_000_000_000,
            "attributes": [
                {"key": "tags", "value": {"arrayValue": {"values": [{"stringValue": "a"}]}}}
            ],
        }
    )
    (row,) = ColumnReader(spec).read(pa.array([event], pa.binary())).to_pylist()
    assert row["start_time_unix_nano"] == 1_790_000_000_000_000_000
    (attribute,) = row["attributes"]
    assert attribute["key"] == "tags"
    assert attribute["value"] == '{"array_value":{"values":[{"string_value":"a"}]}}'
