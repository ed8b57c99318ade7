"""A pipeline's output in BigQuery: load jobs into a table of its own, then the swap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa

from eventmill.beam.counters import Counters
from eventmill.beam.rows import as_dict
from eventmill.beam.sources import StoreSource
from eventmill.schema.export import bigquery_fields
from eventmill.schema.table import Column, TableId
from eventmill.wire.rows_text import json_value


class BigQueryStaging:
    """The table that takes the rows of one job, beside the output."""

    def __init__(
        self, address: str, output: TableId, job_name: str, columns: Sequence[Column]
    ) -> None:
        """Name the table.

        Args:
            address: ``bigquery://PROJECT``.
            output: where the rows are to end.
            job_name: one of its own for every run, and so is the table.
            columns: of the output.
        """
        self._address = address
        self._columns = columns
        project = StoreSource(address).project
        name = f"{output.table[:39]}__{job_name.replace('-', '_')}"
        self.table = TableId(project, output.dataset, name)

    def write(self) -> beam.PTransform:
        """Return the transform that loads rows into the table, replacing what it had."""
        return _Load(self.table, bigquery_fields(self._columns))

    def swap(self, replace: Callable[[pa.Table], object]) -> None:
        """Hand the table's rows to ``replace``, and drop the table whatever becomes of it."""
        from eventmill.store.bigquery.place import BigQueryPlace  # with Google's libraries

        place = BigQueryPlace.parse(self._address)
        client = place.client(place.credentials())
        try:
            rows = client.list_rows(str(self.table)).to_arrow(create_bqstorage_client=False)
            replace(rows)
        finally:
            client.delete_table(str(self.table), not_found_ok=True)
            client.close()


class _Load(beam.PTransform):
    """Loads rows by Beam's own connector."""

    def __init__(self, table: TableId, fields: Sequence[dict[str, Any]]) -> None:
        super().__init__(f"Load {table}")
        self._table = table
        self._fields = fields

    def expand(self, rows: beam.PCollection) -> Any:  # noqa: ANN401 - Beam's result
        """Load ``rows``."""
        from apache_beam.io.gcp.bigquery import (
            BigQueryDisposition,
            WriteToBigQuery,  # needs eventmill[beam-gcp]
        )

        load = WriteToBigQuery(
            f"{self._table.project}:{self._table.dataset}.{self._table.table}",
            schema={"fields": list(self._fields)},
            method=WriteToBigQuery.Method.FILE_LOADS,
            create_disposition=BigQueryDisposition.CREATE_IF_NEEDED,
            write_disposition=BigQueryDisposition.WRITE_TRUNCATE,
        )
        return rows | "As JSON" >> beam.ParDo(_AsJson()) | load


class _AsJson(beam.DoFn):
    """Rows in the form that load jobs read."""

    def __init__(self) -> None:
        self._counters = Counters()

    def process(self, row: object) -> Any:  # noqa: ANN401 - JSON
        """Yield one row."""
        self._counters.written()
        yield json_value(as_dict(row))
