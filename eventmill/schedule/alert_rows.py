"""A rule of a file: each row of its answer is something that is wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from eventmill.base.clock import utc_datetime
from eventmill.base.errors import QueryError
from eventmill.schedule.alert_channels import one_line
from eventmill.schedule.alert_files import AlertRule
from eventmill.schedule.alert_finding import Finding
from eventmill.store.googlesql import parameter_names
from eventmill.store.port import Store

ROWS_MAX = 100
"""Rows of a rule that become alerts: what answers with more is no rule but a report."""
TEXT_CHARACTERS_MAX = 1_000
"""Of what a row says, as much is told: a channel refuses what is too long, for a day."""
SECONDS_MAX = 30.0
"""How long a rule's query may take: the other rules wait for it."""


def find_rows(store: Store, rule: AlertRule, now: float) -> Iterator[Finding]:
    """Yield a finding for each row that the rule's SQL answers with.

    Raises:
        QueryError: the SQL cannot be answered, or its rows cannot be told apart or put into words.
        TransientError: the store cannot answer now.
    """
    # Stores refuse a value that a query does not mention.
    params = dict.fromkeys(parameter_names(rule.sql) & {"now"}, utc_datetime(now))
    answer = store.query(rule.sql, params, row_limit=ROWS_MAX + 1, timeout_seconds=SECONDS_MAX)
    rows = list(answer)
    if len(rows) > ROWS_MAX:
        raise QueryError(
            f"it answers with more than {ROWS_MAX} rows: have it aggregate, or add a LIMIT"
        )
    seen: set[str] = set()
    for row in rows:
        subject = _subject(rule, row)
        if subject in seen:
            raise QueryError(
                f"two of its rows are {subject}: name the columns that tell them apart in `key`"
            )
        seen.add(subject)
        yield Finding(
            rule=rule.name,
            subject=subject,
            summary=_summary(rule, row),
            owner=rule.owner,
            severity=rule.severity,
            aliases=(rule.name,),
            labels={name: _short(str(value)) for name, value in row.items() if value is not None},
            hold_seconds=rule.hold_seconds,
        )


def _subject(rule: AlertRule, row: Mapping[str, Any]) -> str:
    missing = [name for name in rule.key if name not in row]
    if missing:
        raise QueryError(f"its rows have no column {', '.join(missing)}, which `key` names")
    names = rule.key or tuple(name for name, value in row.items() if isinstance(value, str))
    return _short(one_line(", ".join(f"{row[name]}" for name in names))) or rule.name


def _summary(rule: AlertRule, row: Mapping[str, Any]) -> str:
    try:
        filled = rule.summary.format_map({name: _shown(value) for name, value in row.items()})
    except (KeyError, ValueError, IndexError, AttributeError, TypeError) as error:
        raise QueryError(
            f"summary {rule.summary!r} cannot be filled from the columns {', '.join(row)}: {error}"
        ) from error
    return _short(one_line(filled))


def _short(text: str) -> str:
    if len(text) <= TEXT_CHARACTERS_MAX:
        return text
    # With a mark of the rest, so that two subjects with one beginning are two.
    mark = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:8]
    return f"{text[:TEXT_CHARACTERS_MAX]}... ({mark})"


def _shown(value: object) -> object:
    # A number that {p95:.1f} may format; text cannot reach attributes of what is not plain.
    return value if isinstance(value, (int, float)) else str(value)
