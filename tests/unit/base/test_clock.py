"""The arithmetic of time."""

from hypothesis import given
from hypothesis import strategies as st

from eventmill.base.clock import seconds_of, utc_datetime


@given(st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999))
def test_seconds_are_never_later_than_the_microseconds_they_stand_for(microseconds):
    seconds = seconds_of(microseconds)
    assert seconds * 1e6 <= microseconds
    assert abs(seconds * 1e6 - microseconds) < 100


def test_the_last_microsecond_is_still_a_date():
    assert utc_datetime(seconds_of(253_402_300_799_999_999)).year == 9999
