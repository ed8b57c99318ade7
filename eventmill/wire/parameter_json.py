"""A query's parameters as JSON; ``wire.parameters`` reads them back.

What JSON has a form for stands as it is: text, whole and other numbers, true, false, null, and
arrays. Everything else says its type: ``{"type": "TIMESTAMP", "value": "2026-11-23T00:00:00Z"}``.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from datetime import UTC, date, datetime, time

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
    if isinstance(value, Sequence):
        return [parameter_to_json(element) for element in value]
    raise UsageError(f"a {type(value).__name__} cannot be the value of a parameter")


def _typed(kind: str, value: str) -> dict[str, str]:
    return {"type": kind, "value": value}
