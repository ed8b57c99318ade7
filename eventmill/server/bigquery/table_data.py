"""``tabledata.list``: rows of a live table, page by page."""

from __future__ import annotations

from typing import Any

from eventmill.schema.table import Column, Table
from eventmill.server.access import Action
from eventmill.server.bigquery.calls import Answer, Call
from eventmill.server.bigquery.cells import encode_rows
from eventmill.server.bigquery.documents import etag_of
from eventmill.server.bigquery.errors import invalid, unsupported
from eventmill.server.bigquery.rooms import Rooms
from eventmill.server.bigquery.scans import scan_page

_PAGE_ROWS_MAX = 10_000


class TableData:
    """The call that lists rows."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms

    def list_rows(self, call: Call) -> Answer:
        """Answer with rows of a table, in the order in which they came in."""
        name = call.table
        self._rooms.guard.require(call.principal, Action.READ, name)
        table = self._rooms.describe(name)
        columns = _selected(table, call.query.get("selectedFields", ""))
        count = min(call.number("maxResults", _PAGE_ROWS_MAX), _PAGE_ROWS_MAX)
        token = call.query.get("pageToken", "")
        skip = 0 if token else call.number("startIndex", 0)
        document: dict[str, Any] = {
            "kind": "bigquery#tableDataList",
            "etag": etag_of("rows", name, table.version, token, skip),
            "totalRows": str(self._rooms.store.stats(name).rows),
        }
        if not count:
            return document
        page = scan_page(self._rooms.store, table, columns, count=count, token=token, skip=skip)
        if page.rows.num_rows:
            document["rows"] = encode_rows(
                page.rows, int64_timestamps=call.flag("formatOptions.useInt64Timestamp")
            )
        if page.token:
            document["pageToken"] = page.token
        return document


def _selected(table: Table, names: str) -> list[Column]:
    if not names:
        return list(table.spec.columns)
    known = {column.name.lower(): column for column in table.spec.columns}
    found = []
    for name in names.split(","):
        column = known.get(name.strip().lower())
        if column is None:
            if "." in name:
                raise unsupported(f"selectedFields below a RECORD ({name})", "name the RECORD")
            raise invalid(f"no such field: {name}.", "selectedFields")
        found.append(column)
    return found
