"""A timetable in the words of other schedulers: the same times."""

from __future__ import annotations

from itertools import islice

import pytest

from eventmill.base.errors import UsageError
from eventmill.schedule.cron_form import CronForm
from eventmill.workflow.cron_slots import CronSlots
from eventmill.workflow.every_slots import EverySlots

MINUTE, HOUR, DAY = 60, 3_600, 86_400
NOW = 1_790_000_000


@pytest.mark.parametrize(
    ("length", "offset"),
    [
        (MINUTE, 0),
        (5 * MINUTE, 0),
        (15 * MINUTE, 4 * MINUTE),
        (30 * MINUTE, 29 * MINUTE),
        (HOUR, 0),
        (HOUR, 17 * MINUTE),
        (6 * HOUR, 0),
        (6 * HOUR, 2 * HOUR + 5 * MINUTE),
        (12 * HOUR, 11 * HOUR),
        (DAY, 0),
        (DAY, 23 * HOUR + 59 * MINUTE),
        (7 * DAY, 0),
        (7 * DAY, 3 * DAY + 4 * HOUR),
    ],
)
def test_slots_of_a_fixed_length_end_at_the_times_of_their_cron_fields(length, offset):
    timetable = EverySlots(length, offset_seconds=offset)
    form = CronForm.of(timetable)
    assert form.timezone == "UTC"
    assert form.plain == form.expression
    as_cron = CronSlots(form.expression)
    expected = list(islice(timetable.slots(NOW, NOW + 40 * DAY), 500))
    assert len(expected) >= 5
    assert list(islice(as_cron.slots(NOW, NOW + 40 * DAY), 500)) == expected


@pytest.mark.parametrize(
    ("length", "offset"), [(90 * MINUTE, 0), (7 * HOUR, 0), (2 * DAY, 0), (30, 0), (HOUR, 30)]
)
def test_lengths_that_cron_cannot_say_are_refused(length, offset):
    with pytest.raises(UsageError, match="cannot be written as cron fields"):
        CronForm.of(EverySlots(length, offset_seconds=offset))


@pytest.mark.parametrize("expression", ["0 0 L * *", "0 0 * * 5#2"])
def test_words_that_only_some_crons_know_are_refused(expression):
    with pytest.raises(UsageError, match="more than other schedulers read"):
        CronForm.of(CronSlots(expression))


@pytest.mark.parametrize(
    ("expression", "plain"),
    [
        ("30 2 * * *", "30 2 * * *"),
        ("0 0 * * 7", "0 0 * * 0"),
        ("0 0 * * 5-7", "0 0 * * 0,5,6"),
        ("0 0 * * MON-FRI", "0 0 * * 1,2,3,4,5"),
        ("0 0 * * 0-6", "0 0 * * 0-6"),
    ],
)
def test_days_of_the_week_are_numbers_from_0_to_6(expression, plain):
    form = CronForm.of(CronSlots(expression))
    assert form.plain == plain
    week = list(CronSlots(expression).slots(NOW, NOW + 30 * DAY))
    assert list(CronSlots(plain).slots(NOW, NOW + 30 * DAY)) == week


@pytest.mark.parametrize(
    ("expression", "events"),
    [
        ("30 2 * * *", ["*-*-* 02:30:00 Europe/Berlin"]),
        ("*/20 8-10 * * *", ["*-*-* 08,09,10:00,20,40:00 Europe/Berlin"]),
        ("0 0 1 JAN,JUL *", ["*-01,07-01 00:00:00 Europe/Berlin"]),
        ("5 * * * MON", ["Mon *-*-* *:05:00 Europe/Berlin"]),
        # Cron wants one of the two, systemd both in a line.
        (
            "0 6 1 * 0",
            ["*-*-01 06:00:00 Europe/Berlin", "Sun *-*-* 06:00:00 Europe/Berlin"],
        ),
    ],
)
def test_calendar_events_of_systemd(expression, events):
    assert CronForm.of(CronSlots(expression, "Europe/Berlin")).calendar_events() == events
