"""The live tables of a store, cached and kept fresh while other processes change them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from eventmill.base.clock import Clock
from eventmill.schema.document import spec_from_json, spec_to_json
from eventmill.schema.table import Table, TableId, TableSpec
from eventmill.store.change import no_such_table
from eventmill.store.local.manifest import Manifest

_LOOK_SECONDS = 0.2
"""How long a cached table may be used before looking whether the store has changed."""


@dataclass(frozen=True, slots=True)
class LiveTable:
    """A table as the store knows it."""

    uid: int
    """Names this table for good; another of the same name made later has another."""
    table: Table
    fingerprints: frozenset[str]
    """Of every definition it has had."""
    is_own: bool
    """Whether the store keeps it about itself."""


def read_tables(manifest: Manifest, known: Mapping[int, Table]) -> dict[int, Table]:
    """Return every table by uid, the store's own included, ascending by name.

    Args:
        manifest: where they are listed.
        known: what an earlier call returned; a table that has not changed is not read anew.
    """
    tables = {}
    for uid, _, _, version, document, created_at, updated_at in manifest.table_rows():
        table = known.get(uid)
        if table is None or table.version != version:
            spec = spec_from_json(json.loads(document))
            table = Table(spec, version, created_at, updated_at)
        tables[uid] = table
    return tables


def read_definition(manifest: Manifest, uid: int, version: int) -> TableSpec:
    """Return what a table was at an earlier version.

    Raises:
        FileNotFoundError: the table is gone: take a new snapshot.
    """
    document = manifest.definition(uid, version)
    if document is None:
        raise FileNotFoundError(f"version {version} of table {uid} is not in the manifest")
    return spec_from_json(json.loads(document))


def spec_document(spec: TableSpec) -> str:
    """Return the text by which the manifest keeps a definition."""
    return json.dumps(spec_to_json(spec), separators=(",", ":"), sort_keys=True)


class TableCache:
    """Answers what a table is without asking SQLite each time. Safe from any thread."""

    def __init__(self, open_manifest: Callable[[], Manifest], clock: Clock) -> None:
        # A connection of its own: ``data_version`` moves only for changes made by others.
        self._manifest = open_manifest()
        self._clock = clock
        self._lock = threading.Lock()
        self._tables: dict[TableId, LiveTable] = {}
        self._changes = -1
        self._looked_at = float("-inf")
        self._latest: tuple[TableId, dict[TableId, LiveTable], LiveTable] | None = None

    def close(self) -> None:
        """Let go of the manifest."""
        with self._lock:
            self._manifest.close()

    def find(self, table: TableId, *, fresh: bool = False) -> LiveTable:
        """Return a live table, at most 0.2 s old; ``fresh``: as it is now.

        Raises:
            TableNotFoundError: there is none; near names are listed.
        """
        tables = self._current(fresh=fresh)
        latest = self._latest
        if latest is not None and latest[0] is table and latest[1] is tables:
            return latest[2]  # a sender asks with the same object again and again
        found = tables.get(table)
        if found is None and not fresh:
            tables = self._current(fresh=True)
            found = tables.get(table)
        if found is None:
            raise no_such_table(table, tables)
        self._latest = table, tables, found
        return found

    def forget(self) -> None:
        """Look at the store again before the next answer: this process has changed it."""
        self._looked_at = float("-inf")

    def all(self) -> list[LiveTable]:
        """Return every table as it is now, the store's own included, ascending by name."""
        return list(self._current(fresh=True).values())

    def _current(self, *, fresh: bool) -> dict[TableId, LiveTable]:
        now = self._clock.monotonic()
        if not fresh and now - self._looked_at < _LOOK_SECONDS:
            return self._tables
        with self._lock:
            changes = self._manifest.changes_seen()
            if changes != self._changes:
                self._tables = self._load()
                self._changes = changes
            self._looked_at = now
            return self._tables

    def _load(self) -> dict[TableId, LiveTable]:
        old = {live.uid: live for live in self._tables.values()}
        loaded = {}
        with self._manifest.reading():
            own = {row[0] for row in self._manifest.table_rows() if row[2]}
            known = {uid: live.table for uid, live in old.items()}
            for uid, table in read_tables(self._manifest, known).items():
                live = old.get(uid)
                if live is None or live.table is not table:
                    prints = frozenset(self._manifest.fingerprints(uid))
                    live = LiveTable(uid, table, prints, uid in own)
                loaded[table.id] = live
        return loaded
