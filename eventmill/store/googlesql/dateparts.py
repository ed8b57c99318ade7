"""Parts of time: DAY, WEEK(MONDAY), ISOYEAR ..., as GoogleSQL cuts and counts them.

GoogleSQL's WEEK begins on Sunday; DuckDB knows the ISO week alone, which begins on Monday.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlglot import exp

from eventmill.store.googlesql.call import Call
from eventmill.store.googlesql.quoting import int64
from eventmill.store.googlesql.refusals import unsupported, wrong

WEEKDAYS = ("SUNDAY", "MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY")

MICROSECONDS = {
    "MICROSECOND": 1,
    "MILLISECOND": 1_000,
    "SECOND": 1_000_000,
    "MINUTE": 60_000_000,
    "HOUR": 3_600_000_000,
    "DAY": 86_400_000_000,
}
"""Length of the parts that are always equally long."""

SPANS = (*MICROSECONDS, "WEEK", "MONTH", "QUARTER", "YEAR")
"""Parts of which an INTERVAL can be."""

_CALENDAR = ("WEEK", "ISOWEEK", "MONTH", "QUARTER", "YEAR", "ISOYEAR")


@dataclass(frozen=True, slots=True)
class Part:
    """One part of time."""

    name: str
    """Such as ``DAY``, ``WEEK``, ``ISOWEEK``, ``MONTH``; ``WEEK(MONDAY)`` is ``WEEK``."""
    first_day: int = 0
    """Day on which a WEEK begins, 0 for Sunday."""

    @property
    def is_week(self) -> bool:
        """Whether the part is a week, of any beginning."""
        return self.name in ("WEEK", "ISOWEEK")


def part_of(node: exp.Expr) -> Part:
    """Read a date part as it stands among a function's arguments.

    Raises:
        QueryError: it is not a date part.
    """
    if isinstance(node, exp.Anonymous) and str(node.this).upper() == "WEEK":
        days = [str(day.name).upper() for day in node.expressions]
        if len(days) == 1 and days[0] in WEEKDAYS:
            return Part("WEEK", WEEKDAYS.index(days[0]))
    if isinstance(node, exp.Column | exp.Var | exp.Identifier) and not (
        isinstance(node, exp.Column) and node.table
    ):
        name = str(node.name).upper()
        if name == "ISOWEEK":
            return Part(name, 1)
        if name in MICROSECONDS or name in _CALENDAR:
            return Part(name)
        if name == "NANOSECOND":
            raise unsupported("the date part NANOSECOND", node, instead="use MICROSECOND")
    raise wrong(f"{node.sql('bigquery')} is not a date part such as DAY or WEEK(MONDAY)", node)


def truncate(value: str, part: Part) -> str:
    """Return ``value`` (a written TIMESTAMP, TIMESTAMPTZ or DATE) cut down to ``part``.

    The result of a DATE is a DuckDB TIMESTAMP.
    """
    if not part.is_week:
        return f"date_trunc('{part.name.lower()}', {value})"
    # DuckDB's week begins on Monday: shift the wanted first day there, cut, shift back.
    shift = (1 - part.first_day) % 7
    if not shift:
        return f"date_trunc('week', {value})"
    return f"(date_trunc('week', {value} + to_days({shift})) - to_days({shift}))"


def boundaries(end: str, start: str, part: Part) -> str:
    """Return how many beginnings of ``part`` lie between two written DATEs or TIMESTAMPs."""
    if part.is_week:
        days = f"date_diff('day', {truncate(start, part)}, {truncate(end, part)})"
        return f"({days} // 7)"
    if part.name == "ISOYEAR":
        return f"(extract(isoyear FROM {end}) - extract(isoyear FROM {start}))"
    return f"date_diff('{part.name.lower()}', {start}, {end})"


def extract(value: str, part: str, first_day: int = 0) -> str:
    """Return a number out of ``value``, a written DATE or TIMESTAMP without a zone.

    Args:
        value: the written expression.
        part: name of the part, one of ``EXTRACTABLE``.
        first_day: day on which a WEEK begins, 0 for Sunday.
    """
    if part == "WEEK":
        # Weeks of the year before the first such day count as week 0.
        weekday = f"((dayofweek({value}) + 7 - {first_day}) % 7)"
        return f"((dayofyear({value}) + 6 - {weekday}) // 7)"
    return EXTRACTABLE[part].format(value)


EXTRACTABLE = {
    "MICROSECOND": "(extract(microsecond FROM {0}) % 1000000)",
    "MILLISECOND": "(extract(millisecond FROM {0}) % 1000)",
    "SECOND": "extract(second FROM {0})",
    "MINUTE": "extract(minute FROM {0})",
    "HOUR": "extract(hour FROM {0})",
    "DAYOFWEEK": "(dayofweek({0}) + 1)",
    "DAY": "extract(day FROM {0})",
    "DAYOFYEAR": "dayofyear({0})",
    "WEEK": "",
    "ISOWEEK": "extract(week FROM {0})",
    "MONTH": "extract(month FROM {0})",
    "QUARTER": "extract(quarter FROM {0})",
    "YEAR": "extract(year FROM {0})",
    "ISOYEAR": "extract(isoyear FROM {0})",
    "DATE": "CAST({0} AS DATE)",
    "DATETIME": "{0}",
    "TIME": "CAST({0} AS TIME)",
}
"""DuckDB's words for what EXTRACT gives."""


@dataclass(frozen=True, slots=True)
class Span:
    """A written INTERVAL: an amount of one part."""

    amount: str
    """Written, of type BIGINT."""
    part: Part

    @property
    def interval(self) -> str:
        """The span as a DuckDB INTERVAL; a DAY is a calendar day."""
        name = self.part.name
        if name in MICROSECONDS and name != "DAY":
            return f"to_microseconds({self.amount} * {MICROSECONDS[name]})"
        factor, maker = {
            "DAY": (1, "to_days"),
            "WEEK": (7, "to_days"),
            "MONTH": (1, "to_months"),
            "QUARTER": (3, "to_months"),
            "YEAR": (12, "to_months"),
        }[name]
        return f"{maker}(CAST({self.amount} * {factor} AS INTEGER))"


def span_of(
    node: exp.Expr, call: Call | None, allowed: tuple[str, ...], write: Callable[[exp.Expr], str]
) -> Span:
    """Read ``INTERVAL amount part``.

    Args:
        node: the argument.
        call: the function it is an argument of; None for an operator.
        allowed: names of the parts that the function takes.
        write: the writer's ``write``.

    Raises:
        QueryError: it is not an interval, or not of an allowed part.
    """
    name = call.name if call else "this operator"
    if not isinstance(node, exp.Interval) or node.args.get("unit") is None:
        raise wrong(f"{name} wants INTERVAL amount part, such as INTERVAL 7 DAY", node)
    unit = node.args["unit"]
    if isinstance(unit, exp.IntervalSpan):
        raise unsupported("INTERVAL of several parts (such as YEAR TO MONTH)", node)
    part = part_of(unit)
    if part.name not in allowed:
        raise wrong(f"{name} does not take the part {part.name}; use {', '.join(allowed)}", node)
    amount = node.this
    if isinstance(amount, exp.Literal) and amount.is_string:
        try:
            return Span(int64(int(amount.this)), part)
        except ValueError:
            raise wrong(
                f"INTERVAL {amount.this!r}: the amount has to be an integer", node
            ) from None
    return Span(f"CAST({write(amount)} AS BIGINT)", part)
