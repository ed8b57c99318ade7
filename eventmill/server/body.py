"""Reading a request's body: never more than a limit of one body, nor of all bodies at once."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pyarrow as pa
from starlette.exceptions import HTTPException
from starlette.requests import Request

from eventmill.base.errors import BackPressureError, BatchError, BatchTooLargeError
from eventmill.base.metrics import Metric, Metrics
from eventmill.wire.batch import BATCH_BYTES_MAX

_GZIP_WBITS = 31  # zlib's code for a gzip header and trailer
_INFLATE_STEP_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Body:
    """A request's body that was read whole."""

    content: bytes
    """Decompressed."""
    received_bytes: int
    """Bytes as they came in, before anything was inflated."""


class BodyBudget:
    """The bytes that bodies may hold at one time. Belongs to the event loop's thread."""

    def __init__(self, bytes_max: int, metrics: Metrics) -> None:
        self._bytes_max = bytes_max
        self._metrics = metrics
        self.held_bytes = 0

    def take(self, size: int) -> None:
        """Reserve ``size`` bytes, or raise BackPressureError."""
        if self.held_bytes + size > self._bytes_max:
            raise BackPressureError(
                f"the server holds {self.held_bytes:,} bytes of other requests, of at most"
                f" {self._bytes_max:,}; put the batch again",
                retry_after_seconds=1.0,
            )
        self.held_bytes += size
        self._metrics.set(Metric.BODY_BYTES_IN_FLIGHT, self.held_bytes)

    def give_back(self, size: int) -> None:
        """Return what ``take`` reserved."""
        self.held_bytes -= size
        self._metrics.set(Metric.BODY_BYTES_IN_FLIGHT, self.held_bytes)


@asynccontextmanager
async def read_body(request: Request, budget: BodyBudget, *, bytes_max: int) -> AsyncIterator[Body]:
    """Read the body and decompress it; its bytes count against ``budget`` until the block ends.

    Raises:
        BatchTooLargeError: the body, or what it inflates to, is over ``bytes_max``; known from
            its Content-Length before a byte is read, else at the byte that is too many.
        BackPressureError: the budget is spent.
        BatchError: the Content-Length is no number, or the compressed body is damaged.
    """
    inflate = _inflater(request)
    announced = content_length(request)
    if announced > bytes_max:
        raise _too_large(f"{announced:,}", bytes_max)
    taken = 0
    try:
        # What is announced is reserved at once: a request that will not fit must not displace
        # others while it trickles in.
        budget.take(announced)
        taken = announced
        pieces: list[bytes] = []
        received = size = 0

        def add(piece: bytes) -> None:
            nonlocal size, taken
            size += len(piece)
            if size > bytes_max or received > bytes_max:
                raise _too_large(f"more than {bytes_max:,}", bytes_max)
            if size > taken:
                budget.take(size - taken)
                taken = size
            pieces.append(piece)

        async for raw in request.stream():
            received += len(raw)
            for piece in inflate.steps(raw) if inflate else (raw,):
                add(piece)
        for piece in inflate.finish() if inflate else ():
            add(piece)
        content = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        yield Body(content, received)
    finally:
        budget.give_back(taken)


def content_length(request: Request) -> int:
    """Return how many bytes the body is said to have, 0 where nothing is said; BatchError."""
    text = request.headers.get("content-length", "0")
    if not (text.isascii() and text.isdigit()):
        raise BatchError(f"Content-Length {text!r} is not a number")
    return int(text)


def _too_large(size: str, bytes_max: int) -> BatchTooLargeError:
    return BatchTooLargeError(
        f"the body has {size} bytes; the limit is {bytes_max:,}: send it in smaller parts"
    )


def _inflater(request: Request) -> _Gzip | _Zstd | None:
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding == "identity":
        return None
    if encoding == "gzip":
        return _Gzip()
    if encoding == "zstd":
        return _Zstd()
    raise HTTPException(
        415, f"Content-Encoding {encoding!r} is not taken: send zstd, gzip, or the body as it is"
    )


class _Gzip:
    """Inflates gzip in steps of bounded size, so that a small body cannot fill the memory."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(_GZIP_WBITS)

    def steps(self, raw: bytes) -> Iterator[bytes]:
        while raw:
            try:
                piece = self._stream.decompress(raw, _INFLATE_STEP_BYTES)
            except zlib.error as error:
                raise BatchError(f"the body is not gzip: {error}") from error
            raw = self._stream.unconsumed_tail
            yield piece

    def finish(self) -> Iterator[bytes]:
        yield self._stream.flush()
        if not self._stream.eof or self._stream.unused_data:
            raise BatchError("the gzip body is cut short, or more follows after its end")


class _Zstd:
    """Inflates zstd in steps of bounded size, once the compressed body is there whole."""

    def __init__(self) -> None:
        self._compressed = bytearray()

    def steps(self, raw: bytes) -> Iterator[bytes]:
        self._compressed += raw
        if len(self._compressed) > BATCH_BYTES_MAX:
            raise _too_large(f"more than {BATCH_BYTES_MAX:,}", BATCH_BYTES_MAX)
        yield b""

    def finish(self) -> Iterator[bytes]:
        try:
            stream = pa.CompressedInputStream(pa.BufferReader(bytes(self._compressed)), "zstd")
            while piece := stream.read(_INFLATE_STEP_BYTES):
                yield piece
        except OSError as error:
            raise BatchError(f"the body is not zstd, or cut short: {error}") from error
