"""A batch: 1 to 10,000 encoded events of one table, in the one form they have on the wire and in
the log.

Layout of a payload, all integers little-endian::

    u32 count | u32 reserved (0) | i32 id_offsets[count+1] | i32 event_offsets[count+1]
    | insert IDs, one after another | events, one after another

Offsets count from the start of their own region, begin with 0 and never fall. The two offset
arrays are laid out as Arrow lays out binary columns, so that compaction hands a payload to Arrow
without touching single events, and a sender builds one with two joins.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import accumulate, pairwise

from eventmill.base.errors import BatchError, BatchTooLargeError
from eventmill.schema.table import TableId

BATCH_EVENTS_MAX = 10_000
"""Events in one batch."""
BATCH_BYTES_MAX = 9_000_000
"""Bytes of one payload. BigQuery's Storage Write API takes 10 MB a request; the reference library
keeps to 9,000,000, and so does every hop here."""
EVENT_BYTES_MAX = 1_000_000
"""Bytes of one encoded event."""
INSERT_ID_CHARACTERS_MAX = 128
"""Characters of one insert ID (BigQuery's limit)."""

_HEAD = struct.Struct("<II")
_ONE_EVENT = struct.Struct("<IIiiii")


class Batch:
    """Events of one table, encoded, each with its insert ID. Immutable."""

    __slots__ = (
        "_event_region",
        "_id_region",
        "_offsets",
        "client",
        "count",
        "fingerprint",
        "payload",
        "table",
    )

    def __init__(
        self,
        table: TableId,
        fingerprint: str,
        payload: bytes,
        *,
        client: str = "",
        bytes_max: int = BATCH_BYTES_MAX,
    ) -> None:
        """Read a payload and check its structure, not its events.

        Args:
            table: the table that the events are for.
            fingerprint: of the message type that the sender encoded with; empty when unknown.
            payload: see the module's docstring.
            client: who sent it, by its own word; kept with events that are rejected.
            bytes_max: limit of the payload; only the store's own tables go beyond the default.

        Raises:
            BatchError: the payload is cut short or its offsets do not fit together.
            BatchTooLargeError: more events or bytes than a batch may have.
        """
        self.table = table
        self.fingerprint = fingerprint
        self.payload = payload
        self.client = client
        size = len(payload)
        if size > bytes_max:
            raise BatchTooLargeError(f"the batch has {size:,} bytes; the limit is {bytes_max:,}")
        if size < _HEAD.size:
            raise BatchError(f"the batch is cut short: {size} bytes")
        count, reserved = _HEAD.unpack_from(payload)
        if not count or reserved:
            raise BatchError("the batch has no events or is not in this format")
        if count > BATCH_EVENTS_MAX:
            raise BatchTooLargeError(
                f"the batch has {count:,} events; the limit is {BATCH_EVENTS_MAX:,}"
            )
        start = _HEAD.size + 8 * (count + 1)
        if size < start:
            raise BatchError(f"the batch is cut short: {size} of at least {start} bytes")
        offsets = struct.unpack_from(f"<{2 * (count + 1)}i", payload, _HEAD.size)
        id_total, event_total = offsets[count], offsets[-1]
        if size != start + id_total + event_total:
            raise BatchError(
                f"the batch has {size} bytes where its offsets say {start + id_total + event_total}"
            )
        if offsets[0] or offsets[count + 1] or not _ascending(offsets, count):
            raise BatchError("the offsets of the batch do not ascend from 0")
        self.count: int = count
        self._offsets: tuple[int, ...] = offsets
        self._id_region = start
        self._event_region = start + id_total

    @classmethod
    def build(
        cls,
        table: TableId,
        fingerprint: str,
        insert_ids: Sequence[bytes],
        events: Sequence[bytes],
        *,
        client: str = "",
    ) -> Batch:
        """Lay out ``events`` and their ``insert_ids`` (same length, in order) as one batch.

        Args:
            table: see the constructor, as for ``fingerprint`` and ``client``.
            fingerprint: of the message type that encoded ``events``.
            insert_ids: one for each event, 1 to 128 characters in UTF-8.
            events: 1 to 10,000, encoded.
            client: who sends, by its own word.

        Raises:
            BatchError: no events, or the two lengths differ.
            BatchTooLargeError: more events or bytes than a batch may have.
        """
        return cls(table, fingerprint, encode_payload(insert_ids, events), client=client)

    def __len__(self) -> int:
        return self.count

    def __repr__(self) -> str:
        return f"<Batch {self.table} [{self.count} events, {len(self.payload)} bytes]>"

    @property
    def insert_ids(self) -> list[bytes]:
        """Insert IDs in order, made anew at each call."""
        if self.count == 1:
            return [self.payload[self._id_region : self._event_region]]
        return _slices(self.payload, self._id_region, self._offsets[: self.count + 1])

    @property
    def events(self) -> list[bytes]:
        """Encoded events in order, made anew at each call."""
        if self.count == 1:
            return [self.payload[self._event_region :]]
        return _slices(self.payload, self._event_region, self._offsets[self.count + 1 :])

    def insert_id(self, index: int) -> str:
        """Return one insert ID as text; bytes that are not UTF-8 are shown escaped."""
        a, b = self._offsets[index], self._offsets[index + 1]
        raw = self.payload[self._id_region + a : self._id_region + b]
        return raw.decode("utf-8", "backslashreplace")

    @property
    def id_region(self) -> bytes:
        """All insert IDs as one string of bytes, for checks on all of them at once."""
        return self.payload[self._id_region : self._event_region]

    @property
    def id_offsets(self) -> tuple[int, ...]:
        """``count + 1`` ascending offsets into ``id_region``."""
        return self._offsets[: self.count + 1]

    @property
    def event_offsets(self) -> tuple[int, ...]:
        """``count + 1`` ascending offsets into the region of events."""
        return self._offsets[self.count + 1 :]

    def select(self, indexes: Sequence[int]) -> Batch:
        """Return a batch of the events at ``indexes`` (at least one), in that order."""
        ids, events = self.insert_ids, self.events
        payload = encode_payload([ids[i] for i in indexes], [events[i] for i in indexes])
        return Batch(self.table, self.fingerprint, payload, client=self.client)


def encode_payload(insert_ids: Sequence[bytes], events: Sequence[bytes]) -> bytes:
    """Return the payload of ``events`` and their ``insert_ids``; the caller checks the limits."""
    count = len(events)
    if count == 1 and len(insert_ids) == 1:
        insert_id, event = insert_ids[0], events[0]
        return _ONE_EVENT.pack(1, 0, 0, len(insert_id), 0, len(event)) + insert_id + event
    if not count or len(insert_ids) != count:
        raise BatchError(f"{count} events with {len(insert_ids)} insert IDs are no batch")
    return b"".join(
        (
            _HEAD.pack(count, 0),
            struct.pack(f"<{count + 1}i", 0, *accumulate(map(len, insert_ids))),
            struct.pack(f"<{count + 1}i", 0, *accumulate(map(len, events))),
            *insert_ids,
            *events,
        )
    )


def insert_ids_of(payload: bytes) -> list[bytes]:
    """Return the insert IDs of a payload that is known to be whole."""
    count = _HEAD.unpack_from(payload)[0]
    offsets = struct.unpack_from(f"<{count + 1}i", payload, _HEAD.size)
    return _slices(payload, _HEAD.size + 8 * (count + 1), offsets)


def events_of(payload: bytes) -> list[bytes]:
    """Return the encoded events of a payload that is known to be whole."""
    count = _HEAD.unpack_from(payload)[0]
    offsets = struct.unpack_from(f"<{2 * (count + 1)}i", payload, _HEAD.size)
    return _slices(payload, _HEAD.size + 8 * (count + 1) + offsets[count], offsets[count + 1 :])


def payload_overhead_bytes(count: int) -> int:
    """Return the bytes of a payload with ``count`` events that are neither IDs nor events."""
    return _HEAD.size + 8 * (count + 1)


def _ascending(offsets: tuple[int, ...], count: int) -> bool:
    if count == 1:  # the commonest batch of a server with many small senders
        return offsets[1] >= 0 and offsets[3] >= 0
    ids, events = offsets[: count + 1], offsets[count + 1 :]
    return list(ids) == sorted(ids) and list(events) == sorted(events)


def _slices(payload: bytes, start: int, offsets: tuple[int, ...]) -> list[bytes]:
    if len(offsets) == 2:
        return [payload[start : start + offsets[1]]]
    if start:
        offsets = tuple([start + offset for offset in offsets])
    return [payload[a:b] for a, b in pairwise(offsets)]
