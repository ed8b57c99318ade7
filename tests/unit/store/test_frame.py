"""Frames: what is written is read back; what is damaged is found, and nothing else is lost."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventmill.store.local.frame import HEAD_BYTES, Damage, Frame, encode_head, scan

payloads = st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=6)


def segment_of(parts: list[bytes]) -> bytes:
    out = b""
    for number, payload in enumerate(parts, 1):
        out += encode_head(
            payload, sequence=number, received_us=number * 10, version=3, count=number
        )
        out += payload
    return out


@given(payloads)
def test_frames_are_read_back_as_written(parts):
    found = list(scan(segment_of(parts)))
    assert [f.payload for f in found] == parts
    assert [f.sequence for f in found] == list(range(1, len(parts) + 1))
    assert all(f.version == 3 and f.received_us == f.sequence * 10 for f in found)
    assert found[-1].end == len(segment_of(parts))


@given(payloads, st.data())
def test_a_cut_at_any_point_keeps_every_whole_frame_before_it(parts, data):
    content = segment_of(parts)
    cut = data.draw(st.integers(0, len(content)))
    ends = [f.end for f in scan(content)]
    frames = [f for f in scan(content[:cut]) if isinstance(f, Frame)]
    assert [f.payload for f in frames] == parts[: sum(end <= cut for end in ends)]


@settings(max_examples=300)
@given(payloads, st.data())
def test_one_flipped_byte_costs_one_frame_and_is_reported(parts, data):
    content = bytearray(segment_of(parts))
    at = data.draw(st.integers(0, len(content) - 1))
    hit = next(i for i, f in enumerate(scan(bytes(content))) if f.offset <= at < f.end)
    content[at] ^= data.draw(st.integers(1, 255))
    found = list(scan(bytes(content)))
    kept = [f.payload for f in found if isinstance(f, Frame)]
    assert kept == parts[:hit] + parts[hit + 1 :]
    assert sum(isinstance(f, Damage) for f in found) == 1


@given(payloads, st.data())
def test_frames_and_damage_cover_the_segment_without_gap_or_overlap(parts, data):
    junk = data.draw(st.binary(max_size=80))
    place = data.draw(st.integers(0, len(parts)))
    content = segment_of(parts[:place]) + junk + segment_of(parts[place:])
    at = 0
    for found in scan(content):
        assert found.offset == at
        at = found.end if isinstance(found, Frame) else found.offset + found.size
    assert at == len(content)


def test_a_payload_that_looks_like_a_frame_is_not_taken_for_one():
    inner = segment_of([b"inside"])
    found = list(scan(segment_of([inner])))
    assert [f.payload for f in found] == [inner]


@pytest.mark.parametrize("length", [2**31, 2**32 - 1])
def test_a_head_that_claims_an_absurd_length_is_damage(length):
    content = bytearray(segment_of([b"abc"]))
    content[8:12] = length.to_bytes(4, "little")
    found = list(scan(bytes(content)))
    assert found == [Damage(0, HEAD_BYTES + 3)]


@given(st.integers(0, 200), st.binary(min_size=1, max_size=30))
def test_a_frame_that_a_sender_forged_inside_an_event_is_never_found(cut, forged):
    inner = segment_of([forged])
    payload = b"x" * 50 + inner + b"y" * 50
    content = segment_of([payload, b"next"])
    whole = HEAD_BYTES + len(payload)
    torn = content[: min(cut + HEAD_BYTES, whole - 1)]
    assert not [f for f in scan(torn) if isinstance(f, Frame)]
    damaged = bytearray(content)
    damaged[HEAD_BYTES + 10] ^= 1
    assert [f.payload for f in scan(bytes(damaged)) if isinstance(f, Frame)] == [b"next"]
