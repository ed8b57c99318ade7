"""What of a table has to be carried to another store: its rows as Parquet files that stay put.

The lake's own files come and go, as compaction merges them. So those that are to be carried are
given a second name first (a hard link, which takes no space), and a list of them is written down
before the first one is carried: a copy that is broken off goes on with the very same files. Rows
that have come since are the next list.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from dataclasses import asdict, dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from eventmill.base.errors import TableNotFoundError, UsageError
from eventmill.schema.table import Table, TableId
from eventmill.store.local.catalog import read_definition, read_tables
from eventmill.store.local.decode import FrameDecoder
from eventmill.store.local.disk import DISK, disk_errors
from eventmill.store.local.lake import read_rows
from eventmill.store.local.layout import Layout
from eventmill.store.local.manifest import FileRow, Manifest
from eventmill.store.own_columns import INGESTED_AT, JUDGED_BY, WHOLE_EVENT

_FOLDER = "copies"
_LIST = "list.json"


@dataclass(frozen=True, slots=True)
class LeavingFile:
    """One file to be carried."""

    path: str
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class FileList:
    """Files that are carried in one go, as it is written down."""

    key: str
    """Random, and of this list alone."""
    until_us: int
    """Rows that were ingested later are not in it."""
    is_carried: bool
    replaced_rows: int
    """How many rows of the table had been replaced when the list was made."""
    files: tuple[LeavingFile, ...]


class Leaving:
    """What of one table goes to one place. For one thread; nobody else may compact meanwhile."""

    def __init__(self, path: str, table: TableId, place: str) -> None:
        """Open the store's folder for it.

        Args:
            path: of the store; everything is in its lake already.
            table: whose rows.
            place: names the other store, as part of a path.

        Raises:
            TableNotFoundError: there is no such table.
        """
        self._layout = Layout.at(path)
        manifest = Manifest(self._layout.database)
        try:
            with manifest.reading():
                found = [each for each in read_tables(manifest, {}).items() if each[1].id == table]
                if not found:
                    raise TableNotFoundError(f"there is no table {table} in {path}")
                self._uid, self._table = found[0]
                self._lake = manifest.files(self._uid)
                _, _, self._replaced_rows = manifest.removed_row_counts(self._uid)
            uid = self._uid
            decoder = FrameDecoder(
                self._table, lambda version: read_definition(manifest, uid, version)
            )
            self._schema: pa.Schema = decoder.schema
        finally:
            manifest.close()
        self._root = os.path.join(path, _FOLDER, f"{table}.{self._uid}.{place}")

    @property
    def table(self) -> Table:
        """The table as it is."""
        return self._table

    @property
    def ahead_rows(self) -> int:
        """Rows whose events have fields that the table lacks, and which stay behind."""
        return sum(file.ahead_rows for file in self._lake)

    def next(self) -> FileList | None:
        """Return the list that is to be carried now; None when nothing is left.

        Raises:
            UsageError: rows that may have been carried were replaced since.
        """
        known = self._read()
        if known is not None and not known.is_carried:
            return known
        if known is not None and known.replaced_rows != self._replaced_rows:
            raise UsageError(
                f"slots of {self._table.id} were run again since a part of it was copied, so rows"
                " that are gone here may stand there: remove the table there, and copy it again"
            )
        after_us = known.until_us if known else None
        left = [f for f in self._lake if after_us is None or f.max_ingested_us > after_us]
        if not left:
            return None
        with disk_errors("keeping files for a copy"):
            key = secrets.token_hex(8)
            folder = os.path.join(self._root, key)
            os.makedirs(folder)
            made = FileList(
                key,
                max(file.max_ingested_us for file in left),
                False,
                self._replaced_rows,
                tuple(
                    self._keep(file, os.path.join(folder, f"{number:06d}.parquet"), after_us)
                    for number, file in enumerate(left)
                ),
            )
            DISK.sync_folder(folder)
        self._write(made)
        return made

    def carried(self, files: FileList) -> None:
        """Note that all files of a list have been carried, and let go of them."""
        self._write(replace(files, is_carried=True, files=()))
        for name in os.listdir(self._root):
            if name != _LIST:  # what an earlier run left half-made as well
                shutil.rmtree(os.path.join(self._root, name), ignore_errors=True)

    def _keep(self, file: FileRow, path: str, after_us: int | None) -> LeavingFile:
        """Give a file of the lake a name here, or write it anew in the form that others read."""
        source = self._layout.of(self._table.id, self._uid).lake_file(file.name)
        is_partly_carried = after_us is not None and file.min_ingested_us <= after_us
        if file.version == self._table.version and not file.ahead_rows and not is_partly_carried:
            os.link(source, path)
            return LeavingFile(path, file.rows, file.bytes)
        rows = read_rows(source, self._schema, file.version)
        if WHOLE_EVENT in rows.column_names:
            rows = rows.drop_columns([WHOLE_EVENT, JUDGED_BY])
        if after_us is not None:
            rows = rows.filter(pc.greater(rows[INGESTED_AT].cast(pa.int64()), after_us))
        pq.write_table(rows, path, compression="zstd", compression_level=1)
        DISK.sync_file(path)
        return LeavingFile(path, rows.num_rows, os.path.getsize(path))

    def _read(self) -> FileList | None:
        try:
            with open(os.path.join(self._root, _LIST), encoding="utf-8") as file:
                document = json.load(file)
        except FileNotFoundError:
            return None
        folder = os.path.join(self._root, document["key"])  # the store may have been moved
        files = tuple(
            LeavingFile(os.path.join(folder, os.path.basename(f["path"])), f["rows"], f["bytes"])
            for f in document["files"]
        )
        replaced_rows = document.get("replaced_rows", 0)  # a list of before that was counted
        return FileList(
            document["key"], document["until_us"], document["is_carried"], replaced_rows, files
        )

    def _write(self, files: FileList) -> None:
        path = os.path.join(self._root, _LIST)
        with disk_errors("noting what is copied"):
            with open(path + ".new", "w", encoding="utf-8") as file:
                json.dump(asdict(files), file)
            DISK.sync_file(path + ".new")
            DISK.rename(path + ".new", path)
            DISK.sync_folder(self._root)
