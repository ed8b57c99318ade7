"""What alerts stand how, and whom there is still to tell: in SQLite, so that it outlives everybody.

Any number of processes evaluate at once: each transition is made inside one transaction, so one of
them makes it and queues its notices, and a notice is sent under a lease.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from eventmill.schedule.alert_finding import AlertState, Finding, RuleOutcome, Severity
from eventmill.schedule.alert_state import Alert, Notice, next_state
from eventmill.schedule.book_file import BookFile

NOTICE_LEASE_SECONDS = 60.0
"""How long one process has to send a notice before another may."""
HISTORY_KEPT_SECONDS = 90 * 86_400.0
"""How long it is known when an alert came and went: a quarter, as a review of one looks back."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS alerts (
    key TEXT PRIMARY KEY,
    rule TEXT NOT NULL,
    finding TEXT NOT NULL,
    state TEXT NOT NULL,
    since REAL NOT NULL,
    found_at REAL NOT NULL,
    told_at REAL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS alert_rules (
    rule TEXT PRIMARY KEY,
    evaluated_at REAL NOT NULL,
    failing_since REAL,
    error TEXT
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS alert_history (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at REAL NOT NULL,
    key TEXT NOT NULL,
    rule TEXT NOT NULL,
    subject TEXT NOT NULL,
    state TEXT NOT NULL,
    summary TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS alert_history_key ON alert_history (key, at);
CREATE TABLE IF NOT EXISTS alert_notices (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    channel TEXT NOT NULL,
    notice TEXT NOT NULL,
    finding TEXT NOT NULL,
    since REAL NOT NULL,
    queued_at REAL NOT NULL,
    next_at REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    error TEXT
);
"""


_PLACES = {
    AlertState.FIRING: 0,
    AlertState.PENDING: 1,
    AlertState.NO_DATA: 2,
    AlertState.OK: 3,
}


@dataclass(frozen=True, slots=True)
class Routing:
    """Who is told of a finding."""

    channels: tuple[str, ...]
    """Names of the channels."""
    repeat_seconds: float
    """How long after it was told it is told again while it fires."""


@dataclass(frozen=True, slots=True)
class AlertChange:
    """A transition that somebody is told of."""

    alert: Alert
    notice: Notice


@dataclass(frozen=True, slots=True)
class QueuedNotice:
    """One notice that one channel has not taken yet."""

    id: int
    channel: str
    notice: Notice
    finding: Finding
    since: float
    """When the alert came into its state, seconds since 1970."""
    queued_at: float
    attempts: int
    """Tries so far that failed."""
    error: str | None
    """Why the last one did."""


@dataclass(frozen=True, slots=True)
class RuleRecord:
    """When a rule was last evaluated, and whether it can be."""

    rule: str
    evaluated_at: float
    failing_since: float | None
    """Since when it cannot be evaluated; None: it can."""
    error: str | None


class AlertBook:
    """The alerts' tables in the file of the run book. Safe from any thread and process."""

    def __init__(self, path: str) -> None:
        """Open the run book's file ``path``, made when it is missing.

        Raises:
            UnavailableError: SQLite cannot open it.
            CorruptStoreError: a newer version of Eventmill wrote it.
        """
        self._file = BookFile(path)
        with self._file.writing() as db:
            for statement in _SCHEMA.split(";\n"):
                db.execute(statement)

    def close(self) -> None:
        """Close the connection; a second call does nothing."""
        self._file.close()

    def record(
        self, outcome: RuleOutcome, now: float, route: Callable[[Finding], Routing]
    ) -> list[AlertChange]:
        """Write down what one rule said, and queue what is to be told.

        Promise: on return the alerts' states and the notices are on disk, both or none; of two
        processes that record the same at once one queues the notice.

        Args:
            outcome: of the rule's evaluation at ``now``.
            now: seconds since 1970.
            route: says who is told of a finding, and how often.
        """
        changes: list[AlertChange] = []
        with self._file.writing() as db:
            self._record_rule(db, outcome, now)
            if outcome.error is not None:
                return []
            found = {finding.key: finding for finding in outcome.findings}
            known = {alert.finding.key: alert for alert in self._alerts(db, rule=outcome.rule)}
            for key in sorted(known.keys() | found.keys()):
                before = known.get(key)
                routing = route(found[key] if before is None else before.finding)
                alert, notice = next_state(before, found.get(key), now, routing.repeat_seconds)
                if alert is None:
                    continue
                if alert != before:
                    self._keep(db, alert)
                if before is None or alert.state is not before.state:
                    self._remember(db, alert, now)
                if notice is not None:
                    changes.append(AlertChange(alert, notice))
                    self._queue(db, alert, notice, now, routing.channels)
            self._forget_old(db, now)
        return changes

    def forget_rules(self, rules: Sequence[str], now: float) -> None:
        """End the alerts of every rule that is not among ``rules``: it was taken away."""
        with self._file.writing() as db:
            names = {str(row[0]) for row in db.execute("SELECT rule FROM alert_rules")}
            for rule in names - set(rules):
                for alert in self._alerts(db, rule=rule):
                    ended, _ = next_state(alert, None, now, 0.0)
                    if ended is not None and ended != alert:
                        self._keep(db, ended)
                        self._remember(db, ended, now)
                db.execute("DELETE FROM alert_rules WHERE rule = ?", (rule,))

    def alerts(self) -> list[Alert]:
        """Return every alert that was found within 90 days: firing, pending, ended ones."""
        with self._file.reading() as db:
            found = list(self._alerts(db))
        return sorted(found, key=lambda a: (_PLACES[a.state], -a.since))

    def rules(self) -> list[RuleRecord]:
        """Return every rule with its last evaluation, by name."""
        sql = "SELECT rule, evaluated_at, failing_since, error FROM alert_rules ORDER BY rule"
        with self._file.reading() as db:
            return [RuleRecord(*row) for row in db.execute(sql)]

    def history(self, limit: int = 100) -> list[dict[str, Any]]:
        """Return the newest transitions: at, rule, subject, state, summary."""
        sql = (
            "SELECT at, key, rule, subject, state, summary FROM alert_history"
            " ORDER BY id DESC LIMIT ?"
        )
        names = ("at", "key", "rule", "subject", "state", "summary")
        with self._file.reading() as db:
            rows = db.execute(sql, (limit,)).fetchall()
        return [dict(zip(names, row, strict=True)) for row in rows]

    # -- notices --------------------------------------------------------------------------

    def take_due(self, now: float) -> list[QueuedNotice]:
        """Return the notices that are due, under a lease: nobody else gets them meanwhile."""
        with self._file.writing() as db:
            due = [
                _notice(row)
                for row in db.execute(
                    f"{_NOTICES} WHERE next_at <= ? ORDER BY id",
                    (now,),
                )
            ]
            db.executemany(
                "UPDATE alert_notices SET next_at = ? WHERE id = ?",
                [(now + NOTICE_LEASE_SECONDS, notice.id) for notice in due],
            )
        return due

    def waiting(self) -> list[QueuedNotice]:
        """Return every notice that its channel has not taken yet."""
        sql = f"{_NOTICES} ORDER BY id"
        with self._file.reading() as db:
            return [_notice(row) for row in db.execute(sql)]

    def settle(self, notice_id: int) -> None:
        """Forget a notice: it was taken, or given up."""
        with self._file.writing() as db:
            db.execute("DELETE FROM alert_notices WHERE id = ?", (notice_id,))

    def put_off(self, notice_id: int, next_at: float, error: str) -> None:
        """Have a notice tried again at ``next_at``, seconds since 1970."""
        with self._file.writing() as db:
            db.execute(
                "UPDATE alert_notices SET next_at = ?, attempts = attempts + 1, error = ?"
                " WHERE id = ?",
                (next_at, error, notice_id),
            )

    # -- inside ---------------------------------------------------------------------------

    @staticmethod
    def _forget_old(db: sqlite3.Connection, now: float) -> None:
        before = now - HISTORY_KEPT_SECONDS
        db.execute("DELETE FROM alert_history WHERE at < ?", (before,))
        db.execute(
            "DELETE FROM alerts WHERE state = ? AND since < ?", (AlertState.OK.value, before)
        )

    @staticmethod
    def _record_rule(db: sqlite3.Connection, outcome: RuleOutcome, now: float) -> None:
        failing = None if outcome.error is None else now
        db.execute(
            "INSERT INTO alert_rules VALUES (?1, ?2, ?3, ?4) ON CONFLICT (rule) DO UPDATE SET"
            " evaluated_at = ?2, error = ?4,"
            " failing_since = CASE WHEN ?4 IS NULL THEN NULL ELSE COALESCE(failing_since, ?3) END",
            (outcome.rule, now, failing, outcome.error),
        )

    @staticmethod
    def _alerts(db: sqlite3.Connection, rule: str | None = None) -> Iterator[Alert]:
        sql = "SELECT finding, state, since, found_at, told_at FROM alerts"
        rows = db.execute(f"{sql} WHERE rule = ?", (rule,)) if rule else db.execute(sql)
        for finding, state, since, found_at, told_at in rows.fetchall():
            yield Alert(_finding(finding), AlertState(state), since, found_at, told_at)

    @staticmethod
    def _keep(db: sqlite3.Connection, alert: Alert) -> None:
        db.execute(
            "INSERT OR REPLACE INTO alerts VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                alert.finding.key, alert.finding.rule, _text(alert.finding), alert.state.value,
                alert.since, alert.found_at, alert.told_at,
            ),
        )  # fmt: skip

    @staticmethod
    def _remember(db: sqlite3.Connection, alert: Alert, now: float) -> None:
        finding = alert.finding
        db.execute(
            "INSERT INTO alert_history (at, key, rule, subject, state, summary)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (now, finding.key, finding.rule, finding.subject, alert.state.value, finding.summary),
        )

    @staticmethod
    def _queue(
        db: sqlite3.Connection, alert: Alert, notice: Notice, now: float, channels: Sequence[str]
    ) -> None:
        db.executemany(
            "INSERT INTO alert_notices (channel, notice, finding, since, queued_at, next_at)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            [
                (channel, notice.value, _text(alert.finding), alert.since, now, now)
                for channel in channels
            ],
        )


_NOTICES = (
    "SELECT id, channel, notice, finding, since, queued_at, attempts, error FROM alert_notices"
)


def _notice(row: tuple[Any, ...]) -> QueuedNotice:
    number, channel, notice, finding, since, queued_at, attempts, error = row
    return QueuedNotice(
        number, channel, Notice(notice), _finding(finding), since, queued_at, attempts, error
    )


def _text(finding: Finding) -> str:
    return json.dumps({**asdict(finding), "labels": dict(finding.labels)})


def _finding(text: str) -> Finding:
    told = json.loads(text)
    severity, aliases = Severity(told.pop("severity")), tuple(told.pop("aliases"))
    return Finding(severity=severity, aliases=aliases, **told)
