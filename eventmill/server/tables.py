"""Tables over HTTP: list, read, apply, drop, statistics; and quarantine's way in."""

from __future__ import annotations

from dataclasses import asdict

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from eventmill.base.errors import SchemaConflictError, UsageError
from eventmill.schema.document import spec_from_json, table_to_json
from eventmill.schema.table import Table, TableId
from eventmill.server.body import BodyBudget, read_body
from eventmill.server.ingest import table_id
from eventmill.store.port import Store
from eventmill.wire.quarantined_json import quarantined_from_json

DOCUMENT_BYTES_MAX = 32_000_000
"""Bytes of one JSON document: room for a quarantined event over the batch limit, in base64."""


class Tables:
    """The routes of tables; every call of the store runs in a thread."""

    def __init__(self, store: Store, budget: BodyBudget) -> None:
        self._store = store
        self._budget = budget

    async def list(self, request: Request) -> Response:
        """Answer with every table, ascending by name."""
        tables = await run_in_threadpool(self._store.tables)
        return _json({"tables": [table_to_json(table) for table in tables]})

    async def get(self, request: Request) -> Response:
        """Answer with one table; its version is the ETag."""
        named = table_id(request.path_params["table"])
        return _table(await run_in_threadpool(self._store.describe, named))

    async def put(self, request: Request) -> Response:
        """Create or change a table to the definition in the body.

        ``If-Match: "<version>"`` refuses with 412 when the table has moved on from that version;
        ``If-None-Match: *`` when there is a table at all.
        """
        named = table_id(request.path_params["table"])
        expected = _expected_version(request)
        document = await self._document(request)
        if not isinstance(document, dict):
            raise UsageError("the body must be a JSON object: the definition of a table")
        spec = spec_from_json(document)
        if spec.table != named:
            raise UsageError(f"the body defines {spec.table}, the address names {named}")
        try:
            table = await run_in_threadpool(self._store.apply, spec, expected_version=expected)
        except SchemaConflictError as error:
            if expected is None:
                raise
            live = await run_in_threadpool(self._live_version, named)
            if live == expected:
                raise
            raise HTTPException(412, str(error)) from error
        return _table(table)

    async def delete(self, request: Request) -> Response:
        """Drop a table with its rows."""
        await run_in_threadpool(self._store.drop, table_id(request.path_params["table"]))
        return Response(status_code=204)

    async def stats(self, request: Request) -> Response:
        """Answer with what a table holds."""
        named = table_id(request.path_params["table"])
        stats = await run_in_threadpool(self._store.stats, named)
        return _json({**asdict(stats), "rows": stats.rows, "accepted": stats.accepted})

    async def quarantine(self, request: Request) -> Response:
        """Keep events that a client could not make part of a batch."""
        document = await self._document(request)
        if not isinstance(document, list) or not all(isinstance(e, dict) for e in document):
            raise UsageError("the body must be a JSON array of quarantined events")
        events = [quarantined_from_json(entry) for entry in document]
        await run_in_threadpool(self._store.quarantine, events)
        return _json({"count": len(events)})

    async def _document(self, request: Request) -> object:
        async with read_body(request, self._budget, bytes_max=DOCUMENT_BYTES_MAX) as body:
            return parse_json(body.content)

    def _live_version(self, named: TableId) -> int:
        found = [table.version for table in self._store.tables() if table.id == named]
        return found[0] if found else 0


def parse_json(body: bytes) -> object:
    """Read a JSON body, or raise UsageError."""
    try:
        document: object = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise UsageError(f"the body is not JSON: {error}") from error
    return document


def _expected_version(request: Request) -> int | None:
    if request.headers.get("if-none-match") == "*":
        return 0
    given = request.headers.get("if-match")
    if given is None:
        return None
    text = given.strip('"')
    if not (text.isascii() and text.isdigit()):
        raise UsageError(f'If-Match {given!r} is not the version of a table, such as "3"')
    return int(text)


def _table(table: Table) -> Response:
    return _json(table_to_json(table), {"ETag": f'"{table.version}"'})


def _json(document: object, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(document), headers=headers, media_type="application/json")
