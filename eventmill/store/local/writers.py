"""The writers of all tables that are being written to, made as they are needed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence

from eventmill.base.clock import Clock
from eventmill.base.errors import CorruptStoreError, EventmillError, UnavailableError
from eventmill.base.settings import StoreSettings
from eventmill.schema.table import TableId
from eventmill.store.local.catalog import LiveTable, TableCache
from eventmill.store.local.committer import TableCommitter
from eventmill.store.local.dedup import DedupWindow, hash_ids
from eventmill.store.local.disk import Disk
from eventmill.store.local.gathering import Done, Gathering
from eventmill.store.local.ingest_times import IngestTimes
from eventmill.store.local.lake import read_insert_ids_by_hour
from eventmill.store.local.layout import Layout
from eventmill.store.local.log import TableLog
from eventmill.store.local.manifest import Manifest
from eventmill.store.local.writer import TableWriter
from eventmill.store.quarantine import quarantine_batches
from eventmill.wire.batch import Batch
from eventmill.wire.quarantined import QuarantinedEvent
from eventmill.wire.sink import Answer


class Writers:
    """One ``TableWriter`` for each table in use. Safe from any thread."""

    def __init__(
        self,
        layout: Layout,
        options: StoreSettings,
        clock: Clock,
        disk: Disk,
        cache: TableCache,
        open_manifest: Callable[[], Manifest],
    ) -> None:
        self._layout = layout
        self._options = options
        self._clock = clock
        self._disk = disk
        self._cache = cache
        self._open_manifest = open_manifest
        self._watch = open_manifest()
        self._watch_lock = threading.Lock()
        seed = self._watch.fact("dedup_seed")
        if seed is None:
            raise CorruptStoreError(f"{layout.database} has lost its dedup_seed")
        self._seed = int(seed)
        self._writers: dict[int, TableWriter] = {}
        self._manifests: dict[int, Manifest] = {}
        self._lock = threading.Lock()
        self._closed = False

    def recover(self) -> None:
        """Recover every table that a process died writing to, so that its rows are sealed."""
        for live in self._cache.all():
            with self._watch_lock:
                states = {segment.state for segment in self._watch.segments(live.uid)}
            if "open" in states:
                self._writer(live.table.id)

    def submit(self, batch: Batch, answer: Answer) -> None:
        """Begin to store ``batch`` in its table."""
        writer = self._writer(batch.table)
        if batch.fingerprint not in writer.live.fingerprints:
            # Perhaps the table has just been changed to the sender's definition.
            writer = self._writer(batch.table, fresh=True)
        writer.submit(batch, answer)

    def quarantine(self, events: Sequence[QuarantinedEvent], done: Done) -> None:
        """Begin to keep ``events``; ``done`` is told when all are synced, or the first error."""
        self.keep_own(quarantine_batches(events, self._clock), done)

    def keep_own(self, batches: Iterable[Batch], done: Done) -> None:
        """Begin to store ``batches`` in own tables; ``done`` is told as by ``quarantine``."""
        parts = Gathering(done)
        try:
            for batch in batches:
                part = parts.part()
                try:
                    self._writer(batch.table).submit_own(batch, part)
                except EventmillError as error:
                    part(error)
        except EventmillError as error:
            parts.part()(error)
        parts.all_begun()

    def seal(self) -> int:
        """Seal every open segment; return how many there were."""
        with self._lock:
            waiting = [writer.seal() for writer in self._writers.values()]
        return sum(future.result() for future in waiting)

    def times(self, table: TableId) -> IngestTimes:
        """Return what gives rows of ``table`` their time of ingestion."""
        return self._writer(table).times

    def forget(self, uid: int) -> None:
        """Close the writer of a table that is going away."""
        with self._lock:
            writer = self._writers.pop(uid, None)
            manifest = self._manifests.pop(uid, None)
        if writer is not None:
            writer.close()
        if manifest is not None:
            manifest.close()

    def close(self) -> None:
        """Commit what waits in every table, and stop."""
        with self._lock:
            self._closed = True
            writers, self._writers = self._writers, {}
        for writer in writers.values():
            writer.close()
        for manifest in self._manifests.values():
            manifest.close()
        with self._watch_lock:
            self._watch.close()

    def _writer(self, table: TableId, *, fresh: bool = False) -> TableWriter:
        live = self._cache.find(table, fresh=fresh)
        writer = self._writers.get(live.uid)
        if writer is None:
            with self._lock:
                if self._closed:
                    raise UnavailableError("the store is closing")
                writer = self._writers.get(live.uid)
                if writer is None:
                    writer = self._writers[live.uid] = self._make(live)
        if writer.live is not live and writer.live.table.version < live.table.version:
            with self._lock:
                writer.adopt(live)
        return writer

    def _make(self, live: LiveTable) -> TableWriter:
        name = str(live.table.id)
        manifest = self._open_manifest()
        log = TableLog(
            live.table.id, live.uid, self._layout, manifest, self._disk, self._options.segment_bytes
        )
        window = DedupWindow(self._options.dedup_window_seconds)
        committer = TableCommitter(
            name,
            log,
            window,
            self._clock,
            restore=lambda times: self._restore_from_lake(live, manifest, window, times),
            seed=self._seed,
            seal_after_seconds=self._options.seal_after_seconds,
        )
        self._manifests[live.uid] = manifest
        return TableWriter(
            live,
            committer,
            self.quarantine,
            lambda: self._sealed_bytes(live.uid),
            self._clock,
            seed=self._seed,
            sealed_bytes_max=self._options.sealed_bytes_max,
        )

    def _restore_from_lake(
        self, live: LiveTable, manifest: Manifest, window: DedupWindow, times: IngestTimes
    ) -> None:
        """Take the insert IDs of the lake's young files into the window, and its newest time.

        Runs after the log was read: a segment that the compactor finishes in between is then seen
        in the log or here, or in both, never in neither. Rows of slots were never put, so their
        insert IDs are none that a sender could repeat.
        """
        times.know(manifest.last_ingested_us(live.uid) or 0)
        if not window.window_seconds:
            return
        oldest_us = int((self._clock.now() - window.window_seconds) * 1e6)
        for file in manifest.files(live.uid):
            if file.is_output or file.max_ingested_us < oldest_us:
                continue
            path = self._layout.of(live.table.id, live.uid).lake_file(file.name)
            for stored_at, insert_ids in read_insert_ids_by_hour(path):
                window.restore(hash_ids(insert_ids, self._seed), stored_at, self._clock.now())

    def _sealed_bytes(self, uid: int) -> int:
        with self._watch_lock:
            return sum(s.bytes for s in self._watch.segments(uid) if s.state == "sealed")
