"""Events with fields that the schema does not have."""

from __future__ import annotations

import random

import pytest
from proto_world import PROTO2, RandomSchema, RandomWire, message_type

from eventmill.schema.unknown import UnknownFields
from eventmill.schema.wire_walk import bytes_field, encode_varint

MERGED = """
message In { string s = 1; int32 i = 2; }
message M { In in = 5; repeated In ins = 6; string text = 11; map<string, string> tags = 12; }
"""
ALONE = """
message In { string s = 1; int32 i = 2; }
message M {
  In in = 5; repeated In ins = 6; string text = 11; map<string, In> named = 7;
  oneof choice { In x = 8; In y = 9; }
  M deep = 13 [(bqschema.options).bq_type = "JSON"];
}
"""
UNKNOWN = encode_varint(99 << 3) + b"\x05"


@pytest.mark.parametrize("body", [MERGED.replace("map<string, string> tags = 12;", ""), ALONE])
@pytest.mark.parametrize(
    ("event", "path", "numbers"),
    [
        (UNKNOWN, "", [99]),
        (bytes_field(5, UNKNOWN), "in", [99]),
        (bytes_field(6, b"") + bytes_field(6, UNKNOWN), "ins[1]", [99]),
        # In another wire type than a number, and a known number in a wrong one.
        (encode_varint(99 << 3 | 5) + b"\0\0\0\0", "", [99]),
        (encode_varint(11 << 3) + b"\x05", "", [11]),
    ],
)
def test_they_are_found_at_every_depth(body: str, event: bytes, path: str, numbers: list[int]):
    unknown = UnknownFields(message_type(body))
    known = bytes_field(11, b"x") + bytes_field(5, bytes_field(1, b"y"))
    assert unknown.places([known, event, b"", known + event, known] + [known] * 600) == [1, 3]
    assert unknown.first(event) == (path, numbers)
    assert unknown.first(known) is None
    assert unknown.is_foreign(event) == (path == "")
    assert not unknown.is_foreign(known + event)
    assert not unknown.is_foreign(b"")


def test_a_replaced_member_or_map_value_does_not_take_its_unknown_fields_along():
    unknown = UnknownFields(message_type(ALONE))
    entry = bytes_field(1, b"k") + bytes_field(2, UNKNOWN)
    events = [bytes_field(8, UNKNOWN), bytes_field(9, b""), bytes_field(7, entry)]
    events.append(bytes_field(7, bytes_field(1, b"k")))
    assert unknown.places(events) == [0, 2]
    assert unknown.first(events[2]) == ('named["k"]', [99])
    assert unknown.places([bytes_field(13, bytes_field(13, UNKNOWN))]) == [0]


def test_a_closed_enum_without_the_number_counts_as_unknown():
    body = "message M { optional E e = 1; } enum E { A = 1; }"
    unknown = UnknownFields(message_type(body, syntax=PROTO2))
    assert unknown.places([b"\x08\x01", b"\x08\x07"]) == [1]


def test_merging_answers_as_asking_each_event_does():
    for seed in range(100):
        rng = random.Random(seed)
        loaded = RandomSchema(rng).load()
        unknown, wire = UnknownFields(loaded), RandomWire(rng)
        events = [wire.event(loaded.descriptor) for _ in range(20)]
        events = [event + UNKNOWN * rng.randrange(2) for event in events]
        alone = [place for place, event in enumerate(events) if unknown.first(event)]
        assert unknown.places(events) == alone, seed
