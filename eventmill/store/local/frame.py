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
    *,
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
    damaged_from: int | None = None
    while at < len(content):
        frame = _frame_at(content, at)
        if frame is None:
            if damaged_from is None:
                damaged_from = at
            found = content.find(MAGIC, at + 1)
            at = len(content) if found < 0 else found
            continue
        if damaged_from is not None:
            yield Damage(damaged_from, at - damaged_from)
            damaged_from = None
        yield frame
        at = frame.end
    if damaged_from is not None:
        yield Damage(damaged_from, len(content) - damaged_from)


def is_torn_tail(stretch: bytes) -> bool:
    """Return whether ``stretch``, at the end of a segment, is the beginning of a frame."""
    if len(stretch) < HEAD_BYTES:
        return stretch[: len(MAGIC)] == MAGIC[: len(stretch)]
    length = _BODY.unpack_from(stretch, _FIXED.size)[0]
    return stretch.startswith(MAGIC) and HEAD_BYTES + length > len(stretch)


def _frame_at(content: bytes, at: int) -> Frame | None:
    if len(content) - at < HEAD_BYTES:
        return None
    magic, head_crc = _FIXED.unpack_from(content, at)
    body = content[at + _FIXED.size : at + HEAD_BYTES]
    if magic != MAGIC or zlib.crc32(body) != head_crc:
        return None
    length, payload_crc, sequence, received_us, version, count = _BODY.unpack(body)
    begin = at + HEAD_BYTES
    if length > PAYLOAD_BYTES_MAX or begin + length > len(content):
        return None
    payload = content[begin : begin + length]
    if zlib.crc32(payload) != payload_crc:
        return None
    return Frame(at, sequence, received_us, version, count, payload)
