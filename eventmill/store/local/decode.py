"""Frames of the log as Arrow: the table's columns, and the two that every table has."""

from __future__ import annotations

import struct
from collections.abc import Iterable

import pyarrow as pa

from eventmill.schema.table import TableSpec
from eventmill.store.local.frame import Frame
from eventmill.store.own_columns import OWN_FIELDS
from eventmill.wire.columns import ColumnReader

_SMALL_EVENTS = 32
"""Below this a frame is taken apart event by event, and many such frames make one array; above,
its payload is handed to Arrow as it lies. Either way costs the same at about this many."""


class FrameDecoder:
    """Turns frames of one table into record batches of ``schema``."""

    def __init__(self, spec: TableSpec) -> None:
        self._reader = ColumnReader(spec)
        self.schema: pa.Schema = pa.schema([*self._reader.arrow_schema, *OWN_FIELDS])

    def decode(self, frames: Iterable[Frame]) -> pa.Table:
        """Return the rows of ``frames``, in order."""
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
        columns = self._reader.read(pa.concat_arrays(events))
        return pa.Table.from_arrays(
            [
                *columns.columns,
                pa.concat_arrays(ids).cast(pa.string()),
                pa.concat_arrays(times),
            ],
            schema=self.schema,
        )


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
