"""How an alert begins, goes on and ends."""

import pytest

from eventmill.schedule.alert_finding import AlertState, Finding
from eventmill.schedule.alert_state import Notice, next_state

HOUR = 3_600.0
FOUND = Finding("stale", "local.ci.builds", "no rows")
HELD = Finding("slow", "linux", "slow", hold_seconds=600.0)


def told(steps, finding=FOUND, repeat_seconds=4 * HOUR):
    """Return the notice of each step; a step is (now, whether it is found)."""
    alert, notices = None, []
    for now, is_found in steps:
        alert, notice = next_state(alert, finding if is_found else None, now, repeat_seconds)
        notices.append(notice)
    return alert, notices


def test_nothing_found_is_nothing():
    assert next_state(None, None, 0.0, HOUR) == (None, None)


def test_it_is_told_once_and_its_end_is_told():
    alert, notices = told([(0.0, True), (30.0, True), (60.0, True), (90.0, False), (120.0, False)])
    assert notices == [Notice.FIRING, None, None, Notice.RESOLVED, None]
    assert alert.state is AlertState.OK
    assert alert.since == 90.0


def test_it_is_repeated_after_its_pause_and_not_before():
    _, notices = told([(0.0, True), (4 * HOUR - 1, True), (4 * HOUR, True), (8 * HOUR - 1, True)])
    assert notices == [Notice.FIRING, None, Notice.STILL_FIRING, None]


def test_it_comes_back_as_a_new_one():
    alert, notices = told([(0.0, True), (30.0, False), (60.0, True)])
    assert notices == [Notice.FIRING, Notice.RESOLVED, Notice.FIRING]
    assert alert.since == 60.0


def test_it_is_held_before_it_fires():
    alert, notices = told([(0.0, True), (599.0, True)], HELD)
    assert notices == [None, None]
    assert alert.state is AlertState.PENDING
    _, notices = told([(0.0, True), (599.0, True), (600.0, True)], HELD)
    assert notices == [None, None, Notice.FIRING]


def test_what_ends_while_it_is_held_was_never_told():
    alert, notices = told([(0.0, True), (300.0, False), (600.0, True), (900.0, True)], HELD)
    assert notices == [None, None, None, None]
    assert alert.state is AlertState.PENDING
    assert alert.since == 600.0


def test_the_newest_words_are_kept():
    alert, _ = next_state(None, FOUND, 0.0, HOUR)
    worse = Finding("stale", "local.ci.builds", "still no rows")
    alert, _ = next_state(alert, worse, 30.0, HOUR)
    assert alert.finding == worse
    assert alert.found_at == 30.0


def test_a_clock_that_is_set_back_a_day_neither_repeats_at_once_nor_silences_for_a_day():
    alert, _ = next_state(None, FOUND, 86_400.0, HOUR)
    alert, notice = next_state(alert, FOUND, 0.0, HOUR)
    assert notice is None
    _, notice = next_state(alert, FOUND, HOUR, HOUR)
    assert notice is Notice.STILL_FIRING


@pytest.mark.parametrize("other", [("stale", "local.ci.tests"), ("slow", "local.ci.builds")])
def test_the_key_is_of_rule_and_subject(other):
    assert FOUND.key == Finding("stale", "local.ci.builds", "other words").key
    assert FOUND.key != Finding(*other, "no rows").key
    assert Finding("a", "bc", "").key != Finding("ab", "c", "").key
