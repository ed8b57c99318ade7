"""What a slot's inputs held: counted before a run, and compared when rows may have come later."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from eventmill.base.errors import QueryCancelledError, QueryError
from eventmill.schema.table import TableSpec
from eventmill.store.own_columns import INGESTED_AT
from eventmill.wire.cancel import as_cancellable
from eventmill.workflow.definition import WorkflowInput
from eventmill.workflow.sql_body import SLOT_END, SLOT_START, sql_name

if TYPE_CHECKING:
    from eventmill.store.port import Store
    from eventmill.wire.answer import QueryResult

PARTITION_TIME = "_PARTITIONTIME"
FIRST_MOMENT = "TIMESTAMP '0001-01-01 00:00:00+00'"


@dataclass(frozen=True, slots=True)
class InputMark:
    """How much one input held of a slot at one moment."""

    count: int
    """Rows of the slot."""
    max_ingested_us: int | None
    """Newest ``_ingested_at`` of them, microseconds since 1970; None: there was no row."""

    def is_outgrown_by(self, later: InputMark) -> bool:
        """Tell whether rows have come since: more of them, or a newer one."""
        return later.count > self.count or (later.max_ingested_us or 0) > (
            self.max_ingested_us or 0
        )


def slot_expression(entry: WorkflowInput, spec: TableSpec) -> str:
    """Return the GoogleSQL expression that says when a row of an input is.

    Args:
        entry: the input.
        spec: the live definition of its table.
    """
    if entry.slot_by is not None:
        return f"(\n{entry.slot_by}\n)"  # on lines of its own, so that it may end in a comment
    column = spec.partitioning.column if spec.partitioning else None
    return f"`{column}`" if column else INGESTED_AT


def partition_filter(spec: TableSpec) -> str:
    """Return a condition that every row meets, for a table that is only queried with a filter."""
    if not spec.require_partition_filter or spec.partitioning is None:
        return "TRUE"
    # The embedded store takes the first part as a filter, BigQuery the second.
    column = spec.partitioning.column
    partition = f"`{column}`" if column else PARTITION_TIME
    return (
        f"{INGESTED_AT} >= {FIRST_MOMENT}"
        f" AND ({partition} >= {FIRST_MOMENT} OR {partition} IS NULL)"
    )


def take_mark(
    store: Store,
    entry: WorkflowInput,
    spec: TableSpec,
    start: datetime,
    end: datetime,
    *,
    timeout_seconds: float | None = None,
    cancel: threading.Event | None = None,
) -> InputMark:
    """Count what an input holds of the slot [start, end) now.

    Raises:
        QueryError: ``slot_by`` does not fit the table; or the time is over, or ``cancel`` set.
    """
    when = slot_expression(entry, spec)
    sql = (
        f"SELECT COUNT(*) AS n, UNIX_MICROS(MAX({INGESTED_AT})) AS newest"  # noqa: S608
        f" FROM {sql_name(entry.table)}"
        f" WHERE {when} >= @{SLOT_START} AND {when} < @{SLOT_END} AND {partition_filter(spec)}"
    )
    params = {SLOT_START: start, SLOT_END: end}
    try:
        (row,) = ask(store, sql, params, timeout_seconds=timeout_seconds, cancel=cancel)
    except QueryCancelledError:
        raise
    except QueryError as error:
        if entry.slot_by is None:
            raise
        told = f"slot_by of the input {entry.table}, {entry.slot_by}: {error}"
        raise type(error)(told) from error
    return InputMark(row["n"], row["newest"])


def ask(
    store: Store,
    sql: str,
    params: Mapping[str, Any],
    *,
    timeout_seconds: float | None = None,
    cancel: threading.Event | None = None,
) -> QueryResult:
    """Answer a query with all its rows; stopped by ``cancel`` where the store can be."""
    cancellable = as_cancellable(store)
    if cancellable is None:
        return store.query(sql, params, row_limit=None, timeout_seconds=timeout_seconds)
    return cancellable.query(
        sql, params, row_limit=None, timeout_seconds=timeout_seconds, cancel=cancel
    )
