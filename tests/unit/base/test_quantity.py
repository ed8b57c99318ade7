"""Amounts as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventmill.base.errors import UsageError
from eventmill.base.quantity import format_bytes, format_seconds, parse_bytes, parse_seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("15m", 900), ("36 h", 129_600), ("30d", 2_592_000), ("1.5h", 5400)],
)
def test_lengths_of_time_are_read(text, seconds):
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("1_000", 1000), ("48MiB", 48 * 2**20), ("4 MB", 4_000_000)]
)
def test_sizes_are_read(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "d", "-3d", "3 fortnights", "1e3", "nan", "3d4h"])
def test_what_is_no_length_of_time_is_refused_with_an_example(text):
    with pytest.raises(UsageError, match="30d"):
        parse_seconds(text)


@pytest.mark.parametrize("text", ["", "MiB", "-1", "3 MIBS", "3d"])
def test_what_is_no_size_is_refused_with_an_example(text):
    with pytest.raises(UsageError, match="48MiB"):
        parse_bytes(text)


@given(st.integers(1, 10**9))
def test_a_length_of_time_that_was_written_is_read_as_itself(seconds):
    assert parse_seconds(format_seconds(seconds)) == seconds
    assert parse_seconds(format_seconds(seconds / 8)) == seconds / 8


def test_sizes_are_written_for_people():
    assert [format_bytes(n) for n in (0, 1023, 1536, 50_000_000, 2**40)] == [
        "0 B",
        "1023 B",
        "1.5 KiB",
        "47.7 MiB",
        "1.0 TiB",
    ]
