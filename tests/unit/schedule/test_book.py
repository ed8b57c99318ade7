"""The run book: claims and leases, late rows, backfills, its file."""

from __future__ import annotations

import random
import sqlite3
import threading

import pytest
from schedule_world import HOUR, Mark, Result, definition

from eventmill.base.errors import CorruptStoreError, UnavailableError
from eventmill.schedule.book import RunBook
from eventmill.schedule.book_claims import Claim, Claims, Ending, Refusal, Runner
from eventmill.schedule.book_plan import Plan, PlannedSlot, Planning
from eventmill.schedule.book_rows import Origin, RunState
from eventmill.schedule.run_work import RunWork, late_rows
from eventmill.testing.fakes import FakeClock

NOW = 1_800_000_000.0
NAME = "hourly"
US = Runner("us/1/a", Origin.SCHEDULE)
THEM = Runner("them/2/b", Origin.SCHEDULE)
COMMAND = Runner("us/3/c", Origin.COMMAND)
SUCCESS = Ending(RunState.SUCCEEDED, input_rows=7, output_rows=3, marks={"t": (7, 123)})
ALL = {"attempts_max": 4}


def slot(number):
    return number * HOUR, (number + 1) * HOUR


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "state" / "schedule.db")


@pytest.fixture
def book(path):
    book = RunBook(path)
    book.note_workflow(NAME, "owner", "every 1h", NOW)
    yield book
    book.close()


@pytest.fixture
def claims(book):
    return Claims(book)


@pytest.fixture
def planning(book):
    return Planning(book)


def enter(planning, *numbers):
    planned = [PlannedSlot(slot(number), NOW) for number in numbers]
    return planning.enter([Plan(NAME, slot(numbers[-1])[1], planned)], NOW)


def claim(claims, runner=US, now=NOW, **more):
    return claims.claim_next(NAME, runner, now, **{**ALL, **more})


# -- claims ----------------------------------------------------------------------------------


def test_a_slot_is_claimed_once(claims, planning):
    enter(planning, 1)
    assert isinstance(claim(claims), Claim)
    assert claim(claims, THEM) is Refusal.NONE_DUE


def test_a_slot_that_was_entered_is_not_entered_again(book, claims, planning):
    assert enter(planning, 1, 2) == 2
    claims.finish(claim(claims).run_id, SUCCESS, NOW)
    assert enter(planning, 1, 2, 3) == 1
    assert [s.state for s in book.slots(NAME)] == ["succeeded", "waiting", "waiting"]


def test_limits_of_a_workflow_and_of_all(claims, planning):
    enter(planning, 1, 2, 3)
    assert isinstance(claim(claims), Claim)
    assert claim(claims) is Refusal.WORKFLOW_FULL
    assert claim(claims, parallel_max=3, runs_max=1) is Refusal.ALL_FULL
    assert isinstance(claim(claims, parallel_max=3, runs_max=2), Claim)


def test_a_lease_that_is_renewed_holds_and_one_that_is_not_ends(book, claims, planning):
    enter(planning, 1)
    held = claim(claims)
    for second in range(10, 100, 10):
        assert claims.renew(held.run_id, NOW + second) == ""
        assert claims.expire(NOW + second + 9) == []
    assert [run.id for run in claims.expire(NOW + 90 + 30)] == [held.run_id]
    assert claims.renew(held.run_id, NOW + 121) is None
    assert book.run(held.run_id).state == "lost"
    again = claim(claims, THEM, NOW + 121)
    assert (again.slot, again.attempt) == (slot(1), 2)
    assert again.run_id > held.run_id


def test_whoever_lost_its_lease_changes_nothing_any_more(book, claims, planning):
    enter(planning, 1)
    late = claim(claims)
    claims.expire(NOW + 31)
    second = claim(claims, THEM, NOW + 31)
    assert not claims.finish(late.run_id, SUCCESS, NOW + 40)
    assert book.slots(NAME)[0].state == "running"
    assert claims.finish(second.run_id, SUCCESS, NOW + 41)
    assert book.run(late.run_id).state == "lost"


def test_a_slot_whose_runs_are_lost_again_and_again_fails_in_the_end(book, claims, planning):
    enter(planning, 1)
    now = NOW
    for _ in range(4):
        assert isinstance(claim(claims, now=now), Claim)
        now += 31
        claims.expire(now)
    found = book.slots(NAME)[0]
    assert (found.state, found.attempts) == ("failed", 4)
    assert "lease ended" in found.reason


def test_ids_grow_though_the_clock_goes_back_and_the_old_runs_are_forgotten(book, claims, planning):
    enter(planning, 1, 2)
    first = claim(claims)
    claims.finish(first.run_id, SUCCESS, NOW)
    assert book.prune(NOW + 100 * 86_400) >= 1
    assert book.runs() == []
    assert (
        claim(
            claims,
            now=NOW - 86_400.0,
        ).__class__
        is Refusal
    )  # not due before it was
    planning.enter([Plan(NAME, slot(5)[1], [PlannedSlot(slot(5), NOW - 90_000)])], NOW)
    assert claim(claims, now=NOW - 86_400.0).run_id > first.run_id


def test_one_slot_for_a_command(book, claims, planning):
    enter(planning, 1)
    held = claim(claims)
    refused = claims.claim_slot(NAME, slot(1), COMMAND, NOW, **ALL)
    assert refused.id == held.run_id
    claims.finish(held.run_id, SUCCESS, NOW)
    again = claims.claim_slot(NAME, slot(1), COMMAND, NOW, attempt=3, **ALL)
    assert (again.attempt, again.marks) == (3, {"t": (7, 123)})
    other = claims.claim_slot(NAME, slot(9), COMMAND, NOW, **ALL)
    assert claims.finish(other.run_id, Ending(RunState.FAILED, error="no"), NOW)
    assert book.slot(NAME, slot(9)).state == "failed"  # nobody would take it up
    assert claims.finish(again.run_id, Ending(RunState.FAILED, error="no"), NOW)
    assert book.slot(NAME, slot(1)).state == "waiting"  # the scheduler's own


def test_runs_that_a_command_asked_for_take_no_place_from_schedulers(claims, planning):
    enter(planning, 1)
    claims.claim_slot("other", slot(1), COMMAND, NOW, **ALL)
    assert isinstance(claim(claims, runs_max=1), Claim)


def test_a_cancelled_run_costs_no_attempt_unless_its_slot_is_given_up(book, claims, planning):
    enter(planning, 1)
    claims.finish(claim(claims).run_id, Ending(RunState.CANCELLED, error="stopped"), NOW)
    assert (book.slots(NAME)[0].state, book.slots(NAME)[0].attempts) == ("waiting", 0)
    gone = Ending(RunState.CANCELLED, error="stopped", slot_skipped="another came due")
    claims.finish(claim(claims).run_id, gone, NOW)
    assert (book.slots(NAME)[0].state, book.slots(NAME)[0].reason) == ("skipped", gone.slot_skipped)


def test_a_lease_is_no_longer_than_a_lease_though_the_clock_went_back(book, claims, planning):
    enter(planning, 1)
    claim(claims)
    assert claims.expire(NOW - 7_200) == []
    assert len(claims.expire(NOW - 7_200 + 30)) == 1
    assert book.runs()[0].state == "lost"


def test_an_order_to_cancel_reaches_the_holder_with_its_next_renewal(claims, planning):
    enter(planning, 1)
    held = claim(claims)
    assert claims.ask_cancel(held.run_id, "another came due")
    assert claims.renew(held.run_id, NOW + 10) == "another came due"


def test_when_to_look_again(claims, planning):
    assert claims.next_change_at(NOW) is None
    enter(planning, 1)
    assert claims.due_workflows(NOW) == [NAME]
    held = claim(claims)
    assert claims.next_change_at(NOW) == NOW + 30
    failed = Ending(RunState.FAILED, error="no", retry_after_seconds=12.0)
    claims.finish(held.run_id, failed, NOW)
    assert claims.next_change_at(NOW) == NOW + 12
    assert claims.due_workflows(NOW + 11) == []
    assert claims.due_workflows(NOW + 12) == [NAME]


# -- late rows -------------------------------------------------------------------------------


def succeed(claims, planning, number=1):
    enter(planning, number)
    claims.finish(claim(claims).run_id, SUCCESS, NOW)


def note_late(planning, *, before="{}", seen=5, touched=(), too_late=None):
    return planning.note_late(
        NAME, seen_before=before, seen={"t": seen}, touched=touched, too_late=too_late or {},
        now=NOW + 60,
    )  # fmt: skip


def test_touched_slots_wait_again_with_their_reason(book, claims, planning):
    succeed(claims, planning)
    assert note_late(planning, touched=[slot(1), slot(2)]) == 1
    found = book.slots(NAME)[0]
    assert (found.state, found.reason, found.succeeded_at) == ("waiting", "late rows", NOW)
    assert claim(claims, now=NOW + 60).marks == {"t": (7, 123)}
    assert book.seen(NAME)[1] == {"t": 5}


def test_of_two_looks_one_counts(book, claims, planning):
    succeed(claims, planning)
    before, _ = book.seen(NAME)
    assert note_late(planning, before=before, too_late={slot(1): 4}) == 0
    assert note_late(planning, before=before, too_late={slot(1): 9}, seen=6) is None
    assert book.slots(NAME)[0].too_late_rows == 4
    assert book.seen(NAME)[1] == {"t": 5}


def test_late_rows_are_counted_on_the_run_and_on_the_slot(book, claims, planning):
    succeed(claims, planning)
    note_late(planning, touched=[slot(1)], too_late={})
    held = claim(claims, now=NOW + 60)
    definition_ = definition()
    work = RunWork(claims, held, definition_, lambda *_, **__: Result(marks={"t": Mark(12, 200)}),
                   clock=FakeClock(NOW + 60), rng=random.Random(1))  # fmt: skip
    assert work.run().late_rows == 5
    assert book.runs()[0].late_rows == 5
    assert book.slots(NAME)[0].late_rows == 5


def test_late_rows_of_a_table_that_was_no_input_before():
    assert late_rows(None, {"a": (3, 1)}) is None
    assert late_rows({"a": (3, 1)}, {"a": (5, 2), "b": (4, 2)}) == 6
    assert late_rows({"a": (3, 1)}, {"a": (1, 2)}) == 0  # some have expired


# -- backfills -------------------------------------------------------------------------------


def test_a_backfill_leaves_what_has_succeeded_and_what_runs(book, claims, planning):
    succeed(claims, planning)
    enter(planning, 2)
    claim(claims)
    enter(planning, 3)
    wanted = [slot(number) for number in range(1, 6)]
    entry = planning.enter_backfill(NAME, wanted, again=False, now=NOW)
    assert (entry.waiting, entry.succeeded, entry.running) == (3, 1, 1)
    assert [s.origin for s in book.slots(NAME)][3:] == ["backfill"] * 2
    entry = planning.enter_backfill(NAME, wanted, again=True, now=NOW)
    assert (entry.waiting, entry.succeeded, entry.running) == (4, 0, 1)


def test_schedulers_leave_a_backfill_alone_and_the_backfill_takes_what_waits(claims, planning):
    planning.enter_backfill(NAME, [slot(1), slot(2)], again=False, now=NOW)
    assert claim(claims) is Refusal.NONE_DUE
    assert claims.due_workflows(NOW) == []
    runner = Runner("us/4/d", Origin.BACKFILL)
    bounds = (slot(1)[0], slot(2)[0] + 1)
    first = claims.claim_backfill(NAME, bounds, runner, NOW, **ALL)
    assert first.slot == slot(1)
    claims.finish(first.run_id, Ending(RunState.FAILED, error="no", retry_after_seconds=9), NOW)
    second = claims.claim_backfill(NAME, bounds, runner, NOW, **ALL)
    assert second.slot == slot(2)
    assert claims.claim_backfill(NAME, bounds, runner, NOW, **ALL) == NOW + 9
    claims.finish(second.run_id, SUCCESS, NOW)
    again = claims.claim_backfill(NAME, bounds, runner, NOW + 9, **ALL)
    assert (again.slot, again.attempt) == (slot(1), 2)
    claims.finish(again.run_id, SUCCESS, NOW)
    assert claims.claim_backfill(NAME, bounds, runner, NOW + 9, **ALL) is None


# -- reading, and the file -------------------------------------------------------------------


def test_slots_are_read_by_time_and_state(book, claims, planning):
    succeed(claims, planning)
    enter(planning, 2, 3, 4)
    assert [s.slot for s in book.slots(NAME, slot(2)[0], slot(4)[0])] == [slot(2), slot(3)]
    assert [s.slot for s in book.slots(NAME, states=["succeeded"])] == [slot(1)]
    assert [s.slot for s in book.latest_slots(NAME, 2)] == [slot(4), slot(3)]
    assert [s.slot for s in book.unfinished()] == [slot(2), slot(3), slot(4)]
    assert book.unfinished("other") == []
    assert book.slot(NAME, slot(7)) is None


def test_lines_of_log_are_read_on_from_where_one_was(book, claims, planning):
    enter(planning, 1)
    held = claim(claims)
    claims.log(held.run_id, [(NOW, "info", "one"), (NOW, "warning", "two")])
    first, second = book.run_log(held.run_id)
    claims.finish(held.run_id, SUCCESS, NOW, [(NOW, "info", "three")])
    assert [line.text for line in book.run_log(held.run_id, after=first.id)] == ["two", "three"]
    assert second.level == "warning"


def test_old_runs_and_lines_are_forgotten_and_slots_that_wait_are_not(book, claims, planning):
    succeed(claims, planning)
    enter(planning, 2)
    claims.log(book.runs()[0].id, [(NOW, "info", "one")])
    book.prune(NOW + 500 * 86_400)
    assert book.runs() == []
    assert [s.slot for s in book.slots(NAME)] == [slot(2)]


def test_a_file_of_a_newer_version_is_refused(path, book):
    book.close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(CorruptStoreError, match="format 99, this version of Eventmill reads 1"):
        RunBook(path)


def test_a_file_is_made_by_one_of_several_that_come_at_once(tmp_path):
    path = str(tmp_path / "schedule.db")
    begin = threading.Barrier(6)
    faults = []

    def make():
        begin.wait()
        try:
            RunBook(path).close()
        except Exception as error:  # noqa: BLE001 - told below
            faults.append(error)

    threads = [threading.Thread(target=make) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert RunBook(path).workflows() == []


def test_a_book_in_a_place_where_none_can_be_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UnavailableError, match=r"schedule\.folder names another"):
        RunBook(str(tmp_path / "file" / "schedule.db"))


def test_a_transaction_that_fails_leaves_nothing_behind(book):
    def broken():
        with book.file.writing() as db:
            db.execute("DELETE FROM workflows")
            raise KeyError

    with pytest.raises(KeyError):
        broken()
    assert len(book.workflows()) == 1
