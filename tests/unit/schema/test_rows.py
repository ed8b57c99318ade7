"""Rows of JSON and Python values: what is taken, what is refused, and where it is said to be."""

from __future__ import annotations

import base64
import json
import math
import random
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from proto_world import PROTO2, RandomSchema, RandomWire, message_type

from eventmill.schema.check import EventCheck
from eventmill.schema.json_text import message_text
from eventmill.schema.problem import EventProblem, Reason
from eventmill.schema.rows import RowEncoder

G = "google.protobuf"
BODY = f"""
enum E {{ A = 0; B = 1; }}
message In {{ string s = 1; {G}.Timestamp at = 2; repeated In2 more = 3; }}
message In2 {{ int32 x = 1; }}
message M {{
  int32 i32 = 1; int64 i64 = 2; uint32 u32 = 3; uint64 u64 = 4;
  float f32 = 5; double f64 = 6; bool flag = 7; string text = 8; bytes raw = 9; E e = 10;
  {G}.Timestamp at = 11; {G}.Duration took = 12; In inner = 13; repeated In inners = 14;
  map<string, int32> counts = 15; map<int32, In> by_number = 16; map<bool, string> by_flag = 17;
  {G}.StringValue ws = 18; {G}.Int64Value wi = 19; {G}.BoolValue wb = 20;
  {G}.Struct doc = 21; {G}.Value any_json = 22; {G}.ListValue list = 23;
  {G}.Any any = 24; {G}.FieldMask mask = 25; {G}.Empty nothing = 26;
  oneof pick {{ string left = 27; int32 right = 28; }}
  repeated int32 numbers = 29; repeated {G}.Value values = 30; optional int32 maybe = 31;
  string day = 32 [(bqschema.options).bq_type = "DATE"];
  string json = 33 [(bqschema.options).bq_type = "JSON"];
  string amount = 34 [(bqschema.options).bq_type = "NUMERIC"];
  int64 micros = 35 [(bqschema.options).bq_type = "TIMESTAMP"];
  int32 days = 36 [(bqschema.options).bq_type = "DATE"];
  In tree = 37 [(bqschema.options).bq_type = "JSON"];
  repeated {G}.DoubleValue wds = 38;
  string clock = 39 [(bqschema.options).bq_type = "TIME"];
}}
"""
LONG = 2**63


class Colour(IntEnum):
    B = 1


class Word(Enum):
    B = "B"


def encoder() -> RowEncoder:
    return RowEncoder(message_type(BODY))


def read(row: dict[str, Any]) -> Any:
    loaded = message_type(BODY)
    event = encoder().encode(row)
    assert EventCheck(loaded).problems([event], known_schema=False) == []
    return loaded.parse(event)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("i32", 5, 5),
        ("i32", 5.0, 5),
        ("i32", "-5", -5),
        ("i32", Decimal(7), 7),
        ("i32", Colour.B, 1),
        ("i64", -LONG, -LONG),
        ("u64", str(LONG - 1), LONG - 1),
        ("f32", 1, 1.0),
        ("f64", "1e3", 1000.0),
        ("f64", "-Infinity", -math.inf),
        ("f64", Decimal("1.5"), 1.5),
        ("flag", True, True),
        ("text", "ä€😀", "ä€😀"),
        ("raw", b"\xff", b"\xff"),
        ("raw", "/-_+", base64.b64decode("/+/+")),
        ("raw", "YQ", b"a"),
        ("raw", bytearray(b"x"), b"x"),
        ("e", "B", 1),
        ("e", 1, 1),
        ("e", "1", 1),
        ("e", 77, 77),
        ("e", Colour.B, 1),
        ("e", Word.B, 1),
        ("numbers", [1, 2.0, "3"], [1, 2, 3]),
        ("numbers", (n for n in (4, 5)), [4, 5]),
        ("day", date(2024, 2, 29), "2024-02-29"),
        ("json", {"a": [1, None]}, '{"a":[1,null]}'),
        ("json", '"text"', '"text"'),
        ("amount", Decimal("1.50"), "1.50"),
        ("clock", time(1, 2, 3), "01:02:03"),
        ("micros", "1970-01-01T00:00:01.5Z", 1_500_000),
        ("micros", datetime(1970, 1, 1, 0, 0, 2, tzinfo=UTC), 2_000_000),
        ("micros", 5, 5),
        ("days", "1970-01-03", 2),
        ("days", date(1969, 12, 31), -1),
        ("left", "x", "x"),
        ("maybe", 0, 0),
    ],
)
def test_each_scalar_is_taken_in_every_form_that_says_one_thing(
    name: str, value: Any, expected: Any
):
    found = getattr(read({name: value}), name)
    assert (list(found) if isinstance(expected, list) else found) == expected


@pytest.mark.parametrize(
    ("value", "seconds", "nanos"),
    [
        ("1970-01-01T00:00:00Z", 0, 0),
        ("2024-02-29t23:59:59.123456789z", 1709251199, 123456789),
        ("2024-02-29 23:59:59.1234567891234+00:00", 1709251199, 123456789),
        ("1970-01-01T01:30:00.5+01:30", 0, 500_000_000),
        ("1969-12-31T23:59:59.5Z", -1, 500_000_000),
        ("0001-01-01T00:00:00Z", -62135596800, 0),
        ("9999-12-31T23:59:59.999999999Z", 253402300799, 999_999_999),
        (datetime(1970, 1, 1, 0, 0, 1, 5, tzinfo=UTC), 1, 5000),
        (datetime(1970, 1, 1, tzinfo=timezone(timedelta(hours=1))), -3600, 0),
        (date(1970, 1, 2), 86400, 0),
        ({"seconds": 5, "nanos": 6}, 5, 6),
    ],
)
def test_timestamps_are_taken_from_text_and_python(value: Any, seconds: int, nanos: int):
    at = read({"at": value}).at
    assert (at.seconds, at.nanos) == (seconds, nanos)


@pytest.mark.parametrize(
    ("value", "seconds", "nanos"),
    [
        ("1.5s", 1, 500_000_000),
        ("-0.000000001s", 0, -1),
        (2, 2, 0),
        (-1.25, -1, -250_000_000),
        (0.1, 0, 100_000_000),
        (timedelta(days=-1, microseconds=1), -86399, -999_999_000),
        ("315576000000s", 315_576_000_000, 0),
    ],
)
def test_durations_are_taken_from_text_numbers_and_python(value: Any, seconds: int, nanos: int):
    took = read({"took": value}).took
    assert (took.seconds, took.nanos) == (seconds, nanos)


def test_messages_maps_wrappers_and_documents_are_taken():
    made = read(
        {
            "inner": {"s": "x", "more": [{}, {"x": 1}]},
            "inners": [{"s": "y"}, {}],
            "counts": {"b": 1, "a": 2},
            "by_number": {"7": {"s": "seven"}},
            "by_flag": {"true": "yes"},
            "ws": "w",
            "wi": 0,
            "wb": False,
            "wds": [1, "NaN"],
            "doc": {"a": [1, "x", None, True, {"b": 1.5}], "": -0.5},
            "any_json": None,
            "values": [None, 1, {}],
            "list": [[], {}],
            "any": {"type_url": "t/x", "value": "YQ=="},
            "mask": "a,b.c",
            "nothing": {},
            "tree": {"s": "deep", "at": "2024-01-01T00:00:00Z"},
        }
    )
    assert [one.x for one in made.inner.more] == [0, 1]
    assert dict(made.counts) == {"a": 2, "b": 1}
    assert made.by_number[7].s == "seven"
    assert dict(made.by_flag) == {True: "yes"}
    assert (made.ws.value, made.HasField("wi"), made.HasField("wb")) == ("w", True, True)
    assert math.isnan(made.wds[1].value)
    assert message_text(made.doc) == '{"":-0.5,"a":[1,"x",null,true,{"b":1.5}]}'
    assert made.HasField("any_json")
    assert made.any_json.WhichOneof("kind") == "null_value"
    assert message_text(made.list) == "[[],{}]"
    assert [one.WhichOneof("kind") for one in made.values] == [
        "null_value",
        "number_value",
        "struct_value",
    ]
    assert (made.any.value, list(made.mask.paths)) == (b"a", ["a", "b.c"])
    assert made.HasField("nothing")
    assert made.tree.at.seconds == 1704067200


def test_names_may_be_of_proto_or_json_and_null_means_unset():
    made = read({"byNumber": {3: {"s": "x"}}, "i32": None, "inner": None, "numbers": None})
    assert list(made.by_number) == [3]
    assert not made.HasField("inner")
    as_rows = read({"counts": [{"key": "a", "value": 1}, {"key": "b", "value": 2}]})
    assert dict(as_rows.counts) == {"a": 1, "b": 2}
    assert read({"mask": ["a"]}).mask.paths == read({"mask": {"paths": ["a"]}}).mask.paths


W, R, U, N = (
    Reason.WRONG_TYPE,
    Reason.OUT_OF_RANGE,
    Reason.UNKNOWN_FIELD,
    Reason.UNREPRESENTABLE,
)


@pytest.mark.parametrize(
    ("row", "reason", "field", "words"),
    [
        ({"i32": True}, W, "i32", "True (bool) is not an integer"),
        ({"i32": 1.5}, W, "i32", "1.5"),
        ({"i32": "1.0"}, W, "i32", "integer"),
        ({"i32": "x" * 99}, W, "i32", "..."),
        ({"i32": 2**31}, R, "i32", "2147483647"),
        ({"i32": math.nan}, W, "i32", "nan"),
        ({"u32": -1}, R, "u32", "0 to 4294967295"),
        ({"u64": LONG}, R, "u64", "most an INTEGER holds"),
        ({"u64": 2**64}, R, "u64", "lies outside"),
        ({"i64": 10**400}, R, "i64", "lies outside"),
        ({"f32": 1e39}, R, "f32", "32-bit"),
        ({"f64": 10**400}, R, "f64", "double"),
        ({"f64": "1e999"}, R, "f64", "double"),
        ({"f64": "nan"}, W, "f64", "number"),
        ({"f64": False}, W, "f64", "number"),
        ({"f64": {}}, W, "f64", "number"),
        ({"flag": 1}, W, "flag", "true or false"),
        ({"flag": "true"}, W, "flag", "true or false"),
        ({"text": 5}, W, "text", "string"),
        ({"text": b"x"}, W, "text", "string"),
        ({"text": "\ud800"}, Reason.INVALID_UTF8, "text", "surrogate"),
        ({"counts": {"\ud800": 1}}, Reason.INVALID_UTF8, 'counts["\ud800"]', "surrogate"),
        ({"raw": "?"}, W, "raw", "base64"),
        ({"raw": 5}, W, "raw", "base64"),
        ({"e": "BB"}, W, "e", "(did you mean B?); valid values: A, B"),
        ({"e": 2**31}, R, "e", "lies outside"),
        ({"at": 1700000000}, W, "at", "RFC 3339"),
        ({"at": "2024-01-01T00:00:00"}, W, "at", "RFC 3339"),
        ({"at": "2024-02-30T00:00:00Z"}, W, "at", "no such day"),
        ({"at": "2024-01-01T24:00:00Z"}, W, "at", "no such time"),
        ({"at": "2024-01-01T00:00:00+99:00"}, W, "at", "no such offset"),
        ({"at": "0001-01-01T00:00:00+01:00"}, R, "at", "0001-01-01"),
        ({"at": "0000-01-01T00:00:00Z"}, R, "at", "years 1 to 9999"),
        ({"at": "0000-12-31t23:59:59.5+01:00"}, R, "at", "years 1 to 9999"),
        ({"at": "10000-01-01T00:00:00Z"}, R, "at", "years 1 to 9999"),
        ({"at": "-0001-01-01T00:00:00Z"}, R, "at", "years 1 to 9999"),
        ({"at": "2024-00-01T00:00:00Z"}, W, "at", "no such day"),
        ({"at": {"seconds": 0, "nanos": -1}}, R, "at", "nanos"),
        ({"at": True}, W, "at", "RFC 3339"),
        ({"took": "1.5"}, W, "took", "1.5s"),
        ({"took": math.inf}, W, "took", "length of time"),
        ({"took": 10**12}, R, "took", "315,576,000,000"),
        ({"took": -1e300}, R, "took", "315,576,000,000"),
        ({"took": 10**400}, R, "took", "315,576,000,000"),
        ({"took": -math.inf}, W, "took", "length of time"),
        ({"inner": 5}, W, "inner", "object"),
        ({"inner": {"s": 5}}, W, "inner.s", "string"),
        ({"inners": [{}, {"more": [{}, {"x": "a"}]}]}, W, "inners[1].more[1].x", "integer"),
        ({"inners": {"s": "x"}}, W, "inners", "a list"),
        ({"inners": [None]}, W, "inners[0]", "null"),
        ({"numbers": "12"}, W, "numbers", "a list"),
        ({"numbers": 5}, W, "numbers", "a list"),
        ({"counts": {"a": "x"}}, W, 'counts["a"]', "integer"),
        ({"counts": {"a": None}}, W, 'counts["a"]', "null"),
        ({"counts": [{"key": "a"}]}, W, "counts[0]", "key and value"),
        ({"counts": [{"key": "a", "value": 1}] * 2}, W, 'counts["a"]', "twice"),
        ({"counts": 5}, W, "counts", "key, value"),
        ({"by_number": {"x": {}}}, W, 'by_number["x"]', "integer"),
        ({"by_number": {5: {"at": 1}}}, W, "by_number[5].at", "RFC 3339"),
        ({"ws": 5}, W, "ws", "string"),
        ({"wi": {"value": 5}}, W, "wi", "integer"),
        ({"doc": [1]}, W, "doc", "object"),
        ({"doc": {"a": math.nan}}, N, "doc.a", "no form in JSON"),
        ({"doc": {"a": [2**53 + 1]}}, R, "doc.a[0]", "write it as text"),
        ({"doc": {5: 1}}, W, "doc", "strings"),
        ({"doc": {"a": object()}}, W, "doc.a", "JSON"),
        ({"list": {}}, W, "list", "a list"),
        ({"any": {"@type": "x"}}, U, "any.@type", "no field"),
        ({"left": "x", "right": 1}, W, "right", "of one oneof (pick)"),
        ({"i32": 1, "i_32": 2}, U, "i_32", "did you mean i32?"),
        ({"by_number": {}, "byNumber": {}}, W, "by_number", "twice"),
        ({5: 1}, U, "5", "no field"),
        ([], W, "", "object"),
        ({"day": "29.02.2024"}, N, "day", "2026-01-31"),
        ({"day": "2023-02-29"}, N, "day", "DATE"),
        ({"json": "{"}, N, "json", "JSON"),
        ({"json": {"a": math.nan}}, W, "json", "JSON"),
        ({"amount": "1e5"}, N, "amount", "29 digits"),
        ({"amount": Decimal("0.1234567891")}, N, "amount", "9 after"),
        ({"clock": "25:00:00"}, N, "clock", "TIME"),
        ({"micros": LONG - 1}, R, "micros", "years 1 to 9999"),
        ({"micros": "0000-01-01T00:00:00Z"}, R, "micros", "years 1 to 9999"),
        ({"days": 2**31 - 1}, R, "days", "years 1 to 9999"),
        ({"days": "0000-01-01"}, R, "days", "years 1 to 9999"),
        ({"days": "10000-01-01"}, R, "days", "years 1 to 9999"),
        ({"days": "-0044-03-15"}, R, "days", "years 1 to 9999"),
        ({"days": "2024-02-30"}, W, "days", "a date such as"),
        ({"tree": {"at": 5}}, W, "tree.at", "RFC 3339"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(
    row: Any, reason: Reason, field: str, words: str
):
    with pytest.raises(EventProblem) as caught:
        encoder().encode(row)
    assert (caught.value.reason, caught.value.field) == (reason, field)
    assert words in caught.value.message


def test_proto2_required_fields_and_closed_enums_are_judged():
    body = """
        message M { required int32 a = 1; optional In i = 2;
        optional E e = 3; } message In { required string s = 1; } enum E {
        X = 1; }
    """
    made = RowEncoder(message_type(body, syntax=PROTO2))
    assert made.encode({"a": 1, "i": {"s": ""}})
    for row, field in (({}, "a"), ({"a": 1, "i": {}}, "i.s")):
        with pytest.raises(EventProblem, match="required") as caught:
            made.encode(row)
        assert (caught.value.reason, caught.value.field) == (Reason.MISSING_REQUIRED, field)
    with pytest.raises(EventProblem, match="closed"):
        made.encode({"a": 1, "e": 9})


def test_documents_and_rows_that_are_too_deep_are_refused_before_protobuf_fails():
    deep: Any = []
    for _ in range(60):
        deep = [deep]
    with pytest.raises(EventProblem, match="100 levels"):
        encoder().encode({"list": deep})
    body = 'message M { N n = 1 [(bqschema.options).bq_type = "JSON"]; } message N { N n = 1; }'
    made = RowEncoder(message_type(body))
    row: Any = {}
    for _ in range(120):
        row = {"n": row}
    with pytest.raises(EventProblem, match="100 levels"):
        made.encode(row)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=3), below),
    max_leaves=8,
)
NAMES = [field.name for field in message_type(BODY).descriptor.fields]


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from([*NAMES, "byNumber", "gone"]), JSON, max_size=4))
def test_any_json_is_encoded_to_a_good_event_or_refused_as_a_problem(row: dict[str, Any]):
    loaded = message_type(BODY)
    try:
        event = encoder().encode(row)
    except EventProblem:
        return
    assert EventCheck(loaded).problems([event], known_schema=False) == []


def test_the_json_text_of_a_message_is_read_back_to_the_same_message():
    compared = 0
    for seed in range(400):
        rng = random.Random(seed)
        loaded = RandomSchema(rng).load()
        check, made = EventCheck(loaded), RowEncoder(loaded)
        for _ in range(5):
            event = RandomWire(rng).event(loaded.descriptor)
            if check.problems([event], known_schema=False):
                continue
            message = loaded.parse(event)
            again = loaded.parse(made.encode(json.loads(message_text(message))))
            # Compared as text, in which NaN equals itself.
            assert message_text(again) == message_text(message), seed
            compared += 1
    assert compared > 300


def test_a_datetime_without_a_time_zone_is_refused_as_a_moment():
    with pytest.raises(EventProblem, match=r"astimezone\(\)") as raised:
        encoder().encode({"at": datetime(2024, 5, 1, 12)})
    assert (raised.value.reason, raised.value.field) == (Reason.WRONG_TYPE, "at")
