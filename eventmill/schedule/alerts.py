"""Evaluates every rule from what is stored, and tells of what has changed.

The rules ask the store and the run book, never a job that reports on itself: a job that does not
run reports nothing.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from eventmill.base.clock import Clock, backoff_seconds
from eventmill.base.errors import EventmillError
from eventmill.base.quantity import format_seconds
from eventmill.schedule.alert_book import AlertBook, AlertChange, QueuedNotice
from eventmill.schedule.alert_channels import ChannelError
from eventmill.schedule.alert_files import AlertFiles, AlertRule
from eventmill.schedule.alert_finding import Finding, RuleOutcome, Severity
from eventmill.schedule.alert_message import Message
from eventmill.schedule.alert_rows import find_rows
from eventmill.schedule.alert_tables import (
    QUARANTINE_RATE,
    TABLE_STALE,
    VOLUME_DROP,
    find_dropped,
    find_quarantined,
    find_stale,
)
from eventmill.schedule.alert_workflows import WORKFLOW_RULES, WorkflowFacts
from eventmill.store.port import Store

RULE_NO_DATA = "rule_no_data"
ALERT_FILE_BROKEN = "alert_file_broken"
NO_DATA_SECONDS = 900.0
"""How long a rule may fail to be evaluated before that is an alert of its own."""
TABLES_EVERY_SECONDS = 30.0
VOLUME_EVERY_SECONDS = 300.0
BILLED_EVERY_SECONDS = 600.0
"""The shortest pause between two evaluations on a store that bills each query."""
GIVE_UP_SECONDS = 86_400.0
"""How long a notice is tried: older, it would tell of another day."""
_RETRY_BASE_SECONDS = 5.0
_RETRY_CAP_SECONDS = 600.0

_logger = logging.getLogger("eventmill.alerts")


@dataclass(frozen=True, slots=True)
class _Rule:
    name: str
    find: Callable[[float], Iterable[Finding]]
    every_seconds: float


class AlertEngine:
    """Evaluates the rules of one store. For one thread at a time; others may work on the same."""

    def __init__(
        self,
        store: Store,
        book: AlertBook,
        facts: WorkflowFacts,
        read_files: Callable[[], AlertFiles],
        clock: Clock,
        rng: random.Random,
    ) -> None:
        """Prepare; nothing is evaluated yet.

        Args:
            store: whose tables are looked at.
            book: keeps the alerts' states.
            facts: what is known of workflows and their runs.
            read_files: reads the folder of alerts, at every evaluation.
            clock: time.
            rng: chance, for the pauses between tries of a channel.
        """
        self._store = store
        self._book = book
        self._facts = facts
        self._read_files = read_files
        self._clock = clock
        self._rng = rng
        self._last: dict[str, tuple[float, RuleOutcome]] = {}
        address = getattr(store, "address", "")
        self._pause_min = BILLED_EVERY_SECONDS if address.startswith("bigquery:") else 0.0

    def evaluate(self) -> list[AlertChange]:
        """Evaluate every rule that is due, write down what changed, and queue its notices.

        Promise: on return the states of all alerts are as the rules say now, on disk; a rule that
        cannot be evaluated is recorded as such and leaves its alerts as they were.

        Returns:
            The alerts that began, go on after their pause, or ended.

        Raises:
            TransientError: the alerts' file cannot be written.
        """
        files = self._read_files()
        now = self._clock.now()
        rules = self._rules(files)
        changes: list[AlertChange] = []
        for rule in rules:
            outcome = self._outcome(rule, now)
            changes += self._book.record(outcome, now, files.route)
        own = RuleOutcome(RULE_NO_DATA, tuple(self._without_data(files.rules, now)))
        changes += self._book.record(own, now, files.route)
        self._book.forget_rules([*(rule.name for rule in rules), RULE_NO_DATA], now)
        return changes

    def tell(self) -> int:
        """Hand every notice that is due to its channel; return how many were not taken.

        One that is not taken is tried again for a day, with growing pauses.
        """
        files = self._read_files()
        missed = 0
        for queued in self._book.take_due(self._clock.now()):
            missed += not self._tell(queued, files)
        return missed

    # -- rules ----------------------------------------------------------------------------

    def _rules(self, files: AlertFiles) -> list[_Rule]:
        store, facts = self._store, self._facts
        rules = [_Rule(name, partial(find, facts), 0.0) for name, find in WORKFLOW_RULES.items()]
        rules += [
            _Rule(TABLE_STALE, partial(find_stale, store), TABLES_EVERY_SECONDS),
            _Rule(QUARANTINE_RATE, partial(find_quarantined, store), TABLES_EVERY_SECONDS),
            _Rule(
                VOLUME_DROP,
                lambda now: find_dropped(store, now, facts.outputs()),
                VOLUME_EVERY_SECONDS,
            ),
            _Rule(ALERT_FILE_BROKEN, lambda _: _broken_files(files), 0.0),
        ]
        rules += [
            _Rule(rule.name, partial(find_rows, store, rule), rule.every_seconds)
            for rule in files.rules
        ]
        return [
            rule if rule.every_seconds == 0.0 else
            _Rule(rule.name, rule.find, max(rule.every_seconds, self._pause_min))
            for rule in rules
        ]  # fmt: skip

    def _outcome(self, rule: _Rule, now: float) -> RuleOutcome:
        last = self._last.get(rule.name)
        # The outcome is recorded again at each evaluation: alerts are held and repeated by time.
        if last is not None and 0 <= now - last[0] < rule.every_seconds:
            return last[1]
        try:
            outcome = RuleOutcome(rule.name, tuple(rule.find(now)))
        except EventmillError as error:
            outcome = RuleOutcome(rule.name, error=str(error))
        self._last[rule.name] = (now, outcome)
        return outcome

    def _without_data(self, rules: Sequence[AlertRule], now: float) -> Iterable[Finding]:
        firing = {rule.name for rule in rules if rule.no_data == "firing"}
        owners = {rule.name: rule.owner for rule in rules}
        for record in self._book.rules():
            if record.failing_since is None:
                continue
            seconds = now - record.failing_since
            if seconds < NO_DATA_SECONDS and record.rule not in firing:
                continue
            yield Finding(
                rule=RULE_NO_DATA,
                subject=record.rule,
                summary=(
                    f"the rule {record.rule} could not be evaluated for"
                    f" {format_seconds(round(seconds))}: {record.error}"
                ),
                owner=owners.get(record.rule, ""),
                severity=Severity.CRITICAL if record.rule in firing else Severity.WARNING,
            )

    # -- notices --------------------------------------------------------------------------

    def _tell(self, queued: QueuedNotice, files: AlertFiles) -> bool:
        now = self._clock.now()
        channel = files.channels.get(queued.channel)
        try:
            if channel is None:
                raise ChannelError(f"there is no channel {queued.channel} any more")
            channel.tell(Message(queued.notice, queued.finding, queued.since, queued.queued_at))
        except ChannelError as error:
            if now - queued.queued_at >= GIVE_UP_SECONDS:
                _logger.error(
                    "alert given up: %s was not told within %s that %s: %s", queued.channel,
                    format_seconds(GIVE_UP_SECONDS), queued.finding.summary, error,
                )  # fmt: skip
                self._book.settle(queued.id)
                return False
            pause = backoff_seconds(
                queued.attempts,
                self._rng,
                base_seconds=_RETRY_BASE_SECONDS,
                cap_seconds=_RETRY_CAP_SECONDS,
            )
            _logger.warning("channel %s: %s; it is tried again", queued.channel, error)
            self._book.put_off(queued.id, self._clock.now() + pause, str(error))
            return False
        self._book.settle(queued.id)
        return True


def _broken_files(files: AlertFiles) -> Iterable[Finding]:
    for path, fault in files.faults.items():
        yield Finding(
            rule=ALERT_FILE_BROKEN,
            subject=path,
            summary=f"a file of alerts cannot be used: {fault}",
            severity=Severity.WARNING,
        )
