"""What one event must keep to, at the edges."""

import pytest

from eventmill.schema.problem import Reason
from eventmill.wire.batch import EVENT_BYTES_MAX
from eventmill.wire.event_limits import event_size_problem, insert_id_problem


def test_the_largest_event_is_taken_and_one_byte_more_is_not():
    assert event_size_problem(0) is None
    assert event_size_problem(EVENT_BYTES_MAX) is None
    problem = event_size_problem(EVENT_BYTES_MAX + 1)
    assert (problem.reason, problem.field) == (Reason.EVENT_TOO_LARGE, "")
    assert problem.message == "the event has 1,000,001 bytes; the limit is 1,000,000"


@pytest.mark.parametrize("good", ["a", "x" * 128, "é" * 128, "\U0001f600" * 128])
def test_an_insert_id_may_have_128_characters_of_any_script(good):
    assert insert_id_problem(good.encode()) is None


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "is empty"),
        (b"x" * 129, "has 129 characters; the limit is 128"),
        ("é".encode() * 129, "has 129 characters; the limit is 128"),
        (b"\xff", "is not UTF-8"),
        (b"\xed\xa0\x80", "is not UTF-8"),  # a lone surrogate
    ],
)
def test_a_bad_insert_id_is_told_why_and_where(raw, said):
    problem = insert_id_problem(raw, "key")
    assert (problem.reason, problem.field) == (Reason.BAD_INSERT_ID, "key")
    assert said in problem.message
