"""Rows in JSON's types: columns that are converted at once read as single values do."""

from __future__ import annotations

import random

import pyarrow as pa

from eventmill.wire.answer import QueryResult, QueryStats
from eventmill.wire.rows import json_rows
from eventmill.wire.rows_text import json_value

FIRST_US, LAST_US = -62_135_596_800_000_000, 253_402_300_799_999_999
FLOATS = [0.5, None, -0.0, 1e300]


def written(values: pa.Array) -> list:
    table = pa.table({"x": values})
    answer = QueryResult(table, QueryStats(0.0, 0, False, 0))
    return [row["x"] for rows in json_rows(answer) for row in rows]


def test_moments_are_written_alike_at_once_and_one_by_one():
    rng = random.Random(4)
    moments = [FIRST_US, FIRST_US + 1, -1, 0, 1, None, 999_999, LAST_US]
    moments += [rng.randint(FIRST_US, LAST_US) for _ in range(2_000)]
    for type_ in (pa.timestamp("us", tz="UTC"), pa.timestamp("us")):
        values = pa.array(moments, type_)
        assert written(values) == [json_value(value) for value in values.to_pylist()]
        assert written(values[4:9]) == written(values)[4:9]
    other = pa.array([1, None], pa.timestamp("ms", tz="Europe/Berlin"))
    assert written(other) == ["1970-01-01T00:00:00.001000Z", None]


def test_floats_are_written_alike_with_and_without_one_that_json_lacks():
    for more in ([], [float("nan")], [float("inf"), float("-inf")]):
        values = pa.array([*FLOATS, *more], pa.float64())
        assert repr(written(values)) == repr([json_value(v) for v in values.to_pylist()])
    assert written(pa.array([None, None], pa.float64())) == [None, None]
    assert written(pa.array([], pa.float64())) == []
