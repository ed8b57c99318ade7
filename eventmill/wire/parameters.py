"""Values of query parameters, as people type them and as they travel in JSON.

The Python type of a value says its type in SQL: an aware datetime is a TIMESTAMP, a naive one a
DATETIME, bytes are BYTES, a list is an ARRAY.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from typing import Any

from eventmill.base.errors import UsageError

_ALIASES = {
    "": "STRING",
    "INTEGER": "INT64",
    "INT": "INT64",
    "SMALLINT": "INT64",
    "BIGINT": "INT64",
    "TINYINT": "INT64",
    "BYTEINT": "INT64",
    "FLOAT": "FLOAT64",
    "DOUBLE": "FLOAT64",
    "BOOLEAN": "BOOL",
}
_ARRAY = re.compile(r"ARRAY\s*<\s*(.*?)\s*>", re.IGNORECASE)
_INT64 = range(-(2**63), 2**63)


def parameter_value(type_name: str, text: str) -> Any:  # noqa: ANN401 - one of many types
    """Return the value of a parameter written as ``NAME:TYPE:VALUE``.

    Args:
        type_name: STRING, INT64, FLOAT64, BOOL, BYTES (in base64), TIMESTAMP, DATETIME, DATE,
            TIME, ARRAY<one of these>, or an alias such as INTEGER; any case; empty: STRING.
        text: the value; for an ARRAY a JSON list.

    Raises:
        UsageError: there is no such type, or the text is not a value of it.
    """
    array = _ARRAY.fullmatch(type_name.strip())
    if not array:
        return _scalar(type_name, text)
    try:
        elements = json.loads(text)
    except ValueError:
        elements = None
    if not isinstance(elements, list):
        raise UsageError(f"{text!r} is not a JSON list, as {type_name} wants, such as [1, 2]")
    return [_typed(array[1], element) for element in elements]


def parameter_from_json(value: object) -> Any:  # noqa: ANN401 - one of many types
    """Return the value of a parameter that came as JSON.

    Args:
        value: a JSON string, number, true, false, null or list of such stands for itself;
            ``{"type": "TIMESTAMP", "value": "..."}`` is a value of that type, with a list as
            the value of an ARRAY<...>.

    Raises:
        UsageError: it is neither, or the value does not fit the type.
    """
    if isinstance(value, dict):
        if set(value) != {"type", "value"} or not isinstance(value["type"], str):
            raise UsageError(
                'a typed parameter is written {"type": "TIMESTAMP", "value": "..."},'
                f" not {json.dumps(value, default=str)[:200]}"
            )
        return _typed(value["type"], value["value"])
    if isinstance(value, list):
        elements = [parameter_from_json(element) for element in value]
        if any(isinstance(element, list) for element in elements):
            raise UsageError("an array in an array cannot be a parameter")
        return elements
    if isinstance(value, int) and not isinstance(value, bool) and value not in _INT64:
        raise UsageError(f"{value} does not fit INT64 (-2^63 to 2^63-1)")
    if value is None or isinstance(value, str | int | float):
        return value
    raise UsageError(f"{value!r} cannot be a parameter")


def _typed(type_name: str, value: object) -> Any:  # noqa: ANN401 - one of many types
    """Return a JSON value read as ``type_name``."""
    array = _ARRAY.fullmatch(type_name.strip())
    if array:
        if not isinstance(value, list):
            raise UsageError(f"a value of type {type_name} is a list, not {value!r}")
        return [_typed(array[1], element) for element in value]
    if value is None:
        _reader(type_name)
        return None
    if isinstance(value, bool):
        return _scalar(type_name, "true" if value else "false")
    if isinstance(value, int | float):
        return _scalar(type_name, json.dumps(value))
    if isinstance(value, str):
        return _scalar(type_name, value)
    raise UsageError(f"{value!r} is not a value of type {type_name}")


def _scalar(type_name: str, text: str) -> Any:  # noqa: ANN401 - one of many types
    read, wanted = _reader(type_name)
    try:
        return read(text)
    except (ValueError, binascii.Error, OverflowError):
        name = type_name.strip().upper()
        raise UsageError(f"{text!r} is not a value of type {name}: write {wanted}") from None


def _reader(type_name: str) -> tuple[Callable[[str], Any], str]:
    name = type_name.strip().upper()
    found = _READERS.get(_ALIASES.get(name, name))
    if found is None:
        raise UsageError(
            f"{type_name!r} is not a type of a parameter: use {', '.join(_READERS)} or"
            " ARRAY<one of these>"
        )
    return found


def _int64(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]+", text.strip()):
        raise ValueError
    number = int(text)
    if number not in _INT64:
        raise ValueError
    return number


def _float64(text: str) -> float:
    if "_" in text:
        raise ValueError
    return float(text)


def _bool(text: str) -> bool:
    word = text.strip().lower()
    if word not in ("true", "false"):
        raise ValueError
    return word == "true"


def _timestamp(text: str) -> datetime:
    """Read a TIMESTAMP; one without a zone is in UTC, as in GoogleSQL."""
    trimmed = re.sub(r"\s*UTC$", "Z", text.strip(), flags=re.IGNORECASE)
    moment = datetime.fromisoformat(trimmed)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _datetime(text: str) -> datetime:
    moment = datetime.fromisoformat(text.strip())
    if moment.tzinfo is not None:
        raise ValueError
    return moment


def _time(text: str) -> time:
    clock = time.fromisoformat(text.strip())
    if clock.tzinfo is not None:
        raise ValueError
    return clock


_READERS: dict[str, tuple[Callable[[str], Any], str]] = {
    "STRING": (str, "any text"),
    "INT64": (_int64, "an integer from -2^63 to 2^63-1, such as 42"),
    "FLOAT64": (_float64, "a number, such as 1.5"),
    "BOOL": (_bool, "true or false"),
    "BYTES": (lambda text: base64.b64decode(text, validate=True), "base64, such as YWJj"),
    "TIMESTAMP": (_timestamp, "a time such as 2024-01-31T10:00:00Z; without a zone it is UTC"),
    "DATETIME": (_datetime, "a time without a zone, such as 2024-01-31T10:00:00"),
    "DATE": (lambda text: date.fromisoformat(text.strip()), "a day such as 2024-01-31"),
    "TIME": (_time, "a time of day such as 10:00:00"),
}
