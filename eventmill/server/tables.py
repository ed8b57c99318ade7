"""Tables over HTTP: list, read, apply, drop, statistics; and quarantine's way in."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from eventmill.base.errors import EventmillError, SchemaConflictError, UsageError
from eventmill.schema.document import spec_from_json, table_to_json
from eventmill.schema.table import Table, TableId
from eventmill.server.access import Access, Action, Charge, Principal, principal_in
from eventmill.server.body import BodyBudget, read_body
from eventmill.server.ingest import table_id
from eventmill.store.change import refuse_own
from eventmill.store.port import Store
from eventmill.wire.quarantined import QuarantinedEvent
from eventmill.wire.quarantined_json import quarantined_from_json

_logger = logging.getLogger(__name__)

DOCUMENT_BYTES_MAX = 32_000_000
"""Bytes of one JSON document: room for a quarantined event over the batch limit, in base64."""


class Tables:
    """The routes of tables; every call of the store runs in a thread."""

    def __init__(self, store: Store, access: Access, budget: BodyBudget) -> None:
        self._store = store
        self._access = access
        self._budget = budget

    async def list(self, request: Request) -> Response:
        """Answer with every table that the caller may know of, ascending by name."""
        tables = await run_in_threadpool(self._store.tables)
        principal = principal_in(request)
        seen = [table for table in tables if self._access.sees(principal, table.id)]
        return _json({"tables": [table_to_json(table) for table in seen]})

    async def get(self, request: Request) -> Response:
        """Answer with one table; its version is the ETag."""
        named = self._allowed(request, Action.DESCRIBE)
        return _table(await run_in_threadpool(self._store.describe, named))

    async def put(self, request: Request) -> Response:
        """Create or change a table to the definition in the body.

        ``If-Match: "<version>"`` refuses with 412 when the table has moved on from that version;
        ``If-None-Match: *`` when there is a table at all.
        """
        named = self._allowed(request, Action.APPLY)
        expected = _expected_version(request)
        document = await self._document(request)
        if not isinstance(document, dict):
            raise UsageError("the body must be a JSON object: the definition of a table")
        spec = spec_from_json(document)
        if spec.table != named:
            raise UsageError(f"the body defines {spec.table}, the address names {named}")
        before = await run_in_threadpool(self._live_version, named)
        try:
            table = await run_in_threadpool(self._store.apply, spec, expected_version=expected)
        except SchemaConflictError as error:
            if expected is None:
                raise
            live = await run_in_threadpool(self._live_version, named)
            if live == expected:
                raise
            raise HTTPException(412, str(error)) from error
        if table.version != before:
            await self._note(request, "table_applied", named, f"version {table.version}")
        return _table(table)

    async def delete(self, request: Request) -> Response:
        """Drop a table with its rows."""
        named = self._allowed(request, Action.DROP)
        await run_in_threadpool(self._drop, principal_in(request), named)
        await self._note(request, "table_dropped", named)
        return Response(status_code=204)

    def _drop(self, principal: Principal, named: TableId) -> None:
        refuse_own(named)
        self._store.describe(named)
        self._access.withdraw(principal, named)
        self._store.drop(named)

    async def stats(self, request: Request) -> Response:
        """Answer with what a table holds."""
        named = self._allowed(request, Action.READ)
        stats = await run_in_threadpool(self._store.stats, named)
        return _json({**asdict(stats), "rows": stats.rows, "accepted": stats.accepted})

    async def quarantine(self, request: Request) -> Response:
        """Keep events that a client could not make part of a batch."""
        document = await self._document(request)
        if not isinstance(document, list) or not all(isinstance(e, dict) for e in document):
            raise UsageError("the body must be a JSON array of quarantined events")
        events = [quarantined_from_json(entry) for entry in document]
        charges = self._charged(principal_in(request), events)
        try:
            await run_in_threadpool(self._store.quarantine, events)
        except EventmillError:
            for charge in charges:
                charge.give_back()
            raise
        return _json({"count": len(events)})

    async def _document(self, request: Request) -> object:
        async with read_body(request, self._budget, bytes_max=DOCUMENT_BYTES_MAX) as body:
            return parse_json(body.content)

    def _allowed(self, request: Request, action: Action) -> TableId:
        """Return the table that the address names; ForbiddenError when the caller may not."""
        named = table_id(request.path_params["table"])
        self._access.require(principal_in(request), action, named)
        return named

    def _charged(
        self, principal: Principal, events: Sequence[QuarantinedEvent]
    ) -> Sequence[Charge]:
        """Take what is reported from the quotas of each table, as if it were appended to it."""
        sizes: dict[TableId, list[int]] = {}
        for event in events:
            sizes.setdefault(event.table, []).append(len(event.payload))
        for table in sizes:
            self._access.require(principal, Action.APPEND, table)
        return [
            self._access.charge(principal, table, len(found), sum(found))
            for table, found in sizes.items()
        ]

    async def _note(self, request: Request, act: str, table: TableId, detail: str = "") -> None:
        """Note what was done. It is done in any case: what cannot be noted is told in the log."""
        principal = principal_in(request)
        try:
            await run_in_threadpool(self._access.record, principal, act, table, detail)
        except EventmillError as error:
            _logger.error("%s %s by %s is not in the audit: %s", act, table, principal.name, error)

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
