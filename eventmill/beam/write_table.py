"""A pipeline's output in the place of whatever a slot had, once the job has ended well."""

from __future__ import annotations

import os
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa

from eventmill.base.clock import SYSTEM_CLOCK
from eventmill.base.errors import UsageError
from eventmill.beam.bigquery_staging import BigQueryStaging
from eventmill.beam.events_pipeline import EventsPipeline
from eventmill.beam.slot import BeamSlot
from eventmill.beam.sources import StoreSource
from eventmill.beam.staging import fetch_files
from eventmill.beam.write_rows import WriteRows
from eventmill.schema.table import TableId
from eventmill.store.slots import SlotKey, SlotOutcome, SlotStore
from eventmill.wire.columns_arrow import arrow_schema_of
from eventmill.workflow.beam.job import ROWS_PREFIX
from eventmill.workflow.beam.parquet_rows import read_parquet_rows


class WriteTable(beam.PTransform):
    """``rows | WriteTable("aggregated.attempts", workflow="attempts", slot=slot)``.

    Replaces the rows of one slot of one workflow, as ``SlotStore.replace_slot`` does: all of them
    at once, with the same effect however often, and not before the job's final state is DONE.
    Needs an ``EventsPipeline``. A workflow's ``build`` returns its rows in place of writing them.
    """

    def __init__(
        self,
        table: str | TableId,
        *,
        workflow: str,
        slot: BeamSlot,
        store: str | None = None,
        generation: int | None = None,
        staging: str | None = None,
    ) -> None:
        """Prepare to write.

        Args:
            table: the output, which exists.
            workflow: whose slot it is.
            slot: [start, end), in whole seconds.
            store: address of the store; None: that of the pipeline.
            generation: grows with each attempt; None: the time now in microseconds.
            staging: folder for the rows until the job has ended, where all of the runner's
                machines reach it; None: a temporary one of this machine. Not used with BigQuery,
                where load jobs put them into a table of their own.
        """
        super().__init__(f"Write {table}")
        self._table = TableId.parse(str(table))
        start, end = slot.start_usec // 1_000_000, slot.end_usec // 1_000_000
        self._slot = SlotKey(workflow, start, end)
        self._store = store
        self._generation = generation
        self._staging = staging

    def expand(self, rows: beam.PCollection) -> Any:  # noqa: ANN401 - names of files
        """Write ``rows``, and have the slot replaced after the job."""
        pipeline = rows.pipeline
        if not isinstance(pipeline, EventsPipeline):
            raise UsageError(
                "WriteTable replaces rows after the job's end, which only an EventsPipeline awaits:"
                " use one in place of beam.Pipeline"
            )
        address = self._store or pipeline.store
        if address is None:
            raise UsageError(f"nothing says which store has {self._table}: give WriteTable a store")
        schema, columns = _columns_of(address, self._table)
        if StoreSource(address).is_google:
            staging = BigQueryStaging(address, self._table, pipeline.job_name, columns)
            pipeline.after_done(lambda: staging.swap(partial(self._replace, address)))
            return rows | staging.write()
        folder = pipeline.resources.enter_context(
            tempfile.TemporaryDirectory(prefix="eventmill-beam-")
        )
        place = f"{self._staging.rstrip('/')}/{pipeline.job_name}" if self._staging else folder

        def act() -> None:
            if self._staging:
                fetch_files(place, folder)
            paths = Path(folder).glob(f"{ROWS_PREFIX}*.parquet")
            self._replace(address, read_parquet_rows(paths, schema))

        pipeline.after_done(act)
        return rows | WriteRows(os.path.join(place, ROWS_PREFIX + "out"), schema, str(self._table))

    def _replace(self, address: str, rows: pa.Table) -> SlotOutcome:
        from eventmill.address import open_store  # opens what the address asks for

        generation = self._generation
        if generation is None:
            generation = int(SYSTEM_CLOCK.now() * 1_000_000)
        store = open_store(address)
        try:
            if not isinstance(store, SlotStore):
                raise UsageError(f"{address} cannot replace the rows of a slot")
            return store.replace_slot(self._table, self._slot, rows, generation=generation)
        finally:
            store.close()


def _columns_of(address: str, table: TableId) -> Any:  # noqa: ANN401 - Arrow's and ours
    from eventmill.address import open_store  # as above

    store = open_store(address, writer=False)
    try:
        columns = store.describe(table).spec.columns
    finally:
        store.close()
    return arrow_schema_of(columns), columns
