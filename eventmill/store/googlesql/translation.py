"""GoogleSQL in, DuckDB's SQL out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlglot import exp

from eventmill.base.clock import SYSTEM_CLOCK, utc_datetime
from eventmill.base.errors import QueryError
from eventmill.schema.table import DEFAULT_PROJECT, TableId
from eventmill.store.googlesql.bounds import TimeBounds, merge
from eventmill.store.googlesql.grammar import parse
from eventmill.store.googlesql.queries import Queries
from eventmill.store.googlesql.values import Parameters

_TOO_DEEP = "the query is nested too deeply; split it with WITH"


@dataclass(frozen=True, slots=True)
class Translation:
    """A query in DuckDB's words, and what has to be there for it to run."""

    sql: str
    """Reads each table as a quoted identifier, ``view_name`` of it. Wants the zone UTC."""
    tables: tuple[TableId, ...]
    """Tables that it reads, in order of appearance, each once."""
    parameters: dict[str, Any]
    """Value of each ``$name`` in ``sql``."""
    pseudo_columns: frozenset[TableId]
    """Tables whose view must also show ``_insert_id`` and ``_ingested_at``; no other may."""
    time_bounds: Mapping[tuple[TableId, str], TimeBounds]
    """By table and column (in lower case): rows outside, or with NULL there, change nothing."""


def parameter_names(sql: str) -> frozenset[str]:
    """Return the names of the parameters that a query mentions, in lower case.

    Raises:
        QueryError: it is not one SELECT or WITH statement.
    """
    try:
        return frozenset(str(node.name).lower() for node in parse(sql).find_all(exp.Parameter))
    except RecursionError:
        raise QueryError(_TOO_DEEP) from None


def translate(
    sql: str,
    params: Mapping[str, Any] | None = None,
    *,
    default_project: str = DEFAULT_PROJECT,
    now: datetime | None = None,
) -> Translation:
    """Translate one GoogleSQL query.

    Args:
        sql: one SELECT or WITH statement, of the subset in docs/sql.md.
        params: value of each ``@name`` in it: str, int, float, bool, bytes, datetime (aware:
            TIMESTAMP, naive: DATETIME), date, time, None, or a list of one of these.
        default_project: project of table names that have two parts.
        now: what CURRENT_TIMESTAMP is, aware; None: the machine's clock.

    Raises:
        QueryError: a syntax error, a name or argument that does not fit, a missing or
            superfluous parameter.
        UnsupportedSqlError: a construct outside the subset; the message names it.
    """
    moment = (now or utc_datetime(SYSTEM_CLOCK.now())).astimezone(UTC)
    written_now = f"TIMESTAMPTZ '{moment:%Y-%m-%d %H:%M:%S.%f}+00'"
    parameters = Parameters(params)
    try:
        tree = parse(sql)
        writer = Queries(parameters, written_now, default_project)
        text = writer.write_statement(tree)
        if writer.pseudo:
            # Which views show the pseudo columns is known only now; * has to leave them out.
            parameters.forget_use()
            hidden = frozenset(writer.pseudo)
            writer = Queries(parameters, written_now, default_project, hidden)
            text = writer.write_statement(tree)
    except RecursionError:
        raise QueryError(_TOO_DEEP) from None
    used = parameters.used()
    return Translation(
        sql=text,
        tables=tuple(writer.tables),
        parameters=used,
        pseudo_columns=frozenset(writer.pseudo),
        time_bounds=merge(writer.reads, used),
    )
