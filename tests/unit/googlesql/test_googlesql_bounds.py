"""Bounds in time: what a query says of them, and that leaving out rows beyond changes nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventmill.schema.table import TableId
from eventmill.store.googlesql import TimeBounds, Translation, translate, view_name

NOW = datetime(2024, 3, 10, 12, 0, tzinfo=UTC)
T = TableId("local", "d", "t")
U = TableId("local", "d", "u")


def us(text: str) -> int:
    moment = datetime.fromisoformat(text).replace(tzinfo=UTC)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def bounds_of(where: str, column: str = "ts", params: dict | None = None) -> TimeBounds | None:
    translation = translate(f"SELECT 1 FROM d.t WHERE {where}", params, now=NOW)
    return translation.time_bounds.get((T, column))


def within(lower: str | None, upper: str | None) -> TimeBounds:
    """The half-open range from ``lower`` to ``upper``."""
    return TimeBounds(
        None if lower is None else us(lower), None if upper is None else us(upper) - 1
    )


@pytest.mark.parametrize(
    ("where", "lower", "upper"),
    [
        ("ts >= TIMESTAMP '2024-01-02'", "2024-01-02", None),
        ("ts > '2024-01-02'", "2024-01-02 00:00:00.000001", None),
        ("ts < TIMESTAMP '2024-01-02 03:00:00+01'", None, "2024-01-02 02:00:00"),
        ("ts <= '2024-01-02'", None, "2024-01-02 00:00:00.000001"),
        ("ts = '2024-01-02'", "2024-01-02", "2024-01-02 00:00:00.000001"),
        ("TIMESTAMP '2024-01-02' <= ts", "2024-01-02", None),
        ("ts BETWEEN '2024-01-01' AND '2024-01-02'", "2024-01-01", "2024-01-02 00:00:00.000001"),
        ("ts >= '2024-01-01' AND (x = 1 AND t.TS < '2024-01-02')", "2024-01-01", "2024-01-02"),
        ("ts >= '2024-01-01' AND ts >= '2024-01-03'", "2024-01-03", None),
        ("ts >= TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL 1 DAY)", "2024-03-09 12:00:00", None),
        ("ts >= CURRENT_TIMESTAMP() - INTERVAL 7 DAY", "2024-03-03 12:00:00", None),
        ("ts >= TIMESTAMP_TRUNC(CURRENT_TIMESTAMP, DAY)", "2024-03-10", None),
        ("ts >= TIMESTAMP(DATE_SUB(CURRENT_DATE(), INTERVAL 1 MONTH))", "2024-02-10", None),
        ("ts >= CAST('2024-01-02' AS TIMESTAMP)", "2024-01-02", None),
        ("ts >= DATE '2024-01-02'", "2024-01-02", None),
        ("DATE(ts) = '2024-01-02'", "2024-01-02", "2024-01-03"),
        ("DATE(ts) = '2024-01-02 10:00:00'", "2024-01-02", "2024-01-03"),
        ("DATE(ts) > DATE '2024-01-02'", "2024-01-03", None),
        ("DATE(ts) < DATE '2024-01-02'", None, "2024-01-02"),
        ("CAST(ts AS DATE) <= DATE '2024-01-02'", None, "2024-01-03"),
        ("EXTRACT(DATE FROM ts) >= DATE '2024-01-02'", "2024-01-02", None),
        ("DATE(ts) BETWEEN CURRENT_DATE() - 2 AND CURRENT_DATE()", "2024-03-08", "2024-03-11"),
        ("DATE_TRUNC(DATE(ts), MONTH) = DATE '2024-02-01'", "2024-02-01", "2024-03-01"),
        ("TIMESTAMP_TRUNC(ts, HOUR) <= '2024-01-02 03:30:00'", None, "2024-01-02 04:00:00"),
        ("TIMESTAMP_TRUNC(ts, WEEK) = '2024-01-07'", "2024-01-07", "2024-01-14"),
        ("DATE(ts, 'Asia/Tokyo') = '2024-01-02'", "2024-01-01", "2024-01-05"),
    ],
)
def test_condition_gives_bounds(where, lower, upper):
    assert bounds_of(where) == within(lower, upper)


@pytest.mark.parametrize(
    "where",
    [
        "ts >= '2024-01-02' OR x = 1",
        "NOT ts >= '2024-01-02'",
        "ts NOT BETWEEN '2024-01-01' AND '2024-01-02'",
        "ts != '2024-01-02'",
        "ts >= other",
        "ts >= (SELECT MAX(ts) FROM d.u)",
        "s.ts >= '2024-01-02'",
        "IF(x = 1, ts >= '2024-01-02', TRUE)",
        "(ts >= '2024-01-02') IS NOT TRUE",
        "ts >= NULL",
        "x = 5",
        "x = 'not a time'",
        "EXTRACT(YEAR FROM ts) = 2024",
        "TIMESTAMP_ADD(ts, INTERVAL 1 DAY) >= '2024-01-02'",
    ],
)
def test_condition_gives_no_bounds(where):
    assert bounds_of(where) is None
    assert bounds_of(where, "x") is None


def test_parameter_is_a_constant():
    lower = datetime(2024, 1, 2, tzinfo=UTC)
    found = bounds_of("ts >= @a AND ts < @ab", params={"a": lower, "AB": "2024-01-03"})
    assert found == within("2024-01-02", "2024-01-03")


@pytest.mark.parametrize(
    ("where", "lower", "upper"),
    [
        ("_PARTITIONTIME = '2024-01-02'", "2024-01-02", "2024-01-03"),
        ("t._PARTITIONDATE < '2024-01-02'", None, "2024-01-02"),
        ("_ingested_at >= '2024-01-02 10:00:00'", "2024-01-02 10:00:00", None),
    ],
)
def test_partition_time_bounds_the_time_of_ingestion(where, lower, upper):
    assert bounds_of(where, "_ingested_at") == within(lower, upper)


FROM_2024 = within("2024-01-01", None)


@pytest.mark.parametrize(
    ("sql", "t", "u"),
    [
        ("d.t JOIN d.u USING (k) WHERE t.ts >= '2024-01-01'", FROM_2024, None),
        ("d.t JOIN d.u ON t.k = u.k AND u.ts >= '2024-01-01'", None, FROM_2024),
        ("d.t, d.u WHERE t.ts >= '2024-01-01' AND u.ts >= '2024-01-01'", FROM_2024, FROM_2024),
        ("d.t LEFT JOIN d.u USING (k) WHERE t.ts >= '2024-01-01'", FROM_2024, None),
        ("d.t LEFT JOIN d.u USING (k) WHERE u.ts >= '2024-01-01'", None, None),
        ("d.t LEFT JOIN d.u ON t.ts >= '2024-01-01'", None, None),
        ("d.t LEFT JOIN d.u ON u.ts >= '2024-01-01'", None, None),
        ("d.t RIGHT JOIN d.u USING (k) WHERE t.ts >= '2024-01-01'", None, None),
        ("d.t RIGHT JOIN d.u USING (k) WHERE u.ts >= '2024-01-01'", None, FROM_2024),
        ("d.t FULL JOIN d.u USING (k) WHERE t.ts >= '2024-01-01'", None, None),
        ("d.t, UNNEST(xs) AS ts WHERE ts >= '2024-01-01'", None, None),
        ("d.t, UNNEST(xs) AS x WITH OFFSET ts WHERE ts >= '2024-01-01'", None, None),
        ("d.t, UNNEST(xs) AS x WHERE ts >= '2024-01-01'", FROM_2024, None),
        (
            (
                "(SELECT ts FROM d.t WHERE ts >= '2024-01-01' UNION ALL"
                " SELECT ts FROM d.t WHERE ts >= '2024-05-01')"
            ),
            FROM_2024,
            None,
        ),
        ("(SELECT ts FROM d.t WHERE ts >= '2024-01-01'), d.t", None, None),
        ("d.t AS a JOIN d.t AS b USING (k) WHERE a.ts >= '2024-01-01'", None, None),
        ("d.t WHERE EXISTS (SELECT 1 FROM d.u WHERE t.ts >= '2024-01-01')", None, None),
        ("d.t WHERE EXISTS (SELECT 1 FROM d.u WHERE u.ts >= '2024-01-01')", None, FROM_2024),
        ("(SELECT * FROM d.t) AS t WHERE t.ts >= '2024-01-01'", None, None),
    ],
)
def test_bounds_hold_for_every_read_of_a_table(sql, t, u):
    found = translate(f"SELECT 1 FROM {sql}", now=NOW).time_bounds
    assert (found.get((T, "ts")), found.get((U, "ts"))) == (t, u)


def _rows(seed: int) -> pa.Table:
    """Rows at uneven times over ten weeks, some without a time."""
    start = datetime(2023, 12, 20, tzinfo=UTC)
    moments = [
        start + timedelta(hours=(i * 37 + seed * 11) % 1900, minutes=i % 3) for i in range(60)
    ]
    midnights = [start + timedelta(days=i * 9) for i in range(8)]
    times = [*moments, *midnights, None, None]
    return pa.table(
        {
            "id": pa.array([seed * 1000 + i for i in range(len(times))], pa.int64()),
            "k": pa.array([i % 7 for i in range(len(times))], pa.int64()),
            "ts": pa.array(times, pa.timestamp("us", tz="UTC")),
        }
    )


ROWS = {T: _rows(1), U: _rows(2), TableId("local", "d", "w"): _rows(3)}

_constants = st.sampled_from(
    [
        "TIMESTAMP '2024-01-07'",
        "TIMESTAMP '2024-01-16 13:00:00'",
        "'2024-01-31 23:30:00'",
        "'2024-02-01'",
        "DATE '2024-01-28'",
        "CURRENT_TIMESTAMP() - INTERVAL 40 DAY",
        "TIMESTAMP_TRUNC(CURRENT_TIMESTAMP(), MONTH)",
        "@p",
    ]
)
_dates = st.sampled_from(
    [
        "DATE '2024-01-07'",
        "'2024-01-16 13:00:00'",
        "'2024-02-01'",
        "CURRENT_DATE() - 30",
        "DATE(@p)",
    ]
)
_parts = st.sampled_from(["HOUR", "DAY", "WEEK", "ISOWEEK", "WEEK(FRIDAY)", "MONTH", "QUARTER"])
_zones = st.sampled_from(
    ["", ", 'Pacific/Kiritimati'", ", 'Pacific/Pago_Pago'", ", 'Asia/Kolkata'"]
)
_operators = st.sampled_from(["=", "<", "<=", ">", ">="])


@st.composite
def _comparison(draw, column: str) -> str:
    shape = draw(st.integers(0, 5))
    if shape == 0:
        return f"{column} {draw(_operators)} {draw(_constants)}"
    if shape == 1:
        return f"{draw(_constants)} {draw(_operators)} {column}"
    if shape == 2:
        return f"{column} BETWEEN {draw(_constants)} AND {draw(_constants)}"
    if shape == 3:
        return f"DATE({column}{draw(_zones)}) {draw(_operators)} {draw(_dates)}"
    if shape == 4:
        cut = f"TIMESTAMP_TRUNC({column}, {draw(_parts)}{draw(_zones)})"
        return f"{cut} {draw(_operators)} {draw(_constants)}"
    part = draw(st.sampled_from(["MONTH", "QUARTER", "WEEK"]))
    cut = f"DATE_TRUNC(DATE({column}{draw(_zones)}), {part})"
    return f"{cut} {draw(_operators)} {draw(_dates)}"


@st.composite
def _condition(draw, columns: list[str], depth: int = 2) -> str:
    column = draw(st.sampled_from(columns))
    shape = draw(st.integers(0, 5)) if depth else 0
    if shape <= 1:
        return draw(_comparison(column))
    if shape <= 3:
        left, right = (draw(_condition(columns, depth - 1)) for _ in range(2))
        return f"({left} AND {right})"
    if shape == 4:
        left, right = (draw(_condition(columns, depth - 1)) for _ in range(2))
        return f"({left} OR {right})"
    return f"NOT ({draw(_condition(columns, depth - 1))})"


_sides = st.sampled_from(["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"])


@st.composite
def _plain(draw, columns: list[str]) -> str:
    """Say something that keeps some rows and drops some, or nothing."""
    if draw(st.booleans()):
        return "TRUE"
    day = draw(st.sampled_from(["2024-01-05", "2024-01-20", "2024-02-15"]))
    operator = draw(st.sampled_from(["<", ">="]))
    condition = f"{draw(st.sampled_from(columns))} {operator} '{day}'"
    return draw(st.sampled_from([condition, condition, f"({condition} OR t.k = 3)"]))


@st.composite
def _query(draw) -> str:
    shape = draw(st.integers(0, 4))
    if shape == 0:
        return f"SELECT id FROM d.t WHERE {draw(_condition(['ts', 't.ts']))}"
    if shape == 1:
        first, second = draw(_condition(["ts"])), draw(_condition(["ts"]))
        return f"SELECT id FROM d.t WHERE {first} UNION ALL SELECT id FROM d.t AS x WHERE {second}"
    if shape == 2:
        inner, outer = draw(_condition(["u.ts", "t.ts"])), draw(_condition(["t.ts"]))
        word = draw(st.sampled_from(["EXISTS", "NOT EXISTS"]))
        return (
            f"SELECT id FROM d.t WHERE {word} (SELECT 1 FROM d.u WHERE u.k = t.k AND {inner})"
            f" AND {outer}"
        )
    both = ["t.ts", "u.ts"]
    join = f"d.t {draw(_sides)} d.u ON t.k = u.k"
    if " JOIN" in join and draw(st.booleans()) and "FULL" not in join:
        join += f" AND {draw(_condition(both))}"
    if shape == 4:
        join += f" {draw(_sides)} d.t AS v ON v.k = u.k + 3"
        both.append("v.ts")
    return f"SELECT t.id, u.id AS other FROM {join} WHERE {draw(_condition(both))}"


@pytest.fixture(scope="module")
def database():
    with duckdb.connect() as db:
        db.execute("SET TimeZone = 'UTC'")
        db.execute("SET threads = 1")
        yield db


def _answer(db, translation: Translation, tables: dict[TableId, pa.Table]) -> list[str]:
    for table in translation.tables:
        db.register(view_name(table), tables[table])
    db.execute(translation.sql, translation.parameters or None)
    return sorted(map(repr, db.fetchall()))


def _pruned(table: TableId, translation: Translation) -> pa.Table:
    """Leave out every row that the bounds allow to leave out, those without a time included."""
    rows, bounds = ROWS[table], translation.time_bounds.get((table, "ts"))
    if bounds is None:
        return rows
    times = rows["ts"].cast(pa.int64()).to_pylist()
    kept = [
        value is not None
        and (bounds.lower_us is None or value >= bounds.lower_us)
        and (bounds.upper_us is None or value <= bounds.upper_us)
        for value in times
    ]
    return rows.filter(pa.array(kept))


def _check_pruning(db, sql: str) -> None:
    params = {"p": datetime(2024, 1, 20, 7, tzinfo=UTC)} if "@p" in sql else None
    translation = translate(sql, params, now=NOW)
    pruned = {table: _pruned(table, translation) for table in translation.tables}
    assert _answer(db, translation, pruned) == _answer(db, translation, ROWS), (
        translation.time_bounds
    )


_SETTINGS = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@pytest.mark.slow
@settings(_SETTINGS, max_examples=400)
@given(condition=_comparison("ts"))
def test_pruning_by_one_comparison_changes_no_answer(database, condition):
    _check_pruning(database, f"SELECT id FROM d.t WHERE {condition}")


@pytest.mark.slow
@settings(_SETTINGS, max_examples=400)
@given(
    side=_sides,
    second=_sides,
    on=_plain(["t.ts", "u.ts"]),
    where=_plain(["t.ts", "u.ts", "v.ts"]),
)
def test_pruning_under_a_join_changes_no_answer(database, side, second, on, where):
    _check_pruning(
        database,
        f"SELECT t.id, u.id AS b, v.id AS c FROM d.t {side} d.u ON t.k = u.k AND {on}"
        f" {second} d.w AS v ON v.k = u.k WHERE {where}",
    )


@pytest.mark.slow
@settings(_SETTINGS, max_examples=400)
@given(_query())
def test_pruning_under_any_condition_changes_no_answer(database, sql):
    _check_pruning(database, sql)
