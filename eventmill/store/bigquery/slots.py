"""A slot's rows in BigQuery: loaded into a table beside the output, and swapped in one transaction.

What is seen changes at the commit alone. Whatever breaks off before leaves a staging table, which
expires by itself.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from google.api_core import exceptions as api
from google.cloud import bigquery

from eventmill.base.clock import Clock, utc_datetime
from eventmill.base.errors import (
    EventmillError,
    SchemaConflictError,
    StaleAttemptError,
    UnavailableError,
)
from eventmill.schema.table import TableId, TableSpec
from eventmill.store.bigquery.definition import reference
from eventmill.store.bigquery.faults import google_errors
from eventmill.store.bigquery.loading import FileLoader
from eventmill.store.bigquery.questions import parameter, partition_conditions
from eventmill.store.own_columns import INSERT_ID, slot_rows
from eventmill.store.slot_script import (
    OVERLAP,
    SLOT_COLUMNS,
    STALE,
    SlotScript,
    write_slot_script,
)
from eventmill.store.slots import SlotKey, SlotOutcome
from eventmill.wire.output_rows import fit_output

SLOTS_TABLE = "slots"
"""Table of the own dataset in which the slots stand that have been written."""
STAGING_KEPT = timedelta(days=1)
"""How long a staging table stays that an end of the process has left."""
_ABORTED = ("aborted due to concurrent update", "could not serialize access")
"""What BigQuery says of a transaction that met another one (cloud.google.com/bigquery/docs/
transactions#transaction_concurrency, looked up 2026-11-24)."""


class SlotWriter:
    """Replaces slots in tables of one project. Safe from any thread."""

    def __init__(
        self,
        client: bigquery.Client,
        own: bigquery.DatasetReference,
        billed_bytes_max: int,
        clock: Clock,
    ) -> None:
        """Prepare; ``own`` is the dataset for what the store keeps about itself."""
        self._client = client
        self._own = own
        self._billed_bytes_max = billed_bytes_max
        self._clock = clock
        self._has_slots_table = False

    def replace(
        self, spec: TableSpec, slot: SlotKey, rows: pa.Table, generation: int
    ) -> SlotOutcome:
        """Replace the rows of a slot (see ``SlotStore.replace_slot``).

        Args:
            spec: definition of the output.
            slot: whose rows they are.
            rows: as the workflow gave them.
            generation: of the attempt.
        """
        fitted = fit_output(rows, spec)
        before = self._count(spec, slot)
        staging = self._staging(slot) if fitted.num_rows else None
        try:
            if staging is not None:
                self._load(replace(spec, table=staging), spec.table, slot, fitted)
            self._swap(spec, slot, staging, fitted.num_rows, generation)
        finally:
            if staging is not None:
                # It expires by itself where this fails, and what was committed stays so.
                with contextlib.suppress(EventmillError), google_errors(f"removing {staging}"):
                    self._client.delete_table(reference(staging), not_found_ok=True)
        return SlotOutcome(fitted.num_rows, before)

    def _count(self, spec: TableSpec, slot: SlotKey) -> int:
        values = {"low": slot.insert_id_low, "high": slot.insert_id_high}
        count = 0
        for condition in partition_conditions(spec):
            sql = (
                f"SELECT COUNT(*) AS n FROM `{spec.table}`"  # noqa: S608 - names of a definition
                f" WHERE ({condition}) AND {INSERT_ID} >= @low AND {INSERT_ID} < @high"
            )
            with google_errors(f"counting the rows of {slot} in {spec.table}"):
                (row,) = self._ask(sql, values).result()
            count += int(row["n"])
        return count

    def _staging(self, slot: SlotKey) -> TableId:
        # Of this call alone: the job that fills it must not be taken for that of another.
        name = f"slot_{slot.workflow.replace('-', '_')}_{secrets.token_hex(8)}"
        return TableId(self._own.project, self._own.dataset_id, name)

    def _load(self, staging: TableSpec, output: TableId, slot: SlotKey, rows: pa.Table) -> None:
        with google_errors(f"staging the rows of {slot}"):
            self._client.create_dataset(self._own, exists_ok=True)
            live = self._client.get_table(reference(output))
            table = bigquery.Table(reference(staging.table), schema=live.schema)
            table.expires = utc_datetime(self._clock.now()) + STAGING_KEPT
            self._client.create_table(table, exists_ok=True)
        whole = slot_rows(rows, slot, int(self._clock.now() * 1e6))
        with tempfile.TemporaryDirectory(prefix="eventmill-slot-") as folder:
            path = os.path.join(folder, "rows.parquet")
            pq.write_table(whole, path, compression="zstd")
            FileLoader(self._client, staging, self._clock).load(path, staging.table.table)

    def _swap(
        self, spec: TableSpec, slot: SlotKey, staging: TableId | None, count: int, generation: int
    ) -> None:
        slots = TableId(self._own.project, self._own.dataset_id, SLOTS_TABLE)
        self._make_slots_table(slots)
        names = [column.name for column in spec.columns]
        script = write_slot_script(
            SlotScript(slots, spec.table, staging), names, partition_conditions(spec)
        )
        values = {
            "output": str(spec.table),
            "workflow": slot.workflow,
            "slot_start": slot.start,
            "slot_end": slot.end,
            "generation": generation,
            "output_rows": count,
            "low": slot.insert_id_low,
            "high": slot.insert_id_high,
        }
        with google_errors(f"replacing {slot} in {spec.table}"):
            try:
                self._ask(script, values).result()
            except api.BadRequest as error:
                raise _refusal(error, spec.table, slot, generation) from error

    def _make_slots_table(self, slots: TableId) -> None:
        if self._has_slots_table:
            return
        fields = [bigquery.SchemaField(name, kind, "REQUIRED") for name, kind in SLOT_COLUMNS]
        with google_errors(f"making {slots}"):
            self._client.create_dataset(self._own, exists_ok=True)
            self._client.create_table(bigquery.Table(reference(slots), fields), exists_ok=True)
        self._has_slots_table = True

    def _ask(self, sql: str, values: Mapping[str, Any]) -> bigquery.QueryJob:
        given = [parameter(name, value) for name, value in values.items()]
        config = bigquery.QueryJobConfig(query_parameters=given)
        config.maximum_bytes_billed = self._billed_bytes_max
        return self._client.query(sql, job_config=config)


def _refusal(error: api.BadRequest, table: TableId, slot: SlotKey, generation: int) -> Exception:
    """Return what BigQuery's refusal of the script means."""
    text = str(error.message)
    if STALE in text:
        return StaleAttemptError(
            f"a later generation has written {slot} of {table}; these rows are of generation"
            f" {generation} and are not wanted any more ({text})"
        )
    if OVERLAP in text:
        return SchemaConflictError(
            f"{table} has rows of a longer slot than {slot}: the length of the slots was changed."
            " Replace that longer slot with no rows and run what lay in it again"
        )
    if any(words in text.lower() for words in _ABORTED):
        return UnavailableError(f"another transaction was at {table}: {text}")
    return error
