"""Slots of a fixed length: where they lie, and that they leave no gap."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventmill.base.clock import utc_datetime
from eventmill.base.errors import UsageError
from eventmill.workflow.every_slots import DAY_SECONDS, EverySlots
from eventmill.workflow.timetable import EARLIEST_SECONDS, LATEST_SECONDS

HOUR = 3_600
SECONDS = st.integers(EARLIEST_SECONDS - 10_000, LATEST_SECONDS + 10_000)
LENGTHS = st.one_of(
    st.integers(1, 366 * DAY_SECONDS),
    st.sampled_from([60, HOUR, DAY_SECONDS, 7 * DAY_SECONDS, 14 * DAY_SECONDS]),
)


@st.composite
def timetables(draw):
    length = draw(LENGTHS)
    return EverySlots(length, offset_seconds=draw(st.integers(0, length - 1)))


@pytest.mark.parametrize(
    ("length", "offset", "start"),
    [
        (HOUR, 0, "2026-09-21T14:00:00+00:00"),
        (900, 0, "2026-09-21T14:00:00+00:00"),
        (DAY_SECONDS, 0, "2026-09-21T00:00:00+00:00"),
        (DAY_SECONDS, 6 * HOUR, "2026-09-21T06:00:00+00:00"),
        (7 * DAY_SECONDS, 0, "2026-09-21T00:00:00+00:00"),  # a Monday
        (7 * DAY_SECONDS, DAY_SECONDS, "2026-09-15T00:00:00+00:00"),  # a Tuesday
    ],
)
def test_slots_begin_where_people_expect_it(length, offset, start):
    moment = 1_790_000_000  # 2026-09-21T14:13:20Z
    slot = EverySlots(length, offset_seconds=offset).slot_at(moment)
    assert utc_datetime(slot[0]).isoformat() == start
    assert slot[1] == slot[0] + length


@given(timetables(), SECONDS)
def test_every_moment_lies_in_its_slot(timetable, moment):
    start, end = timetable.slot_at(moment)
    assert EARLIEST_SECONDS <= start < end <= LATEST_SECONDS
    if EARLIEST_SECONDS <= moment < LATEST_SECONDS:
        assert start <= moment < end
        assert timetable.slot_at(start) == timetable.slot_at(end - 1) == (start, end)
        assert timetable.slot_at(moment + 0.5) == (start, end)


@given(timetables(), SECONDS, st.integers(0, 20), st.floats(0, 1))
def test_slots_follow_each_other_without_a_gap(timetable, begin, count, part):
    until = begin + count * timetable.length_seconds + part
    slots = list(timetable.slots(begin, until))
    assert all(begin <= start < until for start, _ in slots)
    assert [slot[1] for slot in slots[:-1]] == [slot[0] for slot in slots[1:]]
    assert slots == [timetable.slot_at(start) for start, _ in slots]
    if slots and slots[0][0] > EARLIEST_SECONDS:  # none before the first was left out
        assert timetable.slot_at(slots[0][0] - 1)[0] < begin
    if slots and slots[-1][1] < LATEST_SECONDS:
        assert slots[-1][1] >= until


@pytest.mark.parametrize(("length", "offset"), [(0, 0), (-5, 0), (367 * DAY_SECONDS, 0), (60, 60)])
def test_lengths_that_make_no_sense_are_refused(length, offset):
    with pytest.raises(UsageError, match=r"slot|offset"):
        EverySlots(length, offset_seconds=offset)


def test_timetables_are_told_and_compared_by_what_they_say():
    assert EverySlots(HOUR).text == "every 1h"
    assert EverySlots(5400, offset_seconds=600).text == "every 90m offset 10m"
    assert EverySlots(HOUR) == EverySlots(HOUR)
    assert EverySlots(HOUR) != EverySlots(HOUR, offset_seconds=60)
    assert len({EverySlots(HOUR), EverySlots(HOUR)}) == 1
