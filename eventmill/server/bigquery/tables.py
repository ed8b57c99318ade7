"""Tables: insert, get, list, patch, update, delete."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eventmill.base.errors import SchemaConflictError
from eventmill.schema.table import Table, TableId, TableSpec
from eventmill.server.access import Action, Principal
from eventmill.server.bigquery.calls import Answer, Call, Reply, table_of
from eventmill.server.bigquery.catalog import TableEntry
from eventmill.server.bigquery.datasets import DEFAULT_LOCATION, Datasets, refuse_reserved
from eventmill.server.bigquery.definitions import (
    changed_spec,
    definition_document,
    new_spec,
)
from eventmill.server.bigquery.documents import (
    check_etag,
    check_keys,
    etag_of,
    labels_of,
    merged,
    number_of,
    page,
    text_of,
)
from eventmill.server.bigquery.errors import ApiError, duplicate, invalid
from eventmill.server.bigquery.rooms import Rooms, is_own, shown
from eventmill.server.bigquery.view_catalog import View, view_entry

_TAKEN = (
    "schema",
    "timePartitioning",
    "clustering",
    "requirePartitionFilter",
    "description",
    "labels",
    "friendlyName",
    "expirationTime",
)
_IGNORED = (
    "kind",
    "etag",
    "id",
    "selfLink",
    "tableReference",
    "creationTime",
    "lastModifiedTime",
    "type",
    "location",
    "numBytes",
    "numRows",
    "numLongTermBytes",
    "numActiveLogicalBytes",
    "numTotalLogicalBytes",
    "streamingBuffer",
)
_TRIES = 5


class Tables:
    """The calls about tables."""

    def __init__(self, rooms: Rooms, datasets: Datasets) -> None:
        self._rooms = rooms
        self._datasets = datasets

    def insert(self, call: Call) -> Answer:
        """Make a table in a dataset that is there."""
        document = call.document()
        reference = document.get("tableReference")
        name = reference.get("tableId") if isinstance(reference, Mapping) else None
        if not isinstance(name, str):
            raise invalid("Required parameter is missing: tableReference.tableId")
        table = table_of(call.project, call.path["dataset"], name)
        return self._document(call, self.create(call.principal, table, document))

    def create(self, principal: Principal, table: TableId, document: Mapping[str, Any]) -> Table:
        """Make a table of a table resource; refuse one that is there already."""
        self._rooms.guard.require(principal, Action.APPLY, table)
        refuse_reserved(table.dataset)
        self._rooms.drop_expired()
        check_keys(document, _TAKEN, _IGNORED, "table")
        dataset = self._datasets.required(table.project, table.dataset).said
        text_of(document, "friendlyName")
        spec = new_spec(
            table,
            document,
            partition_expiration_ms=number_of(dataset, "defaultPartitionExpirationMs"),
        )
        return self.make(principal, spec, document)

    def make(
        self, principal: Principal | None, spec: TableSpec, document: Mapping[str, Any]
    ) -> Table:
        """Make a table of a definition, with what its dataset says of every new table.

        Args:
            principal: who does so, for the audit; None: the server, for a job that goes on.
            spec: the definition.
            document: says ``friendlyName`` and ``expirationTime``.
        """
        table, now = spec.table, self._rooms.now_ms()
        if self._rooms.views.find(table) is not None:
            raise duplicate("Table", shown(table))
        dataset = self._datasets.required(table.project, table.dataset).said
        expires_ms = _expiry(document, now)
        lifetime_ms = number_of(dataset, "defaultTableExpirationMs")
        if expires_ms is None and lifetime_ms:
            expires_ms = now + lifetime_ms
        try:
            made = self._rooms.store.apply(spec, expected_version=0)
        except SchemaConflictError:
            raise duplicate("Table", shown(table)) from None
        said = merged({}, document, ("friendlyName",))
        if said or expires_ms is not None:
            self._rooms.catalog.put_table(made, said, expires_ms)
        if principal is not None:
            self._rooms.guard.record(principal, "table_created", table)
        return made

    def get(self, call: Call) -> Answer:
        """Answer with one table."""
        table = call.table
        self._rooms.guard.require(call.principal, Action.DESCRIBE, table)
        return self._document(call, self._rooms.describe(table))

    def list_tables(self, call: Call) -> Answer:
        """Answer with the tables of a dataset that the caller may know of."""
        self._rooms.drop_expired()
        name = call.path["dataset"]
        dataset = self._datasets.required(call.project, name)
        guard = self._rooms.guard
        here = (dataset.project, dataset.dataset)
        found: list[Table | View] = [
            *(t for t in self._rooms.store.tables() if (t.id.project, t.id.dataset) == here),
            *self._rooms.views.of(*here),
        ]
        seen = sorted((t for t in found if guard.sees(call.principal, t.id)), key=lambda t: t.id)
        return {
            "kind": "bigquery#tableList",
            "totalItems": len(seen),
            **page(call, seen, self._entry, "tables"),
        }

    def patch(self, call: Call) -> Answer:
        """Change what the body names, and answer with the table."""
        return self._change(call, whole=False)

    def update(self, call: Call) -> Answer:
        """Make the table what the body says; a schema may be left out, and stays then."""
        return self._change(call, whole=True)

    def _change(self, call: Call, *, whole: bool) -> Answer:
        table, document = call.table, call.document()
        self._rooms.guard.require(call.principal, Action.APPLY, table)
        check_keys(document, _TAKEN, _IGNORED, "table")
        if whole:
            document = {"labels": {}, "description": "", "expirationTime": None, **document}
        for left in range(_TRIES - 1, -1, -1):
            live = self._rooms.describe(table)
            if is_own(table):
                raise ApiError(403, "accessDenied", f"{shown(table)} is kept by the server itself")
            entry = self._rooms.catalog.table(live)
            named = check_etag(call, _etag(live, entry))
            labels = labels_of(
                document if whole else merged({"labels": live.spec.labels}, document, ("labels",))
            )
            try:
                changed = self._rooms.store.apply(
                    changed_spec(live.spec, document, labels), expected_version=live.version
                )
                break
            except SchemaConflictError as error:
                if self._rooms.describe(table).version == live.version:
                    raise invalid(str(error)) from None
                if named or not left:
                    raise ApiError(
                        412, "conditionNotMet", f"Table {shown(table)} has changed meanwhile"
                    ) from None
        self._change_entry(changed, entry, document)
        return self._document(call, changed)

    def _change_entry(self, table: Table, entry: TableEntry, document: Mapping[str, Any]) -> None:
        if "friendlyName" not in document and "expirationTime" not in document:
            return
        text_of(document, "friendlyName")
        said = merged(entry.said, document, ("friendlyName",))
        expires_ms = entry.expires_ms
        if "expirationTime" in document:
            expires_ms = _expiry(document, self._rooms.now_ms())
        if (said, expires_ms) == (dict(entry.said), entry.expires_ms):
            return
        if not self._rooms.catalog.put_table(
            table, said, expires_ms, expected_revision=entry.revision
        ):
            raise ApiError(412, "conditionNotMet", f"Table {shown(table.id)} has changed meanwhile")

    def delete(self, call: Call) -> Answer:
        """Remove a table with its rows."""
        table = call.table
        self._rooms.guard.require(call.principal, Action.DROP, table)
        self._rooms.describe(table)
        self._rooms.drop(call.principal, table)
        self._rooms.guard.record(call.principal, "table_dropped", table)
        return Reply(None, 204)

    def _document(self, call: Call, table: Table) -> dict[str, Any]:
        name = table.id
        entry = self._rooms.catalog.table(table)
        document = {
            "kind": "bigquery#table",
            "etag": _etag(table, entry),
            "id": shown(name),
            "selfLink": (
                f"{call.base_url}/bigquery/v2/projects/{name.project}/datasets/{name.dataset}"
                f"/tables/{name.table}"
            ),
            "tableReference": reference(name),
            "creationTime": str(int(table.created_at * 1000)),
            "lastModifiedTime": str(int(table.updated_at * 1000)),
            "type": "TABLE",
            "location": self._location(name),
            **definition_document(table.spec),
            **entry.said,
        }
        if entry.expires_ms is not None:
            document["expirationTime"] = str(entry.expires_ms)
        may_count = self._rooms.guard.allows(call.principal, Action.READ, name)
        # Counting reads the log's tail; whoever asks for the schema alone need not wait for it.
        if may_count and call.query.get("view", "").upper() != "BASIC":
            stats = self._rooms.store.stats(name)
            document |= {
                "numRows": str(stats.rows),
                "numBytes": str(stats.log_bytes + stats.lake_bytes),
                "numLongTermBytes": "0",
            }
        return document

    def _location(self, table: TableId) -> str:
        entry = self._rooms.catalog.dataset(table.project, table.dataset)
        return str(entry.said.get("location", DEFAULT_LOCATION)) if entry else DEFAULT_LOCATION

    def _entry(self, table: Table | View) -> dict[str, Any]:
        if isinstance(table, View):
            return view_entry(table)
        spec, entry = table.spec, self._rooms.catalog.table(table)
        said = definition_document(spec)
        document: dict[str, Any] = {
            "kind": "bigquery#table",
            "id": shown(table.id),
            "tableReference": reference(table.id),
            "type": "TABLE",
            "creationTime": str(int(table.created_at * 1000)),
            **{
                key: said[key]
                for key in ("labels", "timePartitioning", "clustering")
                if key in said
            },
            **entry.said,
        }
        if entry.expires_ms is not None:
            document["expirationTime"] = str(entry.expires_ms)
        return document


def reference(table: TableId) -> dict[str, str]:
    """Return the reference by which BigQuery's API names a table."""
    return {"projectId": table.project, "datasetId": table.dataset, "tableId": table.table}


def _etag(table: Table, entry: TableEntry) -> str:
    return etag_of("table", table.id, table.created_at, table.version, entry.revision)


def _expiry(document: Mapping[str, Any], now_ms: int) -> int | None:
    expires_ms = number_of(document, "expirationTime")
    if expires_ms is not None and expires_ms <= now_ms:
        raise invalid("expirationTime lies in the past", "expirationTime")
    return expires_ms or None
