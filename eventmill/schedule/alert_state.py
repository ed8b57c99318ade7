"""How an alert changes: pure, so that a day of it is a test of a millisecond.

Told once, repeated sparingly, its end told. A rule that cannot be evaluated changes nothing of
what fires: a broken query must not look like a repair.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from eventmill.schedule.alert_finding import AlertState, Finding


class Notice(StrEnum):
    """Why somebody is told."""

    FIRING = "firing"
    STILL_FIRING = "still firing"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert as it stands. Times are in seconds since 1970."""

    finding: Finding
    """As it was last found."""
    state: AlertState
    since: float
    """When it came into this state."""
    found_at: float
    """When it was last found."""
    told_at: float | None = None
    """When somebody was last told that it fires; None: nobody was."""


def next_state(
    alert: Alert | None, finding: Finding | None, now: float, repeat_seconds: float
) -> tuple[Alert | None, Notice | None]:
    """Return an alert after an evaluation of its rule, and what is to be told.

    Args:
        alert: as it stood; None: it was unknown.
        finding: what was found now; None: nothing.
        now: seconds since 1970.
        repeat_seconds: how long after it was told it is told again while it fires.

    Returns:
        The alert, None when it was unknown and nothing was found; and the notice, None for none.
    """
    if finding is None:
        return _not_found(alert, now)
    if alert is None or alert.state is AlertState.OK:
        alert = Alert(finding, AlertState.PENDING, now, now)
    # A beginning that lies ahead is of a clock that was set back since: count from now on.
    alert = replace(alert, finding=finding, found_at=now, since=min(alert.since, now))
    if alert.state is AlertState.PENDING and now - alert.since >= finding.hold_seconds:
        alert = replace(alert, state=AlertState.FIRING, since=now, told_at=now)
        return alert, Notice.FIRING
    if alert.state is AlertState.FIRING:
        if alert.told_at is None or now - alert.told_at >= repeat_seconds:
            return replace(alert, told_at=now), Notice.STILL_FIRING
        if now < alert.told_at:  # the clock was set back: count from now on
            return replace(alert, told_at=now), None
    return alert, None


def _not_found(alert: Alert | None, now: float) -> tuple[Alert | None, Notice | None]:
    if alert is None or alert.state is AlertState.OK:
        return alert, None
    was_told = alert.state is AlertState.FIRING
    ended = replace(alert, state=AlertState.OK, since=now, told_at=None)
    return ended, Notice.RESOLVED if was_told else None
