"""A timetable as other schedulers write it: cron fields, and what each of them makes of those."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from eventmill.base.errors import UsageError
from eventmill.workflow.cron_slots import CronSlots
from eventmill.workflow.every_slots import EverySlots
from eventmill.workflow.timetable import Timetable

_BOUNDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_FIELDS = ("minute", "hour", "day of the month", "month", "day of the week")
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_PART = re.compile(r"(\*|[0-9]+|[A-Z]{3})(?:-([0-9]+|[A-Z]{3}))?(?:/([0-9]+))?")
_MINUTE, _HOUR, _DAY, _WEEK = 60, 3_600, 86_400, 7 * 86_400


@dataclass(frozen=True, slots=True)
class CronForm:
    """Five cron fields in a time zone, of which each time ends a slot."""

    expression: str
    timezone: str

    @classmethod
    def of(cls, timetable: Timetable) -> CronForm:
        """Return the form of a timetable.

        Raises:
            UsageError: its slots cannot be written as cron fields.
        """
        if isinstance(timetable, CronSlots):
            form = cls(timetable.expression, timetable.timezone)
            form.lists()  # refuses what other schedulers do not take
            return form
        if isinstance(timetable, EverySlots):
            return cls(_of_length(timetable), "UTC")
        raise UsageError(f"{timetable.text} cannot be written as cron fields")

    def lists(self) -> tuple[list[int] | None, ...]:
        """Return the numbers of each field, ascending, Sunday being 0; None for all of them.

        Raises:
            UsageError: a field has more than numbers, names, ranges and steps.
        """
        found: list[list[int] | None] = []
        for index, text in enumerate(self.expression.upper().split()):
            numbers = _numbers(text, index)
            if index == 4:
                numbers = sorted({number % 7 for number in numbers})
            low, high = _BOUNDS[index]
            is_all = len(numbers) == (7 if index == 4 else high - low + 1)
            found.append(None if is_all else numbers)
        return tuple(found)

    @property
    def plain(self) -> str:
        """The fields as every cron reads them: with numbers from 0 to 6 for the days of a week."""
        fields = self.expression.split()
        days = self.lists()[4]
        if not re.fullmatch(r"[0-6*,/-]+", fields[4]):
            fields[4] = "*" if days is None else ",".join(map(str, days))
        return " ".join(fields)

    def calendar_events(self) -> list[str]:
        """Return the times as systemd's ``OnCalendar`` writes them.

        Cron runs when the day of the month *or* that of the week fits, once both are restricted;
        systemd when both do: so there are two lines then.
        """
        minutes, hours, days, months, weekdays = self.lists()
        time = f"{_two(hours)}:{_two(minutes)}:00 {self.timezone}"
        month = _two(months)
        by_day = f"*-{month}-{_two(days)} {time}"
        if weekdays is None:
            return [by_day]
        names = ",".join(_DAYS[day].capitalize() for day in weekdays)
        by_weekday = f"{names} *-{month}-* {time}"
        return [by_weekday] if days is None else [by_day, by_weekday]


def _two(numbers: Sequence[int] | None) -> str:
    return "*" if numbers is None else ",".join(f"{number:02d}" for number in numbers)


def _of_length(timetable: EverySlots) -> str:
    length, offset = timetable.length_seconds, timetable.anchor_seconds
    if offset % _MINUTE == 0:
        minute, hour = offset // _MINUTE % 60, offset // _HOUR % 24
        if length < _HOUR and length % _MINUTE == 0 and _HOUR % length == 0:
            minutes = length // _MINUTE
            first = minute % minutes
            return f"{f'*/{minutes}' if not first else f'{first}-59/{minutes}'} * * * *"
        if length == _HOUR:
            return f"{minute} * * * *"
        if length < _DAY and length % _HOUR == 0 and _DAY % length == 0:
            hours = length // _HOUR
            first = hour % hours
            return f"{minute} {f'*/{hours}' if not first else f'{first}-23/{hours}'} * * *"
        if length == _DAY:
            return f"{minute} {hour} * * *"
        if length == _WEEK:
            weekday = (offset // _DAY + 4) % 7  # 1970 began on a Thursday
            return f"{minute} {hour} * * {weekday}"
    raise UsageError(
        f"{timetable.text} cannot be written as cron fields, which all of these schedulers need:"
        " use a length that divides an hour, a day or a week, in whole minutes, or cron ="
    )


def _numbers(text: str, index: int) -> list[int]:
    found: set[int] = set()
    for part in text.split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise UsageError(
                f"the {_FIELDS[index]} {text!r} of the cron expression is more than other"
                " schedulers read: write numbers, names, ranges a-b and steps */n"
            )
        first, last, step = match.groups()
        low, high = _BOUNDS[index]
        if first != "*":
            low = _number(first, index)
            high = _number(last, index) if last else (high if step else low)
        elif index == 4:
            high = 6
        found.update(range(low, high + 1, int(step or 1)))
    return sorted(found)


def _number(text: str, index: int) -> int:
    if text.isdigit():
        return int(text)
    names = _MONTHS if index == 3 else _DAYS
    if text not in names:
        raise UsageError(f"{text!r} is no {_FIELDS[index]}")
    return names.index(text) + (1 if index == 3 else 0)
