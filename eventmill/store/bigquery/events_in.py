"""The way of a batch into one BigQuery table: judged, written, its rejects in quarantine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from eventmill.base.clock import Clock
from eventmill.schema.message_type import MessageType
from eventmill.schema.problem import EventProblem, Reason
from eventmill.schema.table import TableId, TableSpec
from eventmill.schema.unknown import UnknownFields
from eventmill.store.admission import Admission
from eventmill.store.bigquery.catalog import Definition
from eventmill.store.bigquery.insert_all import InsertAllWriter, JsonRows
from eventmill.store.bigquery.storage_write import RowFault, StorageWriter
from eventmill.store.bigquery.writer_rows import RowWriter
from eventmill.wire.batch import Batch
from eventmill.wire.verdict import Rejection


class RowDoor(Protocol):
    """Takes events of one table, that were judged, to BigQuery."""

    def append(
        self,
        insert_ids: Sequence[bytes],
        events: Sequence[bytes],
        ingested_us: int,
        timeout_seconds: float,
    ) -> Sequence[RowFault]:
        """Append events, each at least once, but those that are returned as faulty."""
        ...


class StorageDoor:
    """Events as rows of the Storage Write API."""

    def __init__(self, spec: TableSpec, writer: StorageWriter) -> None:
        self._table = spec.table
        self._rows = RowWriter(spec)
        self._writer = writer

    def append(
        self,
        insert_ids: Sequence[bytes],
        events: Sequence[bytes],
        ingested_us: int,
        timeout_seconds: float,
    ) -> Sequence[RowFault]:
        """Append to the default stream (see ``RowDoor.append``)."""
        rows = self._rows.rows(insert_ids, events, ingested_us)
        return self._writer.append(self._table, self._rows.descriptor, rows, timeout_seconds)

    def append_all(
        self, insert_ids: Sequence[bytes], events: Sequence[bytes], ingested_us: int
    ) -> None:
        """Append all or none (see ``StorageWriter.append_all``)."""
        rows = self._rows.rows(insert_ids, events, ingested_us)
        self._writer.append_all(self._table, self._rows.descriptor, rows)


class InsertAllDoor:
    """Events as rows of insertAll."""

    def __init__(self, spec: TableSpec, writer: InsertAllWriter) -> None:
        self._table = spec.table
        self._rows = JsonRows(spec)
        self._writer = writer

    def append(
        self,
        insert_ids: Sequence[bytes],
        events: Sequence[bytes],
        ingested_us: int,
        timeout_seconds: float,
    ) -> Sequence[RowFault]:
        """Stream (see ``RowDoor.append``)."""
        rows = self._rows.rows(insert_ids, events, ingested_us)
        return self._writer.append(self._table, rows, timeout_seconds)


class TableEntry:
    """One definition of one table, with what judges and writes its events."""

    def __init__(self, definition: Definition, door: RowDoor, clock: Clock) -> None:
        spec = definition.table.spec
        self.definition = definition
        self.door = door
        self._clock = clock
        self._admission = Admission(spec, definition.fingerprints)
        self._unknown = UnknownFields(MessageType.load(spec.descriptor_set, spec.message))

    @property
    def table(self) -> TableId:
        """The table's name."""
        return self.definition.table.id

    def put(self, batch: Batch, timeout_seconds: float) -> tuple[Rejection, ...]:
        """Write the good events of ``batch``; return the others, ascending by index.

        Raises:
            TableNotThereError: as ``RowSink.append``; some may have been appended.
        """
        good, rejected = self.judge(batch)
        if good:
            ids, events = batch.insert_ids, batch.events
            faults = self.door.append(
                [ids[index] for index in good],
                [events[index] for index in good],
                int(self._clock.now() * 1e6),
                timeout_seconds,
            )
            for fault in faults:
                index = good[fault.index]
                problem = EventProblem(Reason.REFUSED_BY_STORE, "", f"BigQuery: {fault.message}")
                rejected[index] = Rejection.of(index, batch.insert_id(index), problem)
        return tuple(rejected[index] for index in sorted(rejected))

    def judge(self, batch: Batch) -> tuple[list[int], dict[int, Rejection]]:
        """Return the places of the events that fit the table, and what is wrong with others."""
        judgement = self._admission.judge(batch)
        rejected = {} if judgement is None else {r.index: r for r in judgement.rejected}
        kept = batch if judgement is None else judgement.kept
        places = range(batch.count) if judgement is None else judgement.kept_indexes
        if kept is None:
            return [], rejected
        events = kept.events
        for place in self._unknown.places(events):
            index = places[place]
            rejected[index] = Rejection.of(
                index, batch.insert_id(index), self._ahead(events[place])
            )
        return [index for index in places if index not in rejected], rejected

    def _ahead(self, event: bytes) -> EventProblem:
        path, numbers = self._unknown.first(event) or ("", [])
        where = f" in {path}" if path else ""
        return EventProblem(
            Reason.UNKNOWN_FIELD,
            path,
            f"the event has field number {', '.join(map(str, numbers[:10]))}{where}, which"
            f" {self.table} lacks: apply the newer .proto to the table, then replay",
        )
