"""Alerts in SQLite: transitions by one of many, notices under leases."""

import dataclasses
import sqlite3
import threading

import pytest

from eventmill.base.errors import UnavailableError
from eventmill.schedule.alert_book import FLAP_KEEP_SECONDS, AlertBook, AlertPlace
from eventmill.schedule.alert_finding import AlertState, Finding, RuleOutcome, Severity
from eventmill.schedule.alert_queue import Routing
from eventmill.schedule.alert_state import Notice

STALE = Finding(
    "stale", "local.ci.builds", "no rows", "ada@example.com", Severity.WARNING,
    aliases=("builds",), labels={"table": "local.ci.builds"}, hold_seconds=0.0,
)  # fmt: skip
FOUND = RuleOutcome("stale", (STALE,))
NOTHING = RuleOutcome("stale")
BROKEN = RuleOutcome("stale", error="no such table")


def both(finding):
    return Routing(("hook", "mail"), 3_600.0)


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "schedule.db")


@pytest.fixture
def book(path):
    made = AlertBook(path)
    yield made
    made.close()


def test_a_finding_is_kept_whole_and_queued_for_each_channel(book, path):
    (change,) = book.record(FOUND, 10.0, both)
    assert change.notice is Notice.FIRING
    again = AlertBook(path)
    (alert,) = again.alerts()
    assert alert.finding == STALE
    assert (alert.state, alert.since) == (AlertState.FIRING, 10.0)
    waiting = again.queue.waiting()
    assert [(n.channel, n.notice, n.finding) for n in waiting] == [
        ("hook", Notice.FIRING, STALE),
        ("mail", Notice.FIRING, STALE),
    ]
    again.close()


def test_the_end_is_told_on_the_channels_of_the_beginning(book):
    book.record(FOUND, 10.0, both)
    for notice in book.queue.waiting():
        book.queue.settle(notice.id)
    (change,) = book.record(NOTHING, 40.0, both)
    assert change.notice is Notice.RESOLVED
    assert [notice.channel for notice in book.queue.waiting()] == ["hook", "mail"]
    assert [entry["state"] for entry in book.history()] == ["ok", "firing"]


def test_a_rule_that_cannot_be_evaluated_ends_nothing(book):
    book.record(FOUND, 10.0, both)
    assert book.record(BROKEN, 40.0, both) == []
    assert book.record(BROKEN, 70.0, both) == []
    (alert,) = book.alerts()
    assert alert.state is AlertState.FIRING
    (rule,) = book.rules()
    assert (rule.failing_since, rule.evaluated_at, rule.error) == (40.0, 70.0, "no such table")
    book.record(FOUND, 100.0, both)
    (rule,) = book.rules()
    assert (rule.failing_since, rule.error) == (None, None)


def test_a_rule_of_another_name_is_left_alone(book):
    book.record(FOUND, 10.0, both)
    book.record(RuleOutcome("slow"), 40.0, both)
    (alert,) = book.alerts()
    assert alert.state is AlertState.FIRING


def test_the_alerts_of_a_rule_that_was_taken_away_end(book):
    book.record(FOUND, 10.0, both)
    book.forget_rules(["slow"], 40.0)
    (alert,) = book.alerts()
    assert alert.state is AlertState.OK
    assert book.rules() == []


def test_of_many_that_record_the_same_one_tells(path):
    books = [AlertBook(path) for _ in range(8)]
    begin = threading.Barrier(len(books))
    changes = []

    def record(book):
        begin.wait()
        changes.extend(book.record(FOUND, 10.0, both))

    threads = [threading.Thread(target=record, args=(book,)) for book in books]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(changes) == 1
    assert len(books[0].queue.waiting()) == 2
    for book in books:
        book.close()


def test_the_end_of_a_rule_that_was_taken_away_is_told(book):
    book.record(FOUND, 10.0, both)
    (change,) = book.forget_rules([], 40.0)
    assert (change.notice, change.channels) == (Notice.RESOLVED, ("hook", "mail"))
    assert [n.notice for n in book.queue.waiting()] == ["firing", "firing", "resolved", "resolved"]


def test_the_end_says_since_when_it_went_on(book):
    book.record(FOUND, 10.0, both)
    book.record(NOTHING, 40.0, both)
    assert {n.since for n in book.queue.waiting()} == {10.0}


def test_the_end_goes_to_those_who_heard_of_the_beginning_whatever_routes_say_now(book):
    book.record(FOUND, 10.0, both)
    book.record(NOTHING, 40.0, lambda _: Routing(("other",), 60.0))
    ends = [n.channel for n in book.queue.waiting() if n.notice is Notice.RESOLVED]
    assert ends == ["hook", "mail"]


def test_an_outcome_older_than_another_process_s_changes_nothing(book):
    book.record(FOUND, 10.0, both)
    assert len(book.record(NOTHING, 40.0, both, asked_at=40.0)) == 1
    assert book.record(FOUND, 70.0, both, asked_at=10.0) is None
    assert book.alerts()[0].state is AlertState.OK
    assert book.record(FOUND, 70.0, both, asked_at=70.0) != []


def test_a_clock_that_was_set_back_makes_no_outcome_older(book):
    book.record(FOUND, 1_000.0, both)
    assert len(book.record(NOTHING, 40.0, both)) == 1


def test_what_a_rule_could_not_judge_stays_as_it_is(book):
    book.record(FOUND, 10.0, both)
    unjudged = RuleOutcome("stale", unjudged=frozenset({STALE.subject}))
    assert book.record(unjudged, 40.0, both) == []
    assert book.alerts()[0].state is AlertState.FIRING


def test_an_alert_that_comes_and_goes_is_told_a_few_times_and_then_kept(book):
    told = []
    for turn in range(60):
        outcome = FOUND if turn % 2 else NOTHING
        told += [change.notice for change in book.record(outcome, 30.0 * turn, both)]
    assert told == [Notice.FIRING, Notice.RESOLVED] * 3 + [Notice.FIRING]
    assert book.alerts()[0].state is AlertState.FIRING
    (change,) = book.record(NOTHING, 30.0 * 59 + FLAP_KEEP_SECONDS, both)
    assert change.notice is Notice.RESOLVED


OURS = AlertPlace("/srv/alerts", "/srv/workflows", "host/1", 100.0)
OTHER = AlertPlace("/home/alerts", "/srv/workflows", "host/2", 130.0)


def test_one_place_at_a_time_while_its_holder_lives(book):
    assert book.place() is None
    assert book.hold(OURS, 10.0)
    assert not book.hold(OTHER, 99.0)
    assert book.place() == OURS
    assert book.hold(dataclasses.replace(OURS, holder="command", held_until=0.0), 99.0)
    assert book.place() == OURS  # a command does not shorten it
    assert book.hold(OTHER, 100.0)
    assert book.place() == OTHER
    book.release("host/2", 110.0)
    assert book.hold(OURS, 110.0)


def test_what_ended_long_ago_is_forgotten(book):
    book.record(FOUND, 10.0, both)
    book.record(NOTHING, 20.0, both)
    book.record(NOTHING, 20.0 + 91 * 86_400.0, both)
    assert book.alerts() == []
    assert book.history() == []


def test_a_file_that_is_no_database_is_named(tmp_path):
    path = tmp_path / "schedule.db"
    path.write_bytes(b"no database" * 100)
    with pytest.raises(UnavailableError, match=r"opening .*schedule\.db"):
        AlertBook(str(path))


def test_a_transaction_that_fails_leaves_nothing_half_done(book):
    def route(finding):
        raise sqlite3.OperationalError("disk I/O error")

    with pytest.raises(UnavailableError, match="disk I/O error"):
        book.record(FOUND, 10.0, route)
    assert book.alerts() == []
    assert book.rules() == []
    assert len(book.record(FOUND, 10.0, both)) == 1
