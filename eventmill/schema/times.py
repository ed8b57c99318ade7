"""Timestamps and durations: their limits, their texts, and their numbers.

Text of a timestamp is RFC 3339; of a duration, seconds with an ``s``, as protobuf's JSON form
has it.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction

from eventmill.schema.dynamic import DynamicMessage

SECONDS_MIN = -62_135_596_800
"""0001-01-01T00:00:00Z, the first moment of a Timestamp (google/protobuf/timestamp.proto)."""
SECONDS_MAX = 253_402_300_799
"""9999-12-31T23:59:59Z, the last second of a Timestamp."""
NANOS_MAX = 999_999_999
DURATION_SECONDS_MAX = 315_576_000_000
"""About 10,000 years, the most that a Duration may have (google/protobuf/duration.proto)."""
MICROSECONDS_MIN = SECONDS_MIN * 1_000_000
MICROSECONDS_MAX = SECONDS_MAX * 1_000_000 + 999_999
DAYS_MIN = SECONDS_MIN // 86_400
DAYS_MAX = SECONDS_MAX // 86_400

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EPOCH_DATE = date(1970, 1, 1)
_EPOCH_ORDINAL = EPOCH_DATE.toordinal()
_SECOND = timedelta(seconds=1)
_MICROSECOND = timedelta(microseconds=1)

_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:([Zz])|([+-])(\d\d):(\d\d))",
    re.ASCII,
)
_USUAL_LENGTHS = (20, 24, 27)
"""Of a timestamp in UTC with whole seconds, milliseconds or microseconds."""
_DURATION = re.compile(r"(-?)(\d{1,12})(?:\.(\d{1,9}))?s", re.ASCII)


def timestamp_parts_of_text(text: str) -> tuple[int, int]:
    """Return seconds since 1970 and nanoseconds of an RFC 3339 text; finer digits are dropped.

    Raises:
        ValueError: the text is not RFC 3339 with an offset, or names no moment of the calendar.
    """
    if len(text) in _USUAL_LENGTHS and text[-1] == "Z":
        usual = _usual_parts(text)
        if usual is not None:
            return usual
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{_short(text)} is not an RFC 3339 timestamp such as 2026-01-31T12:00:00.5Z"
        )
    year, month, day, hour, minute, second, fraction, _, sign, off_hours, off_minutes = (
        match.groups()
    )
    h, m, s = int(hour), int(minute), int(second)
    if h > 23 or m > 59 or s > 59:
        raise ValueError(f"{_short(text)} has no such time of day")
    try:
        days = date(int(year), int(month), int(day)).toordinal() - _EPOCH_ORDINAL
    except ValueError:
        raise ValueError(f"{_short(text)} has no such day") from None
    seconds = days * 86_400 + h * 3600 + m * 60 + s
    if sign:
        if int(off_hours) > 23 or int(off_minutes) > 59:
            raise ValueError(f"{_short(text)} has no such offset from UTC")
        offset = int(off_hours) * 3600 + int(off_minutes) * 60
        seconds += -offset if sign == "+" else offset
    nanos = int(f"{fraction[:9]:0<9}") if fraction else 0
    return seconds, nanos


def _usual_parts(text: str) -> tuple[int, int] | None:
    """Return what most timestamps say, in a quarter of the time; None: look more closely.

    Of what Python reads besides, such as 2026-W01-1 or 12:00.00, nothing has these marks in place.
    """
    if text[4] != "-" or text[7] != "-" or text[10] != "T" or text[11:13] > "23":
        return None
    if text[13] != ":" or text[16] != ":" or text[19] not in ".Z":
        return None
    try:
        since = datetime.fromisoformat(text) - EPOCH
    except ValueError:
        return None
    return since.days * 86_400 + since.seconds, since.microseconds * 1000


def timestamp_parts_of_datetime(moment: datetime) -> tuple[int, int]:
    """Return seconds since 1970 and nanoseconds; a datetime without time zone counts as UTC."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    seconds, rest = divmod(moment - EPOCH, _SECOND)
    return seconds, rest.microseconds * 1000


def timestamp_text(seconds: int, nanos: int) -> str:
    """Return the RFC 3339 text in UTC with as many digits of 0, 3, 6 or 9 as are needed."""
    text = (EPOCH + timedelta(seconds=seconds)).strftime("%m-%dT%H:%M:%S")
    year = (EPOCH + timedelta(seconds=seconds)).year
    return f"{year:04}-{text}{_digits(nanos)}Z"


def duration_parts_of_text(text: str) -> tuple[int, int]:
    """Return seconds and nanoseconds, of one sign, of a text such as ``-1.5s``.

    Raises:
        ValueError: the text has another form.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"{_short(text)} is not a duration in seconds such as 1.5s")
    sign, whole, fraction = match.groups()
    seconds, nanos = int(whole), int(f"{fraction:0<9}") if fraction else 0
    return (-seconds, -nanos) if sign else (seconds, nanos)


def duration_parts_of_number(number: float) -> tuple[int, int]:
    """Return seconds and nanoseconds, of one sign, rounded to the nearest nanosecond.

    Raises:
        ValueError: ``number`` is not finite.
    """
    if not math.isfinite(number):
        raise ValueError(f"{number} is not a length of time")
    total = round(Fraction(number) * 1_000_000_000)
    seconds, nanos = divmod(abs(total), 1_000_000_000)
    return (-seconds, -nanos) if total < 0 else (seconds, nanos)


def duration_parts_of_timedelta(length: timedelta) -> tuple[int, int]:
    """Return seconds and nanoseconds, of one sign."""
    total = length // _MICROSECOND
    seconds, micros = divmod(abs(total), 1_000_000)
    return (-seconds, -micros * 1000) if total < 0 else (seconds, micros * 1000)


def duration_text(seconds: int, nanos: int) -> str:
    """Return the text of a duration, such as ``-1.500s``."""
    sign = "-" if seconds < 0 or nanos < 0 else ""
    return f"{sign}{abs(seconds)}{_digits(abs(nanos))}s"


def is_timestamp(message: DynamicMessage) -> bool:
    """Return whether a Timestamp message lies in what a Timestamp may hold."""
    seconds: int = message.seconds
    nanos: int = message.nanos
    return SECONDS_MIN <= seconds <= SECONDS_MAX and 0 <= nanos <= NANOS_MAX


def is_duration(message: DynamicMessage) -> bool:
    """Return whether a Duration message lies in what a Duration may hold, with one sign."""
    seconds, nanos = message.seconds, message.nanos
    return (
        -DURATION_SECONDS_MAX <= seconds <= DURATION_SECONDS_MAX
        and -NANOS_MAX <= nanos <= NANOS_MAX
        and (not nanos or not seconds or (seconds < 0) == (nanos < 0))
    )


def datetime_of_microseconds(microseconds: int) -> datetime | int:
    """Return the moment as an aware UTC datetime, or the number itself outside years 1-9999."""
    try:
        return EPOCH + timedelta(microseconds=microseconds)
    except OverflowError:
        return microseconds


def date_of_days(days: int) -> date:
    """Return the date that lies ``days`` after 1970-01-01."""
    return EPOCH_DATE + timedelta(days=days)


def _digits(nanos: int) -> str:
    if not nanos:
        return ""
    text = f"{nanos:09}"
    return f".{text[:3] if text.endswith('000000') else text[:6] if text.endswith('000') else text}"


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
