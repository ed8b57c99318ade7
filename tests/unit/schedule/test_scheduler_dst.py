"""The nights in which clocks are changed, in virtual time: each slot runs once, at its end.

What is expected is reckoned here from the zone's own rules, minute by minute.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from schedule_world import HOUR, MINUTE, World, definition

from eventmill.base.errors import QueryError
from eventmill.schedule.book_file import IN_MEMORY
from eventmill.workflow.cron_slots import CronSlots
from eventmill.workflow.every_slots import EverySlots

NIGHTS = {
    "New York, spring": ("America/New_York", "2026-03-08T07:00", "02:30"),
    "New York, autumn": ("America/New_York", "2026-11-01T06:00", "01:30"),
    "Berlin, spring": ("Europe/Berlin", "2026-03-29T01:00", "02:30"),
    "Berlin, autumn": ("Europe/Berlin", "2026-10-25T01:00", "02:30"),
    "Lord Howe, spring": ("Australia/Lord_Howe", "2026-10-03T15:30", "02:15"),
    "Lord Howe, autumn": ("Australia/Lord_Howe", "2026-04-04T15:00", "01:45"),
}


@pytest.fixture(params=NIGHTS.values(), ids=NIGHTS)
def night(request):
    """Return the zone, the moment of the change, and a time of day that it skips or repeats."""
    name, change, daily = request.param
    zone = ZoneInfo(name)
    at = int(datetime.fromisoformat(change).replace(tzinfo=UTC).timestamp())
    before, after = (datetime.fromtimestamp(at + shift, zone).utcoffset() for shift in (-1, 0))
    assert before != after  # the edge: the clocks are changed at this moment
    hour, minute = map(int, daily.split(":"))
    affected = [
        moment for moment in range(at - 2 * HOUR, at + 2 * HOUR, MINUTE)
        if local(moment, zone)[1:] == (hour, minute)
    ]  # fmt: skip
    assert len(affected) in (0, 2)  # it is skipped or repeated
    return zone, at, hour, minute


def local(moment, zone):
    shown = datetime.fromtimestamp(moment, zone)
    return shown.date(), shown.hour, shown.minute


def daily_moments(zone, begin, end, hour, minute):
    """Return when a job of this time of day runs: at the first of two, or else after the gap."""
    found = []
    day = local(begin, zone)[0]
    while day <= local(end, zone)[0]:
        noon = int(datetime(day.year, day.month, day.day, 12, tzinfo=zone).timestamp())
        minutes = range(noon - 13 * HOUR, noon, MINUTE)
        shown = [m for m in minutes if local(m, zone) == (day, hour, minute)]
        later = [m for m in minutes if local(m, zone) > (day, hour, minute)]
        found.append(min(shown or later))
        day += timedelta(days=1)
    return [moment for moment in found if begin < moment <= end]


def hourly_moments(zone, begin, end, minute):
    """Return when a job of every hour runs: whenever clocks show the minute."""
    return [m for m in range(begin + MINUTE, end + 1, MINUTE) if local(m, zone)[2] == minute]


@pytest.fixture
def make(monkeypatch):
    worlds = []
    # Days pass here, and what happens every ten seconds is not what is looked at.
    monkeypatch.setattr("eventmill.schedule.scheduler.BEAT_SECONDS", 3.0 * HOUR)

    def world(one, now, **given):
        worlds.append(World(IN_MEMORY, one, now=now, **given))
        return worlds[-1]

    yield world
    for one in worlds:
        one.close()


def cron(zone, hour, minute):
    return CronSlots(f"{minute} {hour} * * *", zone.key)


def judge(world, ends, name="hourly"):
    """Check that each slot ran once, at its end, and that no moment is left out."""
    calls = [call for call in world.bodies.calls if call.workflow == name]
    assert [call.slot[1] for call in calls] == ends
    assert [call.at for call in calls] == [float(end) for end in ends]
    assert all(a.slot[1] == b.slot[0] for a, b in pairwise(calls))
    assert all(slot.state == "succeeded" for slot in world.book.slots(name))


def test_a_job_of_every_day_runs_once_a_day(make, night):
    zone, change, hour, minute = night
    begin, end = change - 60 * HOUR, change + 60 * HOUR
    world = make(definition(timetable=cron(zone, hour, minute)), begin)
    world.run_until(end)
    expected = daily_moments(zone, begin, end, hour, minute)
    assert len(expected) in (5, 4, 6)
    judge(world, expected)


def test_a_job_of_every_hour_runs_as_time_passes(make, night):
    zone, change, _, minute = night
    begin, end = change - 6 * HOUR, change + 6 * HOUR
    world = make(definition(timetable=CronSlots(f"{minute} * * * *", zone.key)), begin)
    world.run_until(end)
    judge(world, hourly_moments(zone, begin, end, minute))


def test_slots_of_a_fixed_length_know_nothing_of_it(make, night):
    _, change, _, _ = night
    begin, end = change - 6 * HOUR, change + 6 * HOUR
    world = make(definition(timetable=EverySlots(HOUR, offset_seconds=15 * MINUTE)), begin)
    world.run_until(end)
    judge(world, [m for m in range(begin + 1, end + 1) if m % HOUR == 15 * MINUTE])


TIMETABLES = {
    "hourly cron": lambda zone, hour, minute: CronSlots(f"{minute} * * * *", zone.key),
    "daily cron": cron,
    "fixed": lambda zone, hour, minute: EverySlots(HOUR),
}


@pytest.fixture(params=TIMETABLES.values(), ids=TIMETABLES)
def timetable(request, night):
    zone, _, hour, minute = night
    return request.param(zone, hour, minute)


def slots_between(timetable, begin, end):
    """Return the slots that end in (begin, end], from the one that begin lies in."""
    first = timetable.slot_at(begin)
    return [s for s in timetable.slots(first[0], end) if begin < s[1] <= end]


@pytest.mark.parametrize("missed", ["all", "latest", "none"])
def test_a_night_without_a_scheduler_is_caught_up_as_the_workflow_says(
    make, night, timetable, missed
):
    change = night[1]
    down, up = change - 50 * HOUR - 30, change + 30 * HOUR + 20 * MINUTE + 30
    world = make(definition(timetable=timetable, missed=missed), down)
    world.turn()
    world.clock.advance(up - down)
    world.scheduler = world.new_scheduler()
    world.run_for(1)
    expected = slots_between(timetable, down, up)
    assert len(expected) >= 3
    ran = {"all": expected, "latest": expected[-1:], "none": []}[missed]
    assert world.bodies.slots() == ran
    assert [slot.slot for slot in world.book.slots("hourly")] == expected


@pytest.mark.parametrize("overlap", ["queue", "skip", "cancel"])
def test_a_run_that_lasts_through_the_night_meets_the_next_slots_as_the_workflow_says(
    make, night, timetable, overlap
):
    change = night[1]
    around = slots_between(timetable, change - 60 * HOUR, change + 60 * HOUR)
    length = max(slot[1] - slot[0] for slot in around)
    begin, end = change - length - 30, change + length + 30
    world = make(definition(timetable=timetable, overlap=overlap), begin, holds=True)
    world.run_until(end)
    expected = slots_between(timetable, begin, end)
    assert len(expected) >= 2
    rest = "skipped" if overlap == "skip" else "waiting"
    assert world.states() == ["running", *[rest] * (len(expected) - 1)]
    cancelled = [run.cancel for run in world.book.runs() if run.cancel]
    assert bool(cancelled) == (overlap == "cancel")


def test_the_delay_and_the_pauses_before_retries_are_real_time(make, night, timetable):
    change = night[1]
    begin = timetable.slot_at(change)[0] + 1
    slow = definition(timetable=timetable, delay_seconds=90.0, retries=1, retry_base_seconds=30.0)
    world = make(slow, begin)
    world.bodies.acts["hourly"] = [QueryError("once")]
    slot = timetable.slot_at(change)
    world.run_until(slot[1] + 10 * MINUTE)
    first, second = [call.at for call in world.bodies.calls if call.slot == slot]
    assert first == slot[1] + 90
    assert 0 < second - first <= 30


def test_a_start_within_the_night_begins_with_its_slot(make, night, timetable):
    change = night[1]
    start = next(timetable.slots(change - 1, change + 80 * HOUR))
    world = make(definition(timetable=timetable, start_at_seconds=start[0]), change - 90 * HOUR)
    world.run_until(start[1])
    assert world.bodies.slots() == [start]
