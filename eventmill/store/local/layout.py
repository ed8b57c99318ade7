"""Where things lie in a store's folder.

::

    eventmill-data/
      store.db                  SQLite: tables, segments, files (WAL, synchronous=FULL)
      writer.lock               held (flock) by the one process that appends
      compactor.lock            held by the one process that compacts
      tables/local.ci.builds.2/   the table and its uid
        log/0000000001.log      frames; one segment after another
        lake/DAY=2026-11-23/0000000001-m0.parquet
        damaged/                bytes that failed their checksum, kept for a person to look at
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from eventmill.schema.table import TableId


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths of one store."""

    root: str
    """Absolute path of the store's folder."""

    @classmethod
    def at(cls, path: str) -> Layout:
        """Return the layout of the store in ``path``, made absolute."""
        return cls(os.path.abspath(os.path.expanduser(path)))

    @property
    def database(self) -> str:
        """The SQLite file."""
        return os.path.join(self.root, "store.db")

    @property
    def writer_lock(self) -> str:
        """Held by the process that appends; its text names the process."""
        return os.path.join(self.root, "writer.lock")

    @property
    def compactor_lock(self) -> str:
        """Held by the process that compacts."""
        return os.path.join(self.root, "compactor.lock")

    @property
    def tables(self) -> str:
        """Folder of all tables."""
        return os.path.join(self.root, "tables")

    def of(self, table: TableId, uid: int) -> TableFolder:
        """Return the folder of the table that the manifest knows as ``uid``."""
        return TableFolder(os.path.join(self.tables, f"{table}.{uid}"))


@dataclass(frozen=True, slots=True)
class TableFolder:
    """Paths of one table.

    The folder is named by the table's uid too, which is never given twice: whatever still works on
    a dropped table cannot reach into a new one of the same name.
    """

    root: str

    @property
    def log(self) -> str:
        """Folder of the segments."""
        return os.path.join(self.root, "log")

    @property
    def lake(self) -> str:
        """Folder of the Parquet files."""
        return os.path.join(self.root, "lake")

    @property
    def damaged(self) -> str:
        """Folder for bytes that failed their checksum."""
        return os.path.join(self.root, "damaged")

    def segment(self, number: int) -> str:
        """File of one segment."""
        return os.path.join(self.log, f"{number:010d}.log")

    def lake_file(self, name: str) -> str:
        """File of the lake, ``name`` as the manifest lists it (partition folder included)."""
        return os.path.join(self.lake, name)
