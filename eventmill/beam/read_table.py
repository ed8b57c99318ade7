"""Rows of a table, or of a query, as a PCollection of dicts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import apache_beam as beam

from eventmill.base.errors import UsageError
from eventmill.beam.counters import Counters
from eventmill.beam.literals import mentioned, with_literals
from eventmill.beam.sources import RowSource, StoreSource
from eventmill.schema.table import TableId
from eventmill.workflow.sql_body import sql_name

_BATCH_ROWS = 1024
Method = Literal["EXPORT", "DIRECT_READ"]


class ReadTable(beam.PTransform):
    """``pipeline | ReadTable("cq.raw_events")``: rows as dicts, with Python's types for values.

    A TIMESTAMP is an aware datetime, a NUMERIC a Decimal, BYTES are bytes, an array is a list and
    a struct a dict. From an Eventmill store one worker asks the query and hands its rows on in
    Arrow's batches; from BigQuery, Beam's own ``ReadFromBigQuery`` reads with as many as it likes.
    """

    def __init__(
        self,
        table: str | TableId,
        *,
        store: str | None = None,
        sql: str | None = None,
        params: Mapping[str, Any] | None = None,
        method: Method = "EXPORT",
    ) -> None:
        """Prepare to read.

        Args:
            table: ``dataset.table`` or ``project.dataset.table``; with ``sql`` it only names the
                step.
            store: address of the store, as everywhere; None: that of the pipeline.
            sql: GoogleSQL to ask in place of the whole table.
            params: value of each ``@name`` in it.
            method: of ``ReadFromBigQuery``: EXPORT wants a bucket (``--temp_location``),
                DIRECT_READ the Storage Read API. Of no meaning elsewhere.
        """
        super().__init__(f"Read {table}")
        if method not in ("EXPORT", "DIRECT_READ"):
            raise UsageError(f"method={method!r}: write EXPORT or DIRECT_READ")
        self._table = table
        self._store = store
        self._sql = sql
        self._params = dict(params or {})
        self._method = method

    def expand(self, begin: Any) -> beam.PCollection:  # noqa: ANN401 - PBegin or the pipeline
        """Read."""
        pipeline = begin.pipeline
        source: RowSource | None = (
            StoreSource(self._store) if self._store else getattr(pipeline, "source", None)
        )
        if source is None:
            raise UsageError(
                f"nothing says which store has {self._table}: give ReadTable a store, or use an"
                " EventsPipeline"
            )
        table = TableId.parse(str(self._table))
        sql = self._sql or f"SELECT * FROM {sql_name(table)}"  # noqa: S608 - a name that was parsed
        params = mentioned(sql, self._params)
        if isinstance(source, StoreSource) and source.is_google:
            return _from_bigquery(pipeline, with_literals(sql, params), source, self._method)
        return (
            pipeline
            | "Query" >> beam.Create([(sql, params)])
            | "Rows" >> beam.ParDo(_Answer(source))
            # Without it all that follows would run in one piece, on one worker.
            | "Spread" >> beam.Reshuffle()
        )


def _from_bigquery(
    pipeline: beam.Pipeline, sql: str, source: StoreSource, method: Method
) -> beam.PCollection:
    from apache_beam.io.gcp.bigquery import ReadFromBigQuery  # needs eventmill[beam-gcp]

    native = {"use_native_datetime": True} if method == "DIRECT_READ" else {}
    read = ReadFromBigQuery(
        query=sql, use_standard_sql=True, method=method, project=source.project, **native
    )
    return pipeline | "BigQuery" >> read | "Count" >> beam.ParDo(_CountRead())


class _Answer(beam.DoFn):
    """Asks a store one query."""

    def __init__(self, source: RowSource) -> None:
        self._source = source
        self._counters = Counters()

    def process(self, question: tuple[str, Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        """Yield the rows of one answer."""
        rows = self._source.answer(*question)
        for batch in rows.to_batches(max_chunksize=_BATCH_ROWS):
            self._counters.read(batch.num_rows)
            yield from batch.to_pylist()


class _CountRead(beam.DoFn):
    """Counts rows that another transform has read."""

    def __init__(self) -> None:
        self._counters = Counters()

    def process(self, row: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """Count one row and hand it on."""
        self._counters.read()
        yield row
