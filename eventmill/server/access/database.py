"""``access.db``: keys, grants and what must outlive the process, in one SQLite file.

It lies beside ``store.db`` and has the same promise (WAL, ``synchronous=FULL``), but is a file of
its own: whoever makes or revokes a key must not wait for the store, nor take its lock. The server
and the command line open it alike. Statements stand here and nowhere else.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields

from eventmill.base.errors import CorruptStoreError
from eventmill.store.local.manifest import database_errors

ACCESS_FILE = "access.db"
"""Name of the file in a data folder."""
FORMAT = 1
"""Version of the file's format; a newer one is refused."""
IN_MEMORY = ":memory:"
_making = threading.Lock()
"""Held while a new file is made: nobody in this process has it open then."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS keys (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('token', 'service_account')),
    project TEXT NOT NULL,
    email TEXT NOT NULL,
    owner TEXT NOT NULL,
    created_at REAL NOT NULL,
    created_by TEXT NOT NULL,
    expires_at REAL,
    revoked_at REAL,
    last_used_at REAL,
    secret_hash BLOB,
    public_key TEXT NOT NULL,
    public_key_id TEXT NOT NULL,
    token_uri TEXT NOT NULL,
    events_per_second REAL,
    bytes_per_day INTEGER
);
CREATE UNIQUE INDEX IF NOT EXISTS keys_live ON keys (name) WHERE revoked_at IS NULL;
CREATE TABLE IF NOT EXISTS grants (
    id INTEGER PRIMARY KEY,
    resource TEXT NOT NULL,
    role TEXT NOT NULL,
    member TEXT NOT NULL,
    key_id INTEGER REFERENCES keys,
    expires_at REAL
);
CREATE INDEX IF NOT EXISTS grants_resource ON grants (resource);
CREATE TABLE IF NOT EXISTS access_tokens (
    secret_hash BLOB PRIMARY KEY,
    key_id INTEGER NOT NULL REFERENCES keys,
    scope TEXT NOT NULL,
    expires_at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS quota_levels (
    subject TEXT PRIMARY KEY, level REAL NOT NULL, noted_at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS acts (
    id TEXT PRIMARY KEY, document TEXT NOT NULL
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRow:
    """One key, live or not, as the file holds it."""

    id: int
    name: str
    kind: str
    project: str
    email: str
    owner: str
    created_at: float
    created_by: str
    expires_at: float | None
    revoked_at: float | None
    last_used_at: float | None
    secret_hash: bytes | None
    public_key: str
    public_key_id: str
    token_uri: str
    events_per_second: float | None
    bytes_per_day: int | None


@dataclass(frozen=True, slots=True)
class GrantRow:
    """One grant; ``key_id`` None: of a member that is no key, such as all of them."""

    resource: str
    role: str
    member: str
    key_id: int | None
    expires_at: float | None


@dataclass(frozen=True, slots=True)
class AccessTokenRow:
    """A short-lived token that was given for a service account's signature."""

    secret_hash: bytes
    key_id: int
    scope: str
    expires_at: float


_KEY_COLUMNS = ", ".join(field.name for field in fields(KeyRow))
_GRANT_COLUMNS = ", ".join(field.name for field in fields(GrantRow))


class AccessDatabase:
    """One connection to the file. Safe from any thread: one call or transaction at a time."""

    def __init__(self, path: str) -> None:
        """Open the file, and make it where it is missing, for its owner's eyes alone.

        Raises:
            UnavailableError: SQLite cannot open it.
            CorruptStoreError: a newer version of Eventmill wrote it.
        """
        self.path = path
        self._lock = threading.RLock()
        if path != IN_MEMORY:
            with database_errors(f"making {path}"), _os_errors():
                _make_private(path)
        with database_errors(f"opening {path}"):
            self._db = sqlite3.connect(
                path, isolation_level=None, timeout=30.0, check_same_thread=False
            )
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute("PRAGMA foreign_keys=ON")
            if self._db.execute("PRAGMA user_version").fetchone()[0] < FORMAT:
                self._db.executescript(
                    f"BEGIN IMMEDIATE;{_SCHEMA}PRAGMA user_version={FORMAT};COMMIT;"
                )
            found = self._db.execute("PRAGMA user_version").fetchone()[0]
        self._identity = self._file_identity()
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
    def writing(self) -> Iterator[None]:
        """Make the statements inside one durable transaction, or none of them."""
        with self._lock, database_errors("writing the keys"):
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
        """Let the statements inside see one and the same state of the file."""
        with self._lock, database_errors("reading the keys"):
            self._db.execute("BEGIN")
            try:
                yield
            finally:
                self._db.execute("COMMIT")

    def changes_seen(self) -> tuple[int, int]:
        """Return what moves when this or any other connection has changed the file."""
        with self._lock, database_errors("reading the keys"):
            version = int(self._db.execute("PRAGMA data_version").fetchone()[0])
            return version, self._db.total_changes

    def is_in_place(self) -> bool:
        """Tell whether the file that is open is still the one that its name leads to."""
        return self._file_identity() == self._identity

    def _file_identity(self) -> tuple[int, int]:
        if self.path == IN_MEMORY:
            return 0, 0
        try:
            found = os.stat(self.path)
        except OSError:
            return -1, -1
        return found.st_dev, found.st_ino

    # -- keys and grants ------------------------------------------------------------------

    def revision(self) -> int:
        """Return a number that moves when a key or a grant has changed."""
        row = self._db.execute("SELECT value FROM facts WHERE key = 'revision'").fetchone()
        return int(row[0]) if row else 0

    def count_revision(self) -> None:
        """Let everybody look at keys and grants again; inside ``writing``."""
        self._db.execute(
            "INSERT INTO facts VALUES ('revision', 1)"
            " ON CONFLICT (key) DO UPDATE SET value = value + 1"
        )

    def key_rows(self) -> list[KeyRow]:
        """Return every key that was ever made, ascending by name and age."""
        rows = self._db.execute(f"SELECT {_KEY_COLUMNS} FROM keys ORDER BY name, id")  # noqa: S608
        names = [field.name for field in fields(KeyRow)]
        return [KeyRow(**dict(zip(names, row, strict=True))) for row in rows]

    def insert_key(self, key: KeyRow) -> int:
        """Add a key, whose ``id`` means nothing yet; return the one that it got."""
        values = [getattr(key, field.name) for field in fields(KeyRow) if field.name != "id"]
        columns = _KEY_COLUMNS.removeprefix("id, ")
        marks = ", ".join("?" for _ in values)
        statement = f"INSERT INTO keys ({columns}) VALUES ({marks})"  # noqa: S608
        cursor = self._db.execute(statement, values)
        return int(cursor.lastrowid or 0)

    def revoke_key(self, key_id: int, now: float) -> None:
        """End a key for good, and every short-lived token that it was given."""
        self._db.execute("UPDATE keys SET revoked_at = ? WHERE id = ?", (now, key_id))
        self._db.execute("DELETE FROM access_tokens WHERE key_id = ?", (key_id,))

    def note_uses(self, uses: Iterable[tuple[int, float]]) -> None:
        """Note when keys were last used, as (key ID, moment)."""
        self._db.executemany(
            "UPDATE keys SET last_used_at = MAX(COALESCE(last_used_at, 0), ?) WHERE id = ?",
            [(moment, key_id) for key_id, moment in uses],
        )

    def grant_rows(self) -> list[GrantRow]:
        """Return every grant, of revoked keys too."""
        rows = self._db.execute(f"SELECT {_GRANT_COLUMNS} FROM grants ORDER BY id")  # noqa: S608
        return [GrantRow(*row) for row in rows]

    def insert_grants(self, grants: Sequence[GrantRow]) -> None:
        """Add grants."""
        self._db.executemany(
            f"INSERT INTO grants ({_GRANT_COLUMNS}) VALUES (?, ?, ?, ?, ?)",  # noqa: S608
            [(g.resource, g.role, g.member, g.key_id, g.expires_at) for g in grants],
        )

    def delete_grants(self, resource: str) -> None:
        """Remove the grants on exactly ``resource``; those of revoked keys stay, as history."""
        self._db.execute(
            "DELETE FROM grants WHERE resource = ? AND (key_id IS NULL OR key_id IN"
            " (SELECT id FROM keys WHERE revoked_at IS NULL))",
            (resource,),
        )

    # -- short-lived tokens ---------------------------------------------------------------

    def access_tokens(self, now: float) -> list[AccessTokenRow]:
        """Return every short-lived token that has not expired."""
        rows = self._db.execute(
            "SELECT secret_hash, key_id, scope, expires_at FROM access_tokens WHERE expires_at > ?",
            (now,),
        )
        return [AccessTokenRow(*row) for row in rows]

    def insert_access_token(self, token: AccessTokenRow, now: float, *, kept_max: int) -> None:
        """Add a token; forget expired ones, and the oldest of a key beyond ``kept_max``."""
        self._db.execute("DELETE FROM access_tokens WHERE expires_at <= ?", (now,))
        self._db.execute(
            "DELETE FROM access_tokens WHERE secret_hash IN (SELECT secret_hash FROM access_tokens"
            " WHERE key_id = ? ORDER BY expires_at DESC LIMIT -1 OFFSET ?)",
            (token.key_id, kept_max - 1),
        )
        self._db.execute(
            "INSERT INTO access_tokens VALUES (?, ?, ?, ?)",
            (token.secret_hash, token.key_id, token.scope, token.expires_at),
        )

    # -- quotas and the audit's outbox ----------------------------------------------------

    def quota_levels(self) -> dict[str, tuple[float, float]]:
        """Return the level of each quota by subject, and when it was noted."""
        rows = self._db.execute("SELECT subject, level, noted_at FROM quota_levels")
        return {str(subject): (level, noted_at) for subject, level, noted_at in rows}

    def note_quota_levels(self, levels: Iterable[tuple[str, float, float]]) -> None:
        """Note (subject, level, moment) of quotas."""
        self._db.executemany("INSERT OR REPLACE INTO quota_levels VALUES (?, ?, ?)", levels)

    def insert_act(self, act_id: str, document: str) -> None:
        """Let an administrative act wait for the audit table."""
        self._db.execute("INSERT INTO acts VALUES (?, ?)", (act_id, document))

    def acts(self, limit: int) -> list[tuple[str, str]]:
        """Return up to ``limit`` acts that wait, as (ID, document), the oldest first."""
        rows = self._db.execute("SELECT id, document FROM acts ORDER BY id LIMIT ?", (limit,))
        return [(str(act_id), str(document)) for act_id, document in rows]

    def delete_acts(self, act_ids: Iterable[str]) -> None:
        """Forget acts that the audit table has."""
        self._db.executemany("DELETE FROM acts WHERE id = ?", [(act_id,) for act_id in act_ids])


def _make_private(path: str) -> None:
    """Make an empty file that only its owner can read, unless there is one.

    A file that SQLite may have open is never opened here: closing it again would end the locks that
    SQLite holds on it (fcntl's locks belong to the process, not to a descriptor), and another
    process would then take its log away.
    """
    with _making, contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))


@contextmanager
def _os_errors() -> Iterator[None]:
    """Let a refusal of the file system pass as SQLite's own would."""
    try:
        yield
    except OSError as error:
        raise sqlite3.OperationalError(str(error)) from error
