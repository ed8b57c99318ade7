"""A workflow's rows brought to their table's columns: without loss, or refused by name."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime
from datetime import time as time_of_day
from decimal import Decimal

import pyarrow as pa
import pytest

from eventmill.base.errors import OutputError
from eventmill.schema.table import Column, ColumnType, Mode, TableId, TableSpec
from eventmill.wire.columns_arrow import arrow_schema_of
from eventmill.wire.output_rows import fit_output

T = ColumnType


def spec(*columns):
    return TableSpec(TableId("local", "d", "t"), b"", "", columns, "")


def column(type_, mode=Mode.NULLABLE, name="x", fields=()):
    return Column(name, type_, mode, fields=tuple(fields))


def fit(values, *columns):
    """Fit one table, or an array as the column ``x``; the schema must be the table's."""
    rows = values if isinstance(values, pa.Table) else pa.table({"x": values})
    wanted = spec(*columns)
    made = fit_output(rows, wanted)
    made.validate(full=True)
    assert made.schema == arrow_schema_of(wanted.columns)
    assert made.num_rows == rows.num_rows
    return made


def refused(values, *columns):
    with pytest.raises(OutputError) as caught:
        fit(values, *columns)
    first, *lines = str(caught.value).split("\n")
    assert first == "the rows do not fit local.d.t:"
    return [line.strip() for line in lines]


MICRO = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)


@pytest.mark.parametrize(
    ("type_", "values", "expected"),
    [
        (T.INTEGER, pa.array([1, None, -5], pa.int8()), [1, None, -5]),
        (T.INTEGER, pa.array([2**63 - 1], pa.uint64()), [2**63 - 1]),
        (T.INTEGER, pa.array([Decimal("7.00")]), [7]),
        (T.INTEGER, pa.array([None, None]), [None, None]),
        (T.FLOAT, pa.array([0.5, float("inf")], pa.float32()), [0.5, float("inf")]),
        (T.FLOAT, pa.array([2**53], pa.int64()), [2.0**53]),
        (T.BOOLEAN, pa.array([True, None]), [True, None]),
        (T.STRING, pa.array(["a", None], pa.large_string()), ["a", None]),
        (T.STRING, pa.array(["a", None], pa.string_view()), ["a", None]),
        (T.STRING, pa.array(["a", None, "a"]).dictionary_encode(), ["a", None, "a"]),
        (T.BYTES, pa.array([b"ab", None], pa.binary(2)), [b"ab", None]),
        (T.BYTES, pa.array([b"", b"x"], pa.large_binary()), [b"", b"x"]),
        (T.TIMESTAMP, pa.array([MICRO], pa.timestamp("us", "America/New_York")), [MICRO]),
        (T.TIMESTAMP, pa.array([MICRO], pa.timestamp("ns", "UTC")), [MICRO]),
        (T.TIMESTAMP, pa.array([5], pa.timestamp("s", "UTC")), [datetime.fromtimestamp(5, UTC)]),
        (T.DATETIME, pa.array([5000], pa.timestamp("ms")), [datetime(1970, 1, 1, 0, 0, 5)]),
        (T.DATE, pa.array([date(2026, 1, 2)], pa.date64()), [date(2026, 1, 2)]),
        (T.TIME, pa.array([61], pa.time32("s")), [time_of_day(0, 1, 1)]),
        (T.NUMERIC, pa.array([Decimal("1.5")], pa.decimal256(50, 3)), [Decimal("1.5")]),
        (T.NUMERIC, pa.array([3], pa.int16()), [Decimal(3)]),
        (T.BIGNUMERIC, pa.array([Decimal("1.5")]), [Decimal("1.5")]),
        (T.JSON, pa.array(['{"a": [1]}', "1", None]), ['{"a": [1]}', "1", None]),
        (T.GEOGRAPHY, pa.array(["POINT(1 2)"]), ["POINT(1 2)"]),
    ],
)
def test_what_loses_nothing_is_cast(type_, values, expected):
    assert fit(values, column(type_))["x"].to_pylist() == expected


def test_nan_is_a_float():
    (value,) = fit(pa.array([float("nan")]), column(T.FLOAT))["x"].to_pylist()
    assert value != value


@pytest.mark.parametrize(
    ("type_", "values", "line"),
    [
        (T.INTEGER, pa.array([1.0]), "x: is INTEGER, the rows have double: CAST(... AS INT64)"),
        (T.INTEGER, pa.array([True]), "x: is INTEGER, the rows have bool"),
        (T.INTEGER, pa.array([2**63, 1, 2**63 + 1], pa.uint64()), "2 rows, such as 92233"),
        (T.INTEGER, pa.array([Decimal("0.5")]), "x: INTEGER cannot hold the value without loss"),
        (T.FLOAT, pa.array([2**53 + 1, None, 4]), "1 row, such as 9007199254740993 in row 0"),
        (T.FLOAT, pa.array(["1"]), "x: is FLOAT, the rows have string: CAST(... AS FLOAT64)"),
        (T.BOOLEAN, pa.array([1]), "x: is BOOLEAN, the rows have int64"),
        (T.STRING, pa.array([1]), "x: is STRING, the rows have int64: CAST(... AS STRING)"),
        (T.BYTES, pa.array(["a"]), "x: is BYTES, the rows have string"),
        (T.TIMESTAMP, pa.array([1], pa.timestamp("us")), "x: is TIMESTAMP, the rows have time"),
        (T.TIMESTAMP, pa.array([1500], pa.timestamp("ns", "UTC")), "without loss: 1 row"),
        (T.TIMESTAMP, pa.array([2**60], pa.timestamp("s", "UTC")), "without loss: 1 row"),
        (
            T.TIMESTAMP,
            pa.array([None, 253_402_300_800_000_000], pa.timestamp("us", "UTC")),
            "x: lies outside the years 1 to 9999: 1 row, such as 253402300800000000 in row 1",
        ),
        (T.DATETIME, pa.array([1], pa.timestamp("us", "UTC")), "x: is DATETIME, the rows have"),
        (T.DATETIME, pa.array([-(2**62)], pa.timestamp("us")), "x: lies outside the years"),
        (T.DATE, pa.array([2_932_897], pa.date32()), "x: lies outside the years 1 to 9999"),
        (T.DATE, pa.array([5], pa.date64()), "x: is damaged: "),
        (T.TIME, pa.array([86_400_000_000], pa.time64("us")), "x: is damaged: "),
        (T.NUMERIC, pa.array([0.5]), "x: is NUMERIC, the rows have double"),
        (T.NUMERIC, pa.array([Decimal("1e-10")]), "x: NUMERIC cannot hold the value"),
        (T.JSON, pa.array(["{}", "{", "NaN", "", "{"]), "x: is not JSON: 4 rows, such as '{' in"),
        (T.RECORD, pa.array([1]), "x: is RECORD, the rows have int64: write STRUCT(...)"),
    ],
)
def test_what_would_lose_something_is_refused_with_an_example(type_, values, line):
    (found,) = refused(values, column(type_))
    assert line in found


def test_a_list_has_no_null_and_is_none():
    tags = column(T.STRING, Mode.REPEATED)
    lists = [["a", "b"], None, [], ["c"]]
    for kind in (pa.list_, pa.large_list, pa.list_view):
        values = pa.array(lists, kind(pa.large_string()))
        assert fit(values, tags)["x"].to_pylist() == [["a", "b"], [], [], ["c"]]
        assert fit(values.slice(1, 3), tags)["x"].to_pylist() == [[], [], ["c"]]
    fixed = pa.array([["a", "b"], None], pa.list_(pa.string(), 2))
    assert fit(fixed, tags)["x"].to_pylist() == [["a", "b"], []]
    assert fit(pa.array([None, None]), tags)["x"].to_pylist() == [[], []]
    (line,) = refused(pa.array([["a"], None, ["b", None, None]]), tags)
    assert line == "x: has NULL in a list: 1 row, such as row 2"
    assert refused(pa.array([[None]]), tags) == ["x: has NULL in a list"]
    (line,) = refused(pa.array(["a"]), tags)
    assert line == "x: is REPEATED, the rows have string: write a list, such as [x]"


RECORD = column(
    T.RECORD,
    Mode.REPEATED,
    fields=[
        column(T.INTEGER, name="n"),
        column(T.STRING, Mode.REPEATED, name="tags"),
        column(T.RECORD, name="in", fields=[column(T.TIMESTAMP, Mode.REQUIRED, name="at")]),
    ],
)


def test_records_are_fitted_by_name_at_every_depth():
    values = pa.array(
        [
            [{"in": {"at": 5}, "n": 1}, {"in": None, "n": None}],
            None,
            [None, {"in": {"at": 7}, "n": 3}],
        ],
        pa.list_(pa.struct([("in", pa.struct([("at", pa.timestamp("s", "UTC"))])), ("n", "int8")])),
    )
    with pytest.raises(OutputError, match="x: has NULL in a list: 1 row"):
        fit(values, RECORD)
    made = fit(values.slice(0, 2), RECORD)["x"].to_pylist()
    at = datetime.fromtimestamp(5, UTC)
    assert made == [
        [{"n": 1, "tags": [], "in": {"at": at}}, {"n": None, "tags": [], "in": None}],
        [],
    ]


def test_faults_in_records_are_told_by_path_and_row():
    values = pa.array(
        [
            [],
            [{"n": 2**63, "in": {"at": None}}, {"n": 2**63 + 1, "in": {"at": 1}}],
            [{"n": 1, "in": None}],
            [{"n": 2**63, "in": {"at": None}}],
        ],
        pa.list_(
            pa.struct([("n", pa.uint64()), ("in", pa.struct([("at", pa.timestamp("us", "UTC"))]))])
        ),
    )
    lossy, missing = refused(values, RECORD)
    assert lossy.startswith("x.n: INTEGER cannot hold the value without loss: 2 rows, such as 922")
    assert lossy.endswith(" in row 1")
    assert missing == "x.in.at: is REQUIRED, and NULL: 2 rows, such as row 1"
    values = pa.array([[{"m": 1, "in": {"att": 1}}]])
    assert refused(values, RECORD) == [
        "x.m: the table has no such column",
        "x.in.att: the table has no such column; did you mean at?",
        "x.in.at: is REQUIRED, and missing in the record: 1 row, such as row 0",
    ]


def test_columns_may_be_missing_but_required_ones():
    columns = [
        column(T.INTEGER, Mode.REQUIRED, name="must"),
        column(T.INTEGER, name="may"),
        column(T.INTEGER, Mode.REPEATED, name="list"),
    ]
    made = fit(pa.table({"must": [1, 2]}), *columns)
    assert made.to_pylist() == [{"must": n, "may": None, "list": []} for n in (1, 2)]
    assert fit(pa.table({}), *columns).num_rows == 0
    assert refused(pa.table({"may": [1]}), *columns) == [
        "must: is REQUIRED, and the rows do not have it"
    ]
    assert refused(pa.table({"must": [1, None, None]}), *columns) == [
        "must: is REQUIRED, and NULL: 2 rows, such as row 1"
    ]


def test_all_faults_are_told_at_once():
    columns = [column(T.INTEGER, name="amount"), column(T.STRING, name="name")]
    rows = pa.table([[0.5], ["x"], ["y"], [1]], names=["amount", "name", "name", "Amuont"])
    assert refused(rows, *columns) == [
        "name: the rows have it more than once",
        "Amuont: the table has no such column; did you mean amount?",
        "amount: is INTEGER, the rows have double: CAST(... AS INT64), or change the .proto",
    ]


def test_rows_are_counted_across_chunks():
    good, bad = pa.array([1], pa.uint64()), pa.array([2**63, 1, 2**63], pa.uint64())
    (line,) = refused(pa.table({"x": pa.chunked_array([good, bad, bad])}), column(T.INTEGER))
    assert line.endswith("4 rows, such as 9223372036854775808 in row 1")
    rows = pa.table({"x": pa.chunked_array([], pa.int8())})
    assert fit(rows, column(T.INTEGER)).num_rows == 0


def test_damaged_text_is_refused():
    offsets, text = pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff")
    values = pa.Array.from_buffers(pa.string(), 1, [None, offsets, text])
    with pytest.raises(OutputError, match=r"x: is damaged: .*UTF8"):
        fit(values, column(T.STRING))


def test_a_hundred_thousand_rows_of_forty_columns_are_quick():
    count = 100_000
    numbers = pa.array(range(count), pa.int32())
    texts = pa.array([f"text {n % 1000}" for n in range(count)]).dictionary_encode()
    moments = numbers.cast(pa.int64()).cast(pa.timestamp("ms", "UTC"))
    kinds = [(T.INTEGER, numbers), (T.STRING, texts), (T.TIMESTAMP, moments), (T.FLOAT, numbers)]
    columns = [column(kinds[n % 4][0], name=f"c{n}") for n in range(40)]
    rows = pa.table({f"c{n}": kinds[n % 4][1] for n in range(40)})
    fit(rows, *columns)
    begun = time.process_time()
    fit_output(rows, spec(*columns))
    # Tens of milliseconds; value by value it is some seconds.
    assert time.process_time() - begun < 0.5
