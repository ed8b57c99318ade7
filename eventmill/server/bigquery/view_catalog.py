"""The views that clients have made, beside the other entries of the surface."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eventmill.schema.table import TableId
from eventmill.server.bigquery.catalog import open_database

_SCHEMA = """
CREATE TABLE IF NOT EXISTS views (
    name TEXT PRIMARY KEY, project TEXT NOT NULL, dataset TEXT NOT NULL, query TEXT NOT NULL,
    created_ms INTEGER NOT NULL, modified_ms INTEGER NOT NULL, revision INTEGER NOT NULL,
    said TEXT NOT NULL) STRICT;
"""


@dataclass(frozen=True, slots=True)
class View:
    """One view."""

    id: TableId
    query: str
    """As its maker has written it."""
    created_ms: int
    modified_ms: int
    revision: int
    said: Mapping[str, Any]


class Views:
    """The views of one server. Safe from any thread; each change is synced."""

    def __init__(self, path: str) -> None:
        """Open the database at ``path``, made when it is missing."""
        self._lock = threading.Lock()
        self._db: sqlite3.Connection = open_database(path, _SCHEMA, synchronous="FULL")
        self._known: dict[TableId, View] = {view.id: view for view in self._load()}

    def close(self) -> None:
        """Let go of the database."""
        with self._lock:
            self._db.close()

    def find(self, name: TableId) -> View | None:
        """Return a view; None: there is none of that name."""
        return self._known.get(name)

    def query_of(self, name: TableId) -> str | None:
        """Return what a view asks; None: there is none of that name."""
        view = self._known.get(name)
        return view.query if view is not None else None

    def of(self, project: str, dataset: str) -> list[View]:
        """Return the views of a dataset, ascending by name."""
        found = [v for v in list(self._known.values()) if v.id.project == project]
        return sorted((v for v in found if v.id.dataset == dataset), key=lambda view: view.id)

    def put(self, view: View) -> None:
        """Write a view."""
        name = view.id
        with self._lock, self._db:
            self._db.execute(
                "INSERT OR REPLACE INTO views VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    str(name), name.project, name.dataset, view.query, view.created_ms,
                    view.modified_ms, view.revision, json.dumps(dict(view.said)),
                ),
            )  # fmt: skip
            self._known[name] = view

    def forget(self, name: TableId) -> None:
        """Remove a view, if it is there."""
        with self._lock, self._db:
            self._db.execute("DELETE FROM views WHERE name = ?", (str(name),))
            self._known.pop(name, None)

    def _load(self) -> list[View]:
        rows = self._db.execute(
            "SELECT name, query, created_ms, modified_ms, revision, said FROM views"
        ).fetchall()
        return [
            View(TableId.parse(name), query, created_ms, modified_ms, revision, json.loads(said))
            for name, query, created_ms, modified_ms, revision, said in rows
        ]


def view_entry(view: View) -> dict[str, Any]:
    """Return the entry of a view in a list."""
    name = view.id
    return {
        "kind": "bigquery#table",
        "id": f"{name.project}:{name.dataset}.{name.table}",
        "tableReference": {
            "projectId": name.project, "datasetId": name.dataset, "tableId": name.table,
        },
        "type": "VIEW",
        "creationTime": str(view.created_ms),
        "view": {"query": view.query, "useLegacySql": False},
        **view.said,
    }  # fmt: skip
