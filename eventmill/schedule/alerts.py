"""Evaluates every rule from what is stored, and tells of what has changed.

The rules ask the store and the run book, never a job that reports on itself: a job that does not
run reports nothing.
"""

from __future__ import annotations

import logging
import random
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from eventmill.base.clock import Clock
from eventmill.base.errors import EventmillError
from eventmill.base.quantity import format_seconds
from eventmill.schedule.alert_book import AlertBook, AlertChange
from eventmill.schedule.alert_channels import one_line
from eventmill.schedule.alert_facts import WorkflowFacts
from eventmill.schedule.alert_files import AlertFiles, AlertRule
from eventmill.schedule.alert_finding import (
    ALERT_FILE_BROKEN,
    RULE_NO_DATA,
    Finding,
    RuleOutcome,
    Severity,
)
from eventmill.schedule.alert_rows import find_rows
from eventmill.schedule.alert_tables import (
    QUARANTINE_RATE,
    TABLE_STALE,
    TABLES_A_QUERY,
    VOLUME_DROP,
    VolumeWatch,
    find_quarantined,
    find_stale,
)
from eventmill.schedule.alert_teller import ROUND_SECONDS, AlertTeller
from eventmill.schedule.alert_workflows import WORKFLOW_LATE, WORKFLOW_RULES, unjudged_late
from eventmill.store.port import Store

NO_DATA_SECONDS = 900.0
"""How long a rule may fail to be evaluated before that is an alert of its own."""
TABLES_EVERY_SECONDS = 30.0
BILLED_EVERY_SECONDS = 600.0
"""The shortest pause between two evaluations on a store that bills each query."""
STORE_SECONDS_MAX = 10.0
"""How long a look begins new questions to the store: what it has not asked by then, it asks
first at the next one, so that the rules about workflows have their turn."""
ASKED_AGAIN_SECONDS = 60.0
"""When a rule that could not be evaluated is asked again, however rarely it is otherwise."""

_logger = logging.getLogger("eventmill.alerts")


@dataclass(frozen=True, slots=True)
class _Rule:
    name: str
    find: Callable[[float], Iterable[Finding]]
    every_seconds: float
    unjudged: Callable[[], frozenset[str]] = frozenset


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
        self._teller = AlertTeller(book.queue, clock, rng)
        self._last: dict[str, tuple[float, RuleOutcome]] = {}
        address = getattr(store, "address", "")
        self._volume = VolumeWatch(store, facts.outputs)
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
        return self.evaluate_workflows() + self.evaluate_store()

    def evaluate_workflows(self) -> list[AlertChange]:
        """Evaluate the rules about workflows, which ask the run book alone: it takes no time."""
        return self._evaluate(self._workflow_rules(), self._read_files())

    def evaluate_store(self, seconds_max: float = float("inf")) -> list[AlertChange]:
        """Evaluate the rules that ask the store, and end what rules found that are gone.

        Args:
            seconds_max: how long new questions are begun.
        """
        files = self._read_files()
        rules = self._store_rules(files, is_short=seconds_max != float("inf"))
        began = self._clock.monotonic()
        in_order = sorted(rules, key=lambda rule: self._last.get(rule.name, (0.0,))[0])
        changes = self._evaluate(in_order, files, until=began + seconds_max)
        now = self._clock.now()
        own = [
            RuleOutcome(RULE_NO_DATA, tuple(self._without_data(files.rules, now))),
            RuleOutcome(ALERT_FILE_BROKEN, tuple(_broken_files(files))),
        ]
        for outcome in own:
            changes += self._book.record(outcome, now, files.route) or ()
        if not files.faults:  # a file that cannot be read has not taken its rule away
            names = {rule.name for rule in (*rules, *self._workflow_rules())}
            changes += self._book.forget_rules({*names, *(o.rule for o in own)}, now)
        return changes

    def tell(self, round_seconds: float = ROUND_SECONDS) -> int:
        """Hand every notice that is due to its channel; return how many were not taken.

        One that is not taken is tried again for a day, with growing pauses.

        Args:
            round_seconds: how long channels are waited for.
        """
        return self._teller.tell(self._read_files(), round_seconds)

    # -- rules ----------------------------------------------------------------------------

    def _workflow_rules(self) -> list[_Rule]:
        facts = self._facts
        rules = {
            name: _Rule(name, partial(find, facts), 0.0) for name, find in WORKFLOW_RULES.items()
        }
        late = rules[WORKFLOW_LATE]
        rules[WORKFLOW_LATE] = _Rule(late.name, late.find, 0.0, partial(unjudged_late, facts))
        return list(rules.values())

    def _store_rules(self, files: AlertFiles, *, is_short: bool) -> list[_Rule]:
        store, volume, pause = self._store, self._volume, self._pause_min
        # A store that bills is asked rarely, and then for everything.
        tables_max = TABLES_A_QUERY if is_short and not pause else sys.maxsize
        drop = partial(volume.find, tables_max=tables_max)
        rules = [
            _Rule(TABLE_STALE, partial(find_stale, store), TABLES_EVERY_SECONDS),
            _Rule(QUARANTINE_RATE, partial(find_quarantined, store), TABLES_EVERY_SECONDS),
            _Rule(VOLUME_DROP, drop, 0.0, volume.unjudged),
        ]
        rules += [
            _Rule(rule.name, partial(find_rows, store, rule), rule.every_seconds)
            for rule in files.rules
        ]
        return [replace(rule, every_seconds=max(rule.every_seconds, pause)) for rule in rules]

    def _evaluate(
        self, rules: Iterable[_Rule], files: AlertFiles, until: float = float("inf")
    ) -> list[AlertChange]:
        changes: list[AlertChange] = []
        for rule in rules:
            now = self._clock.now()
            last = self._last.get(rule.name)
            if last is None or not self._holds(rule, last, now):
                if self._clock.monotonic() < until:
                    last = (now, self._outcome(rule, now))
                    self._last[rule.name] = last
                elif last is None:
                    continue
            # Recorded again at each evaluation: alerts are held and repeated by time.
            told = self._book.record(last[1], now, files.route, asked_at=last[0])
            if told is None:  # another process has a newer one: ask for one as new
                del self._last[rule.name]
            changes += told or ()
        return changes

    def _holds(self, rule: _Rule, last: tuple[float, RuleOutcome], now: float) -> bool:
        asked_at, outcome = last
        pause = rule.every_seconds
        if outcome.error is not None:
            pause = max(self._pause_min, min(pause, ASKED_AGAIN_SECONDS))
        return 0 <= now - asked_at < pause

    @staticmethod
    def _outcome(rule: _Rule, now: float) -> RuleOutcome:
        try:
            return RuleOutcome(rule.name, tuple(rule.find(now)), unjudged=rule.unjudged())
        except EventmillError as error:
            return RuleOutcome(rule.name, error=one_line(str(error)))
        except Exception as error:
            # A fault of ours in one rule; the others are all the more wanted.
            _logger.exception("the rule %s", rule.name)
            return RuleOutcome(rule.name, error=f"unexpectedly, {type(error).__name__}")

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


def _broken_files(files: AlertFiles) -> Iterable[Finding]:
    for path, fault in files.faults.items():
        yield Finding(
            rule=ALERT_FILE_BROKEN,
            subject=path,
            summary=f"a file of alerts cannot be used: {one_line(fault)}",
            severity=Severity.WARNING,
        )
