"""Slots between cron times: against a plain model of cron, over time zones with odd clocks."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventmill.base.clock import utc_datetime
from eventmill.base.errors import UsageError
from eventmill.workflow.cron_slots import CronSlots
from eventmill.workflow.timetable import EARLIEST_SECONDS, LATEST_SECONDS

DAY = 86_400
ODD_DAYS = [
    ("America/New_York", "2026-03-08"),  # 02:00 becomes 03:00
    ("America/New_York", "2026-11-01"),  # 02:00 becomes 01:00
    ("Europe/Berlin", "2026-03-29"),
    ("Europe/Berlin", "2026-10-25"),
    ("Australia/Lord_Howe", "2026-04-05"),  # 02:00 becomes 01:30
    ("Australia/Lord_Howe", "2026-10-04"),  # 02:00 becomes 02:30
    ("America/Sao_Paulo", "2018-11-04"),  # midnight becomes 01:00
    ("America/Sao_Paulo", "2018-02-18"),  # midnight becomes 23:00 of the day before
    ("America/Havana", "2026-11-01"),  # 01:00 becomes midnight
    ("Africa/Cairo", "2026-04-24"),  # midnight becomes 01:00
    ("Asia/Gaza", "2026-10-24"),
    ("Pacific/Apia", "2011-12-30"),  # a day that never was
    ("Pacific/Kwajalein", "1993-08-21"),  # and another
    ("Asia/Kathmandu", "1986-01-01"),  # clocks went forward by 15 minutes
    ("Asia/Pyongyang", "2018-05-05"),  # by 30 minutes, at midnight
    ("Antarctica/Troll", "2026-03-29"),  # by two hours
    ("Africa/Casablanca", "2026-02-15"),
    ("America/Caracas", "2016-05-01"),
    ("UTC", "2026-03-29"),
]
FIXED = [
    "30 2 * * *",
    "30 1 * * *",
    "0 0 * * *",
    "15 0,1,2,3 * * *",
    "0,30 1-3 * * *",
    "5 23 * * *",
]
WILD = [
    "0 * * * *",
    "*/30 * * * *",
    "7 */2 * * *",
    "*/15 2 * * *",
    "* 0-3 * * *",
    "0 */6 * * *",
    "45 * * * *",
]


def model_times(expression: str, zone: str, begin: datetime, end: datetime) -> list[int]:
    """Return the times of a cron expression without day fields, one minute looked at by one.

    With a * first in minutes or hours, each minute that passes and matches is a time. Otherwise
    each minute of the calendar is: one that is skipped at the end of the gap, one that comes
    twice at its first.
    """
    parts = zip(expression.split()[:2], (60, 24), strict=True)
    minutes, hours = (numbers(text, top) for text, top in parts)
    where = ZoneInfo(zone)
    if expression.split()[0].startswith("*") or expression.split()[1].startswith("*"):
        passing = (begin + timedelta(minutes=n) for n in range(int((end - begin) / MINUTE)))
        local = ((at, at.astimezone(where)) for at in passing)
        return [int(at.timestamp()) for at, on in local if fits(on, minutes, hours)]
    naive = (begin - timedelta(days=2)).replace(tzinfo=None)
    times = set()
    for n in range(int((end - begin) / MINUTE) + 4 * 1440):
        on = naive + n * MINUTE
        if fits(on, minutes, hours):
            while not exists(on, where):
                on += MINUTE
            times.add(int(on.replace(tzinfo=where, fold=0).timestamp()))
    return sorted(time for time in times if begin.timestamp() <= time < end.timestamp())


MINUTE = timedelta(minutes=1)


def fits(on: datetime, minutes: set[int], hours: set[int]) -> bool:
    return on.minute in minutes and on.hour in hours and not on.second


def exists(on: datetime, where: ZoneInfo) -> bool:
    there = on.replace(tzinfo=where, fold=0)
    return there.astimezone(UTC).astimezone(where).replace(tzinfo=None, fold=0) == on


def numbers(text: str, top: int) -> set[int]:
    if text == "*":
        return set(range(top))
    if text.startswith("*/"):
        return set(range(0, top, int(text[2:])))
    found = set()
    for part in text.split(","):
        low, _, high = part.partition("-")
        found |= set(range(int(low), int(high or low) + 1))
    return found


@pytest.mark.parametrize(("zone", "day"), ODD_DAYS)
@pytest.mark.parametrize("expression", FIXED + WILD)
def test_slots_are_those_of_a_plain_model_of_cron(expression, zone, day):
    begin = datetime.fromisoformat(day).replace(tzinfo=UTC) - timedelta(days=2)
    end = begin + timedelta(days=5)
    wanted = model_times(expression, zone, begin, end)
    slots = list(CronSlots(expression, zone).slots(begin.timestamp(), end.timestamp()))
    assert [start for start, _ in slots] == wanted
    assert [slot[1] for slot in slots[:-1]] == wanted[1:]


@pytest.mark.parametrize(
    ("expression", "day", "expected"),
    [
        # New York: 2026-03-08 has no 02:30, and 2026-11-01 has 01:30 twice.
        ("30 2 * * *", "2026-03-08", ["07:00"]),  # at 03:00, when the gap ends
        ("30 1 * * *", "2026-11-01", ["05:30"]),  # once, the first
        ("0 * * * *", "2026-03-08", [f"{hour:02}:00" for hour in range(5, 9)]),
        ("*/30 1 * * *", "2026-11-01", ["05:00", "05:30", "06:00", "06:30"]),
    ],
)
def test_skipped_and_repeated_hours(expression, day, expected):
    begin = datetime.fromisoformat(f"{day}T05:00:00Z").timestamp()
    slots = CronSlots(expression, "America/New_York").slots(begin, begin + 4 * 3_600)
    assert [f"{utc_datetime(start):%H:%M}" for start, _ in slots] == expected


def fields(low: int, high: int):
    one = st.integers(low, high).map(str)
    span = st.tuples(st.integers(low, high), st.integers(low, high)).map(sorted)
    return st.one_of(
        st.just("*"),
        one,
        st.integers(2, 12).map("*/{}".format),
        span.map(lambda both: f"{both[0]}-{both[1]}"),
        st.lists(one, min_size=2, max_size=3).map(",".join),
    )


EXPRESSIONS = st.tuples(
    fields(0, 59),
    fields(0, 23),
    st.one_of(st.just("*"), fields(1, 28), st.just("L")),
    st.one_of(st.just("*"), fields(1, 12)),
    st.one_of(st.just("*"), fields(0, 6)),
).map(" ".join)
ZONES = st.sampled_from(sorted({zone for zone, _ in ODD_DAYS}))
# Around the odd days, and anywhere else between 1970 and 2100.
MOMENTS = st.one_of(
    st.tuples(st.sampled_from(ODD_DAYS), st.integers(-2 * DAY, 2 * DAY)).map(
        lambda both: int(datetime.fromisoformat(f"{both[0][1]}T00:00Z").timestamp()) + both[1]
    ),
    st.integers(0, 4_102_444_800),
)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(EXPRESSIONS, ZONES, MOMENTS)
def test_each_moment_lies_in_one_slot_and_slots_leave_no_gap(expression, zone, moment):
    timetable = CronSlots(expression, zone)
    start, end = CronSlots(expression, zone).slot_at(moment)
    assert start <= moment < end
    followed = [(start, end), *islice(timetable.slots(end, LATEST_SECONDS), 5)]
    for (first, second), (third, _) in pairwise(followed):
        assert first < second == third
    for first, second in followed:
        fresh = CronSlots(expression, zone)
        assert fresh.slot_at(first) == fresh.slot_at(second - 1) == (first, second)
        assert list(CronSlots(expression, zone).slots(first, second)) == [(first, second)]


def test_the_ends_of_time_have_slots_too():
    yearly = CronSlots("0 0 1 6 *")
    first, last = yearly.slot_at(-1e18), yearly.slot_at(1e18)
    assert first[0] == EARLIEST_SECONDS
    assert last[1] == LATEST_SECONDS
    assert list(yearly.slots(last[0], 1e18)) == [last]
    assert next(yearly.slots(-1e18, first[1])) == first
    assert utc_datetime(CronSlots("0 0 * 2 MON#5").slot_at(1_790_000_000)[0]).year == 2016


@pytest.mark.parametrize(
    ("expression", "zone", "told"),
    [
        ("* * * * * *", "UTC", "seconds are not taken"),
        ("0 0 * *", "UTC", "is not five fields"),
        ("@daily", "UTC", "is not five fields"),
        ("61 * * * *", "UTC", "bad minute"),
        ("0 0 30 2 *", "UTC", "bad day-of-month"),
        ("0 0 * * *", "Europe/Berlim", "did you mean Europe/Berlin"),
        ("0 0 * * *", "America", "is not a time zone"),
        ("0 0 * * *", "/etc/localtime", "is not a time zone"),
        ("0 0 * * *", "", "is not a time zone"),
    ],
)
def test_what_cannot_be_a_schedule_is_refused_by_name(expression, zone, told):
    with pytest.raises(UsageError, match=told):
        CronSlots(expression, zone)


def test_looking_anywhere_gives_the_same_as_going_through():
    timetable = CronSlots("*/20 */3 * * *", "Europe/Berlin")
    begin = datetime(2026, 10, 20, tzinfo=UTC).timestamp()
    through = list(timetable.slots(begin, begin + 10 * DAY))
    chance = random.Random(1)
    for _ in range(300):
        moment = chance.uniform(through[0][0], through[-1][1] - 1)
        (wanted,) = [slot for slot in through if slot[0] <= moment < slot[1]]
        assert timetable.slot_at(moment) == wanted
