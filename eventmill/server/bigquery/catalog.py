"""What the surface knows beyond the store: datasets, and what is said of tables that a
``TableSpec`` has no word for. SQLite in the data folder.

A dataset whose tables were made in another way (a .proto, the command line) exists without an
entry. An entry of a table names when the table was made: one that was dropped and made anew by
other means has nothing to do with it any more.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from eventmill.schema.table import Table, TableId

_SCHEMA = """
CREATE TABLE IF NOT EXISTS datasets (
    project TEXT NOT NULL, dataset TEXT NOT NULL, created_ms INTEGER NOT NULL,
    modified_ms INTEGER NOT NULL, revision INTEGER NOT NULL, said TEXT NOT NULL,
    PRIMARY KEY (project, dataset)) STRICT;
CREATE TABLE IF NOT EXISTS tables (
    name TEXT PRIMARY KEY, created_at REAL NOT NULL, revision INTEGER NOT NULL,
    expires_ms INTEGER, said TEXT NOT NULL) STRICT;
"""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset with an entry."""

    project: str
    dataset: str
    created_ms: int
    modified_ms: int
    revision: int
    said: Mapping[str, Any]
    """What clients have said of it, in the words of BigQuery's API."""


@dataclass(frozen=True, slots=True)
class TableEntry:
    """What clients have said of a table beside its definition."""

    revision: int = 0
    """One up with each change; 0: nothing was ever said."""
    expires_ms: int | None = None
    """When the table is dropped, in milliseconds since 1970; None: never."""
    said: Mapping[str, Any] = field(default_factory=dict)

    def get(self, key: str) -> Any:  # noqa: ANN401 - any of JSON's types
        """Return what was said under ``key``; None for nothing."""
        return self.said.get(key)


class Catalog:
    """The entries of datasets and tables. Safe from any thread; each change is synced."""

    def __init__(self, path: str) -> None:
        """Open the database at ``path``, made when it is missing."""
        self._lock = threading.Lock()
        self._db = open_database(path, _SCHEMA, synchronous="FULL")
        self.next_expiry_ms: int | None = None
        """When the first table expires; None: none will. Read without asking the database."""
        self._note_expiry()

    def close(self) -> None:
        """Let go of the database."""
        with self._lock:
            self._db.close()

    def dataset(self, project: str, dataset: str) -> Dataset | None:
        """Return the entry of a dataset; None: there is none."""
        found = self._datasets("WHERE project = ? AND dataset = ?", (project, dataset))
        return found[0] if found else None

    def datasets(self, project: str | None = None) -> list[Dataset]:
        """Return the datasets of one project, or of all, that have an entry."""
        if project is None:
            return self._datasets("", ())
        return self._datasets("WHERE project = ?", (project,))

    def _datasets(self, where: str, values: Sequence[str]) -> list[Dataset]:
        columns = "project, dataset, created_ms, modified_ms, revision, said"
        sql = f"SELECT {columns} FROM datasets {where} ORDER BY project, dataset"  # noqa: S608
        with self._lock:
            rows = self._db.execute(sql, values).fetchall()
        return [
            Dataset(project, dataset, created_ms, modified_ms, revision, json.loads(said))
            for project, dataset, created_ms, modified_ms, revision, said in rows
        ]

    def put_dataset(
        self,
        project: str,
        dataset: str,
        said: Mapping[str, Any],
        *,
        now_ms: int,
        created_ms: int | None = None,
        expected_revision: int | None = None,
    ) -> bool:
        """Write the entry of a dataset; return False when it is not as the caller has seen it.

        Args:
            project: of the dataset.
            dataset: its name.
            said: all that is said of it from now on.
            now_ms: the time.
            created_ms: when it was made, for a new entry; None: now.
            expected_revision: of the entry that was seen; 0: none; None: whatever there is.
        """
        with self._changing():
            row = self._db.execute(
                "SELECT revision FROM datasets WHERE project = ? AND dataset = ?",
                (project, dataset),
            ).fetchone()
            revision = row[0] if row else 0
            if expected_revision is not None and expected_revision != revision:
                return False
            self._db.execute(
                "INSERT INTO datasets VALUES (?, ?, ?, ?, 1, ?)"
                " ON CONFLICT (project, dataset) DO UPDATE SET modified_ms = excluded.modified_ms,"
                " revision = revision + 1, said = excluded.said",
                (
                    project,
                    dataset,
                    now_ms if created_ms is None else created_ms,
                    now_ms,
                    json.dumps(dict(said)),
                ),
            )
            return True

    def forget_dataset(self, project: str, dataset: str) -> None:
        """Remove the entry of a dataset, if it has one."""
        with self._changing():
            self._db.execute(
                "DELETE FROM datasets WHERE project = ? AND dataset = ?", (project, dataset)
            )

    def table(self, table: Table) -> TableEntry:
        """Return what was said of a live table; an empty entry for nothing."""
        with self._lock:
            row = self._db.execute(
                "SELECT created_at, revision, expires_ms, said FROM tables WHERE name = ?",
                (str(table.id),),
            ).fetchone()
        if row is None or row[0] != table.created_at:
            return TableEntry()
        return TableEntry(row[1], row[2], json.loads(row[3]))

    def put_table(
        self,
        table: Table,
        said: Mapping[str, Any],
        expires_ms: int | None,
        *,
        expected_revision: int = 0,
    ) -> bool:
        """Write the entry of a live table; return False when it is not as the caller has seen it.

        Args:
            table: the table.
            said: all that is said of it from now on.
            expires_ms: when it is dropped; None: never.
            expected_revision: of the entry that was seen; 0: none.
        """
        with self._changing():
            row = self._db.execute(
                "SELECT revision FROM tables WHERE name = ? AND created_at = ?",
                (str(table.id), table.created_at),
            ).fetchone()
            if (row[0] if row else 0) != expected_revision:
                return False
            self._db.execute(
                "INSERT INTO tables VALUES (?, ?, 1, ?, ?)"
                " ON CONFLICT (name) DO UPDATE SET created_at = excluded.created_at,"
                " revision = CASE WHEN created_at = excluded.created_at THEN revision + 1 ELSE 1"
                " END, expires_ms = excluded.expires_ms, said = excluded.said",
                (str(table.id), table.created_at, expires_ms, json.dumps(dict(said))),
            )
        self._note_expiry()
        return True

    def forget_table(self, table: TableId) -> None:
        """Remove the entry of a table, if it has one."""
        with self._changing():
            self._db.execute("DELETE FROM tables WHERE name = ?", (str(table),))
        self._note_expiry()

    def expired(self, now_ms: int) -> list[tuple[TableId, float]]:
        """Return the tables whose time is over: name, and when it was made (seconds)."""
        with self._lock:
            rows = self._db.execute(
                "SELECT name, created_at FROM tables WHERE expires_ms <= ?", (now_ms,)
            ).fetchall()
        return [(TableId.parse(name), created_at) for name, created_at in rows]

    def _note_expiry(self) -> None:
        with self._lock:
            row = self._db.execute("SELECT min(expires_ms) FROM tables").fetchone()
            self.next_expiry_ms = row[0]

    @contextmanager
    def _changing(self) -> Iterator[None]:
        with self._lock, self._db:
            yield


def open_database(path: str, schema: str, *, synchronous: str) -> sqlite3.Connection:
    """Open a database of the surface for all threads, which take turns by a lock of their own.

    Args:
        path: of the file.
        schema: statements that make what is missing.
        synchronous: FULL: a change survives a power cut; NORMAL: it survives the process.
    """
    database = sqlite3.connect(path, timeout=30.0, check_same_thread=False)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute(f"PRAGMA synchronous = {synchronous}")
    database.executescript(schema)
    return database
