"""Arrays: element access, ARRAY_CONCAT, GENERATE_DATE_ARRAY and their like."""

from __future__ import annotations

from eventmill.store.googlesql.call import MANY, Call, Rules, scalar
from eventmill.store.googlesql.dateparts import MICROSECONDS, Part, Span, span_of
from eventmill.store.googlesql.quoting import failure, int64
from eventmill.store.googlesql.times import as_date, as_timestamp


def element(array: str, index: str, *, base: int, safe: bool) -> str:
    """Return one element of a written array.

    Args:
        array: the written array.
        index: the written place in it.
        base: 0 for OFFSET, 1 for ORDINAL.
        safe: give NULL outside the array; else end the query with an error.
    """
    place = f"{index} + 1" if base == 0 else index
    if safe:
        return f"CASE WHEN {index} >= {base} THEN ({array})[{place}] END"
    word = "OFFSET" if base == 0 else "ORDINAL"
    stop = failure(f"array index out of bounds; SAFE_{word} gives NULL instead")
    beyond = f"{index} < {base} OR {place} > len({array})"
    return f"CASE WHEN {beyond} THEN {stop} ELSE ({array})[{place}] END"


def contains(array: str, value: str) -> str:
    """Return ``value IN UNNEST(array)``, with NULL where GoogleSQL has NULL."""
    return (
        f"CASE WHEN coalesce(len({array}), 0) = 0 THEN FALSE"
        f" WHEN list_contains({array}, {value}) THEN TRUE"
        f" WHEN {value} IS NULL OR list_count({array}) < len({array}) THEN NULL"
        " ELSE FALSE END"
    )


def _concat(call: Call) -> str:
    arrays = call.written()
    missing = " OR ".join(f"{array} IS NULL" for array in arrays)
    return f"CASE WHEN {missing} THEN NULL ELSE list_concat({', '.join(arrays)}) END"


def _to_string(call: Call) -> str:
    array, delimiter = call.sql(0), call.sql(1)
    if len(call.args) == 3:
        array = f"list_transform({array}, lambda e: coalesce(e, {call.sql(2)}))"
    return f"array_to_string({array}, {delimiter})"


def _generate(call: Call) -> str:
    if any(call.kind(index) == "FLOAT64" for index in range(len(call.args))):
        raise call.refuse("FLOAT64 arguments", "generate integers and divide them")
    start, end, *step = call.written()
    if not step:
        return f"generate_series({start}, {end})"
    stop = failure("GENERATE_ARRAY: the step is 0")
    return (
        f"generate_series({start}, {end}, CASE WHEN {step[0]} = 0 THEN {stop} ELSE {step[0]} END)"
    )


_DAYS = {"DAY": 1, "WEEK": 7}
_MONTHS = {"MONTH": 1, "QUARTER": 3, "YEAR": 12}


def _generate_dates(call: Call) -> str:
    start, end = as_date(call, 0), as_date(call, 1)
    span = Span(int64(1), Part("DAY"))
    if len(call.args) == 3:
        span = span_of(call.args[2], call, (*_DAYS, *_MONTHS), call.writer.write)
    stop = failure("GENERATE_DATE_ARRAY: the step is 0")
    step = f"CASE WHEN {span.amount} = 0 THEN {stop} ELSE {span.amount} END"
    if span.part.name in _DAYS:
        days = _DAYS[span.part.name]
        steps = f"generate_series(0, date_diff('day', {start}, {end}), {step} * {days})"
        shifted = "to_days(CAST(i AS INTEGER))"
    else:
        months = _MONTHS[span.part.name]
        steps = f"generate_series(0, date_diff('month', {start}, {end}), {step} * {months})"
        shifted = "to_months(CAST(i AS INTEGER))"
    # Every date is counted from the first: 31 January, 29 February, 31 March.
    dates = f"list_transform({steps}, lambda i: CAST({start} + {shifted} AS DATE))"
    inside = f"CASE WHEN {span.amount} > 0 THEN d <= {end} ELSE d >= {end} END"
    return f"list_filter({dates}, lambda d: {inside})"


def _generate_timestamps(call: Call) -> str:
    span = span_of(call.args[2], call, tuple(MICROSECONDS), call.writer.write)
    start, end = as_timestamp(call.sql(0)), as_timestamp(call.sql(1))
    stop = failure("GENERATE_TIMESTAMP_ARRAY: the step is 0")
    step = f"CASE WHEN {span.amount} = 0 THEN {stop} ELSE {span.amount} END"
    length = MICROSECONDS[span.part.name]
    return f"generate_series({start}, {end}, to_microseconds({step} * {length}))"


ARRAYS: Rules = {
    "ARRAY_LENGTH": scalar("len({0})", kind="INT64"),
    "ARRAY_CONCAT": scalar(_concat, 1, MANY, "ARRAY"),
    "ARRAY_TO_STRING": scalar(_to_string, 2, 3, "STRING"),
    "ARRAY_REVERSE": scalar("list_reverse({0})", kind="ARRAY"),
    "GENERATE_ARRAY": scalar(_generate, 2, 3, "ARRAY"),
    "GENERATE_DATE_ARRAY": scalar(_generate_dates, 2, 3, "ARRAY"),
    "GENERATE_TIMESTAMP_ARRAY": scalar(_generate_timestamps, 3, kind="ARRAY"),
}
