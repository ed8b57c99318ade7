"""Slots from one time of a cron expression to the next, in a time zone."""

from __future__ import annotations

import difflib
import functools
import zoneinfo
from collections.abc import Iterator
from datetime import UTC, tzinfo
from math import floor

from cronsim import CronSim, CronSimError

from eventmill.base.clock import utc_datetime
from eventmill.base.errors import UsageError
from eventmill.workflow.cron_times import cron_times
from eventmill.workflow.timetable import EARLIEST_SECONDS, LATEST_SECONDS, Slot

_DAY = 86_400
_LOOK_BACK_SECONDS = (7_200, 2 * _DAY, 40 * _DAY, 400 * _DAY, 10 * 366 * _DAY, 51 * 366 * _DAY)
"""How far before a moment its slot's start is looked for: near first, as most are near. There is
one within 50 years, or the expression is refused."""
_SOME_DAY_SECONDS = 946_684_800
"""2000-01-01, from which an expression must have a time within 50 years."""


class CronSlots:
    """Slots between the times of a cron expression of five fields. Safe from any thread."""

    def __init__(self, expression: str, timezone: str = "UTC") -> None:
        """Read the expression and find the time zone.

        Raises:
            UsageError: either cannot be used; the message says what can.
        """
        self.expression = " ".join(expression.split())
        self.timezone = timezone
        self._zone = _zone(timezone)
        _check(self.expression)
        self._recent: Slot = (0, 0)

    def __repr__(self) -> str:
        return f"<CronSlots [{self.text}]>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CronSlots) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    @property
    def text(self) -> str:
        """How a person reads it, such as ``cron 30 2 * * * Europe/Berlin``."""
        return f"cron {self.expression} {self.timezone}"

    def slot_at(self, seconds: float) -> Slot:
        """Return the slot that ``seconds`` since 1970 lie in; the ends of time are cut off."""
        moment = floor(min(max(seconds, EARLIEST_SECONDS), LATEST_SECONDS - 1))
        recent = self._recent
        if not recent[0] <= moment < recent[1]:
            recent = self._recent = self._find(moment)
        return recent

    def slots(self, from_seconds: float, to_seconds: float) -> Iterator[Slot]:
        """Yield every slot that starts in [from, to), ascending."""
        start, end = self.slot_at(from_seconds)
        if start >= from_seconds and start < to_seconds:
            yield start, end
        for after in self._times(end):
            if end >= to_seconds:
                return
            yield end, after
            end = after

    def _find(self, moment: int) -> Slot:
        for back in _LOOK_BACK_SECONDS:
            start = None
            for time in self._times(moment - back):
                if time > moment:
                    if start is not None:
                        return start, time
                    break
                start = time
        return EARLIEST_SECONDS, next(self._times(EARLIEST_SECONDS - 1))

    def _times(self, after: int) -> Iterator[int]:
        """Yield the times after a moment, ascending; the last is the end of time."""
        try:
            for time in cron_times(self.expression, self._zone, max(after, EARLIEST_SECONDS - 1)):
                if time >= LATEST_SECONDS:
                    break
                yield time
        except OverflowError:  # beyond the year 9999
            pass
        if after < LATEST_SECONDS:
            yield LATEST_SECONDS


def _check(expression: str) -> None:
    fields = expression.split()
    if len(fields) == 6:
        raise UsageError(
            f"cron {expression!r} has six fields: seconds are not taken; give five, minute hour"
            " day-of-month month day-of-week"
        )
    if len(fields) != 5:
        raise UsageError(
            f"cron {expression!r} is not five fields: write minute hour day-of-month month"
            " day-of-week, such as 30 2 * * *"
        )
    try:
        next(CronSim(expression, utc_datetime(_SOME_DAY_SECONDS)))
    except CronSimError as error:
        raise UsageError(
            f"cron {expression!r}: {str(error)[:1].lower()}{str(error)[1:]}; write minute (0-59)"
            " hour (0-23) day-of-month (1-31) month (1-12) day-of-week (0-7), each as *, a number,"
            " a-b, a,b or */n"
        ) from error
    except (StopIteration, OverflowError):
        raise UsageError(
            f"cron {expression!r} has no time within 50 years: correct its day and month"
        ) from None


_zone_names = functools.cache(zoneinfo.available_timezones)  # reads the disk for 90 ms


def _zone(name: str) -> tzinfo:
    if name in ("UTC", "Etc/UTC"):
        return UTC
    known = _zone_names()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UsageError(
            f"{name!r} is not a time zone: write a name of the IANA list, such as Europe/Berlin or"
            f" UTC{hint}"
        )
    return zoneinfo.ZoneInfo(name)
