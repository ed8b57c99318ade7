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


@dataclass(slots=True)
class _DecodedSegment:
    end: int = 0
    """Offset of the first byte not decoded yet."""
    parts: list[pa.Table] = field(default_factory=list)


class Tail:
    """Decoded segments of one table by one definition. Safe from any thread."""

    def __init__(self, table: Table, folder: TableFolder) -> None:
        self.version = table.version
        """Version of the definition that the rows are decoded by."""
        self._folder = folder
        self._decoder = FrameDecoder(table.spec)
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
            FileNotFoundError: a segment is gone, hence in the lake: take a new snapshot.
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

    def _refresh(self, number: int) -> _DecodedSegment:
        segment = self._segments.setdefault(number, _DecodedSegment())
        with open(self._folder.segment(number), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < segment.end:
                # The writer cut back a write that had failed: those rows were never acked.
                segment.end, segment.parts = 0, []
            if size == segment.end:
                return segment
            file.seek(segment.end)
            content = file.read()
        frames: list[Frame] = []
        end = 0
        for found in scan(content):
            if isinstance(found, Damage):
                continue
            frames.append(found)
            end = found.end
        if frames:
            segment.parts.append(self._decoder.decode(frames))
            segment.end += end
            if len(segment.parts) > _PARTS_MAX:
                segment.parts = [pa.concat_tables(segment.parts).combine_chunks()]
        return segment


_PARTS_MAX = 64
"""Pieces kept apart before they are joined: each costs a scan a little."""
