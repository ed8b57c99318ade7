"""Frames of the log as Arrow: the table's columns, and the two that every table has."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from itertools import groupby

import pyarrow as pa
import pyarrow.compute as pc

from eventmill.schema.late_reading import LateReading
from eventmill.schema.reading_type import reading_type
from eventmill.schema.table import Table
from eventmill.schema.unknown import UnknownFields
from eventmill.store.local.frame import Frame
from eventmill.store.own_columns import (
    INGESTED_AT,
    INSERT_ID,
    JUDGED_BY,
    OWN_FIELDS,
    WHOLE_EVENT,
    WHOLE_EVENT_FIELDS,
)
from eventmill.wire.batch import events_of
from eventmill.wire.columns import ColumnReader
from eventmill.wire.early_events import Definition, EarlyReader

_SMALL_EVENTS = 32
"""Below this a frame is taken apart event by event, and many such frames make one array; above,
its payload is handed to Arrow as it lies. Either way costs the same at about this many."""


class FrameDecoder:
    """Turns frames of one table into record batches of ``schema``."""

    def __init__(self, table: Table, definition: Definition) -> None:
        """Decode into the columns of ``table``.

        Args:
            table: by its newest definition.
            definition: its earlier ones, by version.
        """
        spec = table.spec
        message_type = reading_type(spec)
        self._version = table.version
        self._reader = ColumnReader(spec)
        self._early = EarlyReader(spec, table.version, definition)
        self._unknown = UnknownFields(message_type)
        self._late = LateReading(message_type)
        self.schema: pa.Schema = pa.schema([*self._reader.arrow_schema, *OWN_FIELDS])

    def decode(self, frames: Iterable[Frame], *, for_lake: bool = False) -> pa.Table:
        """Return the rows of ``frames``, in order.

        With ``for_lake`` they have the columns ``WHOLE_EVENT`` and ``JUDGED_BY`` too when any
        event has fields that the table lacks or cannot hold; they are null for the others.

        Raises:
            FileNotFoundError: the table is gone.
        """
        parts = []
        for version, run in groupby(frames, self._judged_by):
            events, ids, times = _arrays(run)
            if version == self._version:
                batch = self._reader.read(events)
                ahead = self._unknown.places(events.to_pylist()) if for_lake else []
            else:
                batch, ahead = self._early.read(events, version)
            rows = self._rows(batch, ids.cast(pa.string()), times)
            parts.append(_with_whole_events(rows, events, ahead, version) if for_lake else rows)
        if not parts:
            return self.schema.empty_table()
        return pa.concat_tables(parts, promote_options="default")

    def decode_again(self, rows: pa.Table, version: int) -> pa.Table:
        """Return ``rows`` of the lake, read anew from their whole events by this definition.

        Args:
            rows: with the store's own columns, ``WHOLE_EVENT`` without nulls among them.
            version: of the definition that could not read them whole.

        Returns:
            The rows, with ``WHOLE_EVENT`` where an event still has fields that the table lacks
            or cannot hold.

        Raises:
            FileNotFoundError: the table is gone.
        """
        parts = [self.schema.empty_table()]
        for judged_by in pc.unique(rows[JUDGED_BY]).to_pylist():
            some = rows.filter(pc.equal(rows[JUDGED_BY], judged_by))
            events, ids, times = (
                some[name].combine_chunks() for name in (WHOLE_EVENT, INSERT_ID, INGESTED_AT)
            )
            batch, ahead = self._early.read(events, judged_by, after=version)
            again = self._rows(batch, ids, times)
            parts.append(_with_whole_events(again, events, ahead, judged_by))
        return pa.concat_tables(parts, promote_options="default")

    def count_ahead(self, frames: Iterable[Frame]) -> int:
        """Return how many events of ``frames`` have fields that the table lacks or cannot hold."""
        count = 0
        for frame in frames:
            events, version = events_of(frame.payload), self._judged_by(frame)
            if version == self._version:
                count += len(self._unknown.places(events))
            else:
                count += self._early.count_ahead(events, version)
        return count

    def name_unknown(self, rows: pa.Table) -> str:
        """Return the first field that an event of ``rows`` has and no column holds, for people."""
        for event in pc.drop_null(rows[WHOLE_EVENT]).slice(0, 1).to_pylist():
            problem = self._late.problem(event)
            if problem is not None:
                return problem.field or "a field that cannot be read"
            found = self._unknown.first(event)
            if found is not None:
                path, numbers = found
                return f"field {numbers[0]}" + (f" in {path}" if path else "")
        return "no field"

    def _judged_by(self, frame: Frame) -> int:
        # A frame of a later version came after the snapshot: it is read as far as it is known.
        return min(frame.version, self._version)

    def _rows(self, batch: pa.RecordBatch, ids: pa.Array, times: pa.Array) -> pa.Table:
        return pa.Table.from_arrays([*batch.columns, ids, times], schema=self.schema)


def _with_whole_events(
    rows: pa.Table, events: pa.Array, ahead: Sequence[int], judged_by: int
) -> pa.Table:
    """Add the whole events of the rows at the places ``ahead``, where there are any."""
    if not ahead:
        return rows
    whole: list[bytes | None] = [None] * len(events)
    versions: list[int | None] = [None] * len(events)
    for place in ahead:
        whole[place] = events[place].as_py()
        versions[place] = judged_by
    for field, values in zip(WHOLE_EVENT_FIELDS, (whole, versions), strict=True):
        rows = rows.append_column(field, pa.array(values, field.type))
    return rows


def _arrays(frames: Iterable[Frame]) -> tuple[pa.Array, pa.Array, pa.Array]:
    """Return the events, the insert IDs and the times of ingestion of ``frames``, in order."""
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
    return pa.concat_arrays(events), pa.concat_arrays(ids), pa.concat_arrays(times)


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
