"""Whom there is still to tell: notices in SQLite, each sent under a lease, in order.

Of one alert a channel hears in the order in which things happened: no end before its beginning.
What a channel that is down would hear too late is not piled up: at most a beginning and an end of
each alert wait for it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from eventmill.schedule.alert_finding import Finding, Severity
from eventmill.schedule.alert_state import Notice
from eventmill.schedule.book_file import BookFile

NOTICE_LEASE_SECONDS = 60.0
"""How long one process has to send a notice before another may."""
PAUSE_SECONDS_MAX = 600.0
"""The longest pause between two tries of a notice."""
UNROUTED = ""
"""Channel of a notice of which it is not known yet who is to hear it."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS alert_queue (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    channel TEXT NOT NULL,
    key TEXT NOT NULL,
    notice TEXT NOT NULL,
    finding TEXT NOT NULL,
    since REAL NOT NULL,
    queued_at REAL NOT NULL,
    next_at REAL NOT NULL,
    leased_until REAL NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    error TEXT
);
CREATE INDEX IF NOT EXISTS alert_queue_order ON alert_queue (channel, key, id);
CREATE TABLE IF NOT EXISTS alert_told (
    key TEXT NOT NULL,
    channel TEXT NOT NULL,
    PRIMARY KEY (key, channel)
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Routing:
    """Who is told of a finding."""

    channels: tuple[str, ...] | None
    """Names of the channels; None: that cannot be known now, and is asked again."""
    repeat_seconds: float
    """How long after it was told it is told again while it fires."""


@dataclass(frozen=True, slots=True)
class QueuedNotice:
    """One notice that one channel has not taken yet."""

    id: int
    channel: str
    notice: Notice
    finding: Finding
    since: float
    """When the alert began to fire, seconds since 1970."""
    queued_at: float
    attempts: int
    """Tries so far that failed."""
    error: str | None
    """Why the last one did."""


class AlertQueue:
    """The notices in the file of the run book. Safe from any thread and process."""

    def __init__(self, file: BookFile) -> None:
        """Use ``file``, whose owner has made the tables of ``SCHEMA``."""
        self._file = file

    def due_channels(self, now: float) -> list[str]:
        """Return the channels for which a notice is due."""
        sql = f"SELECT DISTINCT channel FROM alert_queue AS n WHERE {_DUE}"  # noqa: S608
        with self._file.reading() as db:
            return sorted(str(row[0]) for row in db.execute(sql, _due_values(now)))

    def take(self, channel: str, now: float) -> QueuedNotice | None:
        """Return the next notice for a channel, under a lease: nobody else gets it meanwhile."""
        sql = f"{_NOTICES} AS n WHERE channel = :channel AND {_DUE} ORDER BY id LIMIT 1"
        with self._file.writing() as db:
            row = db.execute(sql, {"channel": channel, **_due_values(now)}).fetchone()
            if row is None:
                return None
            found = _notice(tuple(row))
            db.execute(
                "UPDATE alert_queue SET leased_until = ? WHERE id = ?",
                (now + NOTICE_LEASE_SECONDS, found.id),
            )
            return found

    def waiting(self) -> list[QueuedNotice]:
        """Return every notice that its channel has not taken yet, the oldest first."""
        with self._file.reading() as db:
            return [_notice(tuple(row)) for row in db.execute(f"{_NOTICES} ORDER BY id")]

    def settle(self, notice_id: int) -> None:
        """Forget a notice: it was taken, or given up."""
        with self._file.writing() as db:
            db.execute("DELETE FROM alert_queue WHERE id = ?", (notice_id,))

    def put_off(self, notice_id: int, next_at: float, error: str) -> None:
        """Have a notice tried again at ``next_at``, seconds since 1970."""
        with self._file.writing() as db:
            db.execute(
                "UPDATE alert_queue SET next_at = ?, leased_until = 0, attempts = attempts + 1,"
                " error = ? WHERE id = ?",
                (next_at, error, notice_id),
            )

    def route_waiting(self, route: Callable[[Finding], Routing]) -> None:
        """Hand notices to channels that waited for it to be known who is to hear them."""
        with self._file.writing() as db:
            rows = db.execute(f"{_NOTICES} WHERE channel = ? ORDER BY id", (UNROUTED,)).fetchall()
            for found in (_notice(tuple(row)) for row in rows):
                channels = route(found.finding).channels
                if channels is None:
                    continue
                db.execute("DELETE FROM alert_queue WHERE id = ?", (found.id,))
                _note_told(db, found.finding.key, found.notice, channels)
                for channel in channels:
                    _append(db, channel, found)


def enter(
    db: sqlite3.Connection,
    finding: Finding,
    notice: Notice,
    *,
    since: float,
    now: float,
    channels: Iterable[str] | None,
) -> tuple[str, ...]:
    """Queue a notice in the open transaction, and return for which channels.

    The end of an alert goes to those who were to hear of its beginning, whatever routes say now.
    """
    names = (UNROUTED,) if channels is None else tuple(channels)
    if notice is Notice.RESOLVED:
        rows = db.execute("SELECT channel FROM alert_told WHERE key = ?", (finding.key,))
        names = tuple(str(row[0]) for row in rows)
    _note_told(db, finding.key, notice, names)
    for name in names:
        _append(db, name, QueuedNotice(0, name, notice, finding, since, now, 0, None))
    return names


def finding_text(finding: Finding) -> str:
    """Return a finding as the book keeps it."""
    return json.dumps({**asdict(finding), "labels": dict(finding.labels)})


def finding_of(text: str) -> Finding:
    """Return the finding of which ``finding_text`` made ``text``."""
    told = json.loads(text)
    severity, aliases = Severity(told.pop("severity")), tuple(told.pop("aliases"))
    return Finding(severity=severity, aliases=aliases, **told)


def _note_told(db: sqlite3.Connection, key: str, notice: Notice, names: Iterable[str]) -> None:
    if notice is Notice.RESOLVED:
        db.execute("DELETE FROM alert_told WHERE key = ?", (key,))
        return
    db.execute("DELETE FROM alert_told WHERE key = ? AND channel = ?", (key, UNROUTED))
    db.executemany("INSERT OR IGNORE INTO alert_told VALUES (?, ?)", [(key, n) for n in names])


def _append(db: sqlite3.Connection, channel: str, new: QueuedNotice) -> None:
    """Queue ``new`` behind what waits of the same alert for the channel, or instead of it."""
    key, text = new.finding.key, finding_text(new.finding)
    sql = (
        "SELECT id, notice, leased_until FROM alert_queue WHERE channel = ? AND key = ? ORDER BY id"
    )
    rows = db.execute(sql, (channel, key)).fetchall()
    if rows:
        last, told, leased_until = rows[-1]
        was_end, is_end = told == Notice.RESOLVED.value, new.notice is Notice.RESOLVED
        if not was_end and new.notice is Notice.STILL_FIRING and leased_until <= new.queued_at:
            # Nobody has heard of it yet: what is to be told is how it stands now.
            db.execute(
                "UPDATE alert_queue SET finding = ?, queued_at = ? WHERE id = ?",
                (text, new.queued_at, last),
            )
            return
        if len(rows) > 1 and was_end is not is_end:
            # Only the first is ever sent: the last and the new one are news of the past by then.
            db.execute("DELETE FROM alert_queue WHERE id = ?", (last,))
            return
    db.execute(
        "INSERT INTO alert_queue (channel, key, notice, finding, since, queued_at, next_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (channel, key, new.notice.value, text, new.since, new.queued_at, new.queued_at),
    )


# A moment further away than any pause or lease is of a clock that was set back since.
_DUE = (
    "(next_at <= :now OR next_at > :now + :pause) AND (leased_until <= :now OR leased_until >"
    " :now + :lease) AND NOT EXISTS (SELECT 1 FROM alert_queue AS b WHERE b.channel = n.channel"
    " AND b.key = n.key AND b.id < n.id)"
)
_NOTICES = "SELECT id, channel, notice, finding, since, queued_at, attempts, error FROM alert_queue"


def _due_values(now: float) -> dict[str, float]:
    return {"now": now, "pause": PAUSE_SECONDS_MAX, "lease": NOTICE_LEASE_SECONDS}


def _notice(row: tuple[Any, ...]) -> QueuedNotice:
    number, channel, notice, finding, since, queued_at, attempts, error = row
    return QueuedNotice(
        number, channel, Notice(notice), finding_of(finding), since, queued_at, attempts, error
    )
