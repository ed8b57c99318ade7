"""Write streams that a client has made: what they hold, kept until it is in its table.

In SQLite, in the data folder: a stream outlives the server. Rows of a pending stream lie here as
batches, encoded as their table wants them, under insert IDs made of the stream's name and the
row's place in it. So a commit that breaks off half-way is carried on, and what it had stored
before is a duplicate the second time.
"""

from __future__ import annotations

import secrets
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from eventmill.base.errors import UsageError
from eventmill.schema.table import TableId

_SCHEMA = """
CREATE TABLE IF NOT EXISTS streams (
  name TEXT PRIMARY KEY, table_name TEXT NOT NULL, kind TEXT NOT NULL, state TEXT NOT NULL,
  rows INTEGER NOT NULL DEFAULT 0, created_at REAL NOT NULL, committed_at REAL);
CREATE TABLE IF NOT EXISTS parts (
  stream TEXT NOT NULL, first INTEGER NOT NULL, fingerprint TEXT NOT NULL, payload BLOB NOT NULL,
  PRIMARY KEY (stream, first));
"""
KEPT_SECONDS = 7 * 86_400.0
"""A stream that was made so long ago is forgotten, with what it holds."""


class StreamKind(StrEnum):
    """When the rows of a stream are seen."""

    COMMITTED = "COMMITTED"
    """At once."""
    PENDING = "PENDING"
    """All together, when the stream is committed."""


class StreamState(StrEnum):
    """What can be done with a stream."""

    OPEN = "open"
    FINALIZED = "finalized"
    COMMITTING = "committing"
    """A commit has been asked for; it is carried out, whatever happens to the server."""
    COMMITTED = "committed"


@dataclass(frozen=True, slots=True)
class Stream:
    """One write stream."""

    name: str
    table: TableId
    kind: StreamKind
    state: StreamState
    rows: int
    created_at: float
    committed_at: float | None


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of a stream, as one batch."""

    fingerprint: str
    payload: bytes


class Streams:
    """The streams of one server. Safe from any thread."""

    def __init__(self, path: str) -> None:
        """Open the file, ``:memory:`` for none."""
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._lock = threading.RLock()
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")  # an ack is a sync here as well
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._db.close()

    def create(self, table: TableId, kind: StreamKind, now: float) -> Stream:
        """Make a stream, and forget those that were made long ago."""
        path = f"projects/{table.project}/datasets/{table.dataset}/tables/{table.table}"
        name = f"{path}/streams/{secrets.token_hex(16)}"
        with self._changing():
            old = (now - KEPT_SECONDS, StreamState.COMMITTING.value)
            self._db.execute(
                "DELETE FROM parts WHERE stream IN"
                " (SELECT name FROM streams WHERE created_at < ? AND state != ?)",
                old,
            )
            self._db.execute("DELETE FROM streams WHERE created_at < ? AND state != ?", old)
            self._db.execute(
                "INSERT INTO streams (name, table_name, kind, state, created_at)"
                " VALUES (?, ?, ?, ?, ?)",
                (name, str(table), kind.value, StreamState.OPEN.value, now),
            )
        return self.find(name)

    def find(self, name: str) -> Stream:
        """Return a stream; UsageError when there is none."""
        with self._lock:
            row = self._db.execute(
                "SELECT name, table_name, kind, state, rows, created_at, committed_at"
                " FROM streams WHERE name = ?",
                (name,),
            ).fetchone()
        if row is None:
            raise UsageError(f"Requested entity was not found: {name}")
        return Stream(
            row[0], TableId.parse(row[1]), StreamKind(row[2]), StreamState(row[3]), *row[4:]
        )

    def append(self, stream: Stream, first: int, count: int, parts: Sequence[Part]) -> None:
        """Keep rows of a pending stream (``parts``), or note rows of a committed one (none)."""
        with self._changing():
            changed = self._db.execute(
                "UPDATE streams SET rows = rows + ? WHERE name = ? AND rows = ? AND state = ?",
                (count, stream.name, first, StreamState.OPEN.value),
            ).rowcount
            if changed != 1:
                raise UsageError(f"{stream.name} was appended to by somebody else, or finalized")
            for place, part in enumerate(parts):
                self._db.execute(
                    "INSERT INTO parts VALUES (?, ?, ?, ?)",
                    (stream.name, first + place, part.fingerprint, part.payload),
                )

    def finalize(self, name: str) -> Stream:
        """Take no more rows."""
        with self._changing():
            self._db.execute(
                "UPDATE streams SET state = ? WHERE name = ? AND state = ?",
                (StreamState.FINALIZED.value, name, StreamState.OPEN.value),
            )
        return self.find(name)

    def begin_commit(self, names: Sequence[str]) -> None:
        """Note, for all streams at once, that they are to be committed."""
        with self._changing():
            for name in names:
                self._db.execute(
                    "UPDATE streams SET state = ? WHERE name = ? AND state = ?",
                    (StreamState.COMMITTING.value, name, StreamState.FINALIZED.value),
                )

    def committing(self) -> list[Stream]:
        """Return the streams whose commit is not carried out yet."""
        with self._lock:
            rows = self._db.execute(
                "SELECT name FROM streams WHERE state = ?", (StreamState.COMMITTING.value,)
            ).fetchall()
        return [self.find(row[0]) for row in rows]

    def parts(self, name: str) -> Iterator[Part]:
        """Yield what a stream holds, in order."""
        at = -1
        while True:
            with self._lock:
                row = self._db.execute(
                    "SELECT first, fingerprint, payload FROM parts"
                    " WHERE stream = ? AND first > ? ORDER BY first LIMIT 1",
                    (name, at),
                ).fetchone()
            if row is None:
                return
            at = row[0]
            yield Part(row[1], row[2])

    def end_commit(self, name: str, now: float) -> None:
        """Note that all rows of a stream are in the table; what it held is dropped."""
        with self._changing():
            self._db.execute("DELETE FROM parts WHERE stream = ?", (name,))
            self._db.execute(
                "UPDATE streams SET state = ?, committed_at = ? WHERE name = ?",
                (StreamState.COMMITTED.value, now, name),
            )

    @contextmanager
    def _changing(self) -> Iterator[None]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
