"""Query parameters written into the SQL, for a connector that has none."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from itertools import pairwise
from typing import Any

from sqlglot import exp
from sqlglot.dialects.bigquery import BigQuery
from sqlglot.tokens import TokenType

from eventmill.base.errors import UsageError


def mentioned(sql: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of ``params`` that ``sql`` mentions as ``@name``; names know no case."""
    used = {name for _, _, name in _places(sql)}
    return {name: value for name, value in params.items() if name.lower() in used}


def with_literals(sql: str, params: Mapping[str, Any]) -> str:
    """Return ``sql`` with every ``@name`` replaced; text and comments stay as they are.

    Raises:
        UsageError: a parameter has no value, or one that has no literal.
    """
    values = {name.lower(): value for name, value in params.items()}
    parts, done = [], 0
    for start, end, name in _places(sql):
        if name not in values:
            raise UsageError(f"the query mentions @{name}, and no such parameter is given")
        parts += [sql[done:start], _literal(name, values[name])]
        done = end
    return "".join([*parts, sql[done:]])


def _places(sql: str) -> list[tuple[int, int, str]]:
    """Return start, end and lower-case name of every parameter."""
    tokens = BigQuery().tokenize(sql)
    return [
        (at.start, name.end + 1, name.text.lower())
        for at, name in pairwise(tokens)
        if at.token_type is TokenType.PARAMETER and name.start == at.end + 1
    ]


def _literal(name: str, value: Any) -> str:  # noqa: ANN401 - judged here
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, datetime):
        if value.tzinfo is None:
            return f"DATETIME '{value:%Y-%m-%d %H:%M:%S.%f}'"
        return f"TIMESTAMP '{value.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}+00:00'"
    if isinstance(value, date):
        return f"DATE '{value.isoformat()}'"
    if isinstance(value, str):
        return str(exp.Literal.string(value).sql(dialect="bigquery"))
    if isinstance(value, int):
        return str(value)
    raise UsageError(
        f"the parameter @{name} is a {type(value).__name__}; Beam's BigQuery connector has no"
        " parameters, and only text, whole numbers, booleans, dates and times can be written"
        " into the query"
    )
