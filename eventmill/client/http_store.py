"""A server as a store: everything that ``HttpSink`` does, and tables and queries."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from eventmill.base.errors import BatchTooLargeError, UnavailableError
from eventmill.client.http_sink import HttpSink, table_path
from eventmill.schema.document import spec_to_json, table_from_json
from eventmill.schema.table import Table, TableId, TableSpec, TableStats
from eventmill.wire.media import ARROW_CONTENT_TYPE
from eventmill.wire.parameter_json import parameter_to_json
from eventmill.wire.slot import SLOT_BYTES_MAX, SlotKey, SlotOutcome, moment_text

if TYPE_CHECKING:
    from eventmill.wire.answer import QueryResult
    from eventmill.wire.arrow_stream import Rows

ROW_LIMIT_DEFAULT = 100_000
"""Rows a query returns unless told otherwise; the same as of every store."""
QUERY_SLACK_SECONDS = 5.0
"""How much longer the client waits than the query's own limit, so that it is the server, which
can say why, that ends it."""
_QUERY_SECONDS = 120.0
_SLOT_SECONDS = 600.0
"""How long replacing a slot may take; a GB of rows is on its way for a while."""


class HttpStore(HttpSink):
    """The store behind the server at a URL. Safe from any thread, and after a fork."""

    def tables(self) -> Sequence[Table]:
        """Return every table but the store's own, ascending by name."""
        return [table_from_json(entry) for entry in self._json("GET", "/api/v1/tables")["tables"]]

    def stats(self, table: TableId) -> TableStats:
        """Return what ``table`` holds now."""
        told = self._json("GET", f"{table_path(table)}/stats")
        names = {item.name for item in fields(TableStats)}
        return TableStats(**{name: value for name, value in told.items() if name in names})

    def apply(self, spec: TableSpec, *, expected_version: int | None = None) -> Table:
        """Create the table, or change the live one (see ``Store.apply``)."""
        headers = {}
        if expected_version == 0:
            headers["If-None-Match"] = "*"
        elif expected_version is not None:
            headers["If-Match"] = f'"{expected_version}"'
        answer = self._json(
            "PUT",
            table_path(spec.table),
            spec_to_json(spec),
            headers=headers,
            repeatable=expected_version is None,
        )
        return table_from_json(answer)

    def drop(self, table: TableId) -> None:
        """Remove a table with its rows; TableNotFoundError when there is none."""
        self._send("DELETE", table_path(table), repeatable=False)

    def replace_slot(
        self, table: TableId, slot: SlotKey, rows: Rows, *, generation: int
    ) -> SlotOutcome:
        """Put ``rows`` in the place of whatever the slot had (see ``SlotStore``). Needs pyarrow.

        Raises:
            BatchTooLargeError: the rows have more than 1,000,000,000 bytes.
        """
        from eventmill.wire.arrow_stream import encode_rows_stream

        body = encode_rows_stream(rows)
        if len(body) > SLOT_BYTES_MAX:
            raise BatchTooLargeError(
                f"the rows of {slot} have {len(body):,} bytes; the limit is {SLOT_BYTES_MAX:,}:"
                " make the workflow's slots shorter"
            )
        start, end = moment_text(slot.start_seconds), moment_text(slot.end_seconds)
        answer = self._send(
            "PUT",
            f"{table_path(table)}/slots/{slot.workflow}/{start}/{end}?generation={generation}",
            body,
            {"Content-Type": ARROW_CONTENT_TYPE, "Accept": "application/json"},
            timeout_seconds=_SLOT_SECONDS,
        )
        try:
            told = json.loads(answer.body)
            return SlotOutcome(int(told["rows"]), int(told["replaced_rows"]))
        except (ValueError, KeyError, TypeError) as error:
            raise UnavailableError(f"{self._url} gave an answer that is none: {error}") from error

    def query(
        self,
        sql: str,
        params: Mapping[str, Any] | None = None,
        *,
        row_limit: int | None = ROW_LIMIT_DEFAULT,
        timeout_seconds: float | None = None,
        dry_run: bool = False,
    ) -> QueryResult:
        """Answer one read-only GoogleSQL statement (see ``Store.query``). Needs pyarrow."""
        from eventmill.wire.arrow_stream import decode_arrow  # who only sends needs no pyarrow

        document = {
            "sql": sql,
            "params": {name: parameter_to_json(value) for name, value in (params or {}).items()},
            "row_limit": row_limit,
            "timeout_seconds": timeout_seconds,
            "dry_run": dry_run,
        }
        wait_seconds = _QUERY_SECONDS if timeout_seconds is None else timeout_seconds
        answer = self._send(
            "POST",
            "/api/v1/query",
            json.dumps(document).encode(),
            {"Content-Type": "application/json", "Accept": ARROW_CONTENT_TYPE},
            timeout_seconds=wait_seconds + QUERY_SLACK_SECONDS,
        )
        try:
            return decode_arrow(answer.body)
        except ValueError as error:
            raise UnavailableError(f"{self._url} gave an answer that is none: {error}") from error
