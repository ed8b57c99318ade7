"""GoogleSQL asked of BigQuery itself: the written subset, read-only, with a bound on its cost."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import date, datetime
from datetime import time as time_of_day
from decimal import Decimal
from typing import Any

import pyarrow as pa
from google.api_core import exceptions as api
from google.cloud import bigquery

from eventmill.base.errors import QueryCancelledError, QueryError
from eventmill.base.quantity import format_bytes
from eventmill.schema.table import ColumnType, TableId, TableSpec
from eventmill.store.bigquery.faults import google_errors
from eventmill.store.googlesql import translate
from eventmill.store.own_columns import INGESTED_AT
from eventmill.wire.answer import QueryResult, QueryStats

_SCALARS: tuple[tuple[type, str], ...] = (
    (bool, "BOOL"),
    (int, "INT64"),
    (float, "FLOAT64"),
    (str, "STRING"),
    (bytes, "BYTES"),
    (Decimal, "NUMERIC"),
    (datetime, "DATETIME"),
    (date, "DATE"),
    (time_of_day, "TIME"),
)

_FIRST_MOMENTS = {
    ColumnType.TIMESTAMP: "TIMESTAMP '0001-01-01 00:00:00'",
    ColumnType.DATETIME: "DATETIME '0001-01-01 00:00:00'",
    ColumnType.DATE: "DATE '0001-01-01'",
}


def partition_conditions(spec: TableSpec, *, has_own: bool = True) -> tuple[str, ...]:
    """Return conditions of which each row meets one, and each is enough of a partition filter.

    One is enough where the table asks for none; where it does, rows whose partition column is
    NULL have one of their own, in the form that every store takes.

    Args:
        spec: of the table.
        has_own: whether the table has the columns of Eventmill's own.
    """
    column = spec.partitioning and spec.partitioning.column
    if not column or not spec.require_partition_filter:
        return ("TRUE",)
    (kind,) = (each.type for each in spec.columns if each.name == column)
    is_null = f"{column} IS NULL"
    if has_own:
        is_null = f"{INGESTED_AT} >= {_FIRST_MOMENTS[ColumnType.TIMESTAMP]} AND {is_null}"
    return f"{column} >= {_FIRST_MOMENTS[kind]}", is_null


class Questions:
    """Asks queries of one project. Safe from any thread."""

    def __init__(self, client: bigquery.Client, project: str, billed_bytes_max: int) -> None:
        self._client = client
        self._project = project
        self._billed_bytes_max = billed_bytes_max

    def tables_of(self, sql: str, params: Mapping[str, Any] | None) -> tuple[TableId, ...]:
        """Return the tables that a query reads.

        Raises:
            QueryError: it is outside the written subset, or not one statement that reads.
        """
        # The subset is the same on every store, so that a query that runs here runs there.
        return translate(sql, params, default_project=self._project).tables

    def ask(
        self,
        sql: str,
        params: Mapping[str, Any] | None,
        *,
        row_limit: int | None,
        timeout_seconds: float | None,
        dry_run: bool,
    ) -> QueryResult:
        """Answer a query (see ``Store.query``); ``tables_of`` has looked at it before."""
        began = time.perf_counter()
        estimate = self._run(sql, params, dry_run=True)
        scanned = int(estimate.total_bytes_processed or 0)
        if dry_run:
            stats = QueryStats(time.perf_counter() - began, scanned, False, 0)
            return QueryResult(pa.table({}), stats)
        if scanned > self._billed_bytes_max:
            raise QueryError(
                f"the query would scan {format_bytes(scanned)}, and"
                f" {format_bytes(self._billed_bytes_max)} are allowed: narrow its time range"
                " or its columns, or allow more by"
                " bigquery://PROJECT?billed_bytes_max=..."
            )
        job = self._run(sql, params, dry_run=False, timeout_seconds=timeout_seconds)
        rows, truncated = self._rows(job, row_limit, timeout_seconds)
        scanned = int(job.total_bytes_processed or scanned)
        stats = QueryStats(time.perf_counter() - began, scanned, truncated, row_limit or 0)
        return QueryResult(rows, stats)

    def _run(
        self,
        sql: str,
        params: Mapping[str, Any] | None,
        *,
        dry_run: bool,
        timeout_seconds: float | None = None,
    ) -> bigquery.QueryJob:
        config = bigquery.QueryJobConfig(
            dry_run=dry_run,
            use_query_cache=not dry_run,
            query_parameters=[parameter(name, value) for name, value in (params or {}).items()],
        )
        if not dry_run:
            config.maximum_bytes_billed = self._billed_bytes_max
            if timeout_seconds is not None:
                config.job_timeout_ms = max(1, int(timeout_seconds * 1000))
        with google_errors("asking BigQuery"):
            try:
                return self._client.query(sql, job_config=config)
            except api.BadRequest as error:
                raise QueryError(f"BigQuery: {error.message}") from error

    @staticmethod
    def _rows(
        job: bigquery.QueryJob, row_limit: int | None, timeout_seconds: float | None
    ) -> tuple[pa.Table, bool]:
        limit = None if row_limit is None else row_limit + 1
        with google_errors("asking BigQuery"):
            try:
                found = job.result(max_results=limit, timeout=timeout_seconds)
                rows = found.to_arrow(create_bqstorage_client=False)
            except TimeoutError as error:
                job.cancel()
                raise QueryCancelledError(
                    f"the query was stopped after {timeout_seconds:g} s: narrow its time range, or"
                    " allow it more time"
                ) from error
            except api.BadRequest as error:
                raise QueryError(f"BigQuery: {error.message}") from error
        if row_limit is not None and rows.num_rows > row_limit:
            return rows.slice(0, row_limit), True
        return rows, False


def parameter(
    name: str,
    value: Any,  # noqa: ANN401 - any value of SQL
) -> bigquery.ScalarQueryParameter | bigquery.ArrayQueryParameter:
    """Return a query parameter as the client library has it; QueryError for an odd type."""
    if isinstance(value, (list, tuple)):
        kinds = [_kind(each) for each in value if each is not None]
        return bigquery.ArrayQueryParameter(name, kinds[0] if kinds else "STRING", list(value))
    return bigquery.ScalarQueryParameter(name, _kind(value), value)


def _kind(value: Any) -> str:  # noqa: ANN401 - as above
    if value is None:
        return "STRING"
    if isinstance(value, datetime) and value.tzinfo is not None:
        return "TIMESTAMP"
    for kind, name in _SCALARS:
        if isinstance(value, kind):
            return name
    raise QueryError(f"a parameter of type {type(value).__name__} has no type of SQL")
