"""Rows of the Storage Write API: every column type, NULL by presence, names that clash."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import pyarrow as pa
import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mapping_world import TABLE, bq
from proto_world import RandomSchema, RandomWire, compiled

from eventmill.schema.check import EventCheck
from eventmill.schema.mapping import spec_from_proto
from eventmill.schema.message_type import MessageType
from eventmill.schema.rows import RowEncoder
from eventmill.schema.table import ColumnType, Mode
from eventmill.server.bigquery_write.row_reading import RowType
from eventmill.store.bigquery.writer_rows import RowWriter
from eventmill.wire.columns import ColumnReader

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EVERY_TYPE = f"""
message Inner {{ optional string name = 1; repeated int32 numbers = 2; }}
message M {{
  optional int64 integer = 1;
  optional double float = 2;
  optional bool boolean = 3;
  optional string string = 4;
  optional bytes bytes = 5;
  optional string day = 6 {bq("DATE")};
  optional string time = 7 {bq("TIME")};
  optional string datetime = 8 {bq("DATETIME")};
  optional string numeric = 9 {bq("NUMERIC")};
  optional string json = 11 {bq("JSON")};
  optional string place = 12 {bq("GEOGRAPHY")};
  google.protobuf.Timestamp moment = 13;
  Inner inner = 14;
  repeated Inner inners = 15;
  repeated google.protobuf.Timestamp moments = 16;
  repeated string days = 17 {bq("DATE")};
}}
"""
ROW = {
    "integer": -(2**63), "float": 0.1, "boolean": False, "string": "", "bytes": b"\xff",
    "day": "1969-12-31", "time": "23:59:59.999999", "datetime": "2026-01-02T03:04:05.000006",
    "numeric": "-0.000000001", "json": '{"a":[1]}', "place": "POINT(1 2)",
    "moment": datetime(1, 1, 1, tzinfo=UTC), "inner": {"name": "n", "numbers": [1, 2]},
    "inners": [{"name": "a"}, {}], "moments": [EPOCH, datetime(9999, 12, 31, tzinfo=UTC)],
    "days": ["2026-01-01"],
}  # fmt: skip


def spec_of(body):
    return spec_from_proto(TABLE, compiled(body), "t.M")


def written(spec, *rows):
    """Return (writer, rows as messages)."""
    encode = RowEncoder(MessageType.load(spec.descriptor_set, spec.message)).encode
    writer = RowWriter(spec)
    ids = [f"i{n}".encode() for n in range(len(rows))]
    encoded = writer.rows(ids, [encode(row) for row in rows], 1_700_000_000_000_001)
    return writer, encoded, [writer.parse(row) for row in encoded]


def test_every_column_type_is_carried_as_bigquery_documents_it():
    spec = spec_of(EVERY_TYPE)
    _, _, (row,) = written(spec, ROW)
    assert (row._insert_id, row._ingested_at) == ("i0", 1_700_000_000_000_001)
    assert (row.integer, row.float, row.boolean, row.string) == (-(2**63), 0.1, False, "")
    assert row.bytes == b"\xff"
    assert (row.day, list(row.days)) == (-1, [(date(2026, 1, 1) - EPOCH.date()).days])
    assert row.time == "23:59:59.999999"
    assert row.datetime.replace(" ", "T") == "2026-01-02T03:04:05.000006"
    assert float(row.numeric) == -1e-9
    assert (row.json, row.place) == ('{"a":[1]}', "POINT(1 2)")
    first = (datetime(1, 1, 1, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)
    assert row.moment == first
    assert row.moments[0] == 0
    assert (row.inner.name, list(row.inner.numbers)) == ("n", [1, 2])
    assert [each.HasField("name") for each in row.inners] == [True, False]


def test_what_is_not_set_is_null_and_what_is_set_to_nothing_is_not():
    spec = spec_of(EVERY_TYPE)
    _, _, (empty, zeros) = written(spec, {}, {"string": "", "integer": 0, "inner": {}})
    assert {field.name for field, _ in empty.ListFields()} == {"_insert_id", "_ingested_at"}
    assert {field.name for field, _ in zeros.ListFields()} == {
        "_insert_id", "_ingested_at", "string", "integer", "inner",
    }  # fmt: skip


def test_the_type_has_no_imports_and_reads_back_by_what_a_server_does():
    spec = spec_of(EVERY_TYPE)
    writer, (encoded,), _ = written(spec, ROW)
    values, insert_id = RowType(writer.descriptor, spec.columns).read(encoded)
    assert insert_id == "i0"
    assert (values["integer"], values["day"], values["moment"]) == (
        -(2**63), "1969-12-31", datetime(1, 1, 1, tzinfo=UTC),
    )  # fmt: skip

    def own_types(message):
        for field in message.field:
            if field.type == FieldDescriptorProto.TYPE_MESSAGE:
                assert field.type_name in {nested.name for nested in message.nested_type}
        for nested in message.nested_type:
            own_types(nested)

    own_types(writer.descriptor)


def test_columns_that_are_named_as_the_types_of_rows_do_not_clash():
    spec = spec_of(
        "message In { optional string R1 = 1; } message M { In R2 = 1; In R1 = 2; In R3 = 3; }"
    )
    _, _, (row,) = written(spec, {"R2": {"R1": "a"}, "R1": {"R1": "b"}, "R3": {"R1": "c"}})
    assert (row.R2.R1, row.R1.R1, row.R3.R1) == ("a", "b", "c")


def carried(value, column):
    """Return what a row has for a column's value as Python has it; None: nothing."""
    if value is None:
        return None
    if column.mode is Mode.REPEATED and isinstance(value, list):
        return [one(each, column) for each in value]
    return one(value, column)


def one(value, column):
    if column.type is ColumnType.RECORD:
        return {below.name: carried(value[below.name], below) for below in column.fields}
    if column.type is ColumnType.TIMESTAMP:
        return (value - EPOCH) // timedelta(microseconds=1)
    if column.type is ColumnType.DATE:
        return (value - EPOCH.date()).days
    return value


TEXTS = {
    ColumnType.TIME: time.fromisoformat,
    ColumnType.DATETIME: datetime.fromisoformat,
    ColumnType.NUMERIC: Decimal,
}
"""Reads the types that are carried as text, and are not text in Arrow."""


def values_of(message, columns):
    found = {}
    for column in columns:
        value = getattr(message, column.name)
        read = TEXTS.get(column.type, lambda each: each)
        is_record = column.type is ColumnType.RECORD
        if column.mode is Mode.REPEATED:
            found[column.name] = [
                values_of(each, column.fields) if is_record else read(each) for each in value
            ]
        elif not message.HasField(column.name):
            found[column.name] = None
        else:
            found[column.name] = values_of(value, column.fields) if is_record else read(value)
    return found


@pytest.mark.parametrize("fast", [True, False])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**48))
def test_rows_have_the_values_of_the_columns(fast, seed):
    rng = random.Random(seed)
    schema = RandomSchema(rng)
    message_type = schema.load()
    wire = RandomWire(rng)
    events = [wire.event(message_type.descriptor) for _ in range(10)]
    bad = {index for index, _ in EventCheck(message_type).problems(events, known_schema=True)}
    good = [event for index, event in enumerate(events) if index not in bad]
    spec = spec_from_proto(TABLE, schema.descriptor_set, "r.M0")
    expected = ColumnReader(spec).read(pa.array(good, pa.binary())).to_pylist()
    writer = RowWriter(spec, fast=fast)
    rows = writer.rows([b"i"] * len(good), good, 1)
    for row, value in zip(rows, expected, strict=True):
        wanted = {column.name: carried(value[column.name], column) for column in spec.columns}
        found = values_of(writer.parse(row), spec.columns)
        assert repr(found) == repr(wanted)  # so that NaN is NaN, and 0.0 not -0.0
