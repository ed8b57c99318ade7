"""Dicts on their way into the spool: as bytes where the schema is known, else as JSON."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal

from eventmill.client.encode import EventEncoder, as_events
from eventmill.schema.problem import EventProblem, Reason
from eventmill.wire.event_limits import event_size_problem

_JSON_FACTOR = 4
"""A row may be so much larger as JSON than its event may be."""


def encode_row_or_keep(encoder: EventEncoder, row: object) -> tuple[bool, bytes, str]:
    """Return whether ``row`` stays a row, its bytes, and the fingerprint of those.

    Raises:
        EventProblem: it does not fit the table, or what is in it has no form in JSON.
        UsageError: it is no dict.
    """
    if not isinstance(row, Mapping):
        as_events([row])  # type: ignore[list-item]  # raises, naming what it is
        raise AssertionError("as_events takes what stage does not")
    if encoder.table is not None:
        try:
            return False, encoder.encode_row(row), encoder.row_fingerprint
        except EventProblem as problem:
            # The table may have grown that column since it was asked for.
            if problem.reason is not Reason.UNKNOWN_FIELD:
                raise
    try:
        text = json.dumps(dict(row), default=_as_json, separators=(",", ":")).encode()
    except (TypeError, ValueError) as error:
        raise EventProblem(Reason.WRONG_TYPE, "", f"the row has no form in JSON: {error}") from None
    too_large = event_size_problem(len(text) // _JSON_FACTOR)
    if too_large is not None:
        raise too_large
    return True, text, ""


def _as_json(value: object) -> object:
    """Return the JSON form of a value, as the row encoder reads it back."""
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a {type(value).__name__}")
