"""Bounds in time that a query puts on the rows it reads, for leaving out whole partitions.

A bound is only ever given when every row outside of it cannot change the answer: it comes from a
condition that is joined by AND alone, in the SELECT that itself reads the table, on a side of its
joins that is never filled up with NULLs.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb
from sqlglot import exp

from eventmill.base.errors import QueryError
from eventmill.schema.table import TableId
from eventmill.store.googlesql.dateparts import MICROSECONDS, Part, part_of, truncate


@dataclass(frozen=True, slots=True)
class TimeBounds:
    """Where the values of a column lie in every row that can matter; NULL matters nowhere."""

    lower_us: int | None
    """Least value, in microseconds since 1970-01-01 UTC; None: no bound."""
    upper_us: int | None
    """Greatest value, itself included; None: no bound."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What a condition compares: a column, or the beginning of the part that it lies in."""

    names: tuple[str, ...]
    """The column as written, with or without its table."""
    part: Part | None = None
    zoned: bool = False
    """Whether the part is cut in another zone than UTC."""
    is_date: bool = False
    """Whether what is compared is a DATE, not a TIMESTAMP."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """``subject operator constant``."""

    subject: Subject
    operator: str
    constant: exp.Expr


@dataclass(frozen=True, slots=True)
class Limit:
    """A bound as DuckDB expressions of type TIMESTAMPTZ, not evaluated yet."""

    lower: str = ""
    lower_open: bool = False
    upper: str = ""
    upper_open: bool = False


@dataclass(slots=True)
class Read:
    """One place in which a query reads a table."""

    table: TableId
    limits: dict[str, list[Limit]] = field(default_factory=dict)
    """By column in lower case."""


def conjuncts(condition: exp.Expr | None) -> Iterator[exp.Expr]:
    """Yield the conditions that all have to hold."""
    if condition is None:
        return
    if isinstance(condition, exp.And | exp.Paren):
        parts = condition.flatten() if isinstance(condition, exp.And) else [condition.this]
        for part in parts:
            yield from conjuncts(part)
        return
    yield condition


_FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "=": "="}
_OPERATORS: dict[type[exp.Expr], str] = {
    exp.EQ: "=",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
}


def comparisons(condition: exp.Expr) -> Iterator[Comparison]:
    """Yield what ``condition`` says about columns; the constants may prove not to be constant."""
    if isinstance(condition, exp.Between):
        subject = _subject(condition.this)
        if subject is not None and not condition.args.get("symmetric"):
            yield Comparison(subject, ">=", condition.args["low"])
            yield Comparison(subject, "<=", condition.args["high"])
        return
    operator = _OPERATORS.get(type(condition))
    if operator is None:
        return
    left, right = _subject(condition.this), _subject(condition.expression)
    if left is not None:
        yield Comparison(left, operator, condition.expression)
    if right is not None:
        yield Comparison(right, _FLIPPED[operator], condition.this)


_DAY = Part("DAY")


def _subject(node: exp.Expr) -> Subject | None:
    if isinstance(node, exp.Paren):
        return _subject(node.this)
    if isinstance(node, exp.Column) and not isinstance(node.this, exp.Star):
        names = tuple(str(part.name) for part in node.parts)
        if names[-1].lower() in ("_partitiontime", "_partitiondate"):
            is_date = names[-1].lower() == "_partitiondate"
            return Subject((*names[:-1], "_ingested_at"), _DAY, is_date=is_date)
        return Subject(names)
    if isinstance(node, exp.Cast) and not isinstance(node, exp.TryCast):
        is_date = node.args["to"].this == exp.DType.DATE
        return _cut(node.this, _DAY, is_date=True) if is_date else None
    if isinstance(node, exp.Extract):
        zoned = isinstance(node.expression, exp.AtTimeZone)
        inner = node.expression.this if zoned else node.expression
        is_date = str(node.this.name).upper() == "DATE"
        return _cut(inner, _DAY, zoned=zoned, is_date=True) if is_date else None
    if isinstance(node, exp.Anonymous):
        return _cut_by_call(str(node.this).upper(), list(node.expressions))
    return None


def _cut_by_call(name: str, args: Sequence[exp.Expr]) -> Subject | None:
    if name == "DATE" and len(args) in (1, 2):
        return _cut(args[0], _DAY, zoned=len(args) == 2, is_date=True)
    if name in ("TIMESTAMP_TRUNC", "DATE_TRUNC") and len(args) in (2, 3):
        try:
            part = part_of(args[1])
        except QueryError:
            return None
        return _cut(args[0], part, zoned=len(args) == 3, is_date=name == "DATE_TRUNC")
    return None


def _cut(
    node: exp.Expr, part: Part, *, zoned: bool = False, is_date: bool = False
) -> Subject | None:
    inner = _subject(node)
    if inner is None or part.name == "ISOYEAR":
        return None
    if inner.part is None:
        return Subject(inner.names, part, zoned, is_date)
    # A cut of a cut, such as DATE_TRUNC(DATE(ts), MONTH): a month begins where a day begins, so
    # the coarser of the two is the whole. Weeks do not fit into months: say nothing of those,
    # nor of cuts in two zones.
    order = [*MICROSECONDS, "MONTH", "QUARTER", "YEAR"]
    names = (inner.part.name, part.name)
    if not all(name in order for name in names) or order.index(names[0]) > order.index(names[1]):
        return None
    if zoned and inner.zoned:
        return None
    return Subject(inner.names, part, zoned or inner.zoned, is_date)


def limit(comparison: Comparison, constant: str) -> Limit:
    """Return what ``comparison`` with a written ``constant`` says about its column."""
    subject, operator = comparison.subject, comparison.operator
    part = subject.part
    value = f"CAST({constant} AS TIMESTAMPTZ)"
    lower = operator in (">", ">=", "=")
    upper = operator in ("<", "<=", "=")
    if part is None:
        return Limit(
            value if lower else "",
            operator == ">",
            value if upper else "",
            operator == "<",
        )
    if subject.is_date:
        # Text becomes a DATE when it is compared with one, whatever else it says.
        day = f"CAST(CAST({constant} AS DATE) AS TIMESTAMPTZ)"
        value = f"CASE typeof({constant}) WHEN 'VARCHAR' THEN {day} ELSE {value} END"
    if subject.zoned:
        # Clocks differ from UTC by 14 hours at most: a day to either side is wide enough.
        low = f"({value} - to_days(1))"
        high = f"({truncate(f'({value} + to_days(1))', part)} + {_step(part)} + to_days(1))"
    else:
        # cut(x) > c makes x reach the part after c's; cut(x) <= c keeps x within c's own.
        after = f"({truncate(value, part)} + {_step(part)})"
        low = after if operator == ">" else value
        before = f"({value} - to_microseconds(1))" if operator == "<" else value
        high = f"({truncate(before, part)} + {_step(part)})"
    return Limit(low if lower else "", False, high if upper else "", True)


def _step(part: Part) -> str:
    if part.name in MICROSECONDS:
        return f"to_microseconds({MICROSECONDS[part.name]})"
    months = {"MONTH": 1, "QUARTER": 3, "YEAR": 12}
    return f"to_months({months[part.name]})" if part.name in months else "to_days(7)"


def merge(
    reads: Iterable[Read], parameters: Mapping[str, Any]
) -> dict[tuple[TableId, str], TimeBounds]:
    """Return the bounds that hold for all reads of each table, widest first.

    Args:
        reads: every place in which the query reads a table.
        parameters: values for the ``$name`` in the limits.
    """
    by_table: dict[TableId, list[Read]] = {}
    for read in reads:
        by_table.setdefault(read.table, []).append(read)
    wanted = [reads for reads in by_table.values() if all(read.limits for read in reads)]
    if not wanted:
        return {}
    found: dict[tuple[TableId, str], TimeBounds] = {}
    with _Evaluator(parameters) as evaluator:
        for table_reads in wanted:
            shared = set.intersection(*(set(read.limits) for read in table_reads))
            for column in sorted(shared):
                bounds = _widest([evaluator.bounds(read.limits[column]) for read in table_reads])
                if bounds != TimeBounds(None, None):
                    found[table_reads[0].table, column] = bounds
    return found


def _widest(every: Sequence[TimeBounds]) -> TimeBounds:
    """Return bounds within which all of ``every`` lie."""
    lowers = [bounds.lower_us for bounds in every]
    uppers = [bounds.upper_us for bounds in every]
    return TimeBounds(
        None if None in lowers else min(x for x in lowers if x is not None),
        None if None in uppers else max(x for x in uppers if x is not None),
    )


@functools.cache
def _database(pid: int) -> duckdb.DuckDBPyConnection:
    """Return an empty DuckDB of this process (``pid``: a fork may not use its parent's).

    Kept, as opening one takes 12 ms, the most of a translation. It holds nothing and may read
    nothing; each use has a cursor of its own.
    """
    database = duckdb.connect(config={"enable_external_access": "false", "threads": "1"})
    database.execute("SET GLOBAL TimeZone = 'UTC'")
    return database


class _Evaluator:
    """Computes constants in DuckDB itself, so that they are what the query compares."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._parameters = parameters
        self._values: dict[str, int | None] = {}

    def __enter__(self) -> _Evaluator:
        self._db = _database(os.getpid()).cursor()
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def bounds(self, limits: Sequence[Limit]) -> TimeBounds:
        """Return the bounds of one read: all its limits hold at once."""
        lowers: list[int] = []
        uppers: list[int] = []
        for one in limits:
            lower = self._value(one.lower)
            if lower is not None:
                lowers.append(lower + one.lower_open)
            upper = self._value(one.upper)
            if upper is not None:
                uppers.append(upper - one.upper_open)
        return TimeBounds(max(lowers, default=None), min(uppers, default=None))

    def _value(self, sql: str) -> int | None:
        """Return microseconds since 1970; None: no time, such as text that cannot be one."""
        if not sql:
            return None
        if sql not in self._values:
            used = {n: v for n, v in self._parameters.items() if re.search(rf"\${n}\b", sql)}
            try:
                row = self._db.execute(f"SELECT epoch_us({sql})", used or None).fetchone()
            except duckdb.Error:
                row = None  # the query itself will say what is wrong with it, if anything is
            self._values[sql] = row[0] if row else None
        return self._values[sql]
