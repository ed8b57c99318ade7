"""Views: queries with the name of a table. They hold no rows, and are read as what they say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from eventmill.base.errors import QueryError
from eventmill.schema.document import columns_to_json
from eventmill.schema.table import TableId
from eventmill.server.access import Action
from eventmill.server.bigquery.calls import Answer, Call, Reply, table_of
from eventmill.server.bigquery.cells import columns_of_arrow
from eventmill.server.bigquery.datasets import Datasets, refuse_reserved
from eventmill.server.bigquery.documents import check_etag, check_keys, etag_of, labels_of, text_of
from eventmill.server.bigquery.errors import duplicate, invalid, unsupported
from eventmill.server.bigquery.query_settings import query_settings
from eventmill.server.bigquery.rooms import Rooms, shown
from eventmill.server.bigquery.view_catalog import View, view_entry

_TAKEN = ("view", "description", "labels", "friendlyName")
_IGNORED = (
    "kind", "etag", "id", "selfLink", "tableReference", "creationTime", "lastModifiedTime", "type",
    "location", "schema", "numRows", "numBytes",
)  # fmt: skip


class ViewCalls:
    """The calls about tables, where the name is a view's; all others go on to the tables."""

    def __init__(self, rooms: Rooms, datasets: Datasets) -> None:
        self._rooms = rooms
        self._datasets = datasets
        self._views = rooms.views

    def or_table(
        self, of_view: Callable[[Call, View], Answer], of_table: Callable[[Call], Answer]
    ) -> Callable[[Call], Answer]:
        """Return the endpoint of a name that is a view's or a table's."""

        def endpoint(call: Call) -> Answer:
            view = self._views.find(call.table)
            return of_table(call) if view is None else of_view(call, view)

        return endpoint

    def inserting(self, of_table: Callable[[Call], Answer]) -> Callable[[Call], Answer]:
        """Return the endpoint that makes a view or a table."""

        def endpoint(call: Call) -> Answer:
            document = call.document()
            named = document.get("tableReference")
            word = named.get("tableId") if isinstance(named, Mapping) else None
            if isinstance(word, str):
                name = table_of(call.project, call.path["dataset"], word)
                if self._views.find(name) is not None:
                    raise duplicate("Table", shown(name))
                if document.get("view"):
                    return self._insert(call, name, document)
            return of_table(call)

        return endpoint

    def _insert(self, call: Call, name: TableId, document: Mapping[str, Any]) -> Answer:
        self._rooms.guard.require(call.principal, Action.APPLY, name)
        refuse_reserved(name.dataset)
        self._datasets.required(name.project, name.dataset)
        check_keys(document, _TAKEN, _IGNORED, "view")
        if self._rooms.live(name) is not None:
            raise duplicate("Table", shown(name))
        now = self._rooms.now_ms()
        said = {key: document[key] for key in ("description", "labels", "friendlyName")
                if document.get(key)}  # fmt: skip
        view = View(name, self._checked(call, document["view"]), now, now, 1, said)
        self._views.put(view)
        self._rooms.guard.record(call.principal, "view_created", name)
        return self.get(call, view)

    def get(self, call: Call, view: View) -> Answer:
        """Answer with one view, and the columns that it has now."""
        self._rooms.guard.require(call.principal, Action.DESCRIBE, view.id)
        document = {**view_entry(view), "etag": _etag(view)}
        document["lastModifiedTime"] = str(view.modified_ms)
        try:
            settings = query_settings(view.id.project, {"query": view.query}, self._views.query_of)
            sql = f"SELECT * FROM (\n{settings.ready.sql}\n) LIMIT 0"  # noqa: S608 - it is SQL
            schema = self._rooms.store.query(sql, settings.params).to_arrow().schema
            document["schema"] = {"fields": columns_to_json(columns_of_arrow(schema))}
        except QueryError:
            pass  # a table that it reads has gone: the view is there, and can be mended
        return document

    def change(self, call: Call, view: View) -> Answer:
        """Change what the body names."""
        self._rooms.guard.require(call.principal, Action.APPLY, view.id)
        document = call.document()
        check_keys(document, _TAKEN, _IGNORED, "view")
        check_etag(call, _etag(view))
        query = view.query
        if document.get("view"):
            query = self._checked(call, document["view"])
        said = dict(view.said)
        for key in ("description", "friendlyName"):
            if key in document:
                said[key] = text_of(document, key)
        if "labels" in document:
            said["labels"] = labels_of(document)
        changed = replace(
            view,
            query=query,
            said=said,
            modified_ms=self._rooms.now_ms(),
            revision=view.revision + 1,
        )
        self._views.put(changed)
        return self.get(call, changed)

    def delete(self, call: Call, view: View) -> Answer:
        """Remove a view; the tables that it reads stay."""
        self._rooms.guard.require(call.principal, Action.DROP, view.id)
        self._rooms.drop_view(call.principal, view.id)
        self._rooms.guard.record(call.principal, "view_dropped", view.id)
        return Reply(None, 204)

    def no_rows(self, call: Call, view: View) -> Answer:
        """Refuse to list or take rows: a view has none of its own."""
        raise invalid(f"{shown(view.id)} is a view: it is read by queries, and not written to")

    def _checked(self, call: Call, said: object) -> str:
        query = said.get("query") if isinstance(said, Mapping) else None
        if not isinstance(query, str) or not query:
            raise invalid("Required parameter is missing: view.query", "view.query")
        if isinstance(said, Mapping) and said.get("useLegacySql"):
            raise unsupported("legacy SQL", "write GoogleSQL, with useLegacySql false")
        settings = query_settings(call.project, {"query": query}, self._views.query_of)
        if settings.params:
            raise invalid("a view has no parameters", "view.query")
        self._rooms.guard.require_query(call.principal, settings.tables)
        live = [self._rooms.describe(table).spec for table in settings.tables]
        # A table that wants a filter gets it from whoever asks the view.
        if not any(spec.require_partition_filter for spec in live):
            self._rooms.store.query(settings.ready.sql, dry_run=True)
        return query


def _etag(view: View) -> str:
    return etag_of("view", view.id, view.created_ms, view.revision)
