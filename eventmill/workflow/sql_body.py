"""The SQL of a workflow: what ``query.sql`` may say, checked without any store."""

from __future__ import annotations

import functools
from datetime import datetime

from eventmill.base.clock import utc_datetime
from eventmill.base.errors import QueryError
from eventmill.schema.table import DEFAULT_PROJECT, TableId
from eventmill.store.googlesql import parameter_names, translate

SLOT_START = "slot_start"
SLOT_END = "slot_end"
"""The parameters ``@slot_start`` and ``@slot_end``, of type TIMESTAMP."""


def slot_parameters(sql: str, start: datetime, end: datetime) -> dict[str, datetime]:
    """Return the values of those of ``@slot_start`` and ``@slot_end`` that ``sql`` uses.

    A query may be about the state at the slot's start or end alone; stores refuse a value that
    a query does not mention.

    Raises:
        QueryError: it is not one statement of the subset.
    """
    used = _mentioned(sql)
    both = {SLOT_START: start, SLOT_END: end}
    return {name: moment for name, moment in both.items() if name in used}


@functools.lru_cache(maxsize=64)
def _mentioned(sql: str) -> frozenset[str]:
    """Return the parameters that a statement mentions; kept, as the next slot asks for the same."""
    return parameter_names(sql)


def check_sql(sql: str) -> tuple[TableId, ...]:
    """Return the tables that a workflow's statement reads.

    Raises:
        QueryError: it is outside of the subset, or says nothing of its slot.
    """
    moment = utc_datetime(0)
    used = slot_parameters(sql, moment, moment)
    tables = translate(sql, used).tables
    if not used:
        raise QueryError(
            f"it uses neither @{SLOT_START} nor @{SLOT_END}: every slot would have the same rows;"
            f" add a condition such as WHERE t >= @{SLOT_START} AND t < @{SLOT_END}"
        )
    return tables


def check_expression(expression: str, table: TableId) -> None:
    """Return when ``expression`` is one GoogleSQL expression over columns of ``table``.

    Raises:
        QueryError: it is not.
    """
    # In parentheses and on lines of its own it can end neither the list nor the statement.
    translation = translate(f"SELECT (\n{expression}\n) AS x FROM {sql_name(table)}")  # noqa: S608
    if translation.tables != (table,):
        raise QueryError(f"it reads other tables than {table}: use columns of that one alone")


def sql_name(table: TableId) -> str:
    """Return the name of ``table`` in GoogleSQL, on whichever store it is.

    One of the default project goes without it, as each store has its own.
    """
    bare = f"{table.dataset}.{table.table}"
    return f"`{bare}`" if table.project == DEFAULT_PROJECT else f"`{table}`"
