"""Rows of the lake whose events had fields before their table had them, read by today's columns.

The compactor writes such files anew, in its own time; until it has, a query reads those rows here,
so that new columns are filled from the moment of the change on.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pyarrow as pa

from eventmill.schema.table import Table
from eventmill.store.local.decode import FrameDecoder
from eventmill.store.local.lake import read_whole_events
from eventmill.store.local.layout import TableFolder
from eventmill.store.local.manifest import FileRow
from eventmill.store.own_columns import WHOLE_EVENT
from eventmill.wire.early_events import Definition


class AheadRows:
    """Rows of one table by one definition, each file read once. Safe from any thread."""

    def __init__(self, table: Table, folder: TableFolder, definition: Definition) -> None:
        self._version = table.version
        self._folder = folder
        self._decoder = FrameDecoder(table, definition)
        self._read: dict[str, pa.Table] = {}
        self._lock = threading.Lock()

    def is_behind(self, file: FileRow) -> bool:
        """Return whether ``file`` has rows that an older definition could not read whole."""
        return file.ahead_rows > 0 and file.version < self._version

    def read(self, files: Sequence[FileRow]) -> list[pa.Table]:
        """Return, for each of ``files`` that is behind, those rows as the table has them now."""
        return [rows.select(self._decoder.schema.names) for rows in self._rows(files)]

    def count(self, files: Sequence[FileRow]) -> int:
        """Return how many rows of ``files`` have fields that the table still lacks."""
        count = sum(file.ahead_rows for file in files if not self.is_behind(file))
        for rows in self._rows(files):
            if WHOLE_EVENT in rows.column_names:
                count += len(rows) - rows[WHOLE_EVENT].null_count
        return count

    def _rows(self, files: Sequence[FileRow]) -> list[pa.Table]:
        behind = [file for file in files if self.is_behind(file)]
        with self._lock:
            for file in behind:
                if file.name not in self._read:
                    whole = read_whole_events(self._folder.lake_file(file.name), file.version)
                    self._read[file.name] = self._decoder.decode_again(whole, file.version)
            return [self._read[file.name] for file in behind]
