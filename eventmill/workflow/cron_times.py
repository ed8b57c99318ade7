"""The times of a cron expression in a time zone, as moments.

cronsim says which minutes of a calendar match; which moments those are is said here, by the rule
of Debian's cron. A job of a given time of day runs once a day: at the end of the gap when its time
is skipped, at the first of the two when it comes twice. One of every hour or every few minutes runs
as time passes. (cronsim has this rule too, but with a * it leaves out a time after a gap that is no
whole hour, such as 02:45 on Lord Howe Island.)
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo

from cronsim import CronSim

from eventmill.base.clock import utc_datetime

_DAY_SECONDS = 86_400


def cron_times(expression: str, zone: tzinfo, after: int) -> Iterator[int]:
    """Yield the times of a cron expression after a moment, ascending, in seconds since 1970.

    Args:
        expression: five fields.
        zone: the calendar that they are about.
        after: seconds since 1970.

    Raises:
        OverflowError: from the iterator, which has reached the year 9999.
    """
    minute, hour = expression.split()[:2]
    passing = minute.startswith("*") or hour.startswith("*")
    return _passing(expression, zone, after) if passing else _daily(expression, zone, after)


def _passing(expression: str, zone: tzinfo, after: int) -> Iterator[int]:
    """Yield each matching minute that passes: while clocks are not changed, time is even."""
    at = after
    while True:
        offset = _offset(zone, at + 1)
        for local in CronSim(expression, utc_datetime(at + offset)):
            time = int(local.timestamp()) - offset
            changed_at = _first_change(zone, offset, at + 1, time)
            if changed_at is not None:
                at = changed_at - 1
                break
            yield time
            at = time
        else:
            return


def _daily(expression: str, zone: tzinfo, after: int) -> Iterator[int]:
    """Yield each matching minute of the calendar, whether it passes once, twice or not at all."""
    at = after
    begin = utc_datetime(after).astimezone(zone).replace(tzinfo=UTC)
    for local in CronSim(expression, begin):
        time = _first_moment(local.replace(tzinfo=None), zone)
        # One in the gap falls together with one at its end, and in the second of two equal hours
        # the calendar shows times that have passed.
        if time > at:
            yield time
            at = time


def _first_moment(local: datetime, zone: tzinfo) -> int:
    """Return the first moment at which clocks show ``local``, or else the end of the gap."""
    early, late = (_seconds(local.replace(tzinfo=zone, fold=fold)) for fold in (0, 1))
    if early <= late:
        return early
    # In a gap, fold 0 reckons with the offset before it and is the later of the two.
    offset = _offset(zone, late)
    return _first_change(zone, offset, late, early) or early


def _first_change(zone: tzinfo, offset: int, begin: int, end: int) -> int | None:
    """Return the first moment in (begin, end] with another offset; None: there is none."""
    if zone is UTC:
        return None
    at = begin
    while at < end:
        # Whole days, the same whatever ``begin``; no clock is changed and changed back in one.
        following = min(end, at - at % _DAY_SECONDS + _DAY_SECONDS)
        if _offset(zone, following) != offset:
            while following - at > 1:
                middle = (at + following) // 2
                if _offset(zone, middle) == offset:
                    at = middle
                else:
                    following = middle
            return following
        at = following
    return None


def _offset(zone: tzinfo, seconds: int) -> int:
    offset = utc_datetime(seconds).astimezone(zone).utcoffset() or timedelta()
    return int(offset.total_seconds())


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())
