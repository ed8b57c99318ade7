"""``MemoryStore``: the reference store, and the fake of every test that needs one.

It keeps each contract of the port in the plainest way, so that where it and another store differ,
the other is suspected first. Nothing survives the process.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from eventmill.base.clock import SYSTEM_CLOCK, Clock, seconds_of
from eventmill.base.errors import UnavailableError
from eventmill.schema.table import Table, TableId, TableSpec, TableStats
from eventmill.store.admission import Admission
from eventmill.store.change import changed_spec, no_such_table, refuse_own
from eventmill.store.engine import Engine, Source, empty_answer
from eventmill.store.googlesql import translate
from eventmill.store.own_columns import INGESTED_AT, OWN_FIELDS, slot_rows
from eventmill.store.own_tables import own_specs
from eventmill.store.partition_filter import refuse_unfiltered
from eventmill.store.port import ROW_LIMIT_DEFAULT
from eventmill.store.quarantine import (
    OWN_DATASET,
    QUARANTINE,
    quarantine_batches,
    rejected_events,
)
from eventmill.store.slots import SlotKey, SlotOutcome, check_attempt
from eventmill.wire.answer import QueryResult
from eventmill.wire.batch import Batch
from eventmill.wire.columns_arrow import absent_array, arrow_schema_of, fitted_array
from eventmill.wire.early_events import EarlyReader
from eventmill.wire.output_rows import fit_output
from eventmill.wire.quarantined import QuarantinedEvent
from eventmill.wire.sink import Features
from eventmill.wire.verdict import Verdict


@dataclass(slots=True)
class _MemoryTable:
    table: Table
    fingerprints: set[str]
    definitions: list[TableSpec]
    """Every definition that the table has had, from version 1 on."""
    rows: dict[bytes, _Row] = field(default_factory=dict)
    """By insert ID, in order of arrival."""
    slots: dict[SlotKey, _Slot] = field(default_factory=dict)
    replaced_rows: int = 0
    last_us: int = 0
    """When the newest row came in; the next one comes later, whatever the clock says."""

    def next_us(self, clock: Clock) -> int:
        """Return the time of what comes in now."""
        self.last_us = max(self.last_us + 1, int(clock.now() * 1e6))
        return self.last_us


@dataclass(frozen=True, slots=True)
class _Slot:
    generation: int
    rows: pa.Table
    """With the columns of the definition that they were made by, and the store's own."""


@dataclass(frozen=True, slots=True)
class _Row:
    event: bytes
    ingested_us: int
    version: int
    """Of the definition that judged the event."""


class MemoryStore:
    """Events in this process's memory. Safe from any thread."""

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._tables: dict[TableId, _MemoryTable] = {}
        self._engine = Engine()
        self._closed = False
        for spec in own_specs():
            self._apply(spec, None)

    @property
    def features(self) -> Features:
        """What this store promises."""
        return Features(
            durable=False,
            dedup_window_seconds=float("inf"),
            quarantines=True,
            keeps_unknown_fields=True,
        )

    def __repr__(self) -> str:
        count = sum(name.dataset != OWN_DATASET for name in self._tables)
        return f"<MemoryStore [{count} tables]>"

    def put(self, batch: Batch, *, timeout_seconds: float | None = None) -> Verdict:
        """Store one batch (see ``wire.sink.Sink.put``); never has to wait."""
        refuse_own(batch.table)
        with self._lock:
            held = self._held(batch.table)
            judgement = Admission(held.table.spec, held.fingerprints).judge(batch)
            if judgement is None:
                return Verdict(batch.count, tuple(self._keep(held, batch)))
            self.quarantine(rejected_events(batch, judgement.rejected))
            duplicates = self._keep(held, judgement.kept) if judgement.kept else []
        places = judgement.kept_indexes
        duplicates = [places[index] for index in duplicates]
        return Verdict(batch.count, tuple(duplicates), judgement.rejected)

    def quarantine(self, events: Sequence[QuarantinedEvent]) -> None:
        """Keep rejected events, once each."""
        with self._lock:
            held = self._held(QUARANTINE)
            for batch in quarantine_batches(events, self._clock):
                self._keep(held, batch)

    def keep_own(self, batch: Batch) -> None:
        """Store rows of an own table, once each."""
        with self._lock:
            self._keep(self._held(batch.table), batch)

    def replace_slot(
        self, table: TableId, slot: SlotKey, rows: pa.Table, *, generation: int
    ) -> SlotOutcome:
        """Put ``rows`` in the place of whatever the slot had (see ``SlotStore``)."""
        refuse_own(table)
        with self._lock:
            held = self._held(table)
            known = ((k, s.generation, s.rows.num_rows > 0) for k, s in held.slots.items())
            check_attempt(table, slot, generation, (s for s in known if slot.overlaps(s[0])))
            fitted = fit_output(rows, held.table.spec)
            within = [key for key in held.slots if slot.contains(key)]
            replaced = sum(held.slots.pop(key).rows.num_rows for key in within)
            held.replaced_rows += replaced
            made = slot_rows(fitted, slot, held.next_us(self._clock))
            held.slots[slot] = _Slot(generation, made)
            return SlotOutcome(made.num_rows, replaced)

    def describe(self, table: TableId) -> Table:
        """Return the live definition of ``table``; TableNotFoundError when there is none."""
        with self._lock:
            return self._held(table).table

    def tables(self) -> Sequence[Table]:
        """Return every table but the store's own, ascending by name."""
        with self._lock:
            self._check_open()
            held = sorted(self._tables.items())
            return [h.table for name, h in held if name.dataset != OWN_DATASET]

    def stats(self, table: TableId) -> TableStats:
        """Return what ``table`` holds now; all of it counts as log."""
        with self._lock:
            held = self._held(table)
            rows = self._rows(held)
            partitioning = held.table.spec.partitioning
            column = (partitioning and partitioning.column) or INGESTED_AT
            newest = pc.max(rows[column].cast(pa.int64())).as_py()
            reader = _reader(held)
            return TableStats(
                log_rows=rows.num_rows,
                replaced_rows=held.replaced_rows,
                ahead_rows=sum(
                    reader.count_ahead([row.event for row in run], version)
                    for version, run in _runs(held)
                ),
                log_bytes=sum(len(row.event) for row in held.rows.values())
                + sum(slot.rows.nbytes for slot in held.slots.values()),
                newest_event_at=None if newest is None else seconds_of(newest),
            )

    def apply(self, spec: TableSpec, *, expected_version: int | None = None) -> Table:
        """Create or extend a table (see ``Store.apply``)."""
        refuse_own(spec.table)
        with self._lock:
            self._check_open()
            return self._apply(spec, expected_version)

    def drop(self, table: TableId) -> None:
        """Remove a table with its rows; TableNotFoundError when there is none."""
        refuse_own(table)
        with self._lock:
            self._held(table)
            del self._tables[table]

    def query(
        self,
        sql: str,
        params: Mapping[str, Any] | None = None,
        *,
        row_limit: int | None = ROW_LIMIT_DEFAULT,
        timeout_seconds: float | None = None,
        dry_run: bool = False,
        cancel: threading.Event | None = None,
    ) -> QueryResult:
        """Answer one read-only GoogleSQL statement (see ``Store.query``)."""
        self._check_open()
        translation = translate(sql, params)
        sources = {}
        with self._lock:
            for table in translation.tables:
                refuse_unfiltered(translation, self._held(table).table.spec)
                rows = self._rows(self._held(table))
                sources[table] = Source(rows=rows, bytes=rows.nbytes)
        if dry_run:
            return empty_answer(self._engine.check(translation, sources))
        return self._engine.run(
            translation,
            sources,
            row_limit=row_limit,
            timeout_seconds=timeout_seconds,
            cancel=cancel,
        )

    def close(self) -> None:
        """Forget everything."""
        with self._lock:
            self._closed = True
            self._tables.clear()
        self._engine.close()

    def _check_open(self) -> None:
        if self._closed:
            raise UnavailableError("the store is closed")

    def _held(self, table: TableId) -> _MemoryTable:
        self._check_open()
        held = self._tables.get(table)
        if held is None:
            raise no_such_table(table, self._tables)
        return held

    def _keep(self, held: _MemoryTable, batch: Batch) -> list[int]:
        ingested_us = held.next_us(self._clock)
        duplicates = []
        for index, (insert_id, event) in enumerate(
            zip(batch.insert_ids, batch.events, strict=True)
        ):
            if insert_id in held.rows:
                duplicates.append(index)
            else:
                held.rows[insert_id] = _Row(event, ingested_us, held.table.version)
        return duplicates

    def _rows(self, held: _MemoryTable) -> pa.Table:
        reader = _reader(held)
        batches = [arrow_schema_of(held.table.spec.columns).empty_table()]
        for version, run in _runs(held):
            batch, _ = reader.read(pa.array([row.event for row in run], pa.binary()), version)
            batches.append(pa.Table.from_batches([batch]))
        ids = pa.array([insert_id.decode() for insert_id in held.rows], pa.string())
        times = pa.array([row.ingested_us for row in held.rows.values()], OWN_FIELDS[1].type)
        rows = pa.concat_tables(batches)
        for own, values in zip(OWN_FIELDS, (ids, times), strict=True):
            rows = rows.append_column(own, values)
        slots = [_fitted(slot.rows, rows.schema) for slot in held.slots.values()]
        return pa.concat_tables([rows, *slots])

    def _apply(self, spec: TableSpec, expected_version: int | None) -> Table:
        now = self._clock.now()
        held = self._tables.get(spec.table)
        changed = changed_spec(held.table if held else None, spec, expected_version)
        if held is None:
            table = Table(spec, 1, now, now)
            self._tables[spec.table] = _MemoryTable(table, {spec.fingerprint}, [spec])
            return table
        if changed is not None:
            held.table = Table(changed, held.table.version + 1, held.table.created_at, now)
            held.fingerprints.add(spec.fingerprint)
            held.definitions.append(changed)
        return held.table


def _fitted(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return rows of an earlier definition with the columns that their table has now."""
    columns = [
        fitted_array(rows[field.name].combine_chunks(), field.type)
        if field.name in rows.column_names
        else absent_array(field.type, rows.num_rows)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _reader(held: _MemoryTable) -> EarlyReader:
    table, definitions = held.table, held.definitions
    return EarlyReader(
        table.spec, table.version, lambda version: definitions[version - 1], fast=False
    )


def _runs(held: _MemoryTable) -> Iterator[tuple[int, list[_Row]]]:
    """Yield the rows in order, those together that one definition judged, with its version."""
    for version, run in groupby(held.rows.values(), lambda row: row.version):
        yield version, list(run)
