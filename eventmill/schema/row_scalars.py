"""Values of rows, as people and JSON write them, to the scalars that protobuf takes."""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import partial
from operator import index as to_index
from typing import Any

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor

from eventmill.schema import times
from eventmill.schema.dynamic import DynamicValue, enum_of
from eventmill.schema.kinds import INTEGER_TYPES, Kind
from eventmill.schema.problem import EventProblem, Reason
from eventmill.schema.shape import FieldShape

Convert = Callable[[Any], Any]
"""Turns one value that is not None into what protobuf takes, or raises EventProblem."""

_FD = FieldDescriptor
_RANGES = {
    **dict.fromkeys((_FD.TYPE_INT32, _FD.TYPE_SINT32, _FD.TYPE_SFIXED32), (-(2**31), 2**31 - 1)),
    **dict.fromkeys((_FD.TYPE_INT64, _FD.TYPE_SINT64, _FD.TYPE_SFIXED64), (-(2**63), 2**63 - 1)),
    **dict.fromkeys((_FD.TYPE_UINT32, _FD.TYPE_FIXED32), (0, 2**32 - 1)),
    **dict.fromkeys((_FD.TYPE_UINT64, _FD.TYPE_FIXED64), (0, 2**64 - 1)),
}
_FLOAT32_LIMIT = 2.0**128 - 2.0**103
"""From here on a number rounds to infinity as a 32-bit float."""
_INTEGER_TEXT = re.compile(r"[+-]?\d{1,40}", re.ASCII)
_FLOAT_TEXT = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_OTHER_YEARS = re.compile(r"(?:0000|-\d{4,9}|\+?\d{5,9})-\d\d-\d\d(?:[Tt ].*)?", re.ASCII)
"""Dates, with or without a time, of years that are none of 0001 to 9999."""
_FLOAT_WORDS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def wrong_type(value: object, wanted: str) -> EventProblem:
    """Return the problem of a value that is not what its field takes."""
    shown = repr(value)
    if len(shown) > 60:
        shown = f"{shown[:57]}..."
    return EventProblem(Reason.WRONG_TYPE, "", f"{shown} ({type(value).__name__}) is not {wanted}")


def out_of_range(value: object, limits: str) -> EventProblem:
    """Return the problem of a value outside the limits of its field."""
    return EventProblem(Reason.OUT_OF_RANGE, "", f"{str(value)[:60]} lies outside {limits}")


def near_names(name: str, names: list[str]) -> str:
    """Return `` (did you mean x?)`` when one of ``names`` is near ``name``, else nothing."""
    import difflib  # only when a name is wrong: it costs every start 5 ms

    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f" (did you mean {near[0]}?)" if near else ""


def converter_of(field: FieldDescriptor, shape: FieldShape | None = None) -> Convert:
    """Return the converter of one value of a scalar field.

    Args:
        field: a field that holds no message.
        shape: how the field becomes a column; None: it is part of a JSON document.
    """
    kind = shape.kind if shape is not None else Kind.SCALAR
    if field.type in INTEGER_TYPES:
        low, high = _RANGES[field.type]
        if kind is Kind.MICROSECONDS:
            return partial(_to_microseconds, low, high)
        if kind is Kind.DAYS:
            return partial(_to_days, low, high)
        return partial(to_integer, low, high)
    if field.type == _FD.TYPE_STRING:
        return _to_column_text if kind is Kind.TEXT else to_text
    if field.type == _FD.TYPE_ENUM:
        return _enum_converter(enum_of(field))
    if field.type == _FD.TYPE_BOOL:
        return to_boolean
    if field.type == _FD.TYPE_BYTES:
        return to_bytes
    return to_float32 if field.type == _FD.TYPE_FLOAT else to_float


def to_integer(low: int, high: int, value: DynamicValue) -> int:
    """Return an integer within [low, high] from an int, integral float or decimal text."""
    if type(value) is not int:
        value = _integer_of(value)
    if low <= value <= high:
        return value  # type: ignore[no-any-return]
    raise out_of_range(value, f"{low} to {high}")


def _integer_of(value: DynamicValue) -> int:
    if isinstance(value, bool):
        raise wrong_type(value, "an integer")
    if isinstance(value, (float, Decimal)):
        if math.isfinite(value) and value == int(value):
            return int(value)
    elif isinstance(value, str):
        if _INTEGER_TEXT.fullmatch(value):
            return int(value)
    elif isinstance(value, Enum):
        return _integer_of(value.value)
    elif hasattr(value, "__index__"):
        return to_index(value)
    raise wrong_type(value, "an integer")


def _to_microseconds(low: int, high: int, value: DynamicValue) -> int:
    if isinstance(value, (datetime, str)) and not _is_integer_text(value):
        seconds, nanos = timestamp_parts(value)
        return seconds * 1_000_000 + nanos // 1000
    return to_integer(low, high, value)


def _to_days(low: int, high: int, value: DynamicValue) -> int:
    if isinstance(value, str) and not _is_integer_text(value):
        try:
            value = date.fromisoformat(value)
        except ValueError:
            if _OTHER_YEARS.fullmatch(value):
                raise out_of_range(value, "the years 1 to 9999") from None
            raise wrong_type(value, "a date such as 2026-01-31, or days since 1970") from None
    if isinstance(value, date) and not isinstance(value, datetime):
        return (value - times.EPOCH_DATE).days
    return to_integer(low, high, value)


def _is_integer_text(value: object) -> bool:
    return isinstance(value, str) and bool(_INTEGER_TEXT.fullmatch(value))


def to_float(value: DynamicValue) -> float:
    """Return a float from a number, a decimal text, or the words NaN, Infinity, -Infinity."""
    if type(value) is float:
        return value
    if isinstance(value, bool):
        raise wrong_type(value, "a number")
    if isinstance(value, str):
        if value in _FLOAT_WORDS:
            return _FLOAT_WORDS[value]
        if not _FLOAT_TEXT.fullmatch(value):
            raise wrong_type(value, "a number")
    elif not (hasattr(value, "__float__") or hasattr(value, "__index__")):
        raise wrong_type(value, "a number")
    try:
        number = float(value)
    except OverflowError:
        raise out_of_range(value, "what a double holds") from None
    except (TypeError, ValueError):
        raise wrong_type(value, "a number") from None
    if math.isinf(number) and isinstance(value, str):
        raise out_of_range(value, "what a double holds")
    return number


def to_float32(value: DynamicValue) -> float:
    """Return a float as ``to_float`` does, within what 32 bits hold."""
    number = to_float(value)
    if _FLOAT32_LIMIT <= abs(number) < math.inf:
        raise out_of_range(value, "what a 32-bit float holds")
    return number


def to_boolean(value: DynamicValue) -> bool:
    """Return a bool, and only from a bool."""
    if value is True or value is False:
        return value
    raise wrong_type(value, "true or false")


def to_text(value: DynamicValue) -> str:
    """Return a str, and only from a str that UTF-8 can hold."""
    if not isinstance(value, str):
        raise wrong_type(value, "a string")
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise EventProblem(
                Reason.INVALID_UTF8, "", "the text has half of a surrogate pair, not a character"
            ) from None
    return str(value) if type(value) is not str else value


def _to_column_text(value: DynamicValue) -> str:
    """Return the text of a value of a DATE, TIME, DATETIME, TIMESTAMP, NUMERIC or JSON column."""
    if isinstance(value, str):
        return to_text(value)
    if isinstance(value, datetime):
        if value.tzinfo is None:
            return value.isoformat()
        seconds, nanos = times.timestamp_parts_of_datetime(value)
        return times.timestamp_text(seconds, nanos)
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, Decimal):
        return format(value, "f")
    try:
        return to_text(
            json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        )
    except (TypeError, ValueError, RecursionError):
        raise wrong_type(value, "a value that JSON can hold") from None


def to_bytes(value: DynamicValue) -> bytes:
    """Return bytes from bytes-like values or base64 text, of either alphabet."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    if not isinstance(value, str):
        raise wrong_type(value, "bytes or base64 text")
    text = value.replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise wrong_type(value, "base64 text") from None


def _enum_converter(enum: EnumDescriptor) -> Convert:
    numbers = {value.name: value.number for value in enum.values}
    known = frozenset(numbers.values())
    low, high = _RANGES[_FD.TYPE_INT32]
    names = list(numbers)

    def to_enum(value: DynamicValue) -> int:
        if isinstance(value, Enum):
            value = value.value
        if isinstance(value, str):
            number = numbers.get(value)
            if number is not None:
                return number
            if not _INTEGER_TEXT.fullmatch(value):
                some = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
                raise EventProblem(
                    Reason.WRONG_TYPE,
                    "",
                    f"{value[:60]!r} is no value of {enum.name}{near_names(value, names)};"
                    f" valid values: {some}",
                )
        number = to_integer(low, high, value)
        if enum.is_closed and number not in known:
            raise out_of_range(number, f"the numbers of {enum.name}, which is closed")
        return number

    return to_enum


def timestamp_parts(value: DynamicValue) -> tuple[int, int]:
    """Return seconds and nanoseconds from RFC 3339 text, an aware datetime, or a date."""
    if isinstance(value, str):
        try:
            return times.timestamp_parts_of_text(value)
        except ValueError as error:
            if _OTHER_YEARS.fullmatch(value):
                raise out_of_range(value, "the years 1 to 9999") from None
            raise EventProblem(Reason.WRONG_TYPE, "", str(error)) from None
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            raise wrong_type(
                value,
                "a moment without its time zone: give datetime.now(UTC), or value.astimezone()"
                " for this machine's local time",
            )
        return times.timestamp_parts_of_datetime(value)
    if isinstance(value, date):
        return (value - times.EPOCH_DATE).days * 86_400, 0
    if isinstance(value, Mapping) and value.keys() <= {"seconds", "nanos"}:
        low, high = _RANGES[_FD.TYPE_INT64]
        return (
            to_integer(low, high, value.get("seconds") or 0),
            to_integer(-(2**31), 2**31 - 1, value.get("nanos") or 0),
        )
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        raise EventProblem(
            Reason.WRONG_TYPE,
            "",
            f"{value} could be seconds, milliseconds or microseconds: write the timestamp as"
            " RFC 3339 text such as 2026-01-31T12:00:00Z, or give a datetime",
        )
    raise wrong_type(value, "an RFC 3339 timestamp or a datetime")


def duration_parts(value: DynamicValue) -> tuple[int, int]:
    """Return seconds and nanoseconds from ``1.5s``, a number of seconds, or a timedelta."""
    try:
        if isinstance(value, str):
            return times.duration_parts_of_text(value)
        if isinstance(value, timedelta):
            return times.duration_parts_of_timedelta(value)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            is_number = isinstance(value, int) or math.isfinite(value)
            if is_number and abs(value) > times.DURATION_SECONDS_MAX + 1:
                raise out_of_range(value, f"{times.DURATION_SECONDS_MAX:,} seconds either way")
            return times.duration_parts_of_number(value)
    except ValueError as error:
        raise EventProblem(Reason.WRONG_TYPE, "", str(error)) from None
    if isinstance(value, Mapping) and value.keys() <= {"seconds", "nanos"}:
        return timestamp_parts(value)
    raise wrong_type(value, "a duration such as 1.5s, a number of seconds, or a timedelta")
