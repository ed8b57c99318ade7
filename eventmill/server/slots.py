"""``PUT /api/v1/tables/{table}/slots/{workflow}/{start}/{end}``: a workflow's rows of one slot."""

from __future__ import annotations

import mmap
import tempfile
from typing import BinaryIO

import orjson
import pyarrow as pa
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from eventmill.base.errors import BackPressureError, BatchError, BatchTooLargeError, UsageError
from eventmill.schema.table import TableId
from eventmill.server.access import Access, Action, principal_in
from eventmill.server.body import content_length
from eventmill.server.ingest import table_id
from eventmill.store.local.disk import disk_errors
from eventmill.store.port import Store
from eventmill.store.slots import SlotKey, SlotOutcome, SlotStore
from eventmill.wire.arrow_stream import decode_rows_stream
from eventmill.wire.media import ARROW_CONTENT_TYPE
from eventmill.wire.slot import SLOT_BYTES_MAX, moment_of_text

SLOTS_AT_ONCE_MAX = 4
"""Slots that are replaced at one time; one more is answered with 429."""
_PIECE_BYTES = 1 << 20
"""So much of a body is kept in memory before it is written to the file."""
_RETRY_SECONDS = 2.0


class Slots:
    """Takes the outputs of workflows. Belongs to the event loop's thread.

    An output may be larger than all other bodies together are allowed to be. So it is not held in
    memory while it comes in, but in a file without a name beside the store.
    """

    def __init__(self, store: Store, access: Access, *, bytes_max: int = SLOT_BYTES_MAX) -> None:
        self._store = store
        self._access = access
        self._bytes_max = bytes_max
        self._folder: str | None = getattr(store, "path", None)
        self._running = 0

    async def put(self, request: Request) -> Response:
        """Put the rows of the body in the place of the slot's; answer with how many there were."""
        table = table_id(request.path_params["table"])
        self._access.require(principal_in(request), Action.REPLACE, table)
        if not isinstance(self._store, SlotStore):
            raise UsageError("this server's store cannot replace the rows of a slot")
        slot, generation = _slot(request), _generation(request)
        _check_form(request)
        announced = content_length(request)
        if announced > self._bytes_max:
            raise self._too_large(f"{announced:,}")
        if self._running >= SLOTS_AT_ONCE_MAX:
            raise BackPressureError(
                f"{self._running} slots are being replaced; put it again",
                retry_after_seconds=_RETRY_SECONDS,
            )
        self._running += 1
        try:
            with disk_errors("keeping the rows of a slot"):
                file = await run_in_threadpool(self._nameless_file)
            with file:
                size = await self._receive(request, file)
                outcome = await run_in_threadpool(
                    self._replace, self._store, table, slot, generation, file, size
                )
        finally:
            self._running -= 1
        told = {"rows": outcome.rows, "replaced_rows": outcome.replaced_rows}
        return Response(orjson.dumps(told), media_type="application/json")

    def _nameless_file(self) -> BinaryIO:
        return tempfile.TemporaryFile(dir=self._folder)

    async def _receive(self, request: Request, file: BinaryIO) -> int:
        """Write the body into ``file``; return how long it is."""
        size = 0
        held = bytearray()
        with disk_errors("keeping the rows of a slot"):
            async for raw in request.stream():
                size += len(raw)
                if size > self._bytes_max:
                    raise self._too_large(f"more than {self._bytes_max:,}")
                held += raw
                if len(held) >= _PIECE_BYTES:
                    await run_in_threadpool(file.write, bytes(held))
                    held.clear()
            await run_in_threadpool(file.write, bytes(held))
            await run_in_threadpool(file.flush)
        return size

    def _replace(
        self,
        store: SlotStore,
        table: TableId,
        slot: SlotKey,
        generation: int,
        file: BinaryIO,
        size: int,
    ) -> SlotOutcome:
        if not size:
            raise BatchError(
                "the body is empty: send an Arrow stream, also for a slot without rows"
            )
        # Arrow lays its columns over the file's pages: what is not read takes no memory.
        content = pa.py_buffer(mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ))
        try:
            rows = decode_rows_stream(content, bytes_max=self._bytes_max)
        except ValueError as error:
            raise BatchError(f"the body is {error}") from error
        return store.replace_slot(table, slot, rows, generation=generation)

    def _too_large(self, size: str) -> BatchTooLargeError:
        return BatchTooLargeError(
            f"the rows have {size} bytes; the limit is {self._bytes_max:,}: make the workflow's"
            " slots shorter"
        )


def _slot(request: Request) -> SlotKey:
    named = request.path_params
    return SlotKey(named["workflow"], moment_of_text(named["start"]), moment_of_text(named["end"]))


def _generation(request: Request) -> int:
    text = request.query_params.get("generation", "")
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise UsageError(
            f"generation={text!r} is not a number of at most 18 digits: it must grow with each"
            " attempt at the slot"
        )
    return int(text)


def _check_form(request: Request) -> None:
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != ARROW_CONTENT_TYPE:
        raise HTTPException(
            415, f"Content-Type {content_type!r} is not taken here: send {ARROW_CONTENT_TYPE}"
        )
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise HTTPException(
            415, f"Content-Encoding {encoding!r} is not taken here: compress within the stream"
        )
