"""A query on the embedded store: one snapshot of the manifest, the lake's files, the log's tail."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from eventmill.base.clock import seconds_of
from eventmill.base.errors import UnavailableError
from eventmill.base.settings import StoreSettings
from eventmill.schema.table import Column, Mode, TableId, TableSpec, TableStats
from eventmill.store.engine import Engine, Source, empty_answer
from eventmill.store.googlesql import TimeBounds, Translation, translate
from eventmill.store.local.ahead import AheadRows
from eventmill.store.local.catalog import LiveTable, TableCache, read_definition
from eventmill.store.local.layout import Layout
from eventmill.store.local.manifest import FileRow, Manifest
from eventmill.store.local.partition import event_time_column
from eventmill.store.local.tail import Tail
from eventmill.store.own_columns import INGESTED_AT
from eventmill.store.partition_filter import refuse_unfiltered
from eventmill.wire.answer import QueryResult
from eventmill.wire.early_events import Definition

_TRIES = 5
"""Snapshots taken before giving up on files that vanish: each means that a whole compaction fell
between reading the manifest and opening a file."""


class QueryRoom:
    """Answers queries of one process. Safe from any thread."""

    def __init__(
        self,
        layout: Layout,
        cache: TableCache,
        open_manifest: Callable[[], Manifest],
        options: StoreSettings,
    ) -> None:
        self._layout = layout
        self._cache = cache
        self._options = options
        self._engine = Engine(layout.root, memory_limit=options.memory_limit)
        self._manifest = open_manifest()
        self._manifest_lock = threading.Lock()
        self._views: dict[int, _TableView] = {}
        self._views_lock = threading.Lock()

    def close(self) -> None:
        """Stop the engine and let go of what was decoded."""
        self._engine.close()
        with self._manifest_lock:
            self._manifest.close()

    def query(
        self,
        sql: str,
        params: Mapping[str, Any] | None,
        *,
        row_limit: int | None,
        timeout_seconds: float | None,
        dry_run: bool,
        cancel: threading.Event | None,
    ) -> QueryResult:
        """Answer one statement; see ``Store.query``."""
        translation = translate(sql, params)
        for last in range(_TRIES - 1, -1, -1):
            try:
                sources = {
                    table: self._source(table, translation, with_rows=not dry_run)
                    for table in translation.tables
                }
                if dry_run:
                    return empty_answer(self._engine.check(translation, sources))
                return self._engine.run(
                    translation,
                    sources,
                    row_limit=row_limit,
                    timeout_seconds=timeout_seconds,
                    cancel=cancel,
                )
            except FileNotFoundError as error:
                if not last:
                    raise UnavailableError(f"files of the store keep vanishing: {error}") from error
        raise AssertionError("unreachable")

    def stats(self, live: LiveTable) -> TableStats:
        """Return what a table holds, counted in one snapshot."""
        for _ in range(_TRIES):
            try:
                return self._stats(live)
            except FileNotFoundError:
                continue
        raise UnavailableError(f"segments of {live.table.id} keep vanishing")

    def _stats(self, live: LiveTable) -> TableStats:
        with self._manifest_lock, self._manifest.reading():
            segments = self._manifest.segments(live.uid)
            files = self._manifest.files(live.uid)
            expired, deduplicated, replaced = self._manifest.removed_row_counts(live.uid)
        numbers = [segment.number for segment in segments]
        view = self._view(live)
        rows, log_bytes = view.tail.read(numbers)
        newest_us = [file.max_event_us for file in files if file.max_event_us is not None]
        in_log = pc.max(rows[event_time_column(live.table.spec)].cast(pa.int64())).as_py()
        if in_log is not None:
            newest_us.append(in_log)
        return TableStats(
            log_rows=rows.num_rows,
            lake_rows=sum(file.rows for file in files),
            expired_rows=expired,
            deduplicated_rows=deduplicated,
            replaced_rows=replaced,
            ahead_rows=view.tail.count_ahead(numbers) + view.ahead.count(files),
            log_bytes=log_bytes,
            lake_bytes=sum(file.bytes for file in files),
            newest_event_at=seconds_of(max(newest_us)) if newest_us else None,
        )

    def _source(self, table: TableId, translation: Translation, *, with_rows: bool) -> Source:
        live = self._cache.find(table, fresh=True)
        view = self._view(live)
        with self._manifest_lock, self._manifest.reading():
            segments = self._manifest.segments(live.uid)
            files = self._manifest.files(live.uid)
        spec = live.table.spec
        refuse_unfiltered(translation, spec)
        time_column = event_time_column(spec)
        for column in {time_column, INGESTED_AT}:
            bounds = translation.time_bounds.get((table, column.lower()))
            if bounds is not None:
                own = column == INGESTED_AT
                files = [file for file in files if _may_hold(file, bounds, own)]
        numbers = [segment.number for segment in segments]
        folder = self._layout.of(table, live.uid)
        if with_rows:
            rows, log_bytes = view.tail.read(numbers)
            rows = pa.concat_tables([rows, *view.ahead.read(files)])
        else:
            rows = view.tail.schema.empty_table()
            # The manifest does not count the bytes of a segment that is still written to.
            log_bytes = sum(
                segment.bytes or os.path.getsize(folder.segment(segment.number))
                for segment in segments
            )
        behind = [file for file in files if view.ahead.is_behind(file)]
        return Source(
            rows=rows,
            files=[folder.lake_file(file.name) for file in files],
            files_in_part=[folder.lake_file(file.name) for file in behind],
            lists_lacked=view.lists_lacked({file.version for file in files}),
            files_are_alike=bool(files)
            and not behind
            and {(file.version, file.ahead_rows) for file in files} == {(live.table.version, 0)},
            files_differ=len({(file.version, file.ahead_rows > 0) for file in files}) > 1,
            bytes=sum(file.bytes for file in files) + log_bytes,
        )

    def _view(self, live: LiveTable) -> _TableView:
        with self._views_lock:
            view = self._views.get(live.uid)
            if view is None or view.version != live.table.version:
                view = self._views[live.uid] = _TableView(
                    self._layout, live, lambda version: self._definition(live.uid, version)
                )
            return view

    def _definition(self, uid: int, version: int) -> TableSpec:
        with self._manifest_lock:
            return read_definition(self._manifest, uid, version)

    def forget(self, uid: int) -> None:
        """Let go of what is kept of a table that is gone."""
        with self._views_lock:
            self._views.pop(uid, None)


class _TableView:
    """What is kept in memory of one table, by one definition."""

    def __init__(self, layout: Layout, live: LiveTable, definition: Definition) -> None:
        folder = layout.of(live.table.id, live.uid)
        self.version = live.table.version
        self.tail = Tail(live.table, folder, definition)
        self.ahead = AheadRows(live.table, folder, definition)
        self._columns = live.table.spec.columns
        self._definition = definition
        self._lists_lacked: dict[int, frozenset[str]] = {}

    def lists_lacked(self, versions: Collection[int]) -> frozenset[str]:
        """Return the dotted paths of repeated columns that files of ``versions`` may lack.

        Raises:
            FileNotFoundError: the table is gone.
        """
        found: set[str] = set()
        for version in versions:
            if version >= self.version:
                continue
            if version not in self._lists_lacked:
                before = self._definition(version).columns
                self._lists_lacked[version] = frozenset(_new_lists(before, self._columns, ""))
            found |= self._lists_lacked[version]
        return frozenset(found)


def _new_lists(before: Sequence[Column], columns: Sequence[Column], prefix: str) -> Iterator[str]:
    """Yield repeated columns of records that ``before`` has and that lack them there."""
    by_name = {column.name: column for column in before}
    for column in columns:
        path = f"{prefix}{column.name}"
        old = by_name.get(column.name)
        if old is not None:
            yield from _new_lists(old.fields, column.fields, f"{path}.")
        elif column.mode is Mode.REPEATED:
            yield path


def _may_hold(file: FileRow, bounds: TimeBounds, ingested: bool) -> bool:
    """Return whether a row of ``file`` can lie within ``bounds``."""
    low = file.min_ingested_us if ingested else file.min_event_us
    high = file.max_ingested_us if ingested else file.max_event_us
    if low is None or high is None:
        return False  # every value is NULL, and no comparison holds for NULL
    if bounds.lower_us is not None and high < bounds.lower_us:
        return False
    return bounds.upper_us is None or low <= bounds.upper_us
