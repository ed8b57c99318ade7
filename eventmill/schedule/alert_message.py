"""An alert in words, and as the document that webhooks of Alertmanager take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eventmill.base.clock import utc_datetime
from eventmill.schedule.alert_finding import Finding, Severity
from eventmill.schedule.alert_state import Notice

TEST_RULE = "test"
"""Rule of the notice that ``eventmill alert test`` sends."""


@dataclass(frozen=True, slots=True)
class Message:
    """One notice, for every channel."""

    notice: Notice
    finding: Finding
    since: float
    """When the alert came into its state, seconds since 1970."""
    at: float
    """When the notice was written, seconds since 1970."""

    @property
    def title(self) -> str:
        """One line, fit for a subject."""
        word = "resolved" if self.notice is Notice.RESOLVED else self.finding.severity.value
        return " ".join(f"[{word}] {self.finding.rule}: {self.finding.subject}".split())

    @property
    def text(self) -> str:
        """Everything, for a person to read."""
        finding = self.finding
        lines = [finding.summary, ""]
        if self.notice is Notice.RESOLVED:
            lines.insert(0, "This is over. It was:")
        elif self.notice is Notice.STILL_FIRING:
            lines.insert(0, "This goes on:")
        facts = {
            "rule": finding.rule,
            "about": finding.subject,
            "owner": finding.owner or "nobody is named",
            "since": f"{utc_datetime(self.since):%Y-%m-%d %H:%M:%S} UTC",
            **finding.labels,
        }
        lines.extend(f"{name}: {value}" for name, value in facts.items())
        return "\n".join(lines) + "\n"

    def to_alertmanager(self, receiver: str) -> dict[str, Any]:
        """Return the document of Alertmanager's webhooks, version 4.

        Its form: prometheus.io/docs/alerting/latest/configuration/#webhook_config.

        Args:
            receiver: name of the channel.
        """
        finding = self.finding
        resolved = self.notice is Notice.RESOLVED
        labels = {
            **finding.labels,
            "alertname": finding.rule,
            "subject": finding.subject,
            "severity": finding.severity.value,
            "owner": finding.owner,
        }
        annotations = {"summary": finding.summary, "title": self.title}
        status = "resolved" if resolved else "firing"
        alert = {
            "status": status,
            "labels": labels,
            "annotations": annotations,
            "startsAt": _rfc3339(self.since),
            # Alertmanager's own way to say that it has not ended.
            "endsAt": _rfc3339(self.at) if resolved else "0001-01-01T00:00:00Z",
            "generatorURL": "",
            "fingerprint": finding.key,
        }
        return {
            "version": "4",
            "groupKey": f'{{}}:{{alertname="{finding.rule}", subject="{finding.subject}"}}',
            "truncatedAlerts": 0,
            "status": status,
            "receiver": receiver,
            "groupLabels": {"alertname": finding.rule, "subject": finding.subject},
            "commonLabels": labels,
            "commonAnnotations": annotations,
            "externalURL": "",
            "alerts": [alert],
        }


def test_message(now: float) -> Message:
    """Return the notice by which a channel is tried at ``now``, seconds since 1970."""
    finding = Finding(
        rule=TEST_RULE,
        subject="a test of this channel",
        summary="Somebody has sent a test notice; nothing is wrong.",
        severity=Severity.WARNING,
    )
    return Message(Notice.FIRING, finding, now, now)


def _rfc3339(seconds: float) -> str:
    return utc_datetime(seconds).isoformat(timespec="milliseconds").replace("+00:00", "Z")
