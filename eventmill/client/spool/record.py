"""One staged event in a segment: a head with two checksums, then the insert ID, then the event.

Head, 24 bytes, little-endian::

    2s kind | u16 bytes of the insert ID | u32 bytes of ID and event
    | f64 staged, seconds since 1970 | u32 crc32 of these, begun with the segment's salt
    | u32 crc32 of ID and event, begun with that checksum

A head that is whole says where its record ends even if what follows is damaged. The salt differs
from owner to owner, so that an event which is itself a piece of a spool is never read as records.
A segment's first record is of kind ``HEADER`` and says, as JSON, what the others are.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field
from zlib import crc32

ENCODED = b"E\x9d"
"""An event as the bytes of its message."""
ROW = b"J\x9d"
"""An event as JSON, staged before its table's schema was known."""
HEADER = b"H\x9d"
_LOST = b""
_ANY_KIND = re.compile(rb"[EJH]\x9d")

_FIELDS = struct.Struct("<2sHId")
_CHECKSUMS = struct.Struct("<II")
_HEAD = struct.Struct("<2sHIdII")
HEAD_BYTES = _HEAD.size
BODY_BYTES_MAX = 16_000_000
"""More than any event and its insert ID have."""


def encode_record(
    kind: bytes, insert_id: bytes, payload: bytes, staged_at: float, salt: int
) -> bytes:
    """Return a record of ``kind``.

    Args:
        kind: ``ENCODED``, ``ROW`` or ``HEADER``.
        insert_id: at most 65,535 bytes.
        payload: the event.
        staged_at: seconds since 1970.
        salt: of the segment that it is for.
    """
    body = insert_id + payload
    fields = _FIELDS.pack(kind, len(insert_id), len(body), staged_at)
    checksum = crc32(fields, salt)
    return fields + _CHECKSUMS.pack(checksum, crc32(body, checksum)) + body


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
    """Stretches, as (begin, end), that fail their checksum: one record each, unless several heads
    in a row are lost."""

    def events(self) -> list[tuple[bytes, bytes, bool]]:
        """Return (insert ID, payload, is row) of each event."""
        rows = set(self.rows)
        pairs = enumerate(zip(self.ids, self.payloads, strict=True))
        return [(insert_id, payload, place in rows) for place, (insert_id, payload) in pairs]


def decode_records(
    content: bytes, *, salt: int, count_max: int, bytes_max: int, is_rest: bool
) -> Records:
    """Read records from the beginning of ``content``.

    Stops before ``count_max`` events or ``bytes_max`` bytes are passed (one event is read
    always), and at a record that goes beyond ``content``. With ``is_rest`` nothing follows
    ``content``: such a record is torn, as its process ended before it was staged.
    """
    found = Records()
    at = 0
    total = len(content)
    ids, payloads = found.ids, found.payloads
    while total - at >= HEAD_BYTES:
        begin = at + HEAD_BYTES
        kind, id_size, size, staged_at, checksum, body_checksum = _HEAD.unpack_from(content, at)
        end = begin + size
        if crc32(content[at : at + _FIELDS.size], salt) != checksum:
            end = _next_head(content, at + 1, salt) or (total if is_rest else total + 1)
            kind = _LOST
        if end > total:
            break
        if payloads and kind != HEADER and (len(payloads) >= count_max or end > bytes_max):
            break
        body = content[begin:end]
        if kind == _LOST or crc32(body, checksum) != body_checksum:
            found.damaged.append((at, end))
        elif kind == HEADER:
            found.header = body
        else:
            if kind == ROW:
                found.rows.append(len(payloads))
            if found.staged_at is None:
                found.staged_at = staged_at
            ids.append(body[:id_size])
            payloads.append(body[id_size:])
        found.end = at = end
    return found


def _next_head(content: bytes, start: int, salt: int) -> int | None:
    """Return where the next whole head begins at or after ``start``; None: none does."""
    for match in _ANY_KIND.finditer(content, start):
        at = match.start()
        if at > len(content) - HEAD_BYTES:
            break
        checksum, _ = _CHECKSUMS.unpack_from(content, at + _FIELDS.size)
        if crc32(content[at : at + _FIELDS.size], salt) == checksum:
            return at
    return None
