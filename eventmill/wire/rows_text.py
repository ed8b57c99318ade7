"""How values, rows and tables of rows are written as text: the one place that decides it.

Rows that a query answers and rows that a command puts together go through here, so that a program
reads the same from both. A float that is not finite is the text ``NaN``, ``Infinity`` or
``-Infinity``, a TIMESTAMP is RFC 3339 in UTC with microseconds, BYTES are base64, NUMERIC is a
text (a JSON number would be rounded on the way), INTEGER is a JSON number. Pure; without pyarrow.
"""

from __future__ import annotations

import base64
import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any


def json_value(value: object) -> object:
    """Return ``value`` made of what JSON has; what has no form here becomes its ``str``."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return float_value(value)
    if isinstance(value, Mapping):
        return {str(key): json_value(below) for key, below in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_value(below) for below in value]
    if isinstance(value, datetime):
        return timestamp_text(value) if value.tzinfo else datetime_text(value)
    if isinstance(value, time):
        return time_text(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64_text(value)
    if isinstance(value, Decimal):
        return decimal_text(value)
    return str(value)


def float_value(value: float) -> float | str:
    """Return a FLOAT64 as a JSON number, or as a text where JSON has no number for it."""
    if math.isfinite(value):
        return value
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def timestamp_text(value: datetime) -> str:
    """Return an aware datetime as RFC 3339 in UTC with microseconds."""
    return datetime_text(value.astimezone(UTC).replace(tzinfo=None)) + "Z"


def datetime_text(value: datetime) -> str:
    """Return a naive datetime, civil time, in ISO 8601 with microseconds."""
    return value.isoformat(timespec="microseconds")


def time_text(value: time) -> str:
    """Return a time of day in ISO 8601 with microseconds."""
    return value.isoformat(timespec="microseconds")


def base64_text(value: bytes | bytearray | memoryview) -> str:
    """Return bytes in base64."""
    return base64.b64encode(value).decode("ascii")


def decimal_text(value: Decimal) -> str:
    """Return a NUMERIC in full, without an exponent."""
    return f"{value:f}"


def cell_value(value: object) -> object:
    """Return a value of JSON's types as CSV has it; the csv module writes the rest, None as empty.

    An array or struct is its JSON.
    """
    if isinstance(value, (dict, list)):
        import orjson  # who writes single values needs the standard library alone

        return orjson.dumps(value).decode()
    if isinstance(value, bool):
        return "true" if value else "false"
    return value


def ndjson_pieces(chunks: Iterable[Iterable[Mapping[str, Any]]]) -> Iterator[bytes]:
    """Yield rows of JSON's types as NDJSON, one piece for each chunk."""
    import orjson  # see above

    for rows in chunks:
        yield b"".join([orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows])


def csv_pieces(
    columns: Sequence[str], chunks: Iterable[Iterable[Mapping[str, Any]]]
) -> Iterator[bytes]:
    """Yield a head of ``columns`` and rows of JSON's types as CSV (RFC 4180: lines end with CRLF).

    A row that has no key for a column has an empty cell there.
    """
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    for rows in chunks:
        writer.writerows([cell_value(row.get(name)) for name in columns] for row in rows)
        yield text.getvalue().encode()
        text.seek(0)
        text.truncate()
    yield text.getvalue().encode()
