"""One batch in the log: a frame with a checksummed head and a checksummed payload.

Head, 40 bytes, little-endian::

    4s magic "EMF1" | u32 crc32 of the 32 bytes that follow | u32 payload length
    | u32 crc32 of the payload | u64 sequence | i64 received, microseconds since 1970
    | u32 version of the table's definition | u32 events

The head has a checksum of its own so that its length can be trusted: when one payload is damaged,
the frames behind it are found and kept, instead of everything after the damage being cut.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

MAGIC = b"EMF1"
HEAD_BYTES = 40
_FIXED = struct.Struct("<4sI")
_BODY = struct.Struct("<IIQqII")
PAYLOAD_BYTES_MAX = 64_000_000
"""No head that claims more is believed; far above any batch."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One whole frame as found in a segment."""

    offset: int
    """Where its head begins, in bytes from the start of the segment."""
    sequence: int
    received_us: int
    version: int
    count: int
    payload: bytes

    @property
    def end(self) -> int:
        """Offset of the byte behind it."""
        return self.offset + HEAD_BYTES + len(self.payload)


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes of a segment that are no frame."""

    offset: int
    size: int


def encode_head(
    payload: bytes,
    sequence: int,
    received_us: int,
    version: int,
    count: int,
    checksum: int | None = None,
) -> bytes:
    """Return the head that goes before ``payload``, whose crc32 may be known already."""
    if checksum is None:
        checksum = zlib.crc32(payload)
    body = _BODY.pack(len(payload), checksum, sequence, received_us, version, count)
    return _FIXED.pack(MAGIC, zlib.crc32(body)) + body


def scan(content: bytes, start: int = 0) -> Iterator[Frame | Damage]:
    """Yield every whole frame of ``content`` from ``start`` on, and each stretch between them.

    A stretch of damage at the very end may be a torn tail: the beginning of a frame that was
    being written when the program died, and that nobody was told is stored.
    """
    at = start
    damaged_from = at
    while at < len(content):
        head = _head_at(content, at)
        if head is None:
            # Only here is a frame looked for: bytes inside a frame that is whole, or whose head
            # is, are never taken for one, whatever a sender has put into them.
            found = content.find(MAGIC, at + 1)
            at = len(content) if found < 0 else found
            continue
        frame = _frame_of(head, content, at)
        if frame is not None:
            if damaged_from < at:
                yield Damage(damaged_from, at - damaged_from)
            yield frame
            damaged_from = frame.end
        at += HEAD_BYTES + head[0]
    if damaged_from < len(content):
        yield Damage(damaged_from, len(content) - damaged_from)


def is_torn_tail(stretch: bytes) -> bool:
    """Return whether ``stretch``, at the end of a segment, is the beginning of a frame."""
    if len(stretch) < HEAD_BYTES:
        return stretch[: len(MAGIC)] == MAGIC[: len(stretch)]
    length = _BODY.unpack_from(stretch, _FIXED.size)[0]
    return stretch.startswith(MAGIC) and HEAD_BYTES + length > len(stretch)


_Head = tuple[int, int, int, int, int, int]


def _head_at(content: bytes, at: int) -> _Head | None:
    """Return the fields of a sound head: length, checksum, sequence, received, version, count."""
    if len(content) - at < HEAD_BYTES:
        return None
    magic, head_crc = _FIXED.unpack_from(content, at)
    body = content[at + _FIXED.size : at + HEAD_BYTES]
    if magic != MAGIC or zlib.crc32(body) != head_crc:
        return None
    head: _Head = _BODY.unpack(body)
    return head if head[0] <= PAYLOAD_BYTES_MAX else None


def _frame_of(head: _Head, content: bytes, at: int) -> Frame | None:
    length, checksum, sequence, received_us, version, count = head
    begin = at + HEAD_BYTES
    payload = content[begin : begin + length]
    if len(payload) < length or zlib.crc32(payload) != checksum:
        return None
    return Frame(at, sequence, received_us, version, count, payload)
