"""The definition of the mapping on rows, value by value."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pytest
from proto_world import PROTO2, message_type

from eventmill.base.errors import SchemaError
from eventmill.schema.mapping import columns_of
from eventmill.schema.table import Column, ColumnType, Mode
from eventmill.schema.values import RowReader
from eventmill.schema.wire_walk import bytes_field

G = "google.protobuf"


def read(
    body: str, event: bytes = b"", /, syntax: str = 'syntax = "proto3";', **fields: Any
) -> Any:
    loaded = message_type(body, syntax=syntax)
    message = loaded.parse(event or loaded.cls(**fields).SerializeToString())
    return RowReader(loaded, columns_of(loaded)).read(message)


def test_unset_scalars_have_their_defaults_and_whatever_has_presence_is_null():
    body = f"""
        enum E {{ ZERO = 0; }}
        message In {{ int32 x = 1; }}
        message M {{
          int32 i = 1; double d = 2; bool b = 3; string s = 4; bytes y = 5; E e = 6;
          optional int32 oi = 7; optional string os = 8; In m = 9; {G}.Timestamp at = 10;
          {G}.Int32Value w = 11; oneof k {{ string left = 12; int32 right = 13; }}
          repeated int32 r = 14; map<string, int32> mm = 15; {G}.Struct st = 16;
        }}
    """
    assert read(body) == {
        "i": 0,
        "d": 0.0,
        "b": False,
        "s": "",
        "y": b"",
        "e": "ZERO",
        **dict.fromkeys(("oi", "os", "m", "at", "w", "left", "right", "st")),
        "r": [],
        "mm": [],
    }
    row = read(body, oi=0, os="", m={}, at={}, w={}, right=0, st={})
    assert (row["oi"], row["os"], row["m"], row["w"]) == (0, "", {"x": 0}, 0)
    assert row["at"] == datetime(1970, 1, 1, tzinfo=UTC)
    assert (row["left"], row["right"], row["st"]) == (None, 0, "{}")


def test_proto2_keeps_presence_and_shows_no_default():
    body = "message M { optional int32 a = 1 [default = 7]; repeated int32 r = 2; }"
    assert read(body, syntax=PROTO2) == {"a": None, "r": []}


def test_enums_are_names_the_first_of_aliases_and_unknown_numbers_are_text():
    body = """
        enum E { option allow_alias = true; A = 0; B = 1; ALSO_B = 1; }
        message M { E e = 1; repeated E r = 2; E n = 3 [(bqschema.options).bq_type = "INTEGER"]; }
    """
    assert read(body, e=1, r=[0, 77, -1], n=5) == {"e": "B", "r": ["A", "77", "-1"], "n": 5}


@pytest.mark.parametrize(
    ("seconds", "nanos", "expected"),
    [
        (0, 1_999, datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=UTC)),
        (-1, 999_999_999, datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
        (-62135596800, 0, datetime(1, 1, 1, tzinfo=UTC)),
        (253402300799, 999_999_999, datetime.max.replace(tzinfo=UTC)),
        (253402300800, 0, 253402300800_000_000),
    ],
)
def test_timestamps_are_cut_to_microseconds(seconds: int, nanos: int, expected: Any):
    body = f"message M {{ {G}.Timestamp at = 1; }}"
    assert read(body, at={"seconds": seconds, "nanos": nanos})["at"] == expected


def test_durations_are_seconds():
    body = f"message M {{ repeated {G}.Duration d = 1; }}"
    parts = [{"seconds": 1, "nanos": 500_000_000}, {"seconds": -1, "nanos": -1}, {}]
    assert read(body, d=parts)["d"] == [1.5, -1.000000001, 0.0]


def test_documents_are_compact_json_text():
    body = f"""
        message M {{ {G}.Struct a = 1; {G}.Value b = 2; {G}.ListValue c = 3;
          repeated {G}.Value d = 4; M tree = 5 [(bqschema.options).bq_type = "JSON"];
          map<int32, In> m = 6 [(bqschema.options).bq_type = "JSON"]; }}
        message In {{ {G}.Timestamp at = 1; {G}.Duration took = 2; bytes raw = 3; E e = 4;
          float f = 5; {G}.StringValue w = 6; int64 i = 7; map<bool, int32> flags = 8; }}
        enum E {{ X = 0; Y = 1; }}
    """
    loaded = message_type(body)
    event = loaded.cls()
    event.a["z"] = 1
    event.a["ä"] = {"y": [1.5, "\n", None, True]}
    event.b.number_value = 2.0**60
    event.c.extend([1, -0.0])
    event.d.add()
    event.tree.tree.b.string_value = "deep"
    event.m[2].at.FromJsonString("2024-01-02T03:04:05.678Z")
    event.m[2].took.FromJsonString("-1.5s")
    event.m[2].raw, event.m[2].e, event.m[2].f = b"\xff", 1, math.inf
    event.m[2].i, event.m[2].w.value, event.m[2].flags[True] = -(2**63), "", 5
    event.m[-1].e = 9
    row = RowReader(loaded, columns_of(loaded)).read(event)
    assert row["a"] == '{"z":1,"ä":{"y":[1.5,"\\n",null,true]}}'
    assert (row["b"], row["c"], row["d"]) == ("1.152921504606847e+18", "[1,-0.0]", ["null"])
    assert row["tree"] == '{"tree":{"b":"deep"}}'
    assert row["m"] == (
        '{"-1":{"e":"9"},"2":{"at":"2024-01-02T03:04:05.678Z","took":"-1.500s","raw":"/w==",'
        '"e":"Y","f":"Infinity","w":"","i":-9223372036854775808,"flags":{"true":5}}}'
    )
    assert read(body)["m"] == "{}"


def test_maps_are_rows_ascending_by_key():
    body = f"""
        message In {{ int32 x = 1; }}
        message M {{ map<string, int32> s = 1; map<int32, In> i = 2; map<bool, {G}.Empty> b = 3;
          map<uint64, {G}.Timestamp> t = 4; }}
    """
    row = read(body, s={"b": 1, "a": 2, "ä": 3}, i={5: {}, -5: {"x": 1}}, b={True: {}, False: {}})
    assert row["s"] == [
        {"key": "a", "value": 2},
        {"key": "b", "value": 1},
        {"key": "ä", "value": 3},
    ]
    assert row["i"] == [{"key": -5, "value": {"x": 1}}, {"key": 5, "value": {"x": 0}}]
    assert row["b"] == [{"key": False}, {"key": True}]
    assert row["t"] == []


def test_the_last_of_a_oneof_and_of_a_key_on_the_wire_counts():
    body = "message M { oneof k { string a = 1; int32 b = 2; } map<string, int32> m = 3; }"
    entry = bytes_field(1, b"k")
    event = b"\x10\x05" + bytes_field(1, b"x")
    event += bytes_field(3, entry + b"\x10\x01") + bytes_field(3, entry + b"\x10\x02")
    assert read(body, event) == {"a": "x", "b": None, "m": [{"key": "k", "value": 2}]}


def test_texts_become_what_their_column_is_and_empty_is_null():
    names = ("JSON", "DATE", "TIME", "DATETIME", "TIMESTAMP", "NUMERIC", "GEOGRAPHY")
    fields = " ".join(
        f'string {name.lower()} = {n} [(bqschema.options).bq_type = "{name}"];'
        for n, name in enumerate(names, 1)
    )
    body = f"""message M {{ {fields} int64 us = 20 [(bqschema.options).bq_type = "TIMESTAMP"];
        int32 days = 21 [(bqschema.options).bq_type = "DATE"]; }}"""
    row = read(
        body,
        json="[1]",
        date="2024-02-29",
        time="01:02:03.5",
        datetime="2024-02-29 01:02:03",
        timestamp="2024-02-29T01:02:03+01:00",
        numeric="-1.50",
        geography="POINT(1 2)",
        us=-1,
        days=-1,
    )
    assert row == {
        "json": "[1]",
        "date": date(2024, 2, 29),
        "time": time(1, 2, 3, 500_000),
        "datetime": datetime(2024, 2, 29, 1, 2, 3),
        "timestamp": datetime(2024, 2, 29, 0, 2, 3, tzinfo=UTC),
        "numeric": Decimal("-1.50"),
        "geography": "POINT(1 2)",
        "us": datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        "days": date(1969, 12, 31),
    }
    empty = read(body)
    assert [empty[name.lower()] for name in names] == [None] * 6 + [""]


def test_columns_that_the_message_lacks_are_null_or_empty_at_every_level():
    loaded = message_type(
        "message M { In i = 1; map<string, int32> m = 2; } message In { int32 x = 1; }"
    )
    inner, mapped = columns_of(loaded)
    gone = Column("gone", ColumnType.STRING)
    many = Column("many", ColumnType.INTEGER, Mode.REPEATED)
    columns = (
        Column("i", ColumnType.RECORD, fields=(gone, *inner.fields)),
        Column("m", ColumnType.RECORD, Mode.REPEATED, fields=(*mapped.fields, gone, many)),
        many,
        gone,
    )
    message = loaded.cls(i={"x": 5}, m={"k": 1})
    assert RowReader(loaded, columns).read(message) == {
        "i": {"gone": None, "x": 5},
        "m": [{"key": "k", "value": 1, "gone": None, "many": []}],
        "many": [],
        "gone": None,
    }


def test_a_column_of_another_type_than_its_field_is_refused():
    loaded = message_type("message M { int32 a = 1; }")
    for column in (Column("a", ColumnType.STRING), Column("a", ColumnType.INTEGER, Mode.REPEATED)):
        with pytest.raises(SchemaError, match=r"column a is .* and NULLABLE INTEGER by field t\.M"):
            RowReader(loaded, (column,))
