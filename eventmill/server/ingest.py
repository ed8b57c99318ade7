"""The way in: ``POST /api/v1/tables/{table}/events``, as a batch of bytes or as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from eventmill.base.errors import EventmillError
from eventmill.base.metrics import Metric, Metrics
from eventmill.schema.message_type import MessageType
from eventmill.schema.rows import RowEncoder
from eventmill.schema.table import TableId
from eventmill.server.access import Access, Action, Principal, principal_in
from eventmill.server.body import BodyBudget, read_body
from eventmill.server.putting import StorePutter, count_events
from eventmill.store.port import Store
from eventmill.wire.batch import BATCH_BYTES_MAX, Batch
from eventmill.wire.insert_id import InsertIdSource
from eventmill.wire.json_events import JsonReader, JudgedEvents
from eventmill.wire.media import BATCH_CONTENT_TYPE, SCHEMA_HEADER
from eventmill.wire.quarantined import QuarantinedEvent
from eventmill.wire.verdict import Verdict
from eventmill.wire.verdict_json import verdict_to_json


class Ingest:
    """Takes events of one server into its store. Belongs to the event loop's thread."""

    def __init__(
        self,
        store: Store,
        access: Access,
        putter: StorePutter,
        budget: BodyBudget,
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._access = access
        self._putter = putter
        self._budget = budget
        self._metrics = metrics
        self._insert_ids = InsertIdSource()

    async def post(self, request: Request) -> Response:
        """Answer with the verdict of the events in the body."""
        content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        table = table_id(request.path_params["table"])
        principal = principal_in(request)
        self._access.require(principal, Action.APPEND, table)
        self._access.charge(principal, table, 0, 0)  # before anything is read, is anything left?
        if content_type == BATCH_CONTENT_TYPE:
            read = self._read_batch
        elif content_type in _JSON_TYPES:
            read = partial(self._read_json, is_lines=_JSON_TYPES[content_type])
        else:
            raise HTTPException(
                415,
                f"Content-Type {content_type!r} is not taken here: send application/x-ndjson with"
                f" one JSON object a line, application/json, or {BATCH_CONTENT_TYPE}",
            )
        async with read_body(request, self._budget, bytes_max=BATCH_BYTES_MAX) as body:
            self._metrics.add(Metric.RECEIVED_BYTES, body.received_bytes)
            verdict = await read(request, principal, table, body.content)
        count_events(
            self._metrics,
            table,
            accepted=verdict.accepted,
            duplicates=verdict.duplicates,
            rejected=len(verdict.rejected),
        )
        return verdict_response(verdict)

    async def _read_batch(
        self, request: Request, principal: Principal, table: TableId, body: bytes
    ) -> Verdict:
        headers = request.headers
        batch = Batch(
            table,
            headers.get(SCHEMA_HEADER, ""),
            body,
            client=headers.get("user-agent", ""),
        )
        (verdict,) = await self._put(principal, table, [batch])
        return verdict

    async def _read_json(
        self,
        request: Request,
        principal: Principal,
        table_id: TableId,
        body: bytes,
        *,
        is_lines: bool,
    ) -> Verdict:
        client = request.headers.get("user-agent", "")
        id_field = request.query_params.get("insert_id_field") or None

        def judge() -> JudgedEvents:
            table = self._store.describe(table_id)
            encoder = row_encoder(table.spec.descriptor_set, table.spec.message)
            reader = JsonReader(
                table,
                encoder.encode,
                self._insert_ids,
                insert_id_field=id_field,
                client=client,
            )
            return reader.read(body, is_lines=is_lines)

        judged = await run_in_threadpool(judge)
        batches = list(judged.batches())
        return judged.verdict(await self._put(principal, table_id, batches, judged.refused))

    async def _put(
        self,
        principal: Principal,
        table: TableId,
        batches: Sequence[Batch],
        refused: Sequence[QuarantinedEvent] = (),
    ) -> list[Verdict]:
        """Store what one request brought; its quota is taken for all of it, or nothing is done."""
        events = sum(batch.count for batch in batches) + len(refused)
        size = sum(len(batch.payload) for batch in batches)
        size += sum(len(event.payload) for event in refused)
        charge = self._access.charge(principal, table, events, size)
        try:
            if refused:
                await run_in_threadpool(self._store.quarantine, refused)
            return [await self._putter.put(batch) for batch in batches]
        except EventmillError:
            charge.give_back()  # the sender puts it again, and pays then
            raise


_JSON_TYPES = {
    "application/x-ndjson": True,
    "application/jsonl": True,
    "application/json": False,
}
"""JSON's media types, and whether each line is a document of its own."""


@lru_cache(maxsize=1024)
def table_id(text: str) -> TableId:
    """Read a table's name from a path (see ``TableId.parse``)."""
    return TableId.parse(text)


@lru_cache(maxsize=256)
def row_encoder(descriptor_set: bytes, message: str) -> RowEncoder:
    """Return the encoder of rows for a table's message type."""
    return RowEncoder(MessageType.load(descriptor_set, message))


def verdict_response(verdict: Verdict) -> Response:
    """Return the answer that states ``verdict``; the common one is not put together anew."""
    if not verdict.duplicate_indexes and not verdict.rejected:
        return _all_accepted(verdict.count)
    return Response(orjson.dumps(verdict_to_json(verdict)), media_type="application/json")


@lru_cache(maxsize=512)
def _all_accepted(count: int) -> Response:
    # A Response has no state that a second sending would find changed.
    return Response(orjson.dumps(verdict_to_json(Verdict(count))), media_type="application/json")
