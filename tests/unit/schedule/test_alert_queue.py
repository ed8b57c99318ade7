"""Notices: in order, under leases, and never piled up for a channel that is down."""

import pytest

from eventmill.schedule.alert_book import AlertBook
from eventmill.schedule.alert_finding import Finding, RuleOutcome
from eventmill.schedule.alert_queue import (
    NOTICE_LEASE_SECONDS,
    PAUSE_SECONDS_MAX,
    UNROUTED,
    Routing,
)

STALE = Finding("stale", "local.ci.builds", "no rows")
FOUND, NOTHING = RuleOutcome("stale", (STALE,)), RuleOutcome("stale")


def hook(_):
    return Routing(("hook",), 3_600.0)


def nowhere(_):
    return Routing(None, 3_600.0)


@pytest.fixture
def book(tmp_path):
    made = AlertBook(str(tmp_path / "schedule.db"))
    yield made
    made.close()


@pytest.fixture
def queue(book):
    return book.queue


def waiting(queue):
    return [(notice.channel, notice.notice.value) for notice in queue.waiting()]


def test_a_notice_is_given_to_one_until_its_lease_ends(book, queue):
    book.record(FOUND, 10.0, hook)
    other = AlertBook(book.queue._file.path)
    assert queue.due_channels(9.0) == []
    assert queue.due_channels(10.0) == ["hook"]
    assert queue.take("hook", 10.0) is not None
    assert other.queue.due_channels(10.0) == []
    assert other.queue.take("hook", 10.0 + NOTICE_LEASE_SECONDS - 1) is None
    assert other.queue.take("hook", 10.0 + NOTICE_LEASE_SECONDS) is not None
    other.close()


def test_a_notice_that_is_put_off_comes_again_with_its_reason(book, queue):
    book.record(FOUND, 10.0, hook)
    queue.put_off(queue.take("hook", 10.0).id, 25.0, "connection refused")
    assert queue.take("hook", 24.0) is None
    notice = queue.take("hook", 25.0)
    assert (notice.attempts, notice.error) == (1, "connection refused")
    queue.settle(notice.id)
    assert queue.waiting() == []


def test_an_end_is_never_told_before_its_beginning(book, queue):
    book.record(FOUND, 10.0, hook)
    first = queue.take("hook", 10.0)
    queue.put_off(first.id, 500.0, "down")
    book.record(NOTHING, 40.0, hook)
    assert queue.take("hook", 40.0) is None
    assert queue.take("hook", 500.0).notice == "firing"
    queue.settle(first.id)
    assert queue.take("hook", 500.0).notice == "resolved"


def test_other_alerts_do_not_wait_for_the_one_that_is_put_off(book, queue):
    book.record(FOUND, 10.0, hook)
    queue.put_off(queue.take("hook", 10.0).id, 500.0, "the owner is no address")
    other = Finding("slow", "local.ci.builds", "slow")
    book.record(RuleOutcome("slow", (other,)), 40.0, hook)
    assert queue.take("hook", 40.0).finding == other


def test_what_comes_and_goes_while_a_channel_is_down_is_not_piled_up(book, queue):
    for turn in range(50):
        book.record(NOTHING if turn % 2 else FOUND, 4_000.0 * turn, hook)
    assert waiting(queue) == [("hook", "firing"), ("hook", "resolved")]
    book.record(FOUND, 4_000.0 * 50, hook)
    assert waiting(queue) == [("hook", "firing")]


def test_after_an_untold_end_a_new_beginning_is_told_after_it(book, queue):
    book.record(FOUND, 10.0, hook)
    queue.settle(queue.take("hook", 10.0).id)
    for turn in range(1, 40):
        book.record(FOUND if turn % 2 == 0 else NOTHING, 4_000.0 * turn, hook)
        assert waiting(queue)[0] == ("hook", "resolved")
    assert waiting(queue) == [("hook", "resolved")]


def test_what_goes_on_untold_is_one_notice_with_the_newest_words(book, queue):
    for hour in range(6):
        found = Finding("stale", "local.ci.builds", f"no rows for {hour} h")
        book.record(RuleOutcome("stale", (found,)), 4_000.0 * hour, hook)
    (notice,) = queue.waiting()
    assert (notice.notice, notice.finding.summary) == ("firing", "no rows for 5 h")
    assert (notice.since, notice.queued_at) == (0.0, 20_000.0)


def test_a_clock_that_was_set_back_keeps_nobody_waiting(book, queue):
    book.record(FOUND, 1_000_000.0, hook)
    assert queue.take("hook", 1_000_000.0) is not None
    assert queue.take("hook", 1_000_000.0 - NOTICE_LEASE_SECONDS) is None
    assert queue.take("hook", 900_000.0) is not None
    queue.put_off(queue.waiting()[0].id, 1_000_000.0, "down")
    assert queue.take("hook", 1_000_000.0 - PAUSE_SECONDS_MAX) is None
    assert queue.take("hook", 900_000.0) is not None


def test_what_nobody_can_route_waits_until_somebody_can(book, queue):
    book.record(FOUND, 10.0, nowhere)
    book.record(NOTHING, 40.0, nowhere)
    assert waiting(queue) == [(UNROUTED, "firing"), (UNROUTED, "resolved")]
    queue.route_waiting(nowhere)
    assert waiting(queue) == [(UNROUTED, "firing"), (UNROUTED, "resolved")]
    queue.route_waiting(lambda _: Routing(("hook", "mail"), 60.0))
    assert waiting(queue) == [
        ("hook", "firing"), ("mail", "firing"), ("hook", "resolved"), ("mail", "resolved"),
    ]  # fmt: skip


def test_the_end_of_what_was_routed_late_goes_the_same_way(book, queue):
    book.record(FOUND, 10.0, nowhere)
    queue.route_waiting(hook)
    book.record(NOTHING, 40.0, nowhere)
    assert waiting(queue) == [("hook", "firing"), ("hook", "resolved")]
