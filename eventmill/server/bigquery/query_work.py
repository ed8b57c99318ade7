"""What a query job does: estimate, run, keep the answer, or store it in a table."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pyarrow as pa

from eventmill.base.errors import QueryError, TableNotFoundError
from eventmill.schema.document import columns_from_json, columns_to_json
from eventmill.schema.problem import EventProblem
from eventmill.schema.table import Column, Table, TableId, TableSpec
from eventmill.server.bigquery.calls import table_of
from eventmill.server.bigquery.cells import columns_of_arrow
from eventmill.server.bigquery.destinations import Destinations, Wish, wish_of
from eventmill.server.bigquery.dialect import bigquery_encoder
from eventmill.server.bigquery.errors import ApiError, api_error_of, fault_of, invalid
from eventmill.server.bigquery.job_runner import Attempt, Outcome
from eventmill.server.bigquery.output_types import known_columns
from eventmill.server.bigquery.query_settings import QuerySettings, query_settings
from eventmill.server.bigquery.results import Results
from eventmill.server.bigquery.rooms import Rooms
from eventmill.server.bigquery.row_writer import RowWriter
from eventmill.server.bigquery.scans import scan
from eventmill.server.bigquery.tables import reference
from eventmill.wire.answer import QueryResult
from eventmill.wire.cancel import as_cancellable

RESULT_ROWS_MAX = 1_000_000
"""Rows of one answer. It is held in memory while it is made; more is asked for in parts, or
aggregated."""


class QueryWork:
    """Runs query jobs and copy jobs."""

    def __init__(
        self,
        rooms: Rooms,
        results: Results,
        destinations: Destinations,
        writer: RowWriter,
        seconds_max: float,
    ) -> None:
        """Prepare; no query runs longer than ``seconds_max``."""
        self._rooms = rooms
        self._results = results
        self._destinations = destinations
        self._writer = writer
        self._cancellable = as_cancellable(rooms.store)
        self._seconds_max = seconds_max

    def query(self, attempt: Attempt) -> Outcome:
        """Run a query job."""
        job = attempt.job
        configuration = job.configuration["query"]
        wants_table = bool(job.said.get("writes"))
        if wants_table and self._results.has(job.key) and "schema" in job.said:
            # Cut short while it stored its rows: they are those of then, not of a second look.
            statistics = dict(job.statistics)
        else:
            settings = attempt.settings or query_settings(
                job.project, configuration, self._rooms.views.query_of
            )
            result, columns, statistics = self._run(attempt, settings)
            self._results.keep(job.key, result.to_arrow(), durable=wants_table)
            attempt.job = job = replace(
                job, statistics=statistics, said={**job.said, "schema": columns_to_json(columns)}
            )
        if not wants_table:
            return Outcome(statistics, {"schema": job.said["schema"]})
        columns = columns_from_json(job.said["schema"])
        wish = wish_of(configuration, "WRITE_EMPTY")
        count = self._store(attempt, wish, columns, [self._results.read(job.key)])
        return Outcome({**statistics, "outputRows": str(count)})

    def copy(self, attempt: Attempt) -> Outcome:
        """Run a copy job: all rows of one table into another, with new insert IDs."""
        configuration = attempt.job.configuration["copy"]
        wish = wish_of(configuration, "WRITE_EMPTY")
        sources = [self._rooms.describe(table) for table in copied_tables(configuration)]
        rows = (part for source in sources for part in scan(self._rooms.store, source))
        count = self._store(attempt, wish, sources[0].spec.columns, rows, like=sources[0].spec)
        return Outcome({"copiedRows": str(count)})

    def dry_run(self, settings: QuerySettings) -> dict[str, Any]:
        """Return the statistics of a query that is not run.

        Raises:
            ApiError: it would be refused.
            QueryError: the SQL cannot be answered.
        """
        with _told(settings):
            scanned = self._estimate(settings)
            nothing = f"SELECT * FROM (\n{settings.ready.sql}\n) LIMIT 0"  # noqa: S608 - it is SQL
            rows = self._rooms.store.query(nothing, settings.params).to_arrow()
        columns = self._columns(settings, rows.schema)
        return {
            **_statistics(settings, scanned, 0.0),
            "schema": {"fields": columns_to_json(columns)},
            "totalBytesBilled": "0",
        }

    def _run(
        self, attempt: Attempt, settings: QuerySettings
    ) -> tuple[QueryResult, tuple[Column, ...], dict[str, Any]]:
        with _told(settings):
            if settings.bytes_billed_max is not None:
                self._estimate(settings)
            result = self._answer(
                settings, attempt.cancel, attempt.job.configuration.get("jobTimeoutMs")
            )
        if result.stats.truncated:
            raise ApiError(
                403,
                "responseTooLarge",
                f"Response too large to return: an answer has at most {RESULT_ROWS_MAX:,} rows"
                " here; aggregate, or ask for a part",
            )
        columns = self._columns(settings, result.to_arrow().schema)
        statistics = _statistics(settings, result.stats.bytes_scanned, result.stats.seconds)
        return result, columns, statistics

    def _answer(
        self, settings: QuerySettings, cancel: threading.Event, timeout_ms: object
    ) -> QueryResult:
        seconds = self._seconds_max
        if timeout_ms not in (None, "", 0, "0"):
            seconds = min(seconds, int(str(timeout_ms)) / 1000)
        if self._cancellable is not None:
            return self._cancellable.query(
                settings.ready.sql,
                settings.params,
                row_limit=RESULT_ROWS_MAX,
                timeout_seconds=seconds,
                cancel=cancel,
            )
        return self._rooms.store.query(
            settings.ready.sql,
            settings.params,
            row_limit=RESULT_ROWS_MAX,
            timeout_seconds=seconds,
        )

    def _estimate(self, settings: QuerySettings) -> int:
        """Return how many bytes the query would read; refuse one that would read too many."""
        stats = self._rooms.store.query(settings.ready.sql, settings.params, dry_run=True).stats
        limit = settings.bytes_billed_max
        if limit is not None and stats.bytes_scanned > limit:
            raise ApiError(
                400,
                "bytesBilledLimitExceeded",
                f"Query exceeded limit for bytes billed: {limit}. {stats.bytes_scanned} or higher"
                " required.",
            )
        return stats.bytes_scanned

    def _columns(self, settings: QuerySettings, schema: pa.Schema) -> tuple[Column, ...]:
        def columns_of(table: TableId) -> Sequence[Column]:
            return self._rooms.store.describe(table).spec.columns

        known = known_columns(settings.ready.sql, settings.tables, columns_of)
        return columns_of_arrow(schema, known)

    def _store(
        self,
        attempt: Attempt,
        wish: Wish,
        columns: Sequence[Column],
        rows: Iterator[pa.Table] | Sequence[pa.Table],
        *,
        like: TableSpec | None = None,
    ) -> int:
        is_begun = bool(attempt.job.said.get("begun"))
        with self._destinations.turn(wish.table):
            found = self._destinations.ready(wish, columns, is_begun=is_begun, like=like)
            table = self._destinations.made(attempt.principal, found, wish)
            return self._writer.write(
                attempt.job.key,
                table,
                _events(table, rows),
                before_first=begins(attempt),
                cancel=attempt.cancel,
                principal=attempt.principal,
            )


def begins(attempt: Attempt) -> Callable[[], None]:
    """Return what notes that rows of the job may be in its table from now on."""

    def note() -> None:
        attempt.job = replace(attempt.job, said={**attempt.job.said, "begun": True})
        attempt.save(attempt.job)

    return note


def copied_tables(configuration: Mapping[str, Any]) -> list[TableId]:
    """Return the tables that a copy job reads."""
    one, several = configuration.get("sourceTable"), configuration.get("sourceTables")
    references = several or [one]
    if not isinstance(references, list) or not all(isinstance(r, Mapping) for r in references):
        raise invalid("Required parameter is missing: sourceTable", "sourceTable")
    return [table_of(r.get("projectId"), r.get("datasetId"), r.get("tableId")) for r in references]


def _events(
    table: Table, parts: Iterator[pa.Table] | Sequence[pa.Table]
) -> Iterator[tuple[bytes, bytes]]:
    encode = bigquery_encoder(table.spec.descriptor_set, table.spec.message).encode
    for part in parts:
        for batch in part.to_batches(max_chunksize=1_000):
            for row in batch.to_pylist():
                try:
                    yield b"", encode(row)
                except EventProblem as problem:
                    fault = fault_of(problem)
                    raise ApiError(400, fault.reason, fault.message, fault.location) from None


def _statistics(settings: QuerySettings, scanned: int, seconds: float) -> dict[str, Any]:
    return {
        "statementType": "SELECT",
        "cacheHit": False,
        "totalBytesProcessed": str(scanned),
        "totalBytesBilled": str(scanned),
        "totalSlotMs": str(int(seconds * 1000)),
        "referencedTables": [reference(table) for table in settings.tables],
    }


@contextmanager
def _told(settings: QuerySettings) -> Iterator[None]:
    """Name places in errors of the store by the text that the client has sent."""
    try:
        yield
    except QueryError as error:
        raise type(error)(settings.ready.told(str(error))) from error
    except TableNotFoundError as error:
        raise api_error_of(error) from error
