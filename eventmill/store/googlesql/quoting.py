"""Names, text and numbers as DuckDB literals. Nothing of a query reaches DuckDB unquoted."""

from __future__ import annotations

import math

from eventmill.store.googlesql.refusals import wrong

_INT64_MAX = 2**63 - 1


def quote_name(name: str) -> str:
    """Return ``name`` as a quoted identifier."""
    return '"' + name.replace('"', '""') + '"'


def quote_text(text: str) -> str:
    """Return ``text`` as a string literal.

    Raises:
        QueryError: the text holds the character NUL, which a DuckDB literal cannot.
    """
    if "\0" in text:
        raise wrong("a string literal holds the character NUL; pass it as a parameter instead")
    return "'" + text.replace("'", "''") + "'"


def quote_bytes(raw: bytes) -> str:
    """Return ``raw`` as an expression of type BLOB."""
    return f"unhex('{raw.hex()}')"


def int64(value: int) -> str:
    """Return ``value`` as a BIGINT: a bare DuckDB literal would be a 32-bit integer.

    Raises:
        QueryError: the value does not fit into 64 bits.
    """
    if not -_INT64_MAX - 1 <= value <= _INT64_MAX:
        raise wrong(f"the integer {value} does not fit INT64")
    text = f"'{value}'" if value == -_INT64_MAX - 1 else str(value)
    return f"CAST({text} AS BIGINT)"


def float64(text: str) -> str:
    """Return a decimal literal as a DOUBLE: a bare DuckDB literal would be a DECIMAL.

    Raises:
        QueryError: the number is too large for 64 bits.
    """
    if math.isinf(float(text)):
        raise wrong(f"the number {text} does not fit FLOAT64")
    return text if "e" in text.lower() else f"{text}e0"


def failure(message: str) -> str:
    """Return an expression that ends the query with ``message`` when it is evaluated."""
    return f"error({quote_text(message)})"
