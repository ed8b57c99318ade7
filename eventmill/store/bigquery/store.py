"""``BigQueryStore``: the ``Store`` port on Google BigQuery."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from google.cloud import bigquery

from eventmill.base.clock import SYSTEM_CLOCK, Clock
from eventmill.base.errors import (
    AccessError,
    BatchTooLargeError,
    PermanentError,
    TableNotFoundError,
    UnavailableError,
    UsageError,
)
from eventmill.schema.table import (
    DEFAULT_PROJECT,
    Table,
    TableId,
    TableSpec,
    TableStats,
)
from eventmill.store.bigquery.catalog import SETTLING_SECONDS, Definition, Definitions
from eventmill.store.bigquery.events_in import InsertAllDoor, RowDoor, StorageDoor, TableEntry
from eventmill.store.bigquery.insert_all import InsertAllWriter
from eventmill.store.bigquery.place import BigQueryPlace
from eventmill.store.bigquery.questions import Questions, partition_conditions
from eventmill.store.bigquery.slots import SlotWriter
from eventmill.store.bigquery.storage_write import (
    APPEND_TIMEOUT_SECONDS,
    RowFault,
    StorageWriter,
    TableNotThereError,
)
from eventmill.store.bigquery.tables import VIEW_SUFFIX, BigQueryTables
from eventmill.store.own_columns import INGESTED_AT
from eventmill.store.port import ROW_LIMIT_DEFAULT
from eventmill.store.quarantine import (
    QUARANTINE,
    quarantine_batches,
    quarantine_spec,
    rejected_events,
)
from eventmill.store.slots import SlotKey, SlotOutcome
from eventmill.wire.answer import QueryResult
from eventmill.wire.batch import Batch
from eventmill.wire.quarantined import QuarantinedEvent
from eventmill.wire.sink import Features
from eventmill.wire.verdict import Verdict

if TYPE_CHECKING:
    import pyarrow as pa

ENTRY_SECONDS_MAX = 60.0
"""How long a table's definition is taken for the newest; a batch under an unknown fingerprint
makes it looked up at once."""
SETTLING_PAUSE_SECONDS = 2.0
"""What a sender is asked to wait while BigQuery does not know a table, or a column, yet."""
PIECE_BYTES = 900_000
"""Bytes of a rejected event in one row: as base64 it has room in every way of writing."""


class BigQueryStore:
    """Tables of one project of BigQuery. Safe from any thread.

    A row is written at least once: a batch that is put again after a lost answer is stored
    twice, under the same insert IDs. ``TABLE_deduplicated`` is a view that shows each once.
    """

    def __init__(self, place: BigQueryPlace, clock: Clock = SYSTEM_CLOCK) -> None:
        """Sign in; no request is made yet.

        Raises:
            AccessError: there are no credentials, or they cannot be used.
        """
        self._place = place
        self._clock = clock
        credentials = place.credentials()
        self.credentials = credentials
        """Those of Google's library: whom the store acts as."""
        self.client = place.client(credentials)
        """Google's client of the project, for what the port does not have."""
        self._definitions = Definitions(self.client, place.project, place.own_dataset, clock)
        self._tables = BigQueryTables(
            self.client, place.project, place.own_dataset, self._definitions, clock
        )
        self._quarantine = TableId(place.project, place.own_dataset, QUARANTINE.table)
        self._questions = Questions(self.client, place.project, place.billed_bytes_max)
        self._storage = StorageWriter(lambda: place.write_client(credentials), clock)
        self._insert_all = InsertAllWriter(self.client)
        own = bigquery.DatasetReference(place.project, place.own_dataset)
        self._slots = SlotWriter(self.client, own, place.billed_bytes_max, clock)
        self._entries: dict[TableId, tuple[TableEntry, float]] = {}
        self._lock = threading.Lock()
        self._closed = False

    @property
    def features(self) -> Features:
        """What this store promises."""
        return Features(durable=True, dedup_window_seconds=0, quarantines=True)

    @property
    def address(self) -> str:
        """The project; events that wait for one address are not sent to another."""
        return f"bigquery://{self._place.project}"

    def __repr__(self) -> str:
        return f"<BigQueryStore {self._place.project}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- events in ------------------------------------------------------------------------

    def put(self, batch: Batch, *, timeout_seconds: float | None = None) -> Verdict:
        """Write one batch, each event at least once (see ``wire.sink.Sink.put``).

        An event that the table cannot hold, or that BigQuery does not take, is in quarantine when
        the verdict returns. ``timeout_seconds`` is how long each request to BigQuery may take.
        """
        self._refuse_own(batch.table)
        table = self._named(batch.table)
        entry = self._entry(table)
        if batch.fingerprint not in entry.definition.fingerprints:
            entry = self._entry(table, fresh=True)
        _require_own_columns(entry)
        with self._settling(table):
            rejected = entry.put(batch, timeout_seconds or APPEND_TIMEOUT_SECONDS)
        self.quarantine(rejected_events(batch, rejected))
        return Verdict(batch.count, (), rejected)

    def quarantine(self, events: Sequence[QuarantinedEvent]) -> None:
        """Keep rejected events, each at least once, under an ID that says what it is.

        ``eventmill.quarantine_deduplicated`` shows each once.
        """
        if not events:
            return
        entry = self._entry(self._quarantine, made_from=self._quarantine_spec())
        named = [
            replace(piece, table=self._named(event.table))
            for event in events
            for piece in _pieces(event)
        ]
        for batch in quarantine_batches(named, self._clock):
            faults = self._append_settled(entry, batch)
            if faults:
                raise BatchTooLargeError(f"a rejected event cannot be kept: {faults[0].message}")

    def load(self, batch: Batch) -> None:
        """Write all events of a batch or none of them, seen together.

        Raises:
            TransientError: nothing was written, or the answer to the last step was lost.
            PermanentError: an event does not fit, so nothing was written.
            UsageError: the place is written by insertAll, which cannot do that.
        """
        self._refuse_own(batch.table)
        table = self._named(batch.table)
        entry = self._entry(table, fresh=True)
        _require_own_columns(entry)
        if not isinstance(entry.door, StorageDoor):
            raise UsageError("only the Storage Write API can write all rows or none")
        _, faulty = entry.judge(batch)
        for index in sorted(faulty)[:1]:
            raise PermanentError(
                f"{table} does not take {len(faulty)} events, so none was written; the first is"
                f" {faulty[index].insert_id}: {faulty[index].message}"
            )
        with self._settling(table):
            entry.door.append_all(batch.insert_ids, batch.events, int(self._clock.now() * 1e6))

    def replace_slot(
        self, table: TableId, slot: SlotKey, rows: pa.Table, *, generation: int
    ) -> SlotOutcome:
        """Put ``rows`` in the place of whatever the slot had (see ``SlotStore.replace_slot``).

        Rows that came by ``put`` under an insert ID of the slot go with it.
        """
        self._check_open()
        self._refuse_own(table)
        entry = self._entry(self._named(table), fresh=True)
        _require_own_columns(entry)
        return self._slots.replace(entry.definition.table.spec, slot, rows, generation)

    # -- tables ---------------------------------------------------------------------------

    def describe(self, table: TableId) -> Table:
        """Return the live definition of ``table``; TableNotFoundError when there is none."""
        self._check_open()
        return self._tables.find(self._named(table)).table

    def tables(self) -> Sequence[Table]:
        """Return every table with a definition but the store's own, ascending by name."""
        self._check_open()
        return self._tables.all()

    def stats(self, table: TableId) -> TableStats:
        """Return what ``table`` holds now; rows that are there twice count twice."""
        self._check_open()
        table = self._named(table)
        definition = self._tables.find(table)
        rows = [
            row
            for sql in _stats_sql(definition)
            for row in self._questions.ask(
                sql, None, row_limit=1, timeout_seconds=None, dry_run=False
            )
        ]
        newest = [row["newest"].timestamp() for row in rows if row["newest"]]
        live = self._tables.live(table)
        buffer = live.streaming_buffer
        return TableStats(
            log_rows=sum(row["n"] for row in rows),
            log_bytes=int(buffer.estimated_bytes) if buffer else 0,
            lake_bytes=int(live.num_bytes or 0),
            newest_event_at=max(newest, default=None),
        )

    def apply(self, spec: TableSpec, *, expected_version: int | None = None) -> Table:
        """Create or extend a table (see ``Store.apply``)."""
        self._check_open()
        self._refuse_own(spec.table)
        spec = replace(spec, table=self._named(spec.table))
        definition = self._tables.apply(spec, expected_version)
        with self._lock:
            self._entries.pop(spec.table, None)
        return definition.table

    def drop(self, table: TableId) -> None:
        """Remove a table with its rows; TableNotFoundError when there is none."""
        self._check_open()
        self._refuse_own(table)
        table = self._named(table)
        self._tables.drop(table)
        with self._lock:
            self._entries.pop(table, None)

    # -- answers out ----------------------------------------------------------------------

    def query(
        self,
        sql: str,
        params: Mapping[str, Any] | None = None,
        *,
        row_limit: int | None = ROW_LIMIT_DEFAULT,
        timeout_seconds: float | None = None,
        dry_run: bool = False,
    ) -> QueryResult:
        """Answer one read-only GoogleSQL statement (see ``Store.query``).

        It is asked of BigQuery as it stands, once the written subset allows it; at most
        ``billed_bytes_max`` bytes are scanned.
        """
        self._check_open()
        for table in self._questions.tables_of(sql, params):
            self._require(table)
        return self._questions.ask(
            sql, params, row_limit=row_limit, timeout_seconds=timeout_seconds, dry_run=dry_run
        )

    def close(self) -> None:
        """Close the connections; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        self._storage.close()
        self.client.close()

    # -- inside ---------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._closed:
            raise UnavailableError("the store is closed")

    def _named(self, table: TableId) -> TableId:
        """Return a name with the project: without one, it was read as a folder's."""
        is_bare = table.project == DEFAULT_PROJECT
        return replace(table, project=self._place.project) if is_bare else table

    def _quarantine_spec(self) -> TableSpec:
        return replace(quarantine_spec(), table=self._quarantine)

    def _refuse_own(self, table: TableId) -> None:
        if table.dataset == self._place.own_dataset:
            raise AccessError(
                f"{table} is kept by the store itself: use another dataset than {table.dataset}"
            )

    def _require(self, table: TableId) -> None:
        if table.table.endswith(VIEW_SUFFIX):
            table = replace(table, table=table.table.removesuffix(VIEW_SUFFIX))
        if table == self._quarantine:
            self._entry(table, made_from=self._quarantine_spec())
        elif table not in self._entries:
            self._tables.live(table)

    def _entry(
        self, table: TableId, *, fresh: bool = False, made_from: TableSpec | None = None
    ) -> TableEntry:
        """Return what judges and writes the events of a table, made anew when it is old.

        Args:
            table: its name.
            fresh: look the definition up now.
            made_from: definition of a table that is to be made when it is not there.
        """
        self._check_open()
        now = self._clock.monotonic()
        with self._lock:
            kept = self._entries.get(table)
        if kept is not None and not fresh and now - kept[1] < ENTRY_SECONDS_MAX:
            return kept[0]
        definition = self._tables.apply(made_from, None) if made_from else self._tables.find(table)
        if kept is not None and kept[0].definition.key == definition.key:
            entry = kept[0]
        else:
            entry = TableEntry(definition, self._door(definition), self._clock)
        with self._lock:
            self._entries[table] = (entry, now)
        return entry

    @contextmanager
    def _settling(self, table: TableId) -> Iterator[None]:
        """Take it for a matter of time when BigQuery does not know a table that is there."""
        try:
            yield
        except TableNotThereError as error:
            # The table has its definition, so it is there: BigQuery takes minutes to tell all of
            # its writers (cloud.google.com/bigquery/docs/error-messages, looked up 2026-11-24).
            self._entry(table, fresh=True)
            raise UnavailableError(
                f"BigQuery does not know {table} yet as it was applied: {error}",
                retry_after_seconds=SETTLING_PAUSE_SECONDS,
            ) from error

    def _append_settled(self, entry: TableEntry, batch: Batch) -> Sequence[RowFault]:
        """Write into quarantine, and wait for it when it was just made.

        To give up at once would have the sender put again the events that are stored already.
        """
        give_up_at = self._clock.monotonic() + SETTLING_SECONDS
        while True:
            try:
                with self._settling(entry.table):
                    return entry.door.append(
                        batch.insert_ids,
                        batch.events,
                        int(self._clock.now() * 1e6),
                        APPEND_TIMEOUT_SECONDS,
                    )
            except UnavailableError as error:
                is_settling = isinstance(error.__cause__, TableNotThereError)
                if not is_settling or self._clock.monotonic() >= give_up_at:
                    raise
                self._clock.sleep(SETTLING_PAUSE_SECONDS)

    def _door(self, definition: Definition) -> RowDoor:
        spec = definition.table.spec
        write = self._place.write
        if write == "auto":
            has_library = importlib.util.find_spec("google.cloud.bigquery_storage_v1") is not None
            reachable = self._place.is_google or self._place.write_endpoint is not None
            write = "storage" if has_library and reachable else "insert_all"
        if write == "storage":
            return StorageDoor(spec, self._storage)
        return InsertAllDoor(spec, self._insert_all)


def _require_own_columns(entry: TableEntry) -> None:
    if not entry.definition.key:
        raise TableNotFoundError(
            f"{entry.table} is in BigQuery, made by other tools, and has no definition here:"
            " `eventmill table apply` adopts it, with its rows"
        )


def _stats_sql(definition: Definition) -> list[str]:
    """Return queries that count the rows and find the newest, each of some of the rows."""
    spec = definition.table.spec
    has_own = bool(definition.key)
    column = spec.partitioning and spec.partitioning.column
    if not column and has_own:
        column = INGESTED_AT
    newest = f"CAST(MAX({column}) AS TIMESTAMP)" if column else "CAST(NULL AS TIMESTAMP)"
    return [
        f"SELECT COUNT(*) AS n, {newest} AS newest FROM `{spec.table}`"  # noqa: S608 - checked
        f" WHERE {condition}"
        for condition in partition_conditions(spec, has_own=has_own)
    ]


def _pieces(event: QuarantinedEvent) -> Iterator[QuarantinedEvent]:
    """Yield an event that was rejected, in as many rows as it takes to keep it whole."""
    payload = event.payload
    if len(payload) <= PIECE_BYTES:
        yield event
        return
    count = -(-len(payload) // PIECE_BYTES)
    for index in range(count):
        piece = payload[index * PIECE_BYTES : (index + 1) * PIECE_BYTES]
        message = f"part {index + 1} of {count}: {event.message}"
        yield replace(event, payload=piece, message=message)
