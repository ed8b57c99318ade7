"""Edges of the mapping: values without a place, messages without columns, unusual names."""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa
import pytest
from mapping_world import EDITION, HIGH, PROTO3, G, bq, world
from proto_world import PROTO2, compiled

from eventmill.base.errors import SchemaError
from eventmill.schema.mapping import columns_of
from eventmill.schema.message_type import MessageType
from eventmill.schema.rows import RowEncoder
from eventmill.schema.values import RowReader
from eventmill.schema.wire_walk import bytes_field

REJECTED = [
    ("uint64 a = 1", b"\x08" + b"\xff" * 9 + b"\x01", "a", "out_of_range"),
    (
        f"{G}.UInt64Value a = 1",
        bytes_field(1, b"\x08" + b"\xff" * 9 + b"\x01"),
        "a",
        "out_of_range",
    ),
    (
        "map<uint64, bool> a = 1",
        bytes_field(1, b"\x08" + b"\xff" * 9 + b"\x01"),
        "a",
        "out_of_range",
    ),
    (f"{G}.Timestamp a = 1", bytes_field(1, b"\x08" + b"\xff" * 8 + b"\x7f"), "a", "out_of_range"),
    (f"repeated string a = 1 {bq('DATE')}", bytes_field(1, b""), "a[0]", "unrepresentable"),
    (f"repeated string a = 1 {bq('JSON')}", bytes_field(1, b""), "a[0]", "unrepresentable"),
    (f"string a = 1 {bq('JSON')}", bytes_field(1, b"[NaN]"), "a", "unrepresentable"),
    (f"string a = 1 {bq('NUMERIC')}", bytes_field(1, b"1" * 30), "a", "unrepresentable"),
    (f"string a = 1 {bq('NUMERIC')}", bytes_field(1, b"0.0000000001"), "a", "unrepresentable"),
    (
        f"string a = 1 {bq('DATETIME')}",
        bytes_field(1, b"2024-02-30 00:00:00"),
        "a",
        "unrepresentable",
    ),
    ("string a = 1", bytes_field(1, b"\xff"), "a", "invalid_utf8"),
]


@pytest.mark.parametrize(("declaration", "event", "place", "reason"), REJECTED)
def test_a_value_without_a_place_is_rejected_and_its_neighbours_are_kept(
    declaration: str, event: bytes, place: str, reason: str
):
    made = world(f"message M {{ {declaration}; bool z = 99; }}")
    verdict = made.send([{"z": True}, event, {"z": True}])
    (rejection,) = verdict.rejected
    assert (rejection.index, rejection.field, rejection.reason) == (1, place, reason)
    assert made.read("z") == [True, True]


REFUSED = [
    (f"string a = 1 {bq('BIGNUMERIC')}", PROTO3, "more digits than .* can be STRING,"),
    (f"int64 a = 1 {bq('BIGDECIMAL')}", PROTO3, "more digits than .* can be INTEGER, NUMERIC"),
    (f"double a = 1 {bq('NUMERIC')}", PROTO3, "does not fit .* can be FLOAT$"),
    (f"{G}.Duration a = 1 {bq('INTEGER')}", PROTO3, "does not fit .* can be FLOAT$"),
    (f"M a = 1 {bq('STRUCT')}", PROTO3, r"contains itself \(a\.a\)"),
    ("In a = 1; message In { int32 x = 1; int32 X = 2", PROTO3, r"a\.X .* differ only in case"),
    ("map<int32, In> a = 1; message In { int32 y = 1; int32 Y = 2", PROTO3, r"a\.value\.Y "),
    ("In a = 1; message In { int32 _PARTITIONTIME = 1", PROTO3, r"a\._PARTITIONTIME .* rename it"),
    (
        "In a = 1 [features.message_encoding = DELIMITED]; message In { int32 x = 1",
        EDITION,
        "groups",
    ),
    (f"optional group A = 1 {bq('JSON')} {{ optional int32 x = 1", PROTO2, "field a .*groups"),
]


@pytest.mark.parametrize(("inside", "syntax", "words"), REFUSED)
def test_what_no_column_can_be_is_refused_by_name(inside: str, syntax: str, words: str):
    end = "; }" if "{" in inside else ";"
    loaded = MessageType.load(compiled(f"message M {{ {inside}{end} }}", syntax), "t.M")
    with pytest.raises(SchemaError, match=words) as caught:
        columns_of(loaded)
    assert str(caught.value).startswith("field a")


def test_names_that_some_tool_on_the_way_knows_are_names_like_others():
    # Words of SQL and of Parquet readers, and names that differ in nothing but underscores.
    names = [
        "order",
        "from",
        "rowid",
        "filename",
        "file_row_number",
        "list",
        "element",
        "a_b",
        "ab",
        "_ab",
    ]
    fields = " ".join(f"optional int32 {name} = {n};" for n, name in enumerate(names, 1))
    made = world(f"message M {{ {fields} optional M a = 50 {bq('STRING')}; }}", PROTO2)
    row = {name: place for place, name in enumerate(names)}
    made.send([row])
    quoted = ", ".join(f"`{name}`" for name in names)
    assert list(made.store.query(f"SELECT {quoted} FROM d.t")) == [row]
    event = RowEncoder(made.message_type).encode(row)
    (columns,) = made.both_ways.read(pa.array([event], pa.binary())).to_pylist()
    assert columns == {**row, "a": None}


def test_what_the_wire_says_twice_counts_once_however_bad_the_first_was():
    body = f"""
        message M {{ optional string a = 1; oneof k {{ In b = 2 {bq("JSON")}; int32 c = 3; }} }}
        message In {{ optional string s = 1; }}
    """
    made = world(body, PROTO2)
    bad = bytes_field(1, b"\xff")
    events = [bad + bytes_field(1, b"x"), bytes_field(2, bad) + b"\x18\x05"]
    assert made.send([*events]).rejected == ()
    assert made.read() == ["x", None]
    rows = made.both_ways.read(pa.array(events, pa.binary())).to_pylist()
    assert rows == [{"a": "x", "b": None, "c": None}, {"a": None, "b": None, "c": 5}]


def test_both_readers_of_numeric_take_all_that_64_bits_hold():
    made = world(f"message M {{ uint64 a = 1 {bq('NUMERIC')}; }}")
    event = made.message_type.cls(a=2**64 - 1)
    array = pa.array([event.SerializeToString()], pa.binary())
    assert made.both_ways.read(array).to_pylist() == [{"a": Decimal(2**64 - 1)}]
    rows = RowReader(made.message_type, columns_of(made.message_type))
    assert rows.read(event) == {"a": Decimal(2**64 - 1)}


def test_sums_of_numeric_are_exact_and_json_is_asked_by_its_paths():
    made = world(
        f"""message M {{ string a = 1 {bq("NUMERIC")}; uint64 b = 2 {bq("NUMERIC")};
        {G}.Struct c = 3 {bq("JSON")}; }}"""
    )
    made.send([{"a": "0.1", "b": HIGH, "c": {"x": {"y": n}}} for n in range(30)])
    assert made.read("c")[1] == '{"x":{"y":1}}'
    (row,) = made.store.query(
        "SELECT SUM(a) AS a, SUM(b) AS b, COUNTIF(JSON_VALUE(c, '$.x.y') = '7') AS c FROM d.t"
    )
    assert row == {"a": Decimal(3), "b": Decimal(30 * HIGH), "c": 1}


def test_a_thousand_columns_at_every_level_are_stored_and_read():
    fields = " ".join(f"optional int32 f{n} = {n};" for n in range(1, 1000))
    made = world(f"message M {{ {fields} In a = 1000; }} message In {{ {fields} }}")
    made.send([{"f1": 1, "f999": 2, "a": {"f500": 3}}, {}])
    assert made.read("f999") == [2, None]
    assert made.read("a.f500") == [3, None]
    first, second = made.read()
    assert {name: value for name, value in first.items() if value is not None} == {"f500": 3}
    assert second is None
