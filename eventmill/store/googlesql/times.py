"""Times: TIMESTAMP_TRUNC, DATE_DIFF, EXTRACT and their like.

TIMESTAMP is DuckDB's TIMESTAMP WITH TIME ZONE, DATETIME its TIMESTAMP. The connection's zone is
UTC, as GoogleSQL's default is.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlglot import exp

from eventmill.store.googlesql.call import Call, Rules, Writer, scalar
from eventmill.store.googlesql.dateparts import (
    EXTRACTABLE,
    MICROSECONDS,
    WEEKDAYS,
    boundaries,
    extract,
    part_of,
    span_of,
    truncate,
)
from eventmill.store.googlesql.quoting import failure
from eventmill.store.googlesql.refusals import unsupported, wrong

_CLOCK_PARTS = tuple(MICROSECONDS)
_DATE_PARTS = ("DAY", "WEEK", "ISOWEEK", "MONTH", "QUARTER", "YEAR", "ISOYEAR")
_DATE_SPANS = ("DAY", "WEEK", "MONTH", "QUARTER", "YEAR")
_NO_TIME = 2**63 - 1
_ALL_SPANS = (*_CLOCK_PARTS, "WEEK", "MONTH", "QUARTER", "YEAR")


def as_timestamp(value: str) -> str:
    """Return a written expression as a TIMESTAMP; a DATE or DATETIME is taken as UTC."""
    return f"CAST({value} AS TIMESTAMPTZ)"


def as_date(call: Call, index: int) -> str:
    """Return argument ``index`` as a DATE; a TIMESTAMP there ends the query, as in GoogleSQL."""
    value = call.sql(index)
    known = call.kind(index)
    if known in ("DATE", "STRING"):
        return f"CAST({value} AS DATE)"
    other = failure(f"{call.name} wants a DATE, not a TIMESTAMP or DATETIME: use DATE(x)")
    return (
        f"CASE WHEN typeof({value}) LIKE 'TIMESTAMP%' THEN {other} ELSE CAST({value} AS DATE) END"
    )


def local_time(timestamp: str, zone: str) -> str:
    """Return a written TIMESTAMP as the DATETIME that clocks in ``zone`` show."""
    return f"timezone({zone}, {as_timestamp(timestamp)})"


def _since_1970(microseconds: int) -> Callable[[Call], str]:
    """Return the writer of a function that counts units of ``microseconds`` since 1970.

    DuckDB's timestamps go far beyond GoogleSQL's years 0001 to 9999, and its other functions then
    fail on them. One that is outside becomes the number which DuckDB itself refuses, as SAFE can
    make NULL of such an error alone.
    """
    first, last = -62_135_596_800_000_000 // microseconds, 253_402_300_799_999_999 // microseconds

    def write(call: Call) -> str:
        number = call.sql(0)
        return (
            f"make_timestamptz(CASE WHEN {number} NOT BETWEEN {first} AND {last}"
            f" THEN {_NO_TIME} ELSE {number} * {microseconds} END)"
        )

    return write


def _zone(call: Call, index: int) -> str | None:
    return call.sql(index) if len(call.args) > index else None


def _timestamp_trunc(call: Call) -> str:
    value, part, zone = as_timestamp(call.sql(0)), part_of(call.args[1]), _zone(call, 2)
    if zone is None:
        return truncate(value, part)
    local = local_time(value, zone)
    cut = truncate(local, part)
    if part.name in MICROSECONDS and part.name != "DAY":
        # An hour that a clock change repeats has two beginnings: go back by the difference.
        return f"({value} - ({local} - {cut}))"
    return f"timezone({zone}, {cut})"


def _date_trunc(call: Call) -> str:
    part = part_of(call.args[1])
    if part.name not in _DATE_PARTS:
        raise call.wrong(f"a DATE has no part {part.name}")
    return f"CAST({truncate(as_date(call, 0), part)} AS DATE)"


def _datetime_trunc(call: Call) -> str:
    return truncate(f"CAST({call.sql(0)} AS TIMESTAMP)", part_of(call.args[1]))


def _timestamp_shift(sign: str) -> Callable[[Call], str]:
    def write(call: Call) -> str:
        span = span_of(call.args[1], call, _CLOCK_PARTS, call.writer.write)
        # A DAY is 24 hours here, as TIMESTAMP knows no zone.
        step = f"to_microseconds({span.amount} * {MICROSECONDS[span.part.name]})"
        return f"({as_timestamp(call.sql(0))} {sign} {step})"

    return write


def _date_shift(sign: str) -> Callable[[Call], str]:
    def write(call: Call) -> str:
        span = span_of(call.args[1], call, _DATE_SPANS, call.writer.write)
        return f"CAST({as_date(call, 0)} {sign} {span.interval} AS DATE)"

    return write


def _datetime_shift(sign: str) -> Callable[[Call], str]:
    def write(call: Call) -> str:
        span = span_of(call.args[1], call, _ALL_SPANS, call.writer.write)
        return f"(CAST({call.sql(0)} AS TIMESTAMP) {sign} {span.interval})"

    return write


def _timestamp_diff(call: Call) -> str:
    part = part_of(call.args[2])
    if part.name not in MICROSECONDS:
        raise call.wrong(f"the part {part.name} has no fixed length; use DATE_DIFF")
    end, start = (as_timestamp(call.sql(index)) for index in (0, 1))
    # Whole units that have passed, cut toward zero; not the boundaries between the two.
    return f"((epoch_us({end}) - epoch_us({start})) // {MICROSECONDS[part.name]})"


def _date_diff(call: Call) -> str:
    part = part_of(call.args[2])
    if part.name not in _DATE_PARTS:
        raise call.wrong(f"a DATE has no part {part.name}; use TIMESTAMP_DIFF")
    return boundaries(as_date(call, 0), as_date(call, 1), part)


def _datetime_diff(call: Call) -> str:
    end, start = (f"CAST({call.sql(index)} AS TIMESTAMP)" for index in (0, 1))
    return boundaries(end, start, part_of(call.args[2]))


def _date(call: Call) -> str:
    if len(call.args) == 3:
        parts = ", ".join(f"CAST({value} AS BIGINT)" for value in call.written())
        return f"make_date({parts})"
    if len(call.args) == 2:
        return f"CAST({local_time(call.sql(0), call.sql(1))} AS DATE)"
    return f"CAST({call.sql(0)} AS DATE)"


def _datetime(call: Call) -> str:
    if len(call.args) == 6:
        *whole, seconds = call.written()
        return f"make_timestamp({', '.join(whole)}, CAST({seconds} AS DOUBLE))"
    if len(call.args) > 2:
        raise call.wrong("it takes 1, 2 or 6 arguments")
    if len(call.args) == 1:
        return f"CAST({call.sql(0)} AS TIMESTAMP)"
    if call.kind(0) == "DATE" or call.kind(1) == "TIME":
        return f"(CAST({call.sql(0)} AS DATE) + CAST({call.sql(1)} AS TIME))"
    return local_time(call.sql(0), call.sql(1))


def _timestamp(call: Call) -> str:
    if len(call.args) == 1:
        return as_timestamp(call.sql(0))
    if call.kind(0) not in ("DATE", "DATETIME", "STRING"):
        raise call.refuse("a zone for anything but a literal, DATE(...) or DATETIME(...)")
    if isinstance(call.args[0], exp.Literal) and _has_offset(str(call.args[0].this)):
        raise call.wrong("the text has a zone of its own; leave out the second argument")
    return f"timezone({call.sql(1)}, CAST({call.sql(0)} AS TIMESTAMP))"


def _has_offset(text: str) -> bool:
    tail = text.strip()[10:]
    return any(mark in tail for mark in ("+", "-", "Z", "z", "/")) or "UTC" in tail.upper()


def _current(kind: str) -> Callable[[Call], str]:
    def write(call: Call) -> str:
        now = call.writer.now()
        if kind == "TIMESTAMP":
            return now
        zone = _zone(call, 0)
        local = local_time(now, zone) if zone else f"CAST({now} AS TIMESTAMP)"
        return f"CAST({local} AS {'DATE' if kind == 'DATE' else 'TIMESTAMP'})"

    return write


def _unix(unit: str, factor: int) -> Callable[[Call], str]:
    def write(call: Call) -> str:
        # Cut down to the unit first: times before 1970 round down, not toward zero.
        cut = f"date_trunc('{unit}', {as_timestamp(call.sql(0))})"
        return f"(epoch_us({cut}) // {factor})"

    return write


def write_extract(node: exp.Extract, writer: Writer) -> str:
    """Return ``EXTRACT(part FROM value [AT TIME ZONE zone])`` written.

    Raises:
        QueryError: there is no such part.
    """
    value, what = node.expression, node.this
    part, first_day = str(what.name).upper(), 0
    if isinstance(what, exp.Anonymous):
        days = [str(day.name).upper() for day in what.expressions]
        part = str(what.this).upper()
        if part != "WEEK" or len(days) != 1 or days[0] not in WEEKDAYS:
            raise wrong("EXTRACT: a week is written WEEK, WEEK(MONDAY) or ISOWEEK", node)
        first_day = WEEKDAYS.index(days[0])
    if part not in EXTRACTABLE:
        raise unsupported(f"EXTRACT of the part {part or what.sql('bigquery')}", node)
    if isinstance(value, exp.AtTimeZone):
        written = local_time(writer.write(value.this), writer.write(value.args["zone"]))
    else:
        # A TIME is a clock alone and cannot become a TIMESTAMP; everything else can.
        clock = writer.kind(value) == "TIME"
        written = writer.write(value) if clock else f"CAST({writer.write(value)} AS TIMESTAMP)"
    return extract(written, part, first_day)


TIMES: Rules = {
    "TIMESTAMP_TRUNC": scalar(_timestamp_trunc, 2, 3, "TIMESTAMP"),
    "DATE_TRUNC": scalar(_date_trunc, 2, kind="DATE"),
    "DATETIME_TRUNC": scalar(_datetime_trunc, 2, kind="DATETIME"),
    "TIMESTAMP_ADD": scalar(_timestamp_shift("+"), 2, kind="TIMESTAMP"),
    "TIMESTAMP_SUB": scalar(_timestamp_shift("-"), 2, kind="TIMESTAMP"),
    "DATE_ADD": scalar(_date_shift("+"), 2, kind="DATE"),
    "DATE_SUB": scalar(_date_shift("-"), 2, kind="DATE"),
    "DATETIME_ADD": scalar(_datetime_shift("+"), 2, kind="DATETIME"),
    "DATETIME_SUB": scalar(_datetime_shift("-"), 2, kind="DATETIME"),
    "TIMESTAMP_DIFF": scalar(_timestamp_diff, 3, kind="INT64"),
    "DATE_DIFF": scalar(_date_diff, 3, kind="INT64"),
    "DATETIME_DIFF": scalar(_datetime_diff, 3, kind="INT64"),
    "DATE": scalar(_date, 1, 3, "DATE"),
    "DATETIME": scalar(_datetime, 1, 6, "DATETIME"),
    "TIMESTAMP": scalar(_timestamp, 1, 2, "TIMESTAMP"),
    "CURRENT_TIMESTAMP": scalar(_current("TIMESTAMP"), 0, kind="TIMESTAMP"),
    "CURRENT_DATE": scalar(_current("DATE"), 0, 1, "DATE"),
    "CURRENT_DATETIME": scalar(_current("DATETIME"), 0, 1, "DATETIME"),
    "UNIX_SECONDS": scalar(_unix("second", 1_000_000), kind="INT64"),
    "UNIX_MILLIS": scalar(_unix("millisecond", 1_000), kind="INT64"),
    "UNIX_MICROS": scalar(_unix("microsecond", 1), kind="INT64"),
    "UNIX_DATE": scalar(
        lambda call: f"date_diff('day', DATE '1970-01-01', {as_date(call, 0)})", kind="INT64"
    ),
    "TIMESTAMP_SECONDS": scalar(_since_1970(1_000_000), kind="TIMESTAMP"),
    "TIMESTAMP_MILLIS": scalar(_since_1970(1_000), kind="TIMESTAMP"),
    "TIMESTAMP_MICROS": scalar(_since_1970(1), kind="TIMESTAMP"),
    "DATE_FROM_UNIX_DATE": scalar(
        "CAST(DATE '1970-01-01' + CAST({0} AS INTEGER) AS DATE)", kind="DATE"
    ),
    "LAST_DAY": scalar(lambda call: f"last_day({as_date(call, 0)})", kind="DATE"),
}
