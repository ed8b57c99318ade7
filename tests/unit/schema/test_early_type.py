"""The type that reads what an earlier definition judged: new fields have presence, others not."""

import pyarrow as pa
import pytest
from mapping_world import EDITION
from proto_world import PROTO2, compiled

from eventmill.schema.early_type import early_maps, early_type
from eventmill.schema.mapping import spec_from_proto
from eventmill.schema.message_type import MessageType
from eventmill.schema.reading_type import reading_type
from eventmill.schema.table import TableId
from eventmill.wire.columns import ColumnReader

TABLE = TableId("local", "t", "m")
PROTO3 = 'syntax = "proto3";'


def spec(body, syntax=PROTO3):
    return spec_from_proto(TABLE, compiled(body, syntax), "t.M")


def read(now, before, **fields):
    """Return what both readers of columns read of an event, which must be one and the same."""
    event = MessageType.load(now.descriptor_set, "t.M").cls(**fields).SerializeToString()
    readers = [ColumnReader(now, fast=way, judged_by=before.columns) for way in (None, False)]
    fast, slow = (reader.read(pa.array([event], pa.binary())).to_pylist() for reader in readers)
    assert fast == slow
    return fast[0]


def test_without_new_fields_the_type_is_the_one_that_reads_the_table():
    now = spec("message M { string a = 1; N n = 2; } message N { string b = 1; }")
    assert early_type(now, now.columns) is reading_type(now)
    # A record that is new as a whole has presence itself, and an event that has it knows it.
    before = spec("message M { string a = 1; }")
    assert early_type(now, before.columns) is reading_type(now)
    assert read(now, before)["n"] is None
    assert read(now, before, n={})["n"] == {"b": ""}


@pytest.mark.parametrize(
    "syntax", [PROTO3, EDITION + " option features.field_presence = IMPLICIT;"]
)
def test_a_new_field_has_presence_in_the_places_where_it_is_new(syntax):
    n = "message N { string a = 1; %s }"
    before = spec("message M { int32 old = 1; N n = 2; map<string, N> m = 3; }" + n % "", syntax)
    now = spec(
        "message M { int32 old = 1; N n = 2; map<string, N> m = 3; int32 new = 4; N other = 5; }"
        + n % "string b = 2;",
        syntax,
    )
    assert read(now, before, n={}, m={"k": {}}, other={}) == {
        "old": 0, "n": {"a": "", "b": None}, "m": [{"key": "k", "value": {"a": "", "b": None}}],
        "new": None, "other": {"a": "", "b": ""},
    }  # fmt: skip
    assert read(now, before, n={"b": "1"}, m={"k": {"b": "2"}}, new=3) == {
        "old": 0, "n": {"a": "", "b": "1"}, "m": [{"key": "k", "value": {"a": "", "b": "2"}}],
        "new": 3, "other": None,
    }  # fmt: skip


def test_a_default_that_stands_on_the_wire_is_no_null():
    now, before = (
        spec("message M { string a = 1; int64 b = 2; }"),
        spec("message M { string a = 1; }"),
    )
    reader = ColumnReader(now, judged_by=before.columns)
    rows = reader.read(pa.array([b"\x10\x00", b""], pa.binary())).to_pylist()
    assert [row["b"] for row in rows] == [0, None]


def test_names_that_are_taken_stay_those_of_their_owners():
    now = spec(
        "message M { Early0 a = 1; int32 b = 2; oneof _b { int32 c = 3; } int32 _d = 4;"
        " int32 d = 5; } message Early0 { string x = 1; string y = 2; }"
    )
    before = spec("message M { Early0 a = 1; int32 _d = 4; } message Early0 { string x = 1; }")
    assert read(now, before, a={"x": "1"}, c=2) == {
        "a": {"x": "1", "y": None}, "b": None, "c": 2, "_d": 0, "d": None,
    }  # fmt: skip


def test_a_nested_map_and_a_new_any_are_read_with_the_rest():
    now = spec(
        "message M { N n = 1; } message N { map<int32, string> a = 1; google.protobuf.Any b = 2;"
        " repeated string c = 3; E e = 4; enum E { ZERO = 0; } }"
    )
    before = spec("message M { N n = 1; } message N { map<int32, string> a = 1; }")
    assert read(now, before, n={"a": {1: "x"}, "b": {}}) == {
        "n": {
            "a": [{"key": 1, "value": "x"}],
            "b": {"type_url": "", "value": b""},
            "c": [],
            "e": None,
        }
    }


def test_in_proto2_every_field_has_presence_already():
    now = spec("message M { optional string a = 1; optional int32 b = 2; }", PROTO2)
    before = spec("message M { optional string a = 1; }", PROTO2)
    assert early_type(now, before.columns) is reading_type(now)


def test_a_new_map_that_is_json_text_is_null_where_an_event_has_no_entry():
    doc = "map<string, string> %s = %d [(bqschema.options).bq_type = 'JSON'];"
    n = "message N { string a = 1; %s }"
    before = spec("message M { repeated N n = 1; N one = 2; }" + n % "")
    now = spec(
        f"message M {{ repeated N n = 1; N one = 2; {doc % ('d', 3)} repeated N new = 4; }}"
        + n % (doc % ("d", 2))
    )
    assert early_maps(now, before.columns) == [("n", "d"), ("one", "d"), ("d",)]
    found = read(now, before, n=[{}, {"d": {"k": "v"}}], new=[{}])
    assert found == {
        "n": [{"a": "", "d": None}, {"a": "", "d": '{"k":"v"}'}], "one": None, "d": None,
        "new": [{"a": "", "d": "{}"}],
    }  # fmt: skip
    assert read(now, before, one={}, d={"x": "y"})["one"] == {"a": "", "d": None}
