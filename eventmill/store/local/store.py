"""``LocalStore``: the embedded store, all of its rooms behind the ``Store`` port."""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Self

from eventmill.base.clock import SYSTEM_CLOCK, Clock
from eventmill.base.errors import (
    AccessError,
    EventmillError,
    TableNotFoundError,
    UnavailableError,
    UsageError,
)
from eventmill.base.settings import StoreSettings
from eventmill.schema.document import spec_from_json
from eventmill.schema.table import Table, TableId, TableSpec, TableStats
from eventmill.store.change import changed_spec, refuse_own
from eventmill.store.local.catalog import TableCache, spec_document
from eventmill.store.local.compactor import CompactorProcess
from eventmill.store.local.disk import DISK, Disk, disk_errors
from eventmill.store.local.layout import Layout
from eventmill.store.local.lock import FileLock
from eventmill.store.local.manifest import Manifest
from eventmill.store.local.query import QueryRoom
from eventmill.store.local.slot_commit import SlotCommits
from eventmill.store.local.slot_writer import SlotWriter
from eventmill.store.local.writers import Writers
from eventmill.store.own_tables import own_specs
from eventmill.store.port import ROW_LIMIT_DEFAULT
from eventmill.store.slots import SlotKey, SlotOutcome
from eventmill.wire.answer import QueryResult
from eventmill.wire.batch import Batch
from eventmill.wire.quarantined import QuarantinedEvent
from eventmill.wire.sink import Answer, Features
from eventmill.wire.verdict import Verdict

if TYPE_CHECKING:
    import pyarrow as pa

_logger = logging.getLogger("eventmill.store")


class LocalStore:
    """Events in a folder of this machine.

    One process at a time opens a folder as its writer; any number read beside it. Safe from any
    thread; not across a fork: open it in the child.
    """

    def __init__(
        self,
        layout: Layout,
        options: StoreSettings,
        clock: Clock,
        disk: Disk,
        lock: FileLock | None,
    ) -> None:
        """Use ``LocalStore.open``."""
        self._layout = layout
        self._options = options
        self._clock = clock
        self._lock = lock
        self._disk = disk
        self._admin = Manifest(layout.database, create=lock is not None)
        if lock is not None:
            with disk_errors(f"making the store in {layout.root}"):
                disk.sync_folder(layout.root)
        self._admin_lock = threading.Lock()
        self._closed = False
        self._compactor: CompactorProcess | None = None
        self._cache = TableCache(self._open_manifest, clock)
        self._queries = QueryRoom(layout, self._cache, self._open_manifest, options)
        self._writers: Writers | None = None
        self._slots: SlotWriter | None = None
        if lock is not None:
            self._make_own_tables()
            self._writers = Writers(layout, options, clock, disk, self._cache, self._open_manifest)
            self._writers.recover()
            self._slots = SlotWriter(layout, disk, SlotCommits(self._open_manifest(), clock))

    @classmethod
    def open(
        cls,
        path: str,
        *,
        writer: bool = True,
        compactor: bool = False,
        options: StoreSettings | None = None,
        clock: Clock = SYSTEM_CLOCK,
        disk: Disk = DISK,
    ) -> Self:
        """Open the store in the folder ``path``.

        Args:
            path: made when it is missing and ``writer`` is set.
            writer: take the folder's writer lock; without it ``put``, ``quarantine`` and ``drop``
                are refused.
            compactor: start the compactor as a process of its own, ended with this store.
            options: settings; None: the defaults.
            clock: time, given so that tests can set it.
            disk: file operations, given so that tests can make them fail.

        Raises:
            StoreBusyError: another process is the writer.
            UsageError: there is no store and ``writer`` is not set.
        """
        layout = Layout.at(path)
        options = options or StoreSettings()
        lock = None
        if writer:
            with disk_errors(f"making the store in {layout.root}"):
                disk.folder(layout.tables)
            lock = FileLock(layout.writer_lock, "writing to the store in")
        elif not os.path.exists(layout.database):
            raise UsageError(
                f"there is no store in {layout.root}: `eventmill serve --data {path}` or"
                " `eventmill table apply` makes one"
            )
        try:
            store = cls(layout, options, clock, disk, lock)
        except BaseException:
            if lock is not None:
                lock.release()
            raise
        if compactor and lock is not None:
            store._compactor = CompactorProcess(layout, options)
        return store

    @property
    def features(self) -> Features:
        """What this store promises."""
        return Features(
            durable=True,
            dedup_window_seconds=self._options.dedup_window_seconds,
            quarantines=True,
            keeps_unknown_fields=True,
        )

    @property
    def address(self) -> str:
        """The store's folder; events that wait for one address are not sent to another."""
        return self._layout.root

    @property
    def path(self) -> str:
        """The store's folder, absolute."""
        return self._layout.root

    def __repr__(self) -> str:
        return f"<LocalStore {self._layout.root} [{'writer' if self._lock else 'reader'}]>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def announce(self, url: str, key: str | None = None) -> None:
        """Let other processes that open this folder find the server at ``url``.

        Args:
            url: of the server.
            key: by which it knows who can read the folder; written where only those read it.
        """
        if self._lock is not None:
            note = {"pid": os.getpid(), "url": url, **({"key": key} if key else {})}
            self._lock.write_note(note, for_owner_alone=key is not None)

    # -- events in ------------------------------------------------------------------------

    def put(self, batch: Batch, *, timeout_seconds: float | None = None) -> Verdict:
        """Store one batch and wait until it is synced (see ``wire.sink.Sink.put``)."""
        waiting: SimpleQueue[tuple[Verdict | None, EventmillError | None]] = SimpleQueue()
        self.submit(batch, lambda verdict, error: waiting.put((verdict, error)))
        try:
            verdict, error = waiting.get(timeout=timeout_seconds)
        except Empty:
            raise UnavailableError(
                f"the batch was not synced within {timeout_seconds:g} s; it may still be"
            ) from None
        if verdict is None:
            raise error or UnavailableError("the batch was given no verdict")
        return verdict

    def submit(self, batch: Batch, answer: Answer) -> None:
        """Begin to store one batch (see ``wire.sink.SubmittingSink``)."""
        refuse_own(batch.table)
        self._writing().submit(batch, answer)

    def quarantine(self, events: Sequence[QuarantinedEvent]) -> None:
        """Keep rejected events; on return they are synced, once each."""
        waiting: SimpleQueue[EventmillError | None] = SimpleQueue()
        self._writing().quarantine(events, waiting.put)
        error = waiting.get()
        if error is not None:
            raise error

    def keep_own(self, batch: Batch) -> None:
        """Store rows of an own table; on return they are synced, once each."""
        waiting: SimpleQueue[EventmillError | None] = SimpleQueue()
        self._writing().keep_own([batch], waiting.put)
        error = waiting.get()
        if error is not None:
            raise error

    def seal(self) -> int:
        """Hand every open segment over to compaction; return how many held rows."""
        return self._writing().seal()

    def replace_slot(
        self, table: TableId, slot: SlotKey, rows: pa.Table, *, generation: int
    ) -> SlotOutcome:
        """Put ``rows`` in the place of whatever the slot had (see ``SlotStore``).

        Raises:
            AccessError: the store was opened for reading.
        """
        refuse_own(table)
        slots, writers = self._slots, self._writing()
        if slots is None:
            raise UnavailableError("the store is closed")
        live = self._cache.find(table, fresh=True)
        return slots.replace(live, writers.times(table), slot, rows, generation)

    # -- tables ---------------------------------------------------------------------------

    def describe(self, table: TableId) -> Table:
        """Return the live definition of ``table``; TableNotFoundError when there is none."""
        self._check_open()
        return self._cache.find(table, fresh=True).table

    def tables(self) -> Sequence[Table]:
        """Return every table but the store's own, ascending by name."""
        self._check_open()
        return [live.table for live in self._cache.all() if not live.is_own]

    def stats(self, table: TableId) -> TableStats:
        """Return what ``table`` holds now."""
        self._check_open()
        live = self._cache.find(table, fresh=True)
        return self._queries.stats(live)

    def apply(self, spec: TableSpec, *, expected_version: int | None = None) -> Table:
        """Create or extend a table (see ``Store.apply``)."""
        refuse_own(spec.table)
        try:
            return self._apply(spec, expected_version, is_own=False)
        finally:
            self._cache.forget()

    def drop(self, table: TableId) -> None:
        """Remove a table with its rows; TableNotFoundError when there is none."""
        refuse_own(table)
        writers = self._writing()
        live = self._cache.find(table, fresh=True)
        writers.forget(live.uid)
        with self._slots_turn(live.uid), self._admin_lock, self._admin.writing():
            self._admin.delete_table(live.uid)
        self._cache.forget()
        self._queries.forget(live.uid)
        # The manifest does not know the folder any more, and no table will ever be given its name.
        shutil.rmtree(self._layout.of(table, live.uid).root, ignore_errors=True)

    # -- answers out ----------------------------------------------------------------------

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
        """Answer one read-only GoogleSQL statement (see ``Store.query``).

        ``cancel``, once set, stops the query with QueryCancelledError.
        """
        self._check_open()
        if timeout_seconds is None:
            timeout_seconds = self._options.query_seconds_max
        return self._queries.query(
            sql,
            params,
            row_limit=row_limit,
            timeout_seconds=timeout_seconds,
            dry_run=dry_run,
            cancel=cancel,
        )

    def close(self) -> None:
        """Commit what waits, stop the compactor, let go of the folder."""
        if self._closed:
            return
        self._closed = True
        if self._writers is not None:
            self._writers.close()
        if self._slots is not None:
            self._slots.close()
        if self._compactor is not None:
            self._compactor.stop()
        self._queries.close()
        self._cache.close()
        self._admin.close()
        if self._lock is not None:
            self._lock.release()

    # -- inside ---------------------------------------------------------------------------

    def _open_manifest(self) -> Manifest:
        return Manifest(self._layout.database)

    def _check_open(self) -> None:
        if self._closed:
            raise UnavailableError("the store is closed")

    def _writing(self) -> Writers:
        self._check_open()
        if self._writers is None:
            raise AccessError(
                f"the store in {self._layout.root} was opened for reading: open it with writer=True"
            )
        return self._writers

    def _slots_turn(self, uid: int) -> AbstractContextManager[None]:
        return self._slots.turn(uid) if self._slots is not None else nullcontext()

    def _make_own_tables(self) -> None:
        for spec in own_specs():
            try:
                self._cache.find(spec.table)
            except TableNotFoundError:
                self._apply(spec, None, is_own=True)

    def _apply(self, spec: TableSpec, expected_version: int | None, *, is_own: bool) -> Table:
        self._check_open()
        now = self._clock.now()
        with self._admin_lock, self._admin.writing():
            row = next((r for r in self._admin.table_rows() if r[1] == str(spec.table)), None)
            if row is None:
                changed_spec(None, spec, expected_version)
                document = spec_document(spec)
                self._admin.insert_table(str(spec.table), is_own, document, spec.fingerprint, now)
                return Table(spec, 1, now, now)
            uid, _, _, version, document, created_at, updated_at = row
            live = Table(spec_from_json(json.loads(document)), version, created_at, updated_at)
            changed = changed_spec(live, spec, expected_version)
            if changed is None:
                return live
            self._admin.update_table(
                uid, version + 1, spec_document(changed), spec.fingerprint, now
            )
            return Table(changed, version + 1, created_at, now)
