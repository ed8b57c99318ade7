"""String fields whose column is something else: JSON, DATE, TIME, DATETIME, TIMESTAMP, NUMERIC.

An empty text stands for NULL there, as proto3 cannot tell an unset string from an empty one and
no such value has an empty form.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, NoReturn

from eventmill.schema import times
from eventmill.schema.table import ColumnType

_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_TIME = re.compile(r"\d\d:\d\d:\d\d(?:\.\d{1,6})?", re.ASCII)
_DATETIME = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d(?:\.\d{1,6})?)", re.ASCII)
# BigQuery NUMERIC: 29 digits before the point and 9 after it (cloud.google.com/bigquery/docs/
# reference/standard-sql/data-types#decimal_types, looked up 2026-11-23).
_NUMERIC = re.compile(r"[+-]?0*\d{1,29}(?:\.\d{1,9}0*)?", re.ASCII)


def read_date(text: str) -> date:
    """Return the DATE of ``YYYY-MM-DD``; ValueError says what is wrong."""
    if not _DATE.fullmatch(text):
        raise ValueError(f"{text[:60]!r} is not a date such as 2026-01-31")
    return date.fromisoformat(text)


def read_time(text: str) -> time:
    """Return the TIME of ``HH:MM:SS[.ffffff]``; ValueError says what is wrong."""
    if not _TIME.fullmatch(text):
        raise ValueError(f"{text[:60]!r} is not a time of day such as 12:30:00.5")
    whole, _, fraction = text.partition(".")
    return time.fromisoformat(whole).replace(microsecond=int(f"{fraction:0<6}"))


def read_datetime(text: str) -> datetime:
    """Return the DATETIME, without time zone; ValueError says what is wrong."""
    match = _DATETIME.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:60]!r} is not a date and time such as 2026-01-31T12:30:00")
    return datetime.combine(read_date(match[1]), read_time(match[2]))


def read_timestamp(text: str) -> datetime:
    """Return the TIMESTAMP of an RFC 3339 text; ValueError says what is wrong."""
    seconds, nanos = times.timestamp_parts_of_text(text)
    moment = times.datetime_of_microseconds(seconds * 1_000_000 + nanos // 1000)
    if not isinstance(moment, datetime):
        raise ValueError(f"{text[:60]!r} lies outside the years 1 to 9999")
    return moment


def read_numeric(text: str) -> Decimal:
    """Return the NUMERIC of a decimal text; ValueError says what is wrong."""
    if not _NUMERIC.fullmatch(text):
        raise ValueError(
            f"{text[:60]!r} is not a number with at most 29 digits before and 9 after the point"
        )
    return Decimal(text)


def read_json(text: str) -> str:
    """Return ``text`` as it is when it is JSON; ValueError says what is wrong."""

    def refuse(word: str) -> NoReturn:
        raise ValueError(f"{word} is not JSON")

    try:
        json.loads(text, parse_constant=refuse)
    except RecursionError:
        raise ValueError("the JSON text is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{text[:60]!r} is not JSON: {error}") from error
    return text


TEXT_READERS: dict[ColumnType, Callable[[str], Any]] = {
    ColumnType.JSON: read_json,
    ColumnType.DATE: read_date,
    ColumnType.TIME: read_time,
    ColumnType.DATETIME: read_datetime,
    ColumnType.TIMESTAMP: read_timestamp,
    ColumnType.NUMERIC: read_numeric,
}
"""Reader of each column type that a string field can have by ``bq_type``."""
