"""One staged event in a segment: a head with a checksum, then the insert ID, then the event.

Head, 20 bytes, little-endian::

    2s kind | u16 bytes of the insert ID | u32 bytes of ID and event | u32 crc32 of those
    | f64 staged, seconds since 1970

The checksum begins with both lengths, so that a damaged head does not pass either. A segment's
first record is of kind ``HEADER`` and says, as JSON, what the others are.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field

ENCODED = b"E\x9d"
"""An event as the bytes of its message."""
ROW = b"J\x9d"
"""An event as JSON, staged before its table's schema was known."""
HEADER = b"H\x9d"
_KINDS = (ENCODED, ROW, HEADER)

HEAD_BYTES = 20
_HEAD = struct.Struct("<2sHIId")
BODY_BYTES_MAX = 16_000_000
"""No head that claims more is believed; far above any event."""


def encode_record(kind: bytes, insert_id: bytes, payload: bytes, staged_at: float) -> bytes:
    """Return a record of ``kind``.

    Args:
        kind: ``ENCODED``, ``ROW`` or ``HEADER``.
        insert_id: at most 65,535 bytes.
        payload: the event.
        staged_at: seconds since 1970.
    """
    body = insert_id + payload
    size, id_size = len(body), len(insert_id)
    checksum = zlib.crc32(body, size << 8 ^ id_size)
    return _HEAD.pack(kind, id_size, size, checksum, staged_at) + body


@dataclass(slots=True)
class Records:
    """What a stretch of a segment holds."""

    ids: list[bytes] = field(default_factory=list)
    payloads: list[bytes] = field(default_factory=list)
    """In order, as ``ids``."""
    rows: list[int] = field(default_factory=list)
    """Places of those that are JSON."""
    header: bytes | None = None
    """Payload of the header among them; None: there is none."""
    staged_at: float | None = None
    """When the first event was staged; None: there is none."""
    end: int = 0
    """Where the first byte lies that belongs to none of them, and may begin another."""
    damaged: list[tuple[int, int]] = field(default_factory=list)
    """Stretches, as (begin, end), that are no record but have one behind them."""


def decode_records(content: bytes, *, count_max: int, bytes_max: int, is_rest: bool) -> Records:
    """Read records from the beginning of ``content``.

    Stops before ``count_max`` events or ``bytes_max`` bytes are passed (one event is read
    always), and at a record that goes beyond ``content``. With ``is_rest`` nothing follows
    ``content``: such a record is then damaged, if whole ones stand behind it, or torn.
    """
    found = Records()
    at = 0
    total = len(content)
    ids, payloads = found.ids, found.payloads
    while total - at >= HEAD_BYTES:
        kind, id_size, size, checksum, staged_at = _HEAD.unpack_from(content, at)
        begin = at + HEAD_BYTES
        end = begin + size
        body = content[begin:end]
        if kind not in _KINDS or zlib.crc32(body, size << 8 ^ id_size) != checksum:
            if end > total and not is_rest and kind in _KINDS and size <= BODY_BYTES_MAX:
                break
            after = _next_record(content, at + 1)
            if after is None:
                break
            found.damaged.append((at, after))
            found.end = at = after
            continue
        if kind == HEADER:
            found.header = body
        else:
            if payloads and (len(payloads) >= count_max or end > bytes_max):
                break
            if kind == ROW:
                found.rows.append(len(payloads))
            if found.staged_at is None:
                found.staged_at = staged_at
            ids.append(body[:id_size])
            payloads.append(body[id_size:])
        found.end = at = end
    return found


def _next_record(content: bytes, start: int) -> int | None:
    """Return where the next whole record begins at or after ``start``; None: none does."""
    places = [place for kind in _KINDS if (place := content.find(kind, start)) >= 0]
    while places:
        place = min(places)
        if _is_whole(content, place):
            return place
        places = [found for kind in _KINDS if (found := content.find(kind, place + 1)) >= 0]
    return None


def _is_whole(content: bytes, at: int) -> bool:
    if len(content) - at < HEAD_BYTES:
        return False
    _, id_size, size, checksum, _ = _HEAD.unpack_from(content, at)
    body = content[at + HEAD_BYTES : at + HEAD_BYTES + size]
    return len(body) == size and bool(zlib.crc32(body, size << 8 ^ id_size) == checksum)
