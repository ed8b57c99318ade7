"""How BigQuery's clients write the values of a row in JSON, where that is another way than ours.

A number in a TIMESTAMP column counts seconds, a time without a zone is in UTC, a boolean may be
the text ``true``, a date may have one digit where two are usual (cloud.google.com/bigquery/docs/
reference/standard-sql/data-types, "canonical format", looked up 2026-11-24). What is not written
in one of these ways is refused, never guessed at.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any

import orjson
from google.protobuf.descriptor import FieldDescriptor

from eventmill.schema.kinds import Kind
from eventmill.schema.message_type import MessageType
from eventmill.schema.problem import EventProblem, Reason
from eventmill.schema.row_scalars import (
    Convert,
    timestamp_parts,
    to_float,
    to_text,
    wrong_type,
)
from eventmill.schema.rows import RowEncoder
from eventmill.schema.shape import FieldShape
from eventmill.schema.table import Column, ColumnType
from eventmill.schema.times import (
    SECONDS_MAX,
    SECONDS_MIN,
    timestamp_parts_of_datetime,
    timestamp_parts_of_text,
    timestamp_text,
)

_DATE_PART = r"(\d{4})-(\d{1,2})-(\d{1,2})"
_TIME_PART = r"(\d{1,2}):(\d{1,2}):(\d{1,2})(?:\.(\d{1,9}))?"
_DATE = re.compile(_DATE_PART, re.ASCII)
_TIME = re.compile(_TIME_PART, re.ASCII)
_DATETIME = re.compile(rf"{_DATE_PART}(?:[Tt ]{_TIME_PART})?", re.ASCII)
_TIMESTAMP = re.compile(
    rf"{_DATE_PART}(?:[Tt ]{_TIME_PART})?\s*(?:([Zz]|UTC)|([+-])(\d{{1,2}})(?::?(\d\d))?)?",
    re.ASCII,
)
_SECONDS = re.compile(r"[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?", re.ASCII)
_FLOAT_WORDS = {
    "nan": math.nan,
    "inf": math.inf,
    "+inf": math.inf,
    "-inf": -math.inf,
    "infinity": math.inf,
    "+infinity": math.inf,
    "-infinity": -math.inf,
}
_BOOLEANS = {"true": True, "false": False}


@lru_cache(maxsize=256)
def bigquery_encoder(descriptor_set: bytes, message: str) -> RowEncoder:
    """Return the encoder of rows, as BigQuery's clients write them, for a table's message."""
    return RowEncoder(MessageType.load(descriptor_set, message), dialect=converter_of)


def converter_of(shape: FieldShape) -> Convert | None:
    """Return what reads a value of the field as BigQuery does; None: it is read as ever."""
    if shape.kind in (Kind.RECORD, Kind.MAP, Kind.JSON, Kind.DURATION) or shape.wrapped:
        return None
    if shape.kind is Kind.TIMESTAMP:
        return _timestamp_message
    if shape.kind is Kind.MICROSECONDS:
        return _timestamp_microseconds
    if shape.kind is Kind.TEXT:
        return _TEXT_CONVERTERS[shape.type]
    if shape.type is ColumnType.BOOLEAN:
        return _boolean
    return _float if shape.field.type == FieldDescriptor.TYPE_DOUBLE else None


def _boolean(value: object) -> bool:
    if value is True or value is False:
        return value
    found = _BOOLEANS.get(value.lower()) if isinstance(value, str) else None
    if found is None:
        raise wrong_type(value, "true or false")
    return found


def _float(value: object) -> float:
    if isinstance(value, str):
        word = _FLOAT_WORDS.get(value.lower())
        if word is not None:
            return word
    return to_float(value)


def _timestamp_message(value: Any) -> dict[str, int]:  # noqa: ANN401 - a value of a row
    seconds, nanos = _timestamp_parts(value)
    return {"seconds": seconds, "nanos": nanos}


def _timestamp_microseconds(value: Any) -> int:  # noqa: ANN401 - a value of a row
    seconds, nanos = _timestamp_parts(value)
    return seconds * 1_000_000 + nanos // 1000


def _timestamp_parts(value: Any) -> tuple[int, int]:  # noqa: ANN401 - a value of a row
    if isinstance(value, str):
        try:
            return timestamp_parts_of_text(value)  # RFC 3339, which most clients send
        except ValueError:
            return _timestamp_of_text(value)
    if isinstance(value, bool):
        raise wrong_type(value, "a timestamp")
    if isinstance(value, (int, float, Decimal)):
        return _timestamp_of_seconds(value)
    if isinstance(value, datetime) and value.tzinfo is None:
        return timestamp_parts_of_datetime(value.replace(tzinfo=UTC))
    if isinstance(value, date):  # of which a datetime is one
        return timestamp_parts(value)
    raise wrong_type(value, "a timestamp")


def _timestamp_of_text(text: str) -> tuple[int, int]:
    match = _TIMESTAMP.fullmatch(text.strip())
    if match is None:
        if _SECONDS.fullmatch(text):
            return _timestamp_of_seconds(Decimal(text))
        raise wrong_type(text, "a timestamp such as 2026-01-31 12:00:00.5 UTC")
    year, month, day, hour, minute, second, fraction, _, sign, off_hours, off_minutes = (
        match.groups()
    )
    clock = f"{int(hour or 0):02}:{int(minute or 0):02}:{int(second or 0):02}"
    digits = f".{fraction}" if fraction else ""
    offset = f"{sign}{int(off_hours):02}:{off_minutes or '00'}" if sign else "Z"
    written = f"{year}-{int(month):02}-{int(day):02}T{clock}{digits}{offset}"
    try:
        return timestamp_parts_of_text(written)
    except ValueError as error:
        raise EventProblem(Reason.WRONG_TYPE, "", str(error)) from None


def _timestamp_of_seconds(value: float | Decimal) -> tuple[int, int]:
    if not math.isfinite(value) or not SECONDS_MIN <= value < SECONDS_MAX + 1:
        raise EventProblem(
            Reason.OUT_OF_RANGE,
            "",
            f"{value} seconds since 1970 lie outside the years 1 to 9999: a number in a TIMESTAMP"
            " column counts seconds",
        )
    if isinstance(value, int):
        return value, 0
    # A double of today's seconds holds microseconds and no more.
    seconds, micros = divmod(round(Decimal(str(value)) * 1_000_000), 1_000_000)
    return int(seconds), int(micros) * 1000


def _date_text(value: object) -> str:
    if isinstance(value, datetime):
        raise wrong_type(value, "a date without a time of day")
    if isinstance(value, date):
        return value.isoformat()
    match = _DATE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise wrong_type(value, "a date such as 2026-01-31")
    return f"{match[1]}-{int(match[2]):02}-{int(match[3]):02}"


def _time_text(value: object) -> str:
    if isinstance(value, time):
        return value.isoformat()
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise wrong_type(value, "a time of day such as 12:30:00.5")
    return _clock_text(match.groups())


def _datetime_text(value: object) -> str:
    if isinstance(value, datetime) and value.tzinfo is None:
        return value.isoformat()
    match = _DATETIME.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise wrong_type(value, "a date and time without a zone such as 2026-01-31T12:30:00")
    clock = "00:00:00" if match[4] is None else _clock_text(match.groups()[3:])
    return f"{match[1]}-{int(match[2]):02}-{int(match[3]):02}T{clock}"


def _clock_text(parts: tuple[str | None, ...]) -> str:
    hour, minute, second, fraction = parts
    clock = f"{int(hour or 0):02}:{int(minute or 0):02}:{int(second or 0):02}"
    return f"{clock}.{fraction[:6]}" if fraction else clock


def _numeric_text(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float, str, Decimal)):
        raise wrong_type(value, "a number, or its digits as text")
    try:
        number = Decimal(str(value).strip())
    except InvalidOperation:
        raise wrong_type(value, "a number, or its digits as text") from None
    if not number.is_finite():
        raise wrong_type(value, "a number with digits")
    return f"{number:f}"


def _json_text(value: object) -> str:
    if isinstance(value, str):
        if not value:
            raise wrong_type(value, "JSON: the empty text is none")
        return to_text(value)
    if isinstance(value, (Mapping, list, int, float)):
        try:
            return orjson.dumps(value).decode()
        except (orjson.JSONEncodeError, RecursionError):
            pass
    raise wrong_type(value, "a value that JSON can hold")


def _timestamp_iso(value: Any) -> str:  # noqa: ANN401 - a value of a row
    return timestamp_text(*_timestamp_parts(value))


_TEXT_CONVERTERS: dict[ColumnType, Convert] = {
    ColumnType.DATE: _date_text,
    ColumnType.TIME: _time_text,
    ColumnType.DATETIME: _datetime_text,
    ColumnType.NUMERIC: _numeric_text,
    ColumnType.JSON: _json_text,
    ColumnType.TIMESTAMP: _timestamp_iso,
}


class KnownNames:
    """Leaves out of rows what their table has no column for."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._below = {
            column.name: KnownNames(column.fields) for column in columns if column.fields
        }
        self._names = frozenset(column.name for column in columns)

    def of(self, row: Any) -> Any:  # noqa: ANN401 - what is no row is told by whoever reads it
        """Return the row without unknown names, at every depth."""
        if isinstance(row, list):
            return [self.of(each) for each in row]
        if not isinstance(row, Mapping):
            return row
        below = self._below
        return {
            name: below[name].of(value) if name in below else value
            for name, value in row.items()
            if name in self._names
        }
