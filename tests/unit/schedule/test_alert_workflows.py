"""The rules about workflows, on a run book written by hand."""

import dataclasses

import pytest

from eventmill.schedule.alert_facts import WorkflowFacts
from eventmill.schedule.alert_finding import Severity
from eventmill.schedule.alert_workflows import (
    LOOK_BACK_SECONDS,
    find_broken,
    find_dead_scheduler,
    find_failed,
    find_late,
    find_too_late,
    unjudged_late,
)
from eventmill.schedule.book import RunBook
from eventmill.schedule.book_file import IN_MEMORY
from eventmill.schema.table import TableId, TableSpec
from eventmill.workflow.definition import WorkflowDefinition
from eventmill.workflow.every_slots import EverySlots

HOUR = 3_600
NOON = 1_790_000_000 - 1_790_000_000 % 86_400 + 12 * HOUR
OUTPUT = TableSpec(TableId("local", "ci", "daily"), b"", "ci.Daily", (), "")
DAILY = WorkflowDefinition(
    name="daily", folder="/workflows/daily", owner="ada@example.com", description="",
    inputs=(), output=OUTPUT, timetable=EverySlots(HOUR), bodies=("sql",), sql="SELECT 1",
    pipeline_path=None, start_at_seconds=None,
)  # fmt: skip


@pytest.fixture
def book():
    made = RunBook(IN_MEMORY)
    yield made
    made.close()


@pytest.fixture
def facts(book):
    made = WorkflowFacts(book, lambda: made.given)
    made.given = [DAILY]
    book.note_workflows({"daily": ("ada@example.com", "every 1 h")}, {}, NOON - 24 * HOUR)
    return made


def slot(book, start, state, **columns):
    """Enter a slot of an hour."""
    columns = {
        "workflow": "daily", "start_seconds": start, "end_seconds": start + HOUR, "state": state,
        "origin": "schedule", "reason": "", "due_at": start + HOUR + 60, "attempts": 0,
        "not_before": start + HOUR + 60, "changed_at": start + HOUR, **columns,
    }  # fmt: skip
    names, marks = ", ".join(columns), ", ".join("?" * len(columns))
    with book.file.writing() as db:
        db.execute(
            f"INSERT OR REPLACE INTO slots ({names}) VALUES ({marks})", list(columns.values())
        )


def test_a_failed_slot_is_found_until_it_succeeds(book, facts):
    slot(book, NOON - 2 * HOUR, "failed", reason="no such\ntable", run_id=7, attempts=4)
    slot(book, NOON - HOUR, "succeeded")
    (found,) = find_failed(facts, NOON)
    assert (found.rule, found.subject) == ("workflow_failed", "dataflow-workflow-daily")
    assert found.names == ("dataflow-workflow-daily", "daily")
    assert found.owner == "ada@example.com"
    assert "a slot of daily failed, the newest from 2026-09-21T10:00:00Z: no such table" in (
        found.summary
    )
    assert "`eventmill workflow log 7`" in found.summary
    assert "backfill daily --from 2026-09-21T10:00:00Z --to 2026-09-21T11:00:00Z" in found.summary
    slot(book, NOON - 2 * HOUR, "succeeded")
    assert list(find_failed(facts, NOON)) == []


def test_many_failed_slots_are_one_alert(book, facts):
    for hours in (2, 3, 5):
        slot(book, NOON - hours * HOUR, "failed", reason="x")
    (found,) = find_failed(facts, NOON)
    assert "3 slots of daily failed" in found.summary
    assert "--from 2026-09-21T07:00:00Z --to 2026-09-21T11:00:00Z" in found.summary


def test_a_workflow_whose_folder_is_gone_fails_no_more(book, facts):
    slot(book, NOON - 2 * HOUR, "failed", reason="x")
    book.note_workflows({}, {}, NOON)
    assert list(find_failed(facts, NOON)) == []


def late(facts, now):
    return [found.summary for found in find_late(facts, now)]


def test_a_slot_that_nobody_began_is_found_within_five_minutes_of_its_end(book, facts):
    slot(book, NOON - HOUR, "succeeded")
    slot(book, NOON, "waiting")
    assert late(facts, NOON + HOUR + 60 + 180) == []
    (summary,) = late(facts, NOON + HOUR + 60 + 181)
    assert 60 + 181 + 30 < 300, "with an evaluation every 30 s"
    assert "the slot of daily from 2026-09-21T12:00:00Z is not done" in summary


def test_a_slot_that_nobody_even_planned_is_found_as_early(book, facts):
    slot(book, NOON - HOUR, "succeeded")
    assert late(facts, NOON + HOUR + 60 + 179) == []
    (summary,) = late(facts, NOON + HOUR + 60 + 181)
    assert "the slot of daily from 2026-09-21T12:00:00Z is not begun" in summary


def test_slots_of_before_the_workflow_was_seen_are_not_missed(book, facts):
    young = dataclasses.replace(DAILY, name="young")
    facts.given = [young]
    book.note_workflows({"young": ("", "every 1 h")}, {}, NOON + 30 * 60)
    assert late(facts, NOON + HOUR + 200) == []
    assert len(late(facts, NOON + HOUR + 300)) == 1
    facts.given = [dataclasses.replace(young, start_at_seconds=NOON + 5 * HOUR)]
    assert late(facts, NOON + HOUR + 300) == []
    assert len(late(facts, NOON + 6 * HOUR + 300)) == 1


def test_a_running_slot_is_late_by_the_promise_alone(book, facts):
    slot(book, NOON - 2 * HOUR, "succeeded")
    slot(book, NOON - HOUR, "running", attempts=1)
    assert late(facts, NOON + 200) == []
    assert [text for text in late(facts, NOON + 600) if "11:00" in text] == []
    facts.given = [dataclasses.replace(DAILY, freshness_seconds=500.0)]
    assert late(facts, NOON + 500) == []
    assert "from 2026-09-21T11:00:00Z is not done" in late(facts, NOON + 501)[0]


def test_a_slot_between_two_attempts_is_late_when_it_should_be_done(book, facts):
    slot(book, NOON - HOUR, "waiting", attempts=2)
    assert late(facts, NOON + 360) == []
    assert len(late(facts, NOON + 361)) == 1


def test_late_rows_of_a_slot_that_succeeded_are_not_a_late_slot(book, facts):
    slot(book, NOON - HOUR, "waiting", succeeded_at=NOON + 90)
    assert late(facts, NOON + HOUR) == []


def test_a_paused_workflow_is_not_late(book, facts):
    book.pause("daily", "ada", NOON)
    assert late(facts, NOON + 10 * HOUR) == []


def test_the_other_scheduler_is_named(book, facts):
    book.hand_over("daily", "cron")
    assert "does cron run it" in late(facts, NOON + 10 * HOUR)[0]


def test_a_broken_folder(book, facts):
    found = {"daily": ("ada@example.com", "every 1 h")}
    book.note_workflows(found, {"daily": "workflow.toml: no [schedule]"}, NOON)
    (broken,) = find_broken(facts, NOON)
    assert broken.summary.endswith("workflow.toml: no [schedule]")
    book.note_workflows(found, {}, NOON)
    assert list(find_broken(facts, NOON)) == []


def test_rows_that_came_too_late(book, facts):
    slot(book, NOON - 5 * HOUR, "succeeded", too_late_rows=3)
    slot(book, NOON - 2 * HOUR, "succeeded", too_late_rows=4)
    (found,) = find_too_late(facts, NOON)
    assert found.severity is Severity.WARNING
    assert "7 rows came too late for 2 slots of daily" in found.summary
    assert "--again --from 2026-09-21T07:00:00Z --to 2026-09-21T11:00:00Z" in found.summary


def test_a_scheduler_is_dead_when_it_is_silent_and_somebody_waits(book, facts):
    assert list(find_dead_scheduler(facts, NOON)) == []  # none was ever started
    book.beat("host:1", NOON)
    assert list(find_dead_scheduler(facts, NOON + 60)) == []
    (found,) = find_dead_scheduler(facts, NOON + 61)
    assert "since 2026-09-21 12:00:00 UTC, for 61s, and 1 workflows wait for one" in found.summary
    book.note_stopped("host:1", NOON)
    assert len(list(find_dead_scheduler(facts, NOON + 61))) == 1
    book.hand_over("daily", "cron")
    assert list(find_dead_scheduler(facts, NOON + 61)) == []


def run(book, number, start, state, **columns):
    columns = {
        "id": number, "workflow": "daily", "start_seconds": start, "end_seconds": start + HOUR,
        "attempt": 4, "attempts_max": 4, "state": state, "origin": "schedule", "reason": "",
        "body": "sql", "runner": "x", "started_at": number / 1e6, "lease_seconds": 30.0,
        "lease_until": number / 1e6 + 30.0, "ended_at": number / 1e6 + 1.0, **columns,
    }  # fmt: skip
    names, marks = ", ".join(columns), ", ".join("?" * len(columns))
    with book.file.writing() as db:
        db.execute(f"INSERT INTO runs ({names}) VALUES ({marks})", list(columns.values()))


def test_a_slot_that_is_longer_than_a_month_is_found_when_it_fails(book, facts):
    long = 31 * 24 * HOUR
    slot(book, NOON - long, "failed", end_seconds=NOON, reason="x", changed_at=NOON + 60)
    assert len(list(find_failed(facts, NOON + 90))) == 1
    assert list(find_failed(facts, NOON + 90 + LOOK_BACK_SECONDS)) == []


def test_a_failed_slot_that_is_run_again_has_not_ended(book, facts):
    first, again = int((NOON + 60) * 1e6), int((NOON + 900) * 1e6)
    start = NOON - HOUR
    run(book, first, start, "failed")
    slot(book, start, "failed", reason="no table", run_id=first)
    assert len(list(find_failed(facts, NOON + 90))) == 1
    slot(book, start, "waiting", origin="backfill", run_id=first, attempts=0)
    (found,) = find_failed(facts, NOON + 800)
    assert "1 of them are run again now" in found.summary
    run(book, again, start, "running", attempt=1, ended_at=None)
    slot(book, start, "running", origin="backfill", run_id=again, attempts=1)
    assert len(list(find_failed(facts, NOON + 901))) == 1
    slot(book, start, "succeeded", run_id=again, succeeded_at=NOON + 910)
    assert list(find_failed(facts, NOON + 920)) == []
    # A run for late rows after that: what failed before the success is over.
    slot(book, start, "waiting", run_id=again, succeeded_at=NOON + 910)
    assert list(find_failed(facts, NOON + 930)) == []


def test_an_attempt_that_failed_with_more_to_come_is_no_failure(book, facts):
    first = int((NOON + 60) * 1e6)
    run(book, first, NOON - HOUR, "failed", attempt=1)
    slot(book, NOON - HOUR, "waiting", run_id=first, attempts=1)
    assert list(find_failed(facts, NOON + 90)) == []


def test_a_backfill_that_is_at_work_is_not_late(book, facts):
    slot(book, NOON - 2 * HOUR, "succeeded")
    for hours in range(10, 20):
        slot(book, NOON - hours * HOUR, "waiting", origin="backfill", changed_at=NOON - 3_000)
    slot(book, NOON - 20 * HOUR, "running", origin="backfill", attempts=1, changed_at=NOON - 900)
    assert late(facts, NOON) == []


def test_slots_of_before_a_new_workflow_was_known_are_caught_up_with_in_peace(book, facts):
    seen_at = NOON - 24 * HOUR
    slot(book, NOON - 2 * HOUR, "succeeded")
    for hours in range(26, 40):
        slot(book, NOON - hours * HOUR, "waiting", changed_at=seen_at)
    slot(book, NOON - 40 * HOUR, "running", attempts=1, changed_at=NOON - 2_000)
    assert late(facts, NOON) == []
    slot(book, NOON - 40 * HOUR, "succeeded", succeeded_at=NOON)  # and nobody goes on
    assert "14 slots of daily" in late(facts, NOON)[0]


def test_a_backfill_that_was_broken_off_is_late(book, facts):
    slot(book, NOON - 2 * HOUR, "succeeded")
    slot(book, NOON - 9 * HOUR, "waiting", origin="backfill", changed_at=NOON - 899)
    assert late(facts, NOON) == []
    (told,) = late(facts, NOON + 1)
    assert "is left of a backfill that was broken off" in told
    assert "backfill daily --from 2026-09-21T03:00:00Z --to 2026-09-21T04:00:00Z` goes on" in told
    assert "scheduler run" not in told  # none would take it
    slot(book, NOON - HOUR, "waiting")
    assert "is not done, which was due: does a scheduler run" in late(facts, NOON + 300)[0]
    assert "is left of a backfill" in late(facts, NOON + 300)[0]


def test_a_run_whose_program_is_gone_is_late_where_no_scheduler_notices(book, facts):
    slot(book, NOON - 2 * HOUR, "succeeded")
    begun = int((NOON + 60) * 1e6)
    run(book, begun, NOON - HOUR, "running", ended_at=None)
    slot(book, NOON - HOUR, "running", attempts=1, run_id=begun)
    assert late(facts, NOON + 60 + 30 + 180) == []
    assert len(late(facts, NOON + 60 + 30 + 181)) == 1


def test_a_slot_that_another_scheduler_left_out_stays_late_when_the_next_is_run(book, facts):
    book.hand_over("daily", "cron")
    for hours in range(1, 25):
        slot(book, NOON - hours * HOUR, "succeeded")
    assert late(facts, NOON + 300) == []
    with book.file.writing() as db:
        db.execute("DELETE FROM slots WHERE start_seconds = ?", (NOON - 5 * HOUR,))
    assert "from 2026-09-21T07:00:00Z is not begun" in late(facts, NOON + 300)[0]


def test_of_a_workflow_whose_folder_was_never_good_nothing_is_known(facts):
    assert unjudged_late(facts) == frozenset()
    facts.given = []
    assert unjudged_late(facts) == {"dataflow-workflow-daily"}


def test_late_rows_of_any_age_are_told(book, facts):
    slot(book, NOON - 5_000 * HOUR, "succeeded", too_late_rows=3)
    assert len(list(find_too_late(facts, NOON))) == 1


def test_a_clock_that_was_set_back_hides_no_dead_scheduler(book, facts):
    book.beat("host:1", NOON + 7_200)
    assert len(list(find_dead_scheduler(facts, NOON))) == 1
    book.beat("host:2", NOON)
    assert list(find_dead_scheduler(facts, NOON + 30)) == []
    assert len(list(find_dead_scheduler(facts, NOON + 61))) == 1


def test_what_a_fault_says_is_one_line(book, facts):
    book.note_workflows({}, {"daily": "bad\nlines"}, NOON)
    assert next(find_broken(facts, NOON)).summary.endswith("bad lines")


def test_the_outputs(facts):
    assert facts.outputs() == {OUTPUT.table}
