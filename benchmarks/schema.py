"""What a schema costs: a wide table's plan, and judging and converting events beside upb alone."""

import time

import pyarrow as pa
from google.protobuf import json_format
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorSet

from benchmarks.events import make_events, message_type, spec
from benchmarks.pairs import Measure, pair
from eventmill.schema.check import EventCheck
from eventmill.schema.diff import plan_change
from eventmill.schema.mapping import spec_from_proto
from eventmill.schema.rows import RowEncoder
from eventmill.schema.table import TableId
from eventmill.store.memory import MemoryStore
from eventmill.wire.columns import ColumnReader

FIELDS = 1_000
PLAN_MS_MAX = 100
BATCH = 500


def bench(quick):
    """Return the measures of this module."""
    rounds = 5 if quick else 15
    events = make_events(BATCH * (4 if quick else 20))
    return [_planning(rounds), *_events(events, rounds)]


def _planning(rounds):
    """Measure from a descriptor set to a plan, for a table that gains one of 1,000 columns."""
    before, after = _wide(FIELDS - 1), _wide(FIELDS)
    table = TableId("local", "bench", "wide")
    store = MemoryStore()
    live = store.apply(spec_from_proto(table, before, "bench.Wide", partitioning=None))
    took = []
    for _ in range(rounds):
        began = time.perf_counter()
        wanted = spec_from_proto(table, after, "bench.Wide", partitioning=None)
        plan = plan_change(live, wanted)
        took.append((time.perf_counter() - began) * 1e3)
        assert plan.changes[0].path == f"f{FIELDS - 100}"
    measure = Measure(f"mapping and plan of {FIELDS:,} fields", sorted(took)[rounds // 2], "ms")
    measure.target, measure.holds = f"at most {PLAN_MS_MAX}", measure.value <= PLAN_MS_MAX
    return measure


def _wide(count):
    """Return the descriptor set of a message with ``count`` fields, 100 of them in records."""
    files = FileDescriptorSet()
    file = files.file.add(name="wide.proto", package="bench", syntax="proto3")
    below = file.message_type.add(name="Below")
    for number in range(1, 11):
        _add(below, f"b{number}", number, FieldDescriptorProto.TYPE_INT64)
    message = file.message_type.add(name="Wide")
    records = 10
    kinds = (
        FieldDescriptorProto.TYPE_STRING,
        FieldDescriptorProto.TYPE_INT64,
        FieldDescriptorProto.TYPE_DOUBLE,
        FieldDescriptorProto.TYPE_BOOL,
    )
    for number in range(1, count - records * 10 + 1):
        _add(message, f"f{number}", number, kinds[number % len(kinds)])
    for number in range(records):
        field = _add(message, f"r{number}", 5_000 + number, FieldDescriptorProto.TYPE_MESSAGE)
        field.type_name = ".bench.Below"
    return files.SerializeToString()


def _add(message, name, number, kind):
    return message.field.add(
        name=name, number=number, type=kind, label=FieldDescriptorProto.LABEL_OPTIONAL
    )


def _events(events, rounds):
    """Measure, an event: the judgement, a dict's encoding, and the way into columns."""
    kind = message_type()
    parse, check = kind.parse, EventCheck(kind)
    reader = ColumnReader(spec())
    rows = [
        json_format.MessageToDict(parse(event), preserving_proto_field_name=True)
        for event in events
    ]
    encode = RowEncoder(kind).encode
    batches = [events[at : at + BATCH] for at in range(0, len(events), BATCH)]
    arrays = [pa.array(batch, pa.binary()) for batch in batches]
    ways = {
        "judging events": (lambda batch: check.problems(batch, known_schema=True), batches),
        "events into columns": (reader.read, arrays),
        "dicts into events": (encode, rows),
    }
    floors = {
        "parsing with upb": (parse, events),
        "json_format": (
            lambda row: json_format.ParseDict(row, kind.cls()).SerializeToString(),
            rows,
        ),
    }
    beside = ("parsing with upb", "parsing with upb", "json_format")
    measures = []
    for (name, ours), other in zip(ways.items(), beside, strict=True):
        mine, theirs = [], []
        for _ in range(rounds):
            mine.append(_micros(*ours, len(events)))
            theirs.append(_micros(*floors[other], len(events)))
        measures.append(pair(f"{name} / {other}", mine, theirs, "us an event"))
    return measures


def _micros(call, inputs, count):
    began = time.perf_counter()
    for one in inputs:
        call(one)
    return (time.perf_counter() - began) * 1e6 / count
