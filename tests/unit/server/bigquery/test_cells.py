"""Rows of an answer in the form of BigQuery's API."""

import math
from datetime import UTC, date, datetime, time
from decimal import Decimal

import pyarrow as pa
import pytest

from eventmill.schema.table import Column, ColumnType, Mode
from eventmill.server.bigquery.cells import columns_of_arrow, encode_rows

NOON = datetime(2026, 1, 2, 12, 0, 0, 123456, tzinfo=UTC)
UTC_MICROS = pa.timestamp("us", tz="UTC")


def cells(values, kind=None, **options):
    options.setdefault("int64_timestamps", True)
    rows = encode_rows(pa.table({"v": pa.array(values, kind)}), **options)
    return [row["f"][0]["v"] for row in rows]


CASES = [
    ([1, -(2**63), None], pa.int64(), ["1", str(-(2**63)), None]),
    ([1.5, 1e300, math.nan, math.inf, -math.inf, None], None,
     ["1.5", "1e+300", "NaN", "Infinity", "-Infinity", None]),
    ([True, False, None], None, ["true", "false", None]),
    (["", "häß", None], None, ["", "häß", None]),
    ([b"\x00\xff", b"", None], None, ["AP8=", "", None]),
    ([NOON, None], UTC_MICROS, ["1767355200123456", None]),
    ([datetime(1, 1, 1, tzinfo=UTC)], UTC_MICROS, ["-62135596800000000"]),
    ([datetime(2026, 1, 2, 12), datetime(2026, 1, 2, 12, 0, 0, 5)], pa.timestamp("us"),
     ["2026-01-02T12:00:00", "2026-01-02T12:00:00.000005"]),
    ([date(2026, 1, 2)], None, ["2026-01-02"]),
    ([time(12, 30), time(12, 30, 0, 5)], pa.time64("us"), ["12:30:00", "12:30:00.000005"]),
    ([Decimal("1.500000000"), Decimal(10), Decimal("-0.000000001")], pa.decimal128(38, 9),
     ["1.5", "10", "-0.000000001"]),
    ([[1, 2], [], None], pa.list_(pa.int64()), [[{"v": "1"}, {"v": "2"}], [], []]),
    ([{"a": 1, "b": None}, None], pa.struct([("a", pa.int64()), ("b", pa.string())]),
     [{"f": [{"v": "1"}, {"v": None}]}, None]),
    ([[{"a": "x"}], [None]], pa.list_(pa.struct([("a", pa.string())])),
     [[{"v": {"f": [{"v": "x"}]}}], [{"v": None}]]),
    ([[("k", 1)], None], pa.map_(pa.string(), pa.int64()),
     [[{"v": {"f": [{"v": "k"}, {"v": "1"}]}}], []]),
    ([None, None], pa.null(), [None, None]),
    ([pa.MonthDayNano([14, -3, 3_723_000_005_000])], None, ["1-2 -3 1:2:3.000005"]),
]  # fmt: skip


@pytest.mark.parametrize(("values", "kind", "wanted"), CASES)
def test_values_of_every_type(values, kind, wanted):
    assert cells(values, kind) == wanted


@pytest.mark.parametrize(("values", "kind", "wanted"), CASES)
def test_a_part_of_an_answer_is_that_part(values, kind, wanted):
    """Slices share their buffers with the whole: offsets count."""
    whole = pa.table({"v": pa.array([*values, *values], kind)})
    rows = encode_rows(whole.slice(len(values) - 1, len(values)), int64_timestamps=True)
    assert [row["f"][0]["v"] for row in rows] == [wanted[-1], *wanted[:-1]]


def test_timestamps_as_seconds():
    assert cells([NOON, None], UTC_MICROS, int64_timestamps=False) == ["1767355200.123456", None]


def test_rows_without_columns():
    rows = pa.table({"v": [1, 2]}).select([])
    assert encode_rows(rows, int64_timestamps=True) == [{"f": []}] * rows.num_rows


def test_what_is_known_better_than_by_the_arrow_type():
    schema = pa.schema(
        [("j", pa.string()), ("r", pa.struct([("g", pa.string())])), ("i", pa.int64())]
    )
    known = {
        "j": Column("J", ColumnType.JSON),
        "r": Column("r", ColumnType.RECORD, fields=(Column("g", ColumnType.GEOGRAPHY),)),
        "i": Column("i", ColumnType.JSON),
    }
    assert columns_of_arrow(schema, known) == (
        Column("j", ColumnType.JSON),
        Column("r", ColumnType.RECORD, fields=(Column("g", ColumnType.GEOGRAPHY),)),
        Column("i", ColumnType.INTEGER),
    )
    (many,) = columns_of_arrow(pa.schema([("m", pa.map_(pa.string(), pa.date32()))]))
    assert (many.mode, [f.type for f in many.fields]) == (
        Mode.REPEATED,
        [ColumnType.STRING, ColumnType.DATE],
    )
