"""Removed fields put back for reading: every kind of field whose column the table keeps."""

from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest
from proto_world import PROTO2, compiled

from eventmill.schema.diff import plan_change
from eventmill.schema.mapping import spec_from_proto
from eventmill.schema.message_type import MessageType
from eventmill.schema.reading_type import reading_type
from eventmill.schema.table import Table, TableId
from eventmill.schema.unknown import UnknownFields
from eventmill.wire.columns import ColumnReader

TABLE = TableId("local", "t", "m")
PROTO3 = 'syntax = "proto3";'
KINDS = "optional string a = 1; int64 b = 2; repeated double c = 3; E d = 4; repeated E e = 5;"
MESSAGES = (
    "google.protobuf.Timestamp f = 6; google.protobuf.StringValue g = 7; Part h = 8;"
    " repeated Part i = 9; google.protobuf.Struct j = 10;"
)
TYPED = (
    'string k = 11 [(bqschema.options).bq_type = "DATE"];'
    ' int64 l = 12 [(bqschema.options).bq_type = "NUMERIC"];'
    ' E m = 13 [(bqschema.options).bq_type = "INTEGER"];'
)
MAPS = "map<string, Part> n = 14; map<int32, string> my_map = 15; oneof o { string p = 16; }"
BELOW = "enum E { ZERO = 0; ONE = 1; } message Part { string x = 1; Deep y = 2; }"
BELOW += " message Deep { repeated int32 z = 1; E e = 2; }"
VALUES = {
    "a": "text", "b": 5, "c": [1.5, 2.5], "d": 1, "e": [1, 7],
    "f": {"seconds": 5}, "g": {"value": "w"}, "h": {"x": "1", "y": {"z": [1, 2], "e": 1}},
    "i": [{"x": "2"}, {}], "j": {"q": 1}, "k": "2026-01-31", "l": 9, "m": 1,
    "n": {"k": {"x": "3", "y": {"z": [4]}}}, "my_map": {2: "two", 1: "one"}, "p": "of o",
}  # fmt: skip
BEFORE = f"message M {{ string stays = 50; {KINDS} {MESSAGES} {TYPED} {MAPS} }} {BELOW}"


def removed(before, after, syntax=PROTO3):
    """Return the definition before, and the one that stands once ``after`` was applied."""
    old, new = (spec_from_proto(TABLE, compiled(body, syntax), "t.M") for body in (before, after))
    plan = plan_change(Table(old, 1, 0.0, 0.0), new)
    assert not plan.refusals
    return old, plan.result


def rows(spec, *events):
    """Return what both readers of columns read, which must be one and the same."""
    encoded = pa.array(events, pa.binary())
    fast, slow = (ColumnReader(spec, fast=way).read(encoded).to_pylist() for way in (None, False))
    assert fast == slow
    return fast


def test_every_kind_of_removed_field_goes_on_filling_its_column():
    old, now = removed(BEFORE, "message M { string stays = 50; reserved 1 to 16; }")
    full = MessageType.load(old.descriptor_set, "t.M").cls(stays="s", **VALUES)
    event = full.SerializeToString()
    plain = MessageType.load(now.descriptor_set, "t.M").cls(stays="s").SerializeToString()
    found, absent = rows(now, event, plain)
    (before,) = rows(old, event)
    assert found == before
    assert (found["d"], found["e"], found["m"]) == ("ONE", ["ONE", "7"], 1)
    assert (found["k"], found["l"]) == (date(2026, 1, 31), Decimal(9))
    assert found["f"] == datetime(1970, 1, 1, 0, 0, 5, tzinfo=UTC)
    assert found["my_map"] == [{"key": 1, "value": "one"}, {"key": 2, "value": "two"}]
    assert {name for name, value in absent.items() if value not in (None, [])} == {"stays"}
    assert UnknownFields(reading_type(now)).places([event]) == []


def test_a_removed_field_below_others_goes_on_too():
    after = BEFORE.replace(
        "message Part { string x = 1; Deep y = 2; }", "message Part { Deep y = 2; }"
    )
    old, now = removed(BEFORE, after)
    event = MessageType.load(old.descriptor_set, "t.M").cls(**VALUES).SerializeToString()
    (found,) = rows(now, event)
    assert found["h"] == {"x": "1", "y": {"z": [1, 2], "e": "ONE"}}
    assert [one["x"] for one in found["i"]] == ["2", None]
    assert found["n"][0]["value"]["x"] == "3"


def test_a_required_field_of_proto2_is_not_asked_for_once_it_is_removed():
    old, now = removed(
        "message M { required string a = 1; optional int32 b = 2; }",
        "message M { optional int32 b = 2; }",
        PROTO2,
    )
    old_event = MessageType.load(old.descriptor_set, "t.M").cls(a="x", b=1).SerializeToString()
    assert rows(now, old_event, b"") == [{"b": 1, "a": "x"}, {"b": None, "a": None}]


def test_what_became_json_text_stays_with_its_event():
    tree = 'Tree a = 1 [(bqschema.options).bq_type = "JSON"];'
    below = "message Tree { string x = 1; repeated Tree below = 2; }"
    old, now = removed(
        f"message M {{ string s = 2; {tree} }} {below}", "message M { string s = 2; }"
    )
    event = MessageType.load(old.descriptor_set, "t.M").cls(s="s", a={"x": "1"})
    encoded = event.SerializeToString()
    assert rows(now, encoded) == [{"s": "s", "a": None}]
    assert UnknownFields(reading_type(now)).places([encoded]) == [0]


@pytest.mark.parametrize("body", ["message M { string a = 1; }"])
def test_a_table_that_lost_nothing_is_read_by_its_own_type(body):
    spec = spec_from_proto(TABLE, compiled(body), "t.M")
    assert reading_type(spec) is MessageType.load(spec.descriptor_set, "t.M")
