"""``schedule.db``: the run book's SQLite file, its tables, and how an older one is brought up.

It lies beside ``store.db`` and has the same promise (WAL, ``synchronous=FULL``), but is a file of
its own: schedulers, commands and alerts of several processes write it while a server holds the
store. Every change is one ``BEGIN IMMEDIATE`` transaction, so that two of them never decide on
the same state of the book.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from eventmill.base.errors import CorruptStoreError, UnavailableError
from eventmill.store.local.manifest import database_errors

BOOK_FILE = "schedule.db"
"""Name of the file in its folder."""
FORMAT = 1
"""Version of the file's format; a newer one is refused, an older one brought up to it."""
IN_MEMORY = ":memory:"
"""Path of a book that ends with its connection."""
_BUSY_SECONDS = 30.0

_FORMAT_1 = """
CREATE TABLE workflows (
    name TEXT PRIMARY KEY,
    owner TEXT NOT NULL DEFAULT '',
    timetable TEXT NOT NULL DEFAULT '',
    first_seen_at REAL NOT NULL,
    planned_until INTEGER,
    paused_at REAL,
    paused_by TEXT NOT NULL DEFAULT '',
    handed_to TEXT NOT NULL DEFAULT '',
    fault TEXT NOT NULL DEFAULT '',
    fault_at REAL,
    removed_at REAL,
    seen TEXT NOT NULL DEFAULT '{}'
) STRICT, WITHOUT ROWID;
CREATE TABLE slots (
    workflow TEXT NOT NULL,
    start_seconds INTEGER NOT NULL,
    end_seconds INTEGER NOT NULL,
    state TEXT NOT NULL
        CHECK (state IN ('waiting', 'running', 'succeeded', 'failed', 'skipped')),
    origin TEXT NOT NULL CHECK (origin IN ('schedule', 'backfill', 'command')),
    reason TEXT NOT NULL,
    due_at REAL NOT NULL,
    not_before REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    run_id INTEGER,
    changed_at REAL NOT NULL,
    succeeded_at REAL,
    input_rows INTEGER,
    output_rows INTEGER,
    late_rows INTEGER NOT NULL DEFAULT 0,
    too_late_rows INTEGER NOT NULL DEFAULT 0,
    marks TEXT,
    PRIMARY KEY (workflow, start_seconds, end_seconds)
) STRICT, WITHOUT ROWID;
CREATE INDEX slots_unfinished ON slots (state, workflow, start_seconds)
    WHERE state IN ('waiting', 'running');
CREATE INDEX slots_waiting ON slots (workflow, origin, start_seconds) WHERE state = 'waiting';
CREATE INDEX slots_due ON slots (not_before) WHERE state = 'waiting' AND origin = 'schedule';
CREATE TABLE runs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    workflow TEXT NOT NULL,
    start_seconds INTEGER NOT NULL,
    end_seconds INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    attempts_max INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN
        ('running', 'succeeded', 'failed', 'timed_out', 'cancelled', 'lost')),
    origin TEXT NOT NULL,
    reason TEXT NOT NULL,
    body TEXT NOT NULL,
    runner TEXT NOT NULL,
    started_at REAL NOT NULL,
    lease_seconds REAL NOT NULL,
    lease_until REAL NOT NULL,
    ended_at REAL,
    cancel TEXT NOT NULL DEFAULT '',
    error TEXT NOT NULL DEFAULT '',
    input_rows INTEGER,
    output_rows INTEGER,
    replaced_rows INTEGER,
    late_rows INTEGER,
    seconds REAL
) STRICT;
CREATE INDEX runs_by_workflow ON runs (workflow, id);
CREATE INDEX runs_running ON runs (lease_until) WHERE state = 'running';
CREATE TABLE run_log (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id INTEGER NOT NULL,
    at REAL NOT NULL,
    level TEXT NOT NULL,
    text TEXT NOT NULL
) STRICT;
CREATE INDEX run_log_by_run ON run_log (run_id, id);
CREATE TABLE heartbeats (
    scheduler TEXT PRIMARY KEY,
    started_at REAL NOT NULL,
    at REAL NOT NULL,
    stopped_at REAL
) STRICT, WITHOUT ROWID;
"""
_UPGRADES = {0: _FORMAT_1}
"""What brings a file of that format to the next one; 0 is an empty file."""


class BookFile:
    """One connection to the file. Safe from any thread: one transaction at a time."""

    def __init__(self, path: str) -> None:
        """Open the file, and make it and its folder where they are missing.

        Raises:
            UnavailableError: SQLite cannot open it.
            CorruptStoreError: a newer version of Eventmill wrote it.
        """
        self.path = path
        self._lock = threading.RLock()
        if path != IN_MEMORY:
            _make_folder(os.path.dirname(path))
        with database_errors(f"opening {path}"):
            self._db = sqlite3.connect(
                path, isolation_level=None, timeout=_BUSY_SECONDS, check_same_thread=False
            )
            self._db.row_factory = sqlite3.Row
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            if self._format() < FORMAT:
                self._upgrade()
        found = self._format()
        if found != FORMAT:
            self.close()
            raise CorruptStoreError(
                f"{path} has format {found}, this version of Eventmill reads {FORMAT}: upgrade"
            )

    def close(self) -> None:
        """Close the connection; a second call does nothing."""
        with self._lock:
            self._db.close()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Make the statements inside one durable transaction, or none of them."""
        with self._lock, database_errors("writing the run book"):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Let the statements inside see one and the same state of the book."""
        with self._lock, database_errors("reading the run book"):
            self._db.execute("BEGIN")
            try:
                yield self._db
            finally:
                self._db.execute("COMMIT")

    def _format(self) -> int:
        return int(self._db.execute("PRAGMA user_version").fetchone()[0])

    def _upgrade(self) -> None:
        # The number is read again under the lock: another process may just have done it.
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for number in range(self._format(), FORMAT):
                for statement in _UPGRADES[number].split(";\n"):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version={number + 1}")
            self._db.execute("COMMIT")
        except BaseException:
            self._db.execute("ROLLBACK")
            raise


def _make_folder(folder: str) -> None:
    try:
        os.makedirs(folder or ".", mode=0o700, exist_ok=True)
    except OSError as error:
        raise UnavailableError(
            f"the folder of the run book, {folder}, cannot be made: {error.strerror};"
            " the setting schedule.folder names another one"
        ) from error
