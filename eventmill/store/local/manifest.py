"""The manifest: which tables, segments and files make up the store, in one SQLite file.

WAL with ``synchronous=FULL``: a committed transaction survives a power cut, and readers in other
processes see either all of it or nothing. Statements stand here, and of slots in
``manifest_slots``, and nowhere else.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from eventmill.base.errors import CorruptStoreError, StorageFullError, UnavailableError
from eventmill.store.local.manifest_slots import SlotList

FORMAT = 3
"""Version of the folder's format; a newer one is refused, an older one brought up to it."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tables (
    uid INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    is_own INTEGER NOT NULL,
    version INTEGER NOT NULL,
    document TEXT NOT NULL,
    created_at REAL NOT NULL,
    updated_at REAL NOT NULL,
    expired_rows INTEGER NOT NULL DEFAULT 0,
    deduplicated_rows INTEGER NOT NULL DEFAULT 0,
    replaced_rows INTEGER NOT NULL DEFAULT 0,
    last_ingested_us INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS definitions (
    uid INTEGER NOT NULL REFERENCES tables ON DELETE CASCADE,
    version INTEGER NOT NULL,
    fingerprint TEXT NOT NULL,
    document TEXT NOT NULL,
    applied_at REAL NOT NULL,
    PRIMARY KEY (uid, version)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS segments (
    uid INTEGER NOT NULL REFERENCES tables ON DELETE CASCADE,
    number INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('open', 'sealed', 'compacted')),
    rows INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (uid, number)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS files (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uid INTEGER NOT NULL REFERENCES tables ON DELETE CASCADE,
    name TEXT NOT NULL,
    partition TEXT NOT NULL,
    rows INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    min_event_us INTEGER,
    max_event_us INTEGER,
    min_ingested_us INTEGER NOT NULL,
    max_ingested_us INTEGER NOT NULL,
    version INTEGER NOT NULL,
    removed_at REAL,
    ahead_rows INTEGER NOT NULL DEFAULT 0,
    is_output INTEGER NOT NULL DEFAULT 0,
    UNIQUE (uid, name)
);
CREATE INDEX IF NOT EXISTS files_live ON files (uid, partition) WHERE removed_at IS NULL;
CREATE TABLE IF NOT EXISTS slots (
    uid INTEGER NOT NULL REFERENCES tables ON DELETE CASCADE,
    workflow TEXT NOT NULL,
    start_seconds INTEGER NOT NULL,
    end_seconds INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    PRIMARY KEY (uid, workflow, start_seconds, end_seconds)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS slot_files (
    file INTEGER NOT NULL REFERENCES files ON DELETE CASCADE,
    uid INTEGER NOT NULL,
    workflow TEXT NOT NULL,
    start_seconds INTEGER NOT NULL,
    end_seconds INTEGER NOT NULL,
    rows INTEGER NOT NULL,
    PRIMARY KEY (file, workflow, start_seconds)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS slot_files_of ON slot_files (uid, workflow, start_seconds);
"""
_UPGRADES = {
    1: ("ALTER TABLE files ADD COLUMN ahead_rows INTEGER NOT NULL DEFAULT 0",),
    2: (
        "ALTER TABLE files ADD COLUMN is_output INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE tables ADD COLUMN replaced_rows INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE tables ADD COLUMN last_ingested_us INTEGER NOT NULL DEFAULT 0",
        """UPDATE tables SET last_ingested_us = COALESCE(
           (SELECT MAX(max_ingested_us) FROM files WHERE files.uid = tables.uid), 0)""",
    ),
}
"""What brings a folder of that format to the next one; tables and indexes are made before."""


@dataclass(frozen=True, slots=True)
class SegmentRow:
    """One segment as the manifest lists it; rows and bytes are 0 while it is open."""

    number: int
    state: str
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class FileRow:
    """One Parquet file of the lake."""

    name: str
    """Path below the table's lake folder."""
    partition: str
    rows: int
    bytes: int
    min_event_us: int | None
    max_event_us: int | None
    """Bounds of the partition column, microseconds since 1970; None when no row has a value."""
    min_ingested_us: int
    max_ingested_us: int
    version: int
    """Version of the table's definition that the file was written by."""
    ahead_rows: int = 0
    """Rows kept with their whole event, because it has fields which that definition lacks."""
    is_output: bool = False
    """Whether its rows are all of slots of workflows; if not, none is."""


class Manifest:
    """One connection to the manifest, for one thread at a time: its owner sees to that."""

    def __init__(self, path: str, *, create: bool = False) -> None:
        """Open the manifest; with ``create`` make it where it is missing.

        Raises:
            UnavailableError: there is no store at ``path``, or SQLite cannot open it.
            CorruptStoreError: the folder was written by a newer version, or by an older one and
                no writer has opened it since.
        """
        mode = "rwc" if create else "rw"
        with database_errors("opening the store"):
            self._db = sqlite3.connect(
                f"file:{_quoted(path)}?mode={mode}",
                uri=True,
                isolation_level=None,
                timeout=30.0,
                check_same_thread=False,
            )
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute("PRAGMA foreign_keys=ON")
            if create:
                self._db.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}COMMIT;")
                with self.writing():
                    self._fact("format", str(FORMAT))
                    self._fact("dedup_seed", str(secrets.randbits(64)))
                    self._upgrade()
            found = self.fact("format")
        self.slots = SlotList(self._db)
        if found != str(FORMAT):
            self.close()
            is_older = found is not None and found.isdecimal() and int(found) < FORMAT
            remedy = "open it once for writing (`eventmill serve`)" if is_older else "upgrade"
            raise CorruptStoreError(
                f"{path} has format {found}, this version of Eventmill reads {FORMAT}: {remedy}"
            )

    def _upgrade(self) -> None:
        found = int(self.fact("format") or FORMAT)
        for step in range(found, FORMAT):
            for statement in _UPGRADES[step]:
                self._db.execute(statement)
            self._db.execute("UPDATE facts SET value = ? WHERE key = 'format'", (str(step + 1),))

    def close(self) -> None:
        """Close the connection; a second call does nothing."""
        self._db.close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Make the statements inside one durable transaction, or none of them."""
        with database_errors("writing the manifest"):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            try:
                self._db.execute("COMMIT")
            except sqlite3.Error:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Let the statements inside see one and the same state of the store."""
        with database_errors("reading the manifest"):
            self._db.execute("BEGIN")
            try:
                yield
            finally:
                self._db.execute("COMMIT")

    def changes_seen(self) -> int:
        """Return a number that moves when another connection has changed the store."""
        return int(self._db.execute("PRAGMA data_version").fetchone()[0])

    # -- facts ----------------------------------------------------------------------------

    def fact(self, key: str) -> str | None:
        """Return a fact of the store as a whole; None when it is not set."""
        row = self._db.execute("SELECT value FROM facts WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def _fact(self, key: str, value: str) -> None:
        self._db.execute("INSERT OR IGNORE INTO facts VALUES (?, ?)", (key, value))

    # -- tables ---------------------------------------------------------------------------

    def table_rows(self) -> list[tuple[int, str, bool, int, str, float, float]]:
        """Return (uid, name, is_own, version, document, created_at, updated_at) of each table."""
        rows = self._db.execute(
            "SELECT uid, name, is_own, version, document, created_at, updated_at FROM tables"
            " ORDER BY name"
        ).fetchall()
        return [(u, n, bool(o), v, d, c, t) for u, n, o, v, d, c, t in rows]

    def fingerprints(self, uid: int) -> set[str]:
        """Return the fingerprint of every definition that the table has had."""
        rows = self._db.execute("SELECT fingerprint FROM definitions WHERE uid = ?", (uid,))
        return {str(row[0]) for row in rows}

    def definition(self, uid: int, version: int) -> str | None:
        """Return the document of a table's definition; None: it never had that version."""
        row = self._db.execute(
            "SELECT document FROM definitions WHERE uid = ? AND version = ?", (uid, version)
        ).fetchone()
        return None if row is None else str(row[0])

    def insert_table(self, name: str, is_own: bool, document: str, print_: str, now: float) -> int:
        """Add a table at version 1; return its uid."""
        cursor = self._db.execute(
            "INSERT INTO tables (name, is_own, version, document, created_at, updated_at)"
            " VALUES (?, ?, 1, ?, ?, ?)",
            (name, int(is_own), document, now, now),
        )
        uid = int(cursor.lastrowid or 0)
        self._insert_definition(uid, 1, print_, document, now)
        return uid

    def update_table(self, uid: int, version: int, document: str, print_: str, now: float) -> None:
        """Give a table its next definition."""
        self._db.execute(
            "UPDATE tables SET version = ?, document = ?, updated_at = ? WHERE uid = ?",
            (version, document, now, uid),
        )
        self._insert_definition(uid, version, print_, document, now)

    def _insert_definition(
        self, uid: int, version: int, print_: str, document: str, now: float
    ) -> None:
        self._db.execute(
            "INSERT INTO definitions VALUES (?, ?, ?, ?, ?)", (uid, version, print_, document, now)
        )

    def delete_table(self, uid: int) -> None:
        """Forget a table with its definitions, segments and files."""
        self._db.execute("DELETE FROM tables WHERE uid = ?", (uid,))
        self._db.execute("DELETE FROM facts WHERE key = ?", (f"last_segment/{uid}",))

    def removed_row_counts(self, uid: int) -> tuple[int, int, int]:
        """Return how many rows of a table have expired, were late duplicates, were replaced."""
        row = self._db.execute(
            "SELECT expired_rows, deduplicated_rows, replaced_rows FROM tables WHERE uid = ?",
            (uid,),
        ).fetchone()
        return (int(row[0]), int(row[1]), int(row[2])) if row else (0, 0, 0)

    def count_removed(
        self, uid: int, *, expired: int = 0, deduplicated: int = 0, replaced: int = 0
    ) -> None:
        """Add to a table's counts of rows that are gone."""
        self._db.execute(
            "UPDATE tables SET expired_rows = expired_rows + ?,"
            " deduplicated_rows = deduplicated_rows + ?, replaced_rows = replaced_rows + ?"
            " WHERE uid = ?",
            (expired, deduplicated, replaced, uid),
        )

    def last_ingested_us(self, uid: int) -> int | None:
        """Return the newest time of ingestion that the lake ever had; None: no such table."""
        row = self._db.execute(
            "SELECT last_ingested_us FROM tables WHERE uid = ?", (uid,)
        ).fetchone()
        return None if row is None else int(row[0])

    # -- segments -------------------------------------------------------------------------

    def segments(self, uid: int) -> list[SegmentRow]:
        """Return a table's segments that hold rows not in the lake, ascending."""
        return [
            SegmentRow(*row)
            for row in self._db.execute(
                "SELECT number, state, rows, bytes FROM segments"
                " WHERE uid = ? AND state <> 'compacted' ORDER BY number",
                (uid,),
            )
        ]

    def compacted_segments(self, uid: int) -> list[int]:
        """Return numbers of segments whose rows are in the lake and whose file may still stand."""
        rows = self._db.execute(
            "SELECT number FROM segments WHERE uid = ? AND state = 'compacted' ORDER BY number",
            (uid,),
        )
        return [int(row[0]) for row in rows]

    def last_segment(self, uid: int) -> int:
        """Return the highest segment number ever given in a table; 0 for none."""
        row = self._db.execute(
            "SELECT value FROM facts WHERE key = ?", (f"last_segment/{uid}",)
        ).fetchone()
        return int(row[0]) if row else 0

    def open_segment(self, uid: int, number: int) -> None:
        """List a new segment that rows are being appended to."""
        self._db.execute(
            "INSERT INTO segments (uid, number, state) VALUES (?, ?, 'open')", (uid, number)
        )
        self._note_segment(uid, number)

    def seal_segment(self, uid: int, number: int, rows: int, size: int) -> None:
        """Say that nothing will be appended to a segment any more."""
        self._db.execute(
            "INSERT OR REPLACE INTO segments (uid, number, state, rows, bytes)"
            " VALUES (?, ?, 'sealed', ?, ?)",
            (uid, number, rows, size),
        )
        self._note_segment(uid, number)

    def _note_segment(self, uid: int, number: int) -> None:
        """Remember that a number was given, so that it never is again."""
        if number > self.last_segment(uid):
            self._db.execute(
                "INSERT OR REPLACE INTO facts VALUES (?, ?)", (f"last_segment/{uid}", str(number))
            )

    def compact_segment(self, uid: int, number: int) -> None:
        """Say that a segment's rows are in the lake."""
        self._db.execute(
            "UPDATE segments SET state = 'compacted' WHERE uid = ? AND number = ?", (uid, number)
        )

    def delete_segment(self, uid: int, number: int) -> None:
        """Forget a segment; its file is gone, or never held a row."""
        self._db.execute("DELETE FROM segments WHERE uid = ? AND number = ?", (uid, number))

    def forget_missing_segment(self, uid: int, number: int) -> bool:
        """Forget a segment whose file is gone, unless its rows are in the lake by now."""
        cursor = self._db.execute(
            "DELETE FROM segments WHERE uid = ? AND number = ? AND state <> 'compacted'",
            (uid, number),
        )
        return cursor.rowcount > 0

    # -- files ----------------------------------------------------------------------------

    def files(self, uid: int) -> list[FileRow]:
        """Return the live files of a table."""
        return [
            FileRow(*row[:-1], bool(row[-1]))  # type: ignore[call-arg]
            for row in self._db.execute(
                "SELECT name, partition, rows, bytes, min_event_us, max_event_us,"
                " min_ingested_us, max_ingested_us, version, ahead_rows, is_output FROM files"
                " WHERE uid = ? AND removed_at IS NULL ORDER BY partition, id",
                (uid,),
            )
        ]

    def add_files(self, uid: int, files: Sequence[FileRow]) -> None:
        """List new files of the lake."""
        self._db.executemany(
            "INSERT INTO files (uid, name, partition, rows, bytes, min_event_us, max_event_us,"
            " min_ingested_us, max_ingested_us, version, ahead_rows, is_output)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (uid, f.name, f.partition, f.rows, f.bytes, f.min_event_us, f.max_event_us,
                 f.min_ingested_us, f.max_ingested_us, f.version, f.ahead_rows, int(f.is_output))
                for f in files
            ],
        )  # fmt: skip
        if files:
            self._db.execute(
                "UPDATE tables SET last_ingested_us = MAX(last_ingested_us, ?) WHERE uid = ?",
                (max(file.max_ingested_us for file in files), uid),
            )

    def are_live(self, uid: int, names: Sequence[str]) -> bool:
        """Tell whether all of ``names`` are files of the lake still."""
        marks = ", ".join("?" * len(names))
        row = self._db.execute(
            "SELECT COUNT(*) FROM files WHERE uid = ? AND removed_at IS NULL"  # noqa: S608
            f" AND name IN ({marks})",
            (uid, *names),
        ).fetchone()
        return int(row[0]) == len(names)

    def remove_files(self, uid: int, names: Sequence[str], now: float) -> None:
        """Take files out of the lake; they stand on disk until nobody can be reading them."""
        self._db.executemany(
            "UPDATE files SET removed_at = ? WHERE uid = ? AND name = ?",
            [(now, uid, name) for name in names],
        )

    def removed_files(self, uid: int, before: float) -> list[str]:
        """Return files taken out of the lake before ``before`` (seconds since 1970)."""
        rows = self._db.execute(
            "SELECT name FROM files WHERE uid = ? AND removed_at < ?", (uid, before)
        )
        return [str(row[0]) for row in rows]

    def forget_files(self, uid: int, names: Sequence[str]) -> None:
        """Drop the entries of files that are gone from the disk."""
        self._db.executemany(
            "DELETE FROM files WHERE uid = ? AND name = ? AND removed_at IS NOT NULL",
            [(uid, name) for name in names],
        )

    def listed_names(self, uid: int) -> set[str]:
        """Return the names of all files of a table that may stand on disk, removed ones too."""
        rows = self._db.execute("SELECT name FROM files WHERE uid = ?", (uid,))
        return {str(row[0]) for row in rows}


@contextmanager
def database_errors(what: str) -> Iterator[None]:
    """Turn SQLite's refusals inside the block into ours, cause kept."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None)
        if code == sqlite3.SQLITE_FULL:
            raise StorageFullError(
                f"no space is left {what}: free some, and sending resumes by itself",
                retry_after_seconds=5.0,
            ) from error
        raise UnavailableError(f"SQLite failed {what}: {error}") from error


def _quoted(path: str) -> str:
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
