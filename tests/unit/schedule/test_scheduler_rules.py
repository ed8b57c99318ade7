"""Every rule of the schedule, in virtual time."""

from __future__ import annotations

from itertools import pairwise

import pytest
from schedule_world import DAY, HOUR, MINUTE, Result, World, definition, moments, seconds

from eventmill.base.errors import (
    QueryError,
    StaleAttemptError,
    TableNotFoundError,
    UnavailableError,
)
from eventmill.base.settings import ScheduleSettings
from eventmill.schedule.book_file import IN_MEMORY
from eventmill.schedule.book_plan import Planning
from eventmill.workflow.every_slots import EverySlots
from eventmill.workflow.slot_run import MISSING_INPUT

START = "2026-05-04T10:30"


@pytest.fixture
def make():
    worlds = []

    def world(*definitions, now=START, **given):
        worlds.append(World(IN_MEMORY, *definitions, now=seconds(now), **given))
        return worlds[-1]

    yield world
    for one in worlds:
        one.close()


# -- which slots, and when -------------------------------------------------------------------


def test_the_first_slot_is_the_one_in_which_the_workflow_was_first_seen(make):
    world = make(definition())
    world.run_until("2026-05-04T12:00")
    assert moments(world.bodies.slots()) == [
        ("05-04T10:00", "05-04T11:00"),
        ("05-04T11:00", "05-04T12:00"),
    ]


def test_a_slot_runs_when_it_has_ended_and_its_delay_has_passed_not_before(make):
    world = make(definition(delay_seconds=90.0))
    world.run_until(seconds("2026-05-04T11:01") + 29)
    assert world.bodies.calls == []
    world.run_until(seconds("2026-05-04T11:01") + 30)
    assert [call.at for call in world.bodies.calls] == [seconds("2026-05-04T11:01") + 30]


def test_a_start_in_the_past_is_caught_up_from_there(make):
    world = make(definition(start_at_seconds=int(seconds("2026-05-04T07:00"))))
    world.turn()
    world.run_for(1)
    assert len(world.bodies.slots()) == 3
    assert moments(world.bodies.slots())[0] == ("05-04T07:00", "05-04T08:00")
    # Nobody can be late with what was wanted before it was known.
    assert {slot.due_at for slot in world.book.slots("hourly")} == {seconds(START)}


def test_a_start_in_the_future_is_waited_for(make):
    world = make(definition(start_at_seconds=int(seconds("2026-05-04T13:00"))))
    world.run_until("2026-05-04T13:59")
    assert world.bodies.calls == []
    world.run_until("2026-05-04T14:00")
    assert moments(world.bodies.slots()) == [("05-04T13:00", "05-04T14:00")]


def test_each_workflow_has_its_own_slots(make):
    world = make(definition(), definition("daily", EverySlots(DAY)))
    world.run_until("2026-05-05T00:00")
    assert len(world.bodies.slots()) == 14
    assert moments(world.bodies.slots("daily")) == [("05-04T00:00", "05-05T00:00")]


def test_a_longer_timetable_leaves_no_moment_out(make):
    world = make(definition())
    world.run_until("2026-05-04T12:00")
    world.folder.put(definition(timetable=EverySlots(6 * HOUR)))
    world.run_until("2026-05-04T18:00")
    assert moments(world.bodies.slots())[2:] == [("05-04T12:00", "05-04T18:00")]


# -- missed slots ----------------------------------------------------------------------------


def missed(make, **changes):
    """Return a world whose scheduler ran until 11:00 and again from 16:30 on."""
    world = make(definition(**changes))
    world.run_until("2026-05-04T11:00")
    assert len(world.bodies.slots()) == 1
    world.bodies.calls.clear()
    world.clock.advance(seconds("2026-05-04T16:30") - world.clock.now())
    world.scheduler = world.new_scheduler()
    world.run_for(1)
    return world


def test_missed_slots_are_all_caught_up_oldest_first(make):
    world = missed(make)
    assert [slot[0] for slot in moments(world.bodies.slots())] == [
        f"05-04T{hour}:00" for hour in range(11, 16)
    ]


def test_of_missed_slots_no_more_than_the_limit_are_caught_up_and_the_rest_is_told(make):
    world = missed(make, missed_slots_max=2)
    assert [slot[0] for slot in moments(world.bodies.slots())] == ["05-04T14:00", "05-04T15:00"]
    skipped = [slot for slot in world.book.slots("hourly") if slot.state == "skipped"]
    assert [slot.start.hour for slot in skipped] == [11, 12, 13]
    assert "the latest 2 are caught up" in skipped[0].reason


def test_only_the_latest_missed_slot_is_caught_up_where_the_workflow_says_so(make):
    world = missed(make, missed="latest")
    assert [slot[0] for slot in moments(world.bodies.slots())] == ["05-04T15:00"]
    assert world.states() == ["succeeded", *["skipped"] * 4, "succeeded"]


def test_no_missed_slot_is_caught_up_beside_one_that_is_due_just_now(make):
    world = make(definition(timetable=EverySlots(MINUTE), missed="latest"))
    world.run_until("2026-05-04T10:31")
    world.bodies.calls.clear()
    world.clock.advance(5.5 * MINUTE)
    world.scheduler = world.new_scheduler()
    world.run_for(1)
    assert moments(world.bodies.slots()) == [("05-04T10:35", "05-04T10:36")]
    assert world.states() == ["succeeded", *["skipped"] * 4, "succeeded"]


def test_no_missed_slot_is_caught_up_where_the_workflow_says_so(make):
    world = missed(make, missed="none")
    assert world.bodies.slots() == []
    assert world.states() == ["succeeded", *["skipped"] * 5]
    assert "missed = 'none'" in world.book.slots("hourly")[-1].reason
    world.run_until("2026-05-04T17:00")
    assert [slot[0] for slot in moments(world.bodies.slots())] == ["05-04T16:00"]


def test_a_short_restart_misses_nothing(make):
    world = make(definition(missed="none"))
    world.run_until("2026-05-04T10:59")
    world.clock.advance(1.5 * MINUTE)
    world.scheduler = world.new_scheduler()
    world.run_for(1)
    assert moments(world.bodies.slots()) == [("05-04T10:00", "05-04T11:00")]


def test_a_catch_up_of_years_enters_a_bounded_number_of_slots(make):
    world = make(definition(timetable=EverySlots(MINUTE), missed_slots_max=3,
                            start_at_seconds=int(seconds("2024-05-04T00:00"))))  # fmt: skip
    world.run_for(1)
    assert len(world.bodies.slots()) == 3 + 2  # two came due within the last minute
    slots = world.book.slots("hourly")
    assert len(slots) == 10_003
    assert "all slots from 2024-05-04T00:00Z" in slots[0].reason


# -- failures, retries, timeouts -------------------------------------------------------------


def test_a_failed_slot_is_tried_again_with_growing_pauses_until_no_attempt_is_left(make):
    world = make(definition(retries=5, retry_base_seconds=5.0))
    world.bodies.acts["hourly"] = [QueryError(f"no column {n}") for n in "abcdef"]
    world.run_until("2026-05-04T11:10")
    assert len(world.bodies.calls) == 6
    pauses = [b.at - a.at for a, b in pairwise(world.bodies.calls)]
    assert all(0 < pause <= 5 * 2**n for n, pause in enumerate(pauses))
    assert max(pauses) > 5 * 2
    (slot,) = world.book.slots("hourly")
    assert (slot.state, slot.reason, slot.attempts) == ("failed", "no column f", 6)
    assert [run.state for run in world.book.runs()] == ["failed"] * 6
    assert [run.attempt for run in world.book.runs()] == [6, 5, 4, 3, 2, 1]


def test_a_retry_that_succeeds_ends_the_matter(make):
    world = make(definition(retries=2))
    world.bodies.acts["hourly"] = [QueryError("once")]
    world.run_until("2026-05-04T11:05")
    (slot,) = world.book.slots("hourly")
    assert (slot.state, slot.reason, slot.attempts) == ("succeeded", "", 0)


def test_a_failure_that_nobody_foresaw_is_told_with_its_traceback(make):
    world = make(definition(retries=0))
    world.bodies.acts["hourly"] = [ZeroDivisionError("by nought")]
    world.run_until("2026-05-04T11:00")
    (run,) = world.book.runs()
    assert run.error == "unexpected ZeroDivisionError: by nought"
    assert "Traceback" in "".join(line.text for line in world.book.run_log(run.id))


def test_an_overtaken_attempt_is_lost(make):
    world = make(definition(retries=0))
    world.bodies.acts["hourly"] = [StaleAttemptError("a later one has written")]
    world.run_until("2026-05-04T11:00")
    (run,) = world.book.runs()
    assert run.state == "lost"


def test_a_workflow_waits_for_its_input_table_and_that_costs_no_attempt(make):
    world = make(definition(retries=0))
    missing = [TableNotFoundError("an input does not exist") for _ in range(4)]
    for error in missing:
        error.facts = {MISSING_INPUT: "local.raw.events"}
    world.bodies.acts["hourly"] = list(missing)
    world.run_until("2026-05-04T11:59")
    (slot,) = world.book.slots("hourly")
    assert slot.state == "succeeded"
    assert len(world.bodies.calls) == 5


def test_a_run_keeps_what_it_did(make):
    world = make(definition())
    world.bodies.acts["hourly"] = [Result(input_rows=12, output_rows=4, replaced_rows=2)]
    world.run_until("2026-05-04T11:00")
    (run,) = world.book.runs("hourly")
    assert (run.input_rows, run.output_rows, run.replaced_rows, run.late_rows) == (12, 4, 2, None)
    assert run.seconds == 0.5
    (line,) = world.book.run_log(run.id)
    assert (line.level, line.text, line.at) == (
        "info", f"running {run.slot}", seconds("2026-05-04T11:00"),
    )  # fmt: skip


# -- overlap, limits, pauses -----------------------------------------------------------------


def test_a_due_slot_waits_while_another_runs(make):
    world = make(definition(), holds=True)
    world.run_until("2026-05-04T12:05")
    assert world.states() == ["running", "waiting"]
    assert len(world.held) == 1
    world.release()
    world.run_for(1)
    assert world.states() == ["succeeded", "running"]


def test_a_due_slot_is_skipped_while_another_runs_where_the_workflow_says_so(make):
    world = make(definition(overlap="skip"), holds=True)
    world.run_until("2026-05-04T12:05")
    assert world.states() == ["running", "skipped"]
    assert "was still running; overlap = 'skip'" in world.book.slots("hourly")[1].reason
    world.release()
    world.run_until("2026-05-04T13:00")
    assert world.states() == ["succeeded", "skipped", "running"]


def cancelled(cancel):
    assert cancel.is_set()
    raise QueryError("the query was cancelled")


def test_a_running_slot_is_cancelled_for_the_next_where_the_workflow_says_so(make):
    world = make(definition(overlap="cancel"), holds=True)
    world.bodies.acts["hourly"] = [cancelled]
    world.run_until("2026-05-04T12:00")
    world.release()
    world.run_for(1)
    assert world.states() == ["skipped", "running"]
    first = world.book.slots("hourly")[0]
    assert "2026-05-04T11:00Z/2026-05-04T12:00Z came due; overlap = 'cancel'" in first.reason
    assert world.book.runs()[1].state == "cancelled"


def test_several_slots_of_a_workflow_run_at_once_where_it_allows_that(make):
    world = make(definition(parallel_slots=2, start_at_seconds=int(seconds("2026-05-04T06:00"))),
                 holds=True)  # fmt: skip
    world.run_for(1)
    assert world.states() == ["running", "running", "waiting", "waiting"]


def test_no_more_slots_run_at_once_than_the_setting_says(make):
    every = [definition(f"flow{n}") for n in range(5)]
    world = make(*every, holds=True, settings=ScheduleSettings(runs_max=3))
    world.run_until("2026-05-04T11:00")
    assert len(world.book.running()) == 3
    other = world.new_scheduler()  # of another process on the same book
    other.turn()
    assert len(world.book.running()) == 3
    world.release()
    world.run_for(1)
    assert len(world.book.running()) == 3


def test_a_workflow_with_many_slots_does_not_keep_others_waiting(make):
    long_ago = int(seconds("2026-05-01T00:00"))
    world = make(definition("busy", start_at_seconds=long_ago), definition(),
                 settings=ScheduleSettings(runs_max=1))  # fmt: skip
    world.run_until("2026-05-04T11:00")
    world.clock.advance(0.0)
    order = [call.workflow for call in world.bodies.calls]
    assert "hourly" in order
    world.bodies.calls.clear()
    world.folder.put(definition("third", start_at_seconds=int(seconds("2026-05-04T10:00"))))
    world.folder.put(definition("fourth", start_at_seconds=long_ago))
    world.run_for(20)
    assert [call.workflow for call in world.bodies.calls].index("third") <= 2


def test_a_paused_workflow_runs_nothing_and_catches_up_after_it(make):
    world = make(definition())
    world.run_until("2026-05-04T11:00")
    assert world.book.pause("hourly", "me", world.clock.now())
    assert not world.book.pause("hourly", "me", world.clock.now())
    world.run_until("2026-05-04T14:30")
    assert len(world.bodies.calls) == 1
    assert world.book.resume("hourly")
    world.run_for(10)
    assert len(world.bodies.calls) == 4


def test_a_workflow_that_was_handed_over_is_left_to_the_other_scheduler(make):
    world = make(definition())
    world.turn()
    world.book.hand_over("hourly", "cron")
    world.run_until("2026-05-04T14:30")
    assert world.bodies.calls == []
    assert world.book.slots("hourly") == []


def test_what_late_rows_touch_of_it_is_still_repaired(make):
    world = make(definition())
    world.run_until("2026-05-04T11:00")
    world.book.hand_over("hourly", "cron")
    slot = world.bodies.slots()[0]
    Planning(world.book).note_late(
        "hourly", seen_before="{}", seen={}, touched=[slot], too_late={}, now=world.clock.now()
    )
    world.run_until("2026-05-04T12:30")
    assert world.bodies.slots() == [slot, slot]


def test_a_workflow_whose_folder_is_gone_is_run_no_more(make):
    world = make(definition())
    world.run_until("2026-05-04T11:00")
    world.folder.remove("hourly")
    world.run_until("2026-05-04T13:00")
    assert len(world.bodies.calls) == 1
    (row,) = world.book.workflows()
    assert row.removed_at is not None
    world.folder.put(definition())
    world.run_for(10)
    assert len(world.bodies.calls) == 3


def test_a_broken_folder_is_told_and_its_last_good_definition_runs(make):
    world = make(definition())
    world.turn()
    world.folder.faults["hourly"] = "workflow.toml: no such key"
    world.folder.has_changed = True
    world.run_until("2026-05-04T11:00")
    (row,) = world.book.workflows()
    assert row.fault == "workflow.toml: no such key"
    assert row.owner == "owner@example.com"
    assert len(world.bodies.calls) == 1
    world.folder.faults.clear()
    world.folder.has_changed = True
    world.run_for(10)
    assert world.book.workflows()[0].fault == ""


# -- clocks, heartbeats, the end -------------------------------------------------------------


def test_a_clock_that_is_set_back_runs_no_slot_twice_and_generations_grow(make):
    world = make(definition())
    world.run_until("2026-05-04T12:00")
    world.clock.set_back(3 * HOUR)
    world.run_until("2026-05-04T13:00")
    slots = world.bodies.slots()
    assert len(slots) == len(set(slots)) == 3
    generations = [call.generation for call in world.bodies.calls]
    assert generations == sorted(set(generations))


def test_a_lease_from_before_the_clock_was_set_back_ends_all_the_same(make):
    world = make(definition(), holds=True, settings=ScheduleSettings())
    world.run_until("2026-05-04T11:00")
    assert len(world.held) == 1
    world.clock.set_back(5 * HOUR)
    world.scheduler = world.new_scheduler()
    world.held.clear()  # nobody renews it
    world.run_for(45)
    assert world.book.runs()[-1].state == "lost"
    assert len(world.held) == 1  # the slot runs again


def test_it_says_that_it_is_alive_every_ten_seconds(make):
    world = make(definition())
    world.run_for(95)
    name, at = world.book.heartbeat()
    assert name == world.scheduler.runner.name
    assert world.clock.now() - at <= 10


def test_it_sleeps_until_something_is_due(make):
    world = make(definition())
    waits = []
    for _ in range(5):
        waits.append(world.turn())
        world.clock.advance(waits[-1])
    assert waits == [10.0] * 5


# -- a book that cannot be written -----------------------------------------------------------


@pytest.mark.parametrize("part", ["_planning.enter", "_claims.claim_next", "_book.beat"])
def test_what_the_book_did_not_take_is_done_by_a_later_turn(make, monkeypatch, part):
    world = make(definition())
    world.run_until("2026-05-04T10:59")
    owner, name = part.split(".")
    place = getattr(world.scheduler, owner)
    inner, refusals = getattr(place, name), []

    def refuse_once(*words, **named):
        if not refusals:
            refusals.append(1)
            raise UnavailableError("the disk is busy")
        return inner(*words, **named)

    monkeypatch.setattr(place, name, refuse_once)
    with pytest.raises(UnavailableError):
        world.run_until("2026-05-04T11:00")
    world.run_until(seconds("2026-05-04T11:00") + 15)
    assert moments(world.bodies.slots()) == [("05-04T10:00", "05-04T11:00")]
