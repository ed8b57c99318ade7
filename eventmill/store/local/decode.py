"""Frames of the log as Arrow: the table's columns, and the two that every table has."""

from __future__ import annotations

import struct
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from eventmill.schema.message_type import MessageType
from eventmill.schema.table import TableSpec
from eventmill.schema.unknown import UnknownFields
from eventmill.store.local.frame import Frame
from eventmill.store.own_columns import (
    INGESTED_AT,
    INSERT_ID,
    OWN_FIELDS,
    WHOLE_EVENT,
    WHOLE_EVENT_FIELD,
)
from eventmill.wire.batch import events_of
from eventmill.wire.columns import ColumnReader

_SMALL_EVENTS = 32
"""Below this a frame is taken apart event by event, and many such frames make one array; above,
its payload is handed to Arrow as it lies. Either way costs the same at about this many."""


class FrameDecoder:
    """Turns frames of one table into record batches of ``schema``."""

    def __init__(self, spec: TableSpec) -> None:
        self._reader = ColumnReader(spec)
        self._unknown = UnknownFields(MessageType.load(spec.descriptor_set, spec.message))
        self.schema: pa.Schema = pa.schema([*self._reader.arrow_schema, *OWN_FIELDS])

    def decode(self, frames: Iterable[Frame], *, for_lake: bool = False) -> pa.Table:
        """Return the rows of ``frames``, in order.

        With ``for_lake`` they have the column ``WHOLE_EVENT`` too when any event has fields that
        the table lacks; it is null for the others.
        """
        ids: list[pa.Array] = []
        events: list[pa.Array] = []
        times: list[pa.Array] = []
        small: list[Frame] = []
        for frame in frames:
            if frame.count < _SMALL_EVENTS:
                small.append(frame)
                continue
            if small:
                _take_apart(small, ids, events, times)
                small = []
            _view(frame, ids, events, times)
        if small:
            _take_apart(small, ids, events, times)
        if not events:
            return self.schema.empty_table()
        encoded = pa.concat_arrays(events)
        rows = self._rows(encoded, pa.concat_arrays(ids).cast(pa.string()), pa.concat_arrays(times))
        return self._with_whole_events(rows, encoded) if for_lake else rows

    def decode_again(self, rows: pa.Table) -> pa.Table:
        """Return ``rows`` of the lake, read anew from their whole events by this definition.

        Args:
            rows: with the store's own columns, ``WHOLE_EVENT`` without nulls among them.

        Returns:
            The rows in order, with ``WHOLE_EVENT`` where an event still has fields that the
            table lacks.
        """
        encoded, ids, times = (
            rows[name].combine_chunks() for name in (WHOLE_EVENT, INSERT_ID, INGESTED_AT)
        )
        return self._with_whole_events(self._rows(encoded, ids, times), encoded)

    def count_ahead(self, frames: Iterable[Frame]) -> int:
        """Return how many events of ``frames`` have fields that the table lacks."""
        return sum(len(self._unknown.places(events_of(frame.payload))) for frame in frames)

    def name_unknown(self, rows: pa.Table) -> str:
        """Return the first field that an event of ``rows`` has and the table lacks, for people."""
        for event in pc.drop_null(rows[WHOLE_EVENT]).slice(0, 1).to_pylist():
            found = self._unknown.first(event)
            if found is not None:
                path, numbers = found
                return f"field {numbers[0]}" + (f" in {path}" if path else "")
        return "no field"

    def _rows(self, events: pa.Array, ids: pa.Array, times: pa.Array) -> pa.Table:
        columns = self._reader.read(events)
        return pa.Table.from_arrays([*columns.columns, ids, times], schema=self.schema)

    def _with_whole_events(self, rows: pa.Table, events: pa.Array) -> pa.Table:
        encoded = events.to_pylist()
        places = self._unknown.places(encoded)
        if not places:
            return rows
        whole: list[bytes | None] = [None] * len(encoded)
        for place in places:
            whole[place] = encoded[place]
        return rows.append_column(WHOLE_EVENT_FIELD, pa.array(whole, pa.binary()))


def _view(frame: Frame, ids: list[pa.Array], events: list[pa.Array], times: list[pa.Array]) -> None:
    """Lay Arrow arrays over the payload without copying; see ``wire.batch`` for its layout."""
    count = frame.count
    buffer = pa.py_buffer(frame.payload)
    width = 4 * (count + 1)
    id_offsets = buffer.slice(8, width)
    event_offsets = buffer.slice(8 + width, width)
    id_bytes = struct.unpack_from("<i", frame.payload, 8 + width - 4)[0]
    begin = 8 + 2 * width
    id_region = buffer.slice(begin, id_bytes)
    event_region = buffer.slice(begin + id_bytes)
    ids.append(pa.Array.from_buffers(pa.binary(), count, [None, id_offsets, id_region]))
    events.append(pa.Array.from_buffers(pa.binary(), count, [None, event_offsets, event_region]))
    times.append(pa.repeat(_time(frame.received_us), count))


def _take_apart(
    frames: list[Frame], ids: list[pa.Array], events: list[pa.Array], times: list[pa.Array]
) -> None:
    id_list: list[bytes] = []
    event_list: list[bytes] = []
    time_list: list[int] = []
    for frame in frames:
        count, payload = frame.count, frame.payload
        offsets = struct.unpack_from(f"<{2 * (count + 1)}i", payload, 8)
        start = 8 + 8 * (count + 1)
        event_start = start + offsets[count]
        for index in range(count):
            id_list.append(payload[start + offsets[index] : start + offsets[index + 1]])
            at = count + 1 + index
            event_list.append(payload[event_start + offsets[at] : event_start + offsets[at + 1]])
        time_list.extend([frame.received_us] * count)
    ids.append(pa.array(id_list, pa.binary()))
    events.append(pa.array(event_list, pa.binary()))
    times.append(pa.array(time_list, pa.timestamp("us", tz="UTC")))


def _time(microseconds: int) -> pa.Scalar:
    return pa.scalar(microseconds, pa.timestamp("us", tz="UTC"))
