"""The log's tail as Arrow: rows that are acked but not yet in the lake.

Decoded once and kept, a segment at a time; a query decodes only what was appended since the last.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from eventmill.schema.table import Table
from eventmill.store.local.decode import FrameDecoder
from eventmill.store.local.frame import Damage, Frame, scan
from eventmill.store.local.layout import TableFolder
from eventmill.wire.early_events import Definition


@dataclass(slots=True)
class _DecodedSegment:
    end: int = 0
    """Offset of the first byte not decoded yet."""
    parts: list[pa.Table] = field(default_factory=list)
    ahead_rows: int = 0
    """Rows with fields that the table lacks or cannot hold, of those before ``counted_end``."""
    counted_end: int = 0


class Tail:
    """Decoded segments of one table by one definition. Safe from any thread."""

    def __init__(self, table: Table, folder: TableFolder, definition: Definition) -> None:
        self.version = table.version
        """Version of the definition that the rows are decoded by."""
        self._folder = folder
        self._decoder = FrameDecoder(table, definition)
        self._segments: dict[int, _DecodedSegment] = {}
        self._lock = threading.Lock()

    @property
    def schema(self) -> pa.Schema:
        """The table's columns with the store's own."""
        return self._decoder.schema

    def read(self, numbers: Sequence[int]) -> tuple[pa.Table, int]:
        """Return the rows of the segments ``numbers`` with the bytes they take in the log.

        Args:
            numbers: every segment of the table, ascending; what is kept of others is let go.

        Raises:
            FileNotFoundError: a segment is gone, hence in the lake, or the table is: take a new
                snapshot.
        """
        with self._lock:
            for number in self._segments.keys() - set(numbers):
                del self._segments[number]
            parts: list[pa.Table] = []
            size = 0
            for number in numbers:
                segment = self._refresh(number)
                parts.extend(segment.parts)
                size += segment.end
            if not parts:
                return self.schema.empty_table(), size
            return pa.concat_tables(parts), size

    def count_ahead(self, numbers: Sequence[int]) -> int:
        """Return how many rows of the segments ``numbers`` have fields without a column.

        The table lacks the fields, or cannot hold what they have.

        Raises:
            FileNotFoundError: as for ``read``.
        """
        with self._lock:
            count = 0
            for number in numbers:
                segment = self._refresh(number)
                if segment.counted_end < segment.end:
                    frames, _ = self._frames(number, segment.counted_end, segment.end)
                    segment.ahead_rows += self._decoder.count_ahead(frames)
                    segment.counted_end = segment.end
                count += segment.ahead_rows
            return count

    def _refresh(self, number: int) -> _DecodedSegment:
        segment = self._segments.setdefault(number, _DecodedSegment())
        with open(self._folder.segment(number), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < segment.end:
                # The writer cut back a write that had failed: those rows were never acked.
                segment = self._segments[number] = _DecodedSegment()
        if size == segment.end:
            return segment
        frames, end = self._frames(number, segment.end, size)
        if frames:
            segment.parts.append(self._decoder.decode(frames))
            segment.end += end
            if len(segment.parts) > _PARTS_MAX:
                segment.parts = [pa.concat_tables(segment.parts).combine_chunks()]
        return segment

    def _frames(self, number: int, start: int, end: int) -> tuple[list[Frame], int]:
        """Return the whole frames between two offsets, and where the last ends after ``start``."""
        with open(self._folder.segment(number), "rb") as file:
            file.seek(start)
            content = file.read(end - start)
        frames = [found for found in scan(content) if not isinstance(found, Damage)]
        return frames, frames[-1].end if frames else 0


_PARTS_MAX = 64
"""Pieces kept apart before they are joined: each costs a scan a little."""
