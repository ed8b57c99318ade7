"""What alerts stand how, and whom there is still to tell: in SQLite, so that it outlives everybody.

Any number of processes evaluate at once: each transition is made inside one transaction, so one of
them makes it and queues its notices (``alert_queue``). All of them go by one folder of rules and
channels and by one of workflows, those that the book names: the rules of another folder would end
the alerts of this one, and its channels would swallow their notices.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

from eventmill.schedule import alert_queue
from eventmill.schedule.alert_finding import AlertState, Finding, RuleOutcome
from eventmill.schedule.alert_queue import AlertQueue, Routing, finding_of, finding_text
from eventmill.schedule.alert_state import Alert, Notice, next_state
from eventmill.schedule.book_file import BookFile

HISTORY_KEPT_SECONDS = 90 * 86_400.0
"""How long it is known when an alert came and went: a quarter, as a review of one looks back."""
FLAPS_MAX = 3
"""How often within an hour an alert may begin before its end is waited for."""
FLAP_WINDOW_SECONDS = 3_600.0
FLAP_KEEP_SECONDS = 900.0
"""How long an alert that comes and goes must be gone before it is over."""
_PLACE_SECONDS_MAX = 86_400.0
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
CREATE TABLE IF NOT EXISTS alert_place (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    holder TEXT NOT NULL,
    alert_folder TEXT NOT NULL,
    workflow_folder TEXT NOT NULL,
    held_until REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS slots_failed ON slots (workflow, start_seconds)
    WHERE state = 'failed';
CREATE INDEX IF NOT EXISTS slots_too_late ON slots (workflow, start_seconds)
    WHERE too_late_rows > 0;
"""


_PLACES = {
    AlertState.FIRING: 0,
    AlertState.PENDING: 1,
    AlertState.NO_DATA: 2,
    AlertState.OK: 3,
}


@dataclass(frozen=True, slots=True)
class AlertChange:
    """A transition that somebody is told of."""

    alert: Alert
    notice: Notice
    channels: tuple[str, ...]
    """Who is told; empty: nobody, ``alert_queue.UNROUTED``: it is not known yet."""


@dataclass(frozen=True, slots=True)
class AlertPlace:
    """The folders that whoever evaluates the alerts of a book goes by."""

    alert_folder: str
    """Of channels and rules, an absolute path."""
    workflow_folder: str
    """Of the project's workflows, an absolute path."""
    holder: str = ""
    """Who has named them."""
    held_until: float = 0.0
    """Until when nobody else may name others, seconds since 1970."""

    def is_same(self, other: AlertPlace) -> bool:
        """Tell whether ``other`` names the same folders."""
        ours = (self.alert_folder, self.workflow_folder)
        return ours == (other.alert_folder, other.workflow_folder)


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
            for statement in (_SCHEMA + alert_queue.SCHEMA).split(";\n"):
                db.execute(statement)
        self.queue = AlertQueue(self._file)
        """Whom there is still to tell."""

    def close(self) -> None:
        """Close the connection; a second call does nothing."""
        self._file.close()

    def record(
        self,
        outcome: RuleOutcome,
        now: float,
        route: Callable[[Finding], Routing],
        *,
        asked_at: float | None = None,
    ) -> list[AlertChange] | None:
        """Write down what one rule said, and queue what is to be told.

        Promise: on return the alerts' states and the notices are on disk, both or none; of two
        processes that record the same at once one queues the notice.

        Args:
            outcome: of the rule's evaluation.
            now: seconds since 1970.
            route: says who is told of a finding, and how often.
            asked_at: when the rule was asked; None: now.

        Returns:
            what somebody is told of; None: another process has asked the rule later, and nothing
            was changed.
        """
        asked_at = now if asked_at is None else asked_at
        with self._file.writing() as db:
            sql = "SELECT evaluated_at FROM alert_rules WHERE rule = ?"
            row = db.execute(sql, (outcome.rule,)).fetchone()
            if row is not None and asked_at < row[0] <= now:
                return None
            self._record_rule(db, outcome, asked_at, now)
            if outcome.error is not None:
                return []
            changes = self._record_findings(db, outcome, now, route)
            self._forget_old(db, now)
        return changes

    def forget_rules(self, rules: Collection[str], now: float) -> list[AlertChange]:
        """End the alerts of every rule that is not among ``rules``: it was taken away."""
        changes: list[AlertChange] = []
        with self._file.writing() as db:
            names = {str(row[0]) for row in db.execute("SELECT rule FROM alert_rules")}
            for rule in sorted(names - set(rules)):
                for before in self._alerts(db, rule=rule):
                    ended, notice = next_state(before, None, now, 0.0)
                    if ended is not None and ended != before:
                        changes += self._change(db, before, ended, notice, now, ())
                db.execute("DELETE FROM alert_rules WHERE rule = ?", (rule,))
        return changes

    # -- whose folders --------------------------------------------------------------------

    def place(self) -> AlertPlace | None:
        """Return the folders that alerts were last evaluated by; None: they never were."""
        with self._file.reading() as db:
            return _place(db)

    def hold(self, place: AlertPlace, now: float) -> bool:
        """Note by which folders alerts are evaluated; False: somebody else holds to others now."""
        with self._file.writing() as db:
            found = _place(db)
            until = place.held_until
            if found is not None and now < found.held_until < now + _PLACE_SECONDS_MAX:
                if not found.is_same(place):
                    return found.holder == place.holder
                if until <= found.held_until:
                    return True
            db.execute(
                "INSERT OR REPLACE INTO alert_place VALUES (1, ?, ?, ?, ?)",
                (place.holder, place.alert_folder, place.workflow_folder, until),
            )
            return True

    def release(self, holder: str, now: float) -> None:
        """Let others name folders of theirs."""
        with self._file.writing() as db:
            sql = "UPDATE alert_place SET held_until = ? WHERE holder = ? AND held_until > ?"
            db.execute(sql, (now, holder, now))

    # -- reading --------------------------------------------------------------------------

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

    # -- inside ---------------------------------------------------------------------------

    def _record_findings(
        self,
        db: sqlite3.Connection,
        outcome: RuleOutcome,
        now: float,
        route: Callable[[Finding], Routing],
    ) -> list[AlertChange]:
        changes: list[AlertChange] = []
        found = {finding.key: finding for finding in outcome.findings}
        known = {alert.finding.key: alert for alert in self._alerts(db, rule=outcome.rule)}
        for key in sorted(known.keys() | found.keys()):
            before, finding = known.get(key), found.get(key)
            if before is not None and finding is None:
                unknown = before.finding.subject in outcome.unjudged
                if unknown or self._flaps(db, before, now):
                    continue
            routing = route(finding or known[key].finding)
            alert, notice = next_state(before, finding, now, routing.repeat_seconds)
            if alert is not None and alert != before:
                changes += self._change(db, before, alert, notice, now, routing.channels)
        return changes

    def _change(
        self,
        db: sqlite3.Connection,
        before: Alert | None,
        alert: Alert,
        notice: Notice | None,
        now: float,
        channels: tuple[str, ...] | None,
    ) -> list[AlertChange]:
        self._keep(db, alert)
        if before is None or alert.state is not before.state:
            self._remember(db, alert, now)
        if notice is None:
            return []
        ends = before is not None and notice is Notice.RESOLVED
        since = before.since if ends and before is not None else alert.since
        told = alert_queue.enter(db, alert.finding, notice, since=since, now=now, channels=channels)
        return [AlertChange(alert, notice, told)]

    @staticmethod
    def _flaps(db: sqlite3.Connection, alert: Alert, now: float) -> bool:
        """Tell whether the end of an alert is to be waited for: it has come and gone too often."""
        if alert.state is not AlertState.FIRING or not (
            0 <= now - alert.found_at < FLAP_KEEP_SECONDS
        ):
            return False
        begun = db.execute(
            "SELECT COUNT(*) FROM alert_history WHERE key = ? AND at > ? AND state = ?",
            (alert.finding.key, now - FLAP_WINDOW_SECONDS, AlertState.FIRING.value),
        ).fetchone()
        return int(begun[0]) > FLAPS_MAX

    @staticmethod
    def _forget_old(db: sqlite3.Connection, now: float) -> None:
        before = now - HISTORY_KEPT_SECONDS
        db.execute("DELETE FROM alert_history WHERE at < ?", (before,))
        db.execute(
            "DELETE FROM alerts WHERE state = ? AND since < ?", (AlertState.OK.value, before)
        )

    @staticmethod
    def _record_rule(
        db: sqlite3.Connection, outcome: RuleOutcome, asked_at: float, now: float
    ) -> None:
        failing = None if outcome.error is None else now
        db.execute(
            "INSERT INTO alert_rules VALUES (?1, ?2, ?3, ?4) ON CONFLICT (rule) DO UPDATE SET"
            " evaluated_at = ?2, error = ?4,"
            " failing_since = CASE WHEN ?4 IS NULL THEN NULL ELSE COALESCE(failing_since, ?3) END",
            (outcome.rule, asked_at, failing, outcome.error),
        )

    @staticmethod
    def _alerts(db: sqlite3.Connection, rule: str | None = None) -> Iterator[Alert]:
        sql = "SELECT finding, state, since, found_at, told_at FROM alerts"
        rows = db.execute(f"{sql} WHERE rule = ?", (rule,)) if rule else db.execute(sql)
        for finding, state, since, found_at, told_at in rows.fetchall():
            yield Alert(finding_of(finding), AlertState(state), since, found_at, told_at)

    @staticmethod
    def _keep(db: sqlite3.Connection, alert: Alert) -> None:
        db.execute(
            "INSERT OR REPLACE INTO alerts VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                alert.finding.key, alert.finding.rule, finding_text(alert.finding),
                alert.state.value, alert.since, alert.found_at, alert.told_at,
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


def _place(db: sqlite3.Connection) -> AlertPlace | None:
    sql = "SELECT alert_folder, workflow_folder, holder, held_until FROM alert_place"
    row = db.execute(sql).fetchone()
    return None if row is None else AlertPlace(*row)
