"""The judgement on encoded events."""

from __future__ import annotations

import math
import random

import pytest
from google.protobuf.message import DecodeError
from proto_world import PROTO2, RandomSchema, RandomWire, message_type

from eventmill.schema.check import EventCheck
from eventmill.schema.problem import Reason
from eventmill.schema.wire_walk import bytes_field, encode_varint

G = "google.protobuf"
BODY = f"""
message In {{ {G}.Timestamp at = 1; string s = 2; {G}.UInt64Value w = 3; }}
message M {{
  {G}.Timestamp at = 1; {G}.Duration took = 2; uint64 u = 3; repeated fixed64 us = 4;
  In in = 5; repeated In ins = 6; map<string, In> named = 7; map<uint64, string> keyed = 8;
  {G}.Struct doc = 9; repeated {G}.Value values = 10; string text = 11; repeated string texts = 12;
  M deep = 13 [(bqschema.options).bq_type = "JSON"]; repeated {G}.Timestamp ats = 14;
  string day = 15 [(bqschema.options).bq_type = "DATE"];
  repeated string jsons = 16 [(bqschema.options).bq_type = "JSON"];
  int64 micros = 17 [(bqschema.options).bq_type = "TIMESTAMP"];
  map<string, {G}.Value> docs = 18;
}}
"""
LONG = 2**63
BAD_AT = {"nanos": -1}


def judge(event: bytes, *, known: bool = True, body: str = BODY, syntax: str | None = None):
    loaded = message_type(body) if syntax is None else message_type(body, syntax=syntax)
    found = EventCheck(loaded).problems([b"", event, b""], known_schema=known)
    assert [index for index, _ in found] in ([], [1])
    return (found[0][1].reason, found[0][1].field) if found else None


def built(**fields: object) -> bytes:
    return message_type(BODY).cls(**fields).SerializeToString()


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"at": {"seconds": -62135596800}},
        {"at": {"seconds": 253402300799, "nanos": 999_999_999}},
        {"took": {"seconds": 315_576_000_000, "nanos": 5}},
        {"took": {"seconds": 0, "nanos": -5}},
        {"took": {"seconds": -1, "nanos": -5}},
        {"u": LONG - 1},
        {"keyed": {LONG - 1: ""}},
        {"deep": {"u": LONG}},
        {"deep": {"keyed": {LONG: ""}, "day": "never"}},
        {"values": [{}, {"number_value": -0.0}]},
        {"day": "2024-02-29"},
        {"jsons": ["null", "[1e5]"]},
        {"micros": -62135596800 * 10**6},
    ],
)
def test_good_events_are_good(fields: dict):
    assert judge(built(**fields)) is None
    assert judge(built(**fields), known=False) is None


R, N = Reason.OUT_OF_RANGE, Reason.UNREPRESENTABLE


@pytest.mark.parametrize(
    ("fields", "reason", "path"),
    [
        ({"at": {"seconds": 253402300800}}, R, "at"),
        ({"at": {"seconds": -62135596801}}, R, "at"),
        ({"at": {"nanos": 10**9}}, R, "at"),
        ({"ats": [{}, BAD_AT]}, R, "ats[1]"),
        ({"took": {"seconds": 315_576_000_001}}, R, "took"),
        ({"took": {"seconds": 1, "nanos": -1}}, R, "took"),
        ({"took": {"nanos": 10**9}}, R, "took"),
        ({"u": LONG}, R, "u"),
        ({"us": [1, LONG]}, R, "us[1]"),
        ({"in": {"at": BAD_AT}}, R, "in.at"),
        ({"in": {"w": {"value": LONG}}}, R, "in.w"),
        ({"ins": [{}, {"at": BAD_AT}]}, R, "ins[1].at"),
        ({"named": {"k": {"at": BAD_AT}}}, R, 'named["k"].at'),
        ({"keyed": {LONG: ""}}, R, "keyed"),
        ({"deep": {"deep": {"in": {"at": BAD_AT}}}}, R, "deep.deep.in.at"),
        ({"values": [{"number_value": math.inf}]}, N, "values[0].number_value"),
        ({"docs": {"k": {"number_value": math.nan}}}, N, 'docs["k"].number_value'),
        ({"day": "2023-02-29"}, N, "day"),
        ({"jsons": ["1", ""]}, N, "jsons[1]"),
        ({"jsons": ["NaN"]}, N, "jsons[0]"),
        ({"micros": 2**62}, R, "micros"),
    ],
)
def test_values_without_a_place_in_their_column_are_found(fields: dict, reason: Reason, path: str):
    assert judge(built(**fields)) == (reason, path)


def test_a_number_without_json_form_is_found_at_every_depth_of_a_struct():
    event = message_type(BODY).cls()
    event.doc["a"] = [1, {"b": math.nan}]
    path = 'doc.fields["a"].list_value.values[1].struct_value.fields["b"].number_value'
    assert judge(event.SerializeToString()) == (N, path)


@pytest.mark.parametrize(
    ("event", "path"),
    [
        (bytes_field(11, b"\xff"), "text"),
        (bytes_field(12, b"ok") + bytes_field(12, b"\xc0\x80"), "texts[1]"),
        (bytes_field(6, b"") + bytes_field(6, bytes_field(2, b"\xed\xa0\x80")), "ins[1].s"),
        (bytes_field(8, b"\x08\x05" + bytes_field(2, b"\xff")), "keyed.value"),
        (bytes_field(7, bytes_field(1, b"\xff")), "named.key"),
        (b"\x1d\0\0\0\0\x19\0\0\0\0\0\0\0\0\x18\x05" + bytes_field(11, b"\xff"), "text"),
    ],
)
def test_text_that_is_not_utf8_is_found_with_its_path(event: bytes, path: str):
    assert judge(event) == (Reason.INVALID_UTF8, path)


@pytest.mark.parametrize(
    "event",
    [
        b"\x00",
        b"\x0a",
        b"\x5a\x05ab",
        b"\x0a\x01\xff",
        b"\xff" * 11,
        b"\x1b",
        b"\x1c",
        b"\x1f",
        b"\x19\x00",
        bytes_field(2, b"\xff") + bytes_field(11, b"\xff"),
        b"not a message",
    ],
)
def test_bytes_that_are_no_message_are_malformed(event: bytes):
    with pytest.raises(DecodeError):
        message_type(BODY).parse(event)
    assert judge(event) == (Reason.MALFORMED_EVENT, "")


def test_messages_nested_too_deeply_are_malformed():
    event = b""
    for _ in range(150):
        event = bytes_field(13, event)
    assert judge(event) == (Reason.MALFORMED_EVENT, "")


def test_proto2_is_judged_for_required_fields_and_text():
    body = """
        message M { optional string s = 1; repeated In ins = 2; map<string, string> m = 3; }
        message In { required string s = 1; }
    """
    assert judge(bytes_field(1, b"\xff"), body=body, syntax=PROTO2) == (Reason.INVALID_UTF8, "s")
    missing = bytes_field(2, bytes_field(1, b"")) + bytes_field(2, b"")
    assert judge(missing, body=body, syntax=PROTO2) == (Reason.MISSING_REQUIRED, "ins[1].s")
    entry = bytes_field(3, bytes_field(1, b"k") + bytes_field(2, b"\xff"))
    assert judge(entry, body=body, syntax=PROTO2) == (Reason.INVALID_UTF8, 'm["k"]')
    key = bytes_field(3, bytes_field(1, b"\xff"))
    assert judge(key, body=body, syntax=PROTO2) == (Reason.INVALID_UTF8, "m")
    assert judge(bytes_field(1, b"fine"), body=body, syntax=PROTO2) is None


UNKNOWN = encode_varint(99 << 3) + b"\x05"


def test_an_event_of_which_no_field_is_known_is_told_unless_the_sender_is_known():
    assert judge(UNKNOWN, known=False) == (Reason.UNKNOWN_FIELD, "")
    assert judge(UNKNOWN, known=True) is None
    assert judge(UNKNOWN + built(u=1), known=False) is None
    (found,) = EventCheck(message_type(BODY)).problems([UNKNOWN], known_schema=False)
    assert "99" in found[1].message
    assert "apply the newer .proto to this one, then replay" in found[1].message


STAMPS = f"message M {{ {G}.Timestamp a = 1; {G}.Timestamp b = 2; In in = 3; }} message In {{}}"


def stamp(number: int, seconds: int, nanos: int = 0) -> bytes:
    fields = {"seconds": seconds, "nanos": nanos}
    inner = message_type(STAMPS).cls(a=fields).a.SerializeToString()
    return bytes_field(number, inner)


@pytest.mark.parametrize("place", [0, 1, 511, 512, 999])
@pytest.mark.parametrize(
    "bad",
    [stamp(1, LONG - 1), stamp(2, -LONG), stamp(2, 0, -1), stamp(1, 5, 10**9), b"\x0a\x05\x08"],
)
def test_one_bad_event_among_many_good_ones_is_found_at_its_place(place: int, bad: bytes):
    """Such a type is judged by merging events into one message; none may hide another."""
    check = EventCheck(message_type(STAMPS))
    assert check._timestamps == ("a", "b")
    good = [stamp(1, 7, 7) + stamp(2, 8), b"", stamp(2, 9), stamp(1, 0, 999_999_999)]
    events = (good * 250)[:1000]
    assert check.problems(events, known_schema=True) == []
    events[place] = bad
    assert [index for index, _ in check.problems(events, known_schema=True)] == [place]


@pytest.mark.parametrize(
    "body",
    [
        f"message M {{ oneof x {{ {G}.Timestamp a = 1; {G}.Timestamp b = 2; }} }}",
        f"message M {{ repeated {G}.Timestamp a = 1; }}",
        f"message M {{ {G}.Timestamp a = 1; uint64 u = 2; }}",
        f"message M {{ In in = 1; {G}.Timestamp a = 2; }} message In {{ {G}.Timestamp a = 1; }}",
    ],
)
def test_where_merging_could_hide_something_each_event_is_parsed_alone(body: str):
    check = EventCheck(message_type(body))
    assert check._timestamps is None
    assert [i for i, _ in check.problems([b""] * 9 + [b"\xff"], known_schema=True)] == [9]


def test_several_problems_stand_in_order_and_good_events_are_left_out():
    events = [built(u=LONG), built(u=1), b"\xff", built(at=BAD_AT), b""]
    found = EventCheck(message_type(BODY)).problems(events, known_schema=True)
    assert [(index, problem.reason) for index, problem in found] == [
        (0, Reason.OUT_OF_RANGE),
        (2, Reason.MALFORMED_EVENT),
        (3, Reason.OUT_OF_RANGE),
    ]


def test_a_schema_with_nothing_to_check_has_no_checks():
    check = EventCheck(message_type("message M { int32 a = 1; repeated string s = 2; }"))
    assert check._checks == ()
    assert check.problems([b"\x08\x05"], known_schema=True) == []


def test_random_bytes_never_raise_and_mutations_of_good_events_are_judged_as_they_parse():
    for seed in range(150):
        rng = random.Random(seed)
        loaded = RandomSchema(rng).load()
        check, wire = EventCheck(loaded), RandomWire(rng)
        for _ in range(15):
            event = bytearray(wire.event(loaded.descriptor))
            for _ in range(rng.randrange(3)):
                if event:
                    event[rng.randrange(len(event))] = rng.randrange(256)
            problem = check.problem(bytes(event), known_schema=rng.random() < 0.5)
            try:
                loaded.parse(bytes(event))
                parses = True
            except DecodeError:
                parses = False
            assert parses or problem is not None
            if not parses:
                assert problem.reason in (Reason.MALFORMED_EVENT, Reason.INVALID_UTF8)
