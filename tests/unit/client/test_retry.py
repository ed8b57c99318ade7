"""One policy of trying again, for both uploaders."""

import random

import pytest

from eventmill.base.errors import BackPressureError, TableNotFoundError, UnavailableError
from eventmill.client.encode import EventEncoder
from eventmill.client.retry import Retry
from eventmill.testing.events import BUILDS


class Waiter:
    """Waits no time at all, so often."""

    def __init__(self, waits):
        self.left = waits
        self.pauses = []

    def __call__(self, seconds, error):
        self.pauses.append(seconds)
        self.left -= 1
        return self.left >= 0


def failing(*errors):
    left = list(errors)

    def call():
        if left:
            raise left.pop(0)
        return "done"

    return call


@pytest.fixture
def retry():
    return Retry(random.Random(1), base_seconds=0.1, cap_seconds=0.4)


def test_the_pause_is_the_longer_of_chance_and_what_the_other_end_asks(retry):
    waiter = Waiter(9)
    asked = [BackPressureError("no", retry_after_seconds=s) for s in (3.0, 0.0, None)]
    assert retry.until_told(failing(*asked), waiter) == "done"
    assert waiter.pauses[0] == 3.0
    assert 0 < waiter.pauses[1] <= 0.2
    assert 0 < waiter.pauses[2] <= 0.4


def test_the_doubling_ends_at_its_cap(retry):
    waiter = Waiter(50)
    retry.until_told(failing(*[UnavailableError("no")] * 50), waiter)
    assert 0.1 < max(waiter.pauses) <= 0.4


def test_who_gives_up_gets_the_last_error(retry):
    waiter = Waiter(1)
    with pytest.raises(UnavailableError, match="second"):
        retry.until_told(failing(UnavailableError("first"), UnavailableError("second")), waiter)
    assert len(waiter.pauses) == 2


def test_a_permanent_error_is_waited_for_by_nobody(retry):
    waiter = Waiter(9)
    with pytest.raises(TableNotFoundError):
        retry.until_told(failing(TableNotFoundError("gone")), waiter)
    assert waiter.pauses == []


def test_a_table_is_learned_from_a_sink_that_is_away_for_a_while(retry, sink):
    encoder = EventEncoder(BUILDS)
    sink.describe_error = UnavailableError("no")

    def wait(seconds, error):
        sink.describe_error = None
        return True

    retry.learn(encoder, sink, BUILDS, wait)
    assert encoder.table is sink.table


def test_a_sink_that_knows_no_tables_teaches_nothing(retry):
    encoder = EventEncoder(BUILDS)
    retry.learn(encoder, object(), BUILDS, Waiter(0))
    assert encoder.table is None
