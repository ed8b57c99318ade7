"""Multisets of rows: what is equal, what is near, and what is told of the rest."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from eventmill.workflow.row_diff import compare_rows, diff_text

COLUMNS = ("key", "n", "x")


def rows(*values):
    return [dict(zip(COLUMNS, value, strict=True)) for value in values]


def diff(expected, actual, tolerance=1e-9, columns=COLUMNS):
    return compare_rows(expected, actual, columns, float_tolerance=tolerance)


VALUES = st.one_of(
    st.none(),
    st.integers(-2, 2),
    st.booleans(),
    st.floats(allow_nan=True),
    st.text(max_size=2),
    st.lists(st.floats(), max_size=2),
    st.fixed_dictionaries({"a": st.one_of(st.none(), st.floats())}),
)
ROWS = st.lists(st.fixed_dictionaries(dict.fromkeys(COLUMNS, VALUES)), max_size=6)


@given(ROWS, st.randoms())
def test_the_same_rows_in_any_order_are_the_same(some, chance):
    mixed = [dict(row) for row in some]
    chance.shuffle(mixed)
    assert not diff(some, mixed)


@given(ROWS, ROWS)
def test_every_row_is_accounted_for(some, others):
    found = diff(some, others)
    left = [pair[0] for pair in found.pairs] + list(found.missing)
    right = [pair[1] for pair in found.pairs] + list(found.extra)
    assert len(left) == len(set(left)) <= len(some)
    assert len(right) == len(set(right)) <= len(others)
    assert len(some) - len(left) == len(others) - len(right)  # those that are equal
    assert diff_text(found, some, others, COLUMNS)


def test_a_row_that_is_twice_must_be_there_twice():
    once, twice = rows(("a", 1, 0.5)), rows(("a", 1, 0.5), ("a", 1, 0.5))
    assert diff(once, twice).extra == (1,)
    assert diff(twice, once).missing == (1,)
    assert not diff(twice, twice)


def test_floats_are_near_by_a_part_of_themselves_and_nothing_else_is():
    assert not diff(rows(("a", 1, 0.1 + 0.2)), rows(("a", 1, 0.3)))
    assert diff(rows(("a", 1, 1.0)), rows(("a", 1, 1.001)))
    assert not diff(rows(("a", 1, 1.0)), rows(("a", 1, 1.001)), tolerance=0.01)
    assert not diff(rows(("a", 1, [{"y": math.nan}])), rows(("a", 1, [{"y": math.nan}])))
    assert not diff(rows(("a", 1, -0.0)), rows(("a", 1, 0.0)))
    assert diff(rows(("a", 1, 0.0)), rows(("a", 2, 0.0)))
    for one, other in ((1, True), (1, 1.0), (None, 0), ("1", 1), (None, []), (None, "")):
        found = diff(rows(("a", one, 0.0)), rows(("a", other, 0.0)))
        assert found.pairs == ((0, 0, ("n",)),), (one, other)


def test_only_the_named_columns_count():
    some, others = rows(("a", 1, 0.5)), rows(("a", 2, 0.5))
    assert diff(some, others)
    assert not diff(some, others, columns=("key", "x"))


def test_what_differs_is_told_column_by_column():
    at = datetime(2026, 1, 31, 12, tzinfo=UTC)
    expected = rows(("linux", 3, 6.0), ("mac", 1, None), ("win", 9, at))
    actual = rows(("linux", 4, 6.0), ("bsd", 7, 2.5), ("win", 9, at))
    told = diff_text(diff(expected, actual), expected, actual, COLUMNS).splitlines()
    assert told == [
        "rows: 1 with other values, 1 missing, 1 not expected",
        "expect[0] came with other values:",
        "  n  expected 3, got 4",
        '  the same: key="linux", x=6.0',
        'expect[1] is missing: key="mac", n=1, x=NULL',
        'not expected: key="bsd", n=7, x=2.5',
    ]


def test_many_rows_are_counted_and_some_are_told():
    expected = rows(*((f"k{n}", n, 0.0) for n in range(500)))
    actual = rows(*((f"z{n}", n + 1000, 1.0) for n in range(700)))
    found = diff(expected, actual)
    assert (len(found.missing), len(found.extra)) == (500, 700)
    told = diff_text(found, expected, actual, COLUMNS).splitlines()
    assert told[0] == "rows: 500 missing, 700 not expected"
    assert told[-1] == "and 1180 rows more"
    long = rows(("x" * 5_000, 1, 1.0))
    assert len(diff_text(diff(long, []), long, [], COLUMNS)) < 600
