"""What a rule finds: something that is wrong with something, and whose it is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

RULE_NO_DATA = "rule_no_data"
ALERT_FILE_BROKEN = "alert_file_broken"


class Severity(StrEnum):
    """How much it matters."""

    WARNING = "warning"
    CRITICAL = "critical"


class AlertState(StrEnum):
    """Where an alert stands."""

    OK = "ok"
    PENDING = "pending"
    """Found, for less than its rule's ``for``: nobody is told yet."""
    FIRING = "firing"
    NO_DATA = "no_data"
    """Its rule could not be evaluated; what was firing before goes on firing."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong now."""

    rule: str
    """Name of the rule: of the built-in ones, or of a file."""
    subject: str
    """What it is about: a workflow's job name, a table, a row of a rule's answer."""
    summary: str
    """One sentence: what is wrong, since when, and what to do or where to look."""
    owner: str = ""
    severity: Severity = Severity.CRITICAL
    aliases: tuple[str, ...] = ()
    """Other names of the subject that routes match as well."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Facts for machines, beside rule, subject, owner and severity."""
    hold_seconds: float = 0.0
    """How long it must be found before it fires."""

    @property
    def key(self) -> str:
        """Names the alert: the same finding a minute later has the same key."""
        told = json.dumps([self.rule, self.subject])
        return hashlib.sha256(told.encode()).hexdigest()[:16]

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that a route's pattern may match."""
        return (self.subject, *self.aliases)


@dataclass(frozen=True, slots=True)
class RuleOutcome:
    """What one rule said at one evaluation."""

    rule: str
    findings: tuple[Finding, ...] = ()
    error: str | None = None
    """Why the rule could not be evaluated; None: it was."""
    unjudged: frozenset[str] = frozenset()
    """Subjects that it could say nothing of: their alerts stay as they are."""
