"""Event bytes to Arrow: types, the fast reader's special cases, and what the message lacks."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pytest
from proto_world import PROTO2, compiled

from eventmill.base.errors import SchemaError
from eventmill.schema.mapping import spec_from_proto
from eventmill.schema.table import Column, ColumnType, Mode, TableId, TableSpec
from eventmill.schema.wire_walk import bytes_field, encode_varint
from eventmill.wire.columns import ColumnReader

G = "google.protobuf"
US = pa.timestamp("us", tz="UTC")


def spec_of(body: str, syntax: str = 'syntax = "proto3";') -> TableSpec:
    return spec_from_proto(TableId("local", "d", "t"), compiled(body, syntax), "t.M")


def rows(spec: TableSpec, events: list[bytes]) -> list[dict]:
    """Read both ways, see that they agree, and return the rows."""
    array = pa.array(events, pa.binary())
    fast, slow = ColumnReader(spec), ColumnReader(spec, fast=False)
    assert (fast.is_fast, slow.is_fast) == (True, False)
    found = fast.read(array)
    found.validate(full=True)
    assert found.schema == fast.arrow_schema
    assert found.to_pylist() == slow.read(array).to_pylist()
    return found.to_pylist()


def doubtful(spec: TableSpec, events: list[bytes]) -> list[int]:
    fast = ColumnReader(spec)._fast
    assert fast is not None
    return fast.read(pa.array(events, pa.binary()))[1]


def test_each_column_type_has_its_arrow_type():
    body = f"""
        message M {{
          int32 a = 1; float b = 2; bool c = 3; string d = 4; bytes e = 5; {G}.Timestamp f = 6;
          {G}.Duration g = 7; {G}.Struct h = 8 [(bqschema.options).bq_type = "JSON"]; In i = 9;
          repeated In j = 10; map<string, int32> k = 11;
          string l = 12 [(bqschema.options).bq_type = "DATE"];
          string m = 13 [(bqschema.options).bq_type = "NUMERIC"];
          string n = 14 [(bqschema.options).bq_type = "DATETIME"];
          string o = 15 [(bqschema.options).bq_type = "TIME"];
        }}
        message In {{ {G}.Timestamp at = 1; }}
    """
    inner = pa.struct([("at", US)])
    types = {
        "a": pa.int64(),
        "b": pa.float64(),
        "c": pa.bool_(),
        "d": pa.string(),
        "e": pa.binary(),
        "f": US,
        "g": pa.float64(),
        "h": pa.string(),
        "i": inner,
        "j": pa.list_(inner),
        "k": pa.list_(pa.struct([("key", pa.string()), ("value", pa.int64())])),
        "l": pa.date32(),
        "m": pa.decimal128(38, 9),
        "n": pa.timestamp("us"),
        "o": pa.time64("us"),
    }
    spec = spec_of(body)
    assert ColumnReader(spec).arrow_schema == pa.schema(list(types.items()))
    assert rows(spec, []) == []
    assert len(rows(spec, [b""] * 3)) == 3


def test_two_members_of_a_oneof_on_the_wire_are_read_anew():
    body = f"""message M {{ int32 x = 9; oneof k {{ string a = 1; int32 b = 2; {G}.Empty e = 3;
        In m = 4; }} repeated In ins = 5; }}
        message In {{ oneof k {{ int32 a = 1; int32 b = 2; }} }}"""
    a, b, e = bytes_field(1, b"x"), b"\x10\x05", bytes_field(3, b"")
    both = bytes_field(5, b"\x08\x01\x10\x02")
    events = [a, b, a + b, b + a, a + e, e + b, both, bytes_field(4, b"\x08\x01\x10\x02")]
    spec = spec_of(body)
    assert doubtful(spec, events) == [2, 3, 4, 5, 6, 7]
    found = rows(spec, events)
    assert [(row["a"], row["b"]) for row in found[:6]] == [
        ("x", None),
        (None, 5),
        (None, 5),
        ("x", None),
        (None, None),
        (None, 5),
    ]
    assert found[6]["ins"] == [{"a": None, "b": 2}]
    assert found[7]["m"] == {"a": None, "b": 2}


def test_a_key_twice_and_an_entry_without_key_or_value_are_read_anew():
    body = f"""message M {{ map<int32, In> m = 1; map<string, {G}.Value> v = 2; }}
        message In {{ int32 x = 1; }}"""
    entry = b"\x08\x05" + bytes_field(2, b"\x08\x07")
    events = [
        bytes_field(1, entry),
        bytes_field(1, entry) + bytes_field(1, b"\x08\x05" + bytes_field(2, b"\x08\x08")),
        bytes_field(1, b"\x08\x05"),
        bytes_field(1, b""),
        bytes_field(2, b""),
    ]
    spec = spec_of(body)
    assert doubtful(spec, events) == [1, 2, 4] or doubtful(spec, events) == [1, 2, 3, 4]
    assert [row["m"] for row in rows(spec, events)] == [
        [{"key": 5, "value": {"x": 7}}],
        [{"key": 5, "value": {"x": 8}}],
        [{"key": 5, "value": {"x": 0}}],
        [{"key": 0, "value": {"x": 0}}],
        [],
    ]


def test_split_messages_join_packed_and_unpacked_mix_and_long_varints_are_read():
    body = f"""message M {{ In i = 1; repeated int32 r = 2; {G}.Struct s = 3; int32 n = 4;
        {G}.StringValue w = 5; bool b = 6; }} message In {{ int32 x = 1; int32 y = 2; }}"""
    one = bytes_field(1, bytes_field(1, b"k") + bytes_field(2, b"\x20\x01"))
    two = bytes_field(1, bytes_field(1, b"l") + bytes_field(2, b"\x20\x00"))
    event = (
        bytes_field(1, b"\x08\x01")
        + bytes_field(1, b"\x10\x02")
        + b"\x10\x01"
        + bytes_field(2, b"\x02\x03")
        + bytes_field(3, one)
        + bytes_field(3, two)
        + b"\x20\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"
        + bytes_field(5, b"")
        + b"\x30\x80\x80\x00"
    )
    assert rows(spec_of(body), [event]) == [
        {
            "i": {"x": 1, "y": 2},
            "r": [1, 2, 3],
            "s": '{"k":true,"l":false}',
            "n": -1,
            "w": "",
            "b": False,
        }
    ]


def test_unknown_enum_numbers_are_text_and_of_closed_enums_unset():
    body = "enum E { A = 0; B = 5; } message M { E e = 1; repeated E r = 2; }"
    event = b"\x08\x09" + bytes_field(2, b"\x05\x07")
    assert rows(spec_of(body), [event, b"\x08\x05"]) == [
        {"e": "9", "r": ["B", "7"]},
        {"e": "B", "r": []},
    ]
    body = body.replace("{ E e", "{ optional E e")
    closed = spec_of(body, PROTO2)
    assert doubtful(closed, [event, b"\x08\x05"]) == [0]
    assert rows(closed, [event, b"\x08\x05", b"\x08\x05\x08\x09"]) == [
        {"e": None, "r": ["B"]},
        {"e": "B", "r": []},
        {"e": "B", "r": []},
    ]


def test_fields_may_be_declared_in_another_order_than_their_numbers():
    body = """
        message M { string z = 3; In i = 2; int32 a = 1; }
        message In { bool y = 9; string x = 1; }
    """
    event = bytes_field(3, b"z") + bytes_field(2, b"\x48\x01" + bytes_field(1, b"x")) + b"\x08\x07"
    assert rows(spec_of(body), [event]) == [{"z": "z", "i": {"y": True, "x": "x"}, "a": 7}]


def test_columns_that_the_message_lacks_are_null_or_empty():
    spec = spec_of(
        "message M { repeated In i = 1; map<string, In> m = 2; } message In { int32 x = 1; }"
    )
    gone = Column("gone", ColumnType.RECORD, fields=(Column("x", ColumnType.DATE),))
    many = Column("many", ColumnType.TIMESTAMP, Mode.REPEATED)
    listed, mapped = spec.columns
    spec = replace(
        spec,
        columns=(
            many,
            replace(listed, fields=(gone, many, *listed.fields)),
            replace(mapped, fields=(*mapped.fields, many)),
            gone,
        ),
    )
    event = bytes_field(1, b"\x08\x01") + bytes_field(2, bytes_field(1, b"k") + b"\x12\x00")
    assert rows(spec, [event, b""]) == [
        {
            "many": [],
            "i": [{"gone": None, "many": [], "x": 1}],
            "m": [{"key": "k", "value": {"x": 0}, "many": []}],
            "gone": None,
        },
        {"many": [], "i": [], "m": [], "gone": None},
    ]


def test_slices_of_arrays_are_read_at_their_offset():
    spec = spec_of("message M { int32 a = 1; }")
    whole = pa.array([b"\x08" + encode_varint(n) for n in range(10)], pa.binary())
    for fast in (True, False):
        found = ColumnReader(spec, fast=fast).read(whole.slice(3, 4))
        assert found.column(0).to_pylist() == [3, 4, 5, 6]


def test_columns_that_do_not_fit_the_message_are_refused():
    spec = spec_of("message M { int32 a = 1; }")
    with pytest.raises(SchemaError, match="column a is NULLABLE BYTES in the table"):
        ColumnReader(replace(spec, columns=(Column("a", ColumnType.BYTES),)))
