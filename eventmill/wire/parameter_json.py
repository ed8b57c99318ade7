"""A query's parameters as JSON, on both sides of the hop.

What JSON has a form for stands as it is: text, whole and other numbers, true, false, null, and
arrays. Everything else says its type: ``{"type": "TIMESTAMP", "value": "2026-11-23T00:00:00Z"}``.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation

from eventmill.base.errors import UsageError


def parameter_to_json(value: object) -> object:
    """Return one parameter's value in JSON's types.

    Raises:
        UsageError: no parameter can have such a value.
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else _typed("FLOAT64", str(value))
    if isinstance(value, (bytes, bytearray)):
        return _typed("BYTES", base64.b64encode(value).decode("ascii"))
    if isinstance(value, datetime):  # before date, of which it is a kind
        if value.tzinfo is None:
            return _typed("DATETIME", value.isoformat())
        return _typed("TIMESTAMP", value.astimezone(UTC).isoformat())
    if isinstance(value, date):
        return _typed("DATE", value.isoformat())
    if isinstance(value, time):
        return _typed("TIME", value.isoformat())
    if isinstance(value, Decimal):
        return _typed("NUMERIC", str(value))
    if isinstance(value, Sequence):
        return [parameter_to_json(element) for element in value]
    raise UsageError(f"a {type(value).__name__} cannot be the value of a parameter")


def parameter_from_json(document: object) -> object:
    """Read what ``parameter_to_json`` makes.

    A typed value may also be the text of a type that JSON has a form for, as it stands in an
    address: ``{"type": "INT64", "value": "5"}``.

    Raises:
        UsageError: it has another form, or the value is not of its type.
    """
    if isinstance(document, list):
        return [parameter_from_json(element) for element in document]
    if not isinstance(document, Mapping):
        return document
    kind, value = document.get("type"), document.get("value")
    if document.keys() != {"type", "value"} or not isinstance(kind, str):
        raise UsageError(
            'a parameter is a JSON value, an array, or {"type": ..., "value": ...} with a text'
        )
    read = _READERS.get(kind.upper())
    if read is None:
        known = ", ".join(sorted(_READERS))
        raise UsageError(f"a parameter of type {kind!r}: the types are {known}")
    if value is None:
        return None
    try:
        # A JSON number or boolean of the type is as good as its text.
        return read(value if isinstance(value, str) else _json_text(value))
    except (ValueError, InvalidOperation, binascii.Error) as error:
        raise UsageError(f"{value!r} is not a {kind.upper()}") from error


def _typed(kind: str, value: str) -> dict[str, str]:
    return {"type": kind, "value": value}


def _json_text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    raise ValueError(value)


def _read_bool(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"


def _read_timestamp(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _read_datetime(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is not None:
        raise ValueError("a DATETIME has no time zone")
    return moment


def _read_bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


_READERS: dict[str, Callable[[str], object]] = {
    "BOOL": _read_bool,
    "BOOLEAN": _read_bool,
    "BYTES": _read_bytes,
    "DATE": date.fromisoformat,
    "DATETIME": _read_datetime,
    "FLOAT": float,
    "FLOAT64": float,
    "INT64": int,
    "INTEGER": int,
    "NUMERIC": Decimal,
    "STRING": str,
    "TIME": time.fromisoformat,
    "TIMESTAMP": _read_timestamp,
}
"""How the text of each type is read: GoogleSQL's names, and the API's beside them."""
