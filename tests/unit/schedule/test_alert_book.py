"""Alerts in SQLite: transitions by one of many, notices under leases."""

import sqlite3
import threading

import pytest

from eventmill.base.errors import UnavailableError
from eventmill.schedule.alert_book import NOTICE_LEASE_SECONDS, AlertBook, Routing
from eventmill.schedule.alert_finding import AlertState, Finding, RuleOutcome, Severity
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
    waiting = again.waiting()
    assert [(n.channel, n.notice, n.finding) for n in waiting] == [
        ("hook", Notice.FIRING, STALE),
        ("mail", Notice.FIRING, STALE),
    ]
    again.close()


def test_the_end_is_told_on_the_channels_of_the_beginning(book):
    book.record(FOUND, 10.0, both)
    for notice in book.waiting():
        book.settle(notice.id)
    (change,) = book.record(NOTHING, 40.0, both)
    assert change.notice is Notice.RESOLVED
    assert [notice.channel for notice in book.waiting()] == ["hook", "mail"]
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
    assert len(books[0].waiting()) == 2
    for book in books:
        book.close()


def test_a_notice_is_given_to_one_until_its_lease_ends(book, path):
    book.record(FOUND, 10.0, both)
    other = AlertBook(path)
    assert len(book.take_due(10.0)) == 2
    assert other.take_due(10.0 + NOTICE_LEASE_SECONDS - 1) == []
    assert len(other.take_due(10.0 + NOTICE_LEASE_SECONDS)) == 2
    other.close()


def test_a_notice_that_is_put_off_comes_again_with_its_reason(book):
    book.record(FOUND, 10.0, lambda _: Routing(("hook",), 3_600.0))
    (notice,) = book.take_due(10.0)
    book.put_off(notice.id, 25.0, "connection refused")
    assert book.take_due(24.0) == []
    (notice,) = book.take_due(25.0)
    assert (notice.attempts, notice.error) == (1, "connection refused")
    book.settle(notice.id)
    assert book.waiting() == []


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
