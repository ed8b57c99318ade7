"""Rows into a table by ``tabledata.insertAll``: the older way, where the Storage Write API is not.

BigQuery remembers a row's ID for about a minute, at best (cloud.google.com/bigquery/docs/
streaming-data-into-bigquery, looked up 2026-11-24): the insert ID is sent as one, and the view
without duplicates is what can be relied upon.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import pyarrow as pa
from google.api_core import exceptions as api
from google.cloud import bigquery

from eventmill.base.errors import UnavailableError
from eventmill.schema.table import Column, ColumnType, TableId, TableSpec
from eventmill.store.bigquery.definition import reference
from eventmill.store.bigquery.faults import google_errors
from eventmill.store.bigquery.storage_write import RowFault, TableNotThereError
from eventmill.store.own_columns import INGESTED_AT, INSERT_ID
from eventmill.wire.answer import QueryResult, QueryStats
from eventmill.wire.columns import ColumnReader
from eventmill.wire.rows import json_rows
from eventmill.wire.rows_text import timestamp_text

REQUEST_ROWS_MAX = 500
REQUEST_BYTES_MAX = 9_500_000
"""Google advises 500 rows a request, and takes 10 MB (cloud.google.com/bigquery/quotas
#streaming_inserts, looked up 2026-11-24)."""
REQUEST_TIMEOUT_SECONDS = 60.0
_RETRY_SECONDS = 20.0
"""Google's own patience is ten minutes, in which the caller would hear nothing."""
_TRANSIENT_REASONS = frozenset(
    ("backendError", "internalError", "quotaExceeded", "rateLimitExceeded", "timeout")
)
"""Reasons that say nothing of the row (cloud.google.com/bigquery/docs/error-messages, looked up
2026-11-24)."""
_NOT_READ = QueryStats(0.0, 0, False, 0)


class JsonRows:
    """Turns events of one table into rows of JSON, in the forms that BigQuery reads exactly."""

    def __init__(self, spec: TableSpec) -> None:
        """Compile; SchemaError when the columns do not fit the message."""
        self._reader = ColumnReader(spec)
        # A number in JSON is exact up to 2^53 for most readers: integers travel as text.
        self._exact = pa.schema(
            [
                pa.field(column.name, exact_type(field.type, column))
                for column, field in zip(spec.columns, self._reader.arrow_schema, strict=True)
            ]
        )

    def rows(
        self, insert_ids: Sequence[bytes], events: Sequence[bytes], ingested_us: int
    ) -> list[dict[str, Any]]:
        """Return one row an event, in order; see ``RowWriter.rows``."""
        batch = self._reader.read(pa.array(events, pa.binary()))
        table = pa.Table.from_batches([batch]).cast(self._exact)
        at = timestamp_text(pa.array([ingested_us], pa.timestamp("us", tz="UTC"))[0].as_py())
        rows = [row for chunk in json_rows(QueryResult(table, _NOT_READ)) for row in chunk]
        for insert_id, row in zip(insert_ids, rows, strict=True):
            row[INSERT_ID] = insert_id.decode()
            row[INGESTED_AT] = at
        return rows


class InsertAllWriter:
    """Streams rows by insertAll. Safe from any thread."""

    def __init__(self, client: bigquery.Client) -> None:
        self._client = client

    def append(
        self,
        table: TableId,
        rows: Sequence[dict[str, Any]],
        timeout_seconds: float = REQUEST_TIMEOUT_SECONDS,
    ) -> Sequence[RowFault]:
        """Append rows but those that are returned as faulty.

        ``timeout_seconds`` is how long each request may take, and its repetitions together.

        Raises:
            TableNotThereError: no row of the request that met it was appended.
            TransientError: any row may have been appended; send all again, with the same IDs.
            PermanentError: as before, and it would be so again.
        """
        places = list(range(len(rows)))
        faults: list[RowFault] = []
        while places:
            part = places[: _fitting([rows[place] for place in places[:REQUEST_ROWS_MAX]])]
            stopped, found = self._send(table, rows, part, timeout_seconds)
            faults += found
            # Rows beside a faulty one are not appended: they go again, without it.
            places = [*stopped, *places[len(part) :]]
        return sorted(faults, key=lambda fault: fault.index)

    def close(self) -> None:
        """Do nothing: the client is the store's."""

    def _send(
        self,
        table: TableId,
        rows: Sequence[dict[str, Any]],
        part: Sequence[int],
        timeout_seconds: float,
    ) -> tuple[list[int], list[RowFault]]:
        """Send some rows; return the places of those to be sent again, and the faulty ones."""
        with google_errors(f"writing to {table}"):
            try:
                told = self._client.insert_rows_json(
                    reference(table),
                    [rows[place] for place in part],
                    row_ids=[rows[place][INSERT_ID] for place in part],
                    timeout=timeout_seconds,
                    retry=bigquery.DEFAULT_RETRY.with_timeout(min(_RETRY_SECONDS, timeout_seconds)),
                )
            except api.NotFound as error:
                raise TableNotThereError(str(error.message)) from error
            except api.GoogleAPICallError as error:
                if error.code != 413:
                    raise
                if len(part) == 1:
                    return [], [RowFault(part[0], str(error.message))]
                middle = len(part) // 2
                first = self._send(table, rows, part[:middle], timeout_seconds)
                second = self._send(table, rows, part[middle:], timeout_seconds)
                return [*first[0], *second[0]], [*first[1], *second[1]]
        return _told(table, part, told)


def _told(
    table: TableId, part: Sequence[int], told: Sequence[Mapping[str, Any]]
) -> tuple[list[int], list[RowFault]]:
    """Return which rows of a request have to go again, and which are faulty."""
    if not told:
        return [], []
    faults: list[RowFault] = []
    for each in told:
        reasons = {fault.get("reason") for fault in each["errors"]}
        if reasons == {"stopped"}:
            continue
        text = "; ".join(
            f"{fault.get('location') or 'row'}: {fault.get('message', fault.get('reason'))}"
            for fault in each["errors"]
            if fault.get("reason") != "stopped"
        )
        if "no such field" in text.lower():
            raise TableNotThereError(text)
        if reasons & _TRANSIENT_REASONS:
            raise UnavailableError(f"writing to {table}: {text}")
        faults.append(RowFault(part[each["index"]], text))
    if not faults:
        raise TableNotThereError(f"{table} stopped rows and names no faulty one")
    # One faulty row keeps all others out, whether or not the answer names each of them.
    faulty = {fault.index for fault in faults}
    return [place for place in part if place not in faulty], faults


def _fitting(rows: Sequence[dict[str, Any]]) -> int:
    """Return how many of the first rows go into one request; at least one."""
    if len(orjson.dumps(rows)) <= REQUEST_BYTES_MAX:
        return len(rows)
    total = 0
    for count, row in enumerate(rows):
        total += len(orjson.dumps(row))
        if count and total > REQUEST_BYTES_MAX:
            return count
    return len(rows)


def exact_type(type_: pa.DataType, column: Column) -> pa.DataType:
    """Return the Arrow type in which values of ``column`` become exact JSON."""
    if pa.types.is_list(type_):
        return pa.list_(exact_type(type_.value_type, column))
    if pa.types.is_struct(type_):
        return pa.struct(
            [
                pa.field(field.name, exact_type(field.type, below))
                for field, below in zip(type_, column.fields, strict=True)
            ]
        )
    return pa.string() if column.type is ColumnType.INTEGER else type_
