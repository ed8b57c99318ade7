"""Rows in Arrow's stream format, both ways: a query's answer, a slot's output. Needs pyarrow."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, TypeAlias

import pyarrow as pa

from eventmill.base.errors import BatchTooLargeError
from eventmill.wire.answer import QueryResult, QueryStats

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

Rows: TypeAlias = pa.Table
"""What ``pyarrow.Table`` is called where pyarrow must not be imported."""
STATS_METADATA_KEY = b"eventmill.stats"
"""Key of the schema's metadata under which the statistics stand as JSON."""

_ROWS_A_CHUNK = 65_536


def encode_arrow(result: QueryResult) -> Iterator[bytes]:
    """Return ``result`` as one Arrow stream, in pieces."""
    table = result.to_arrow()
    stats = {STATS_METADATA_KEY: json.dumps(asdict(result.stats)).encode()}
    schema = table.schema.with_metadata({**(table.schema.metadata or {}), **stats})
    pieces = _Pieces()
    with pa.ipc.new_stream(pieces, schema) as writer:
        for batch in table.to_batches(max_chunksize=_ROWS_A_CHUNK):
            writer.write_batch(batch.replace_schema_metadata(schema.metadata))
            yield pieces.take()
    yield pieces.take()


def decode_arrow(stream: bytes) -> QueryResult:
    """Read what ``encode_arrow`` made.

    Raises:
        ValueError: it is cut short, no Arrow stream, or one without statistics.
    """
    try:
        table = pa.ipc.open_stream(stream).read_all()
        metadata = dict(table.schema.metadata or {})
        stats = QueryStats(**json.loads(metadata.pop(STATS_METADATA_KEY)))
    except (pa.ArrowException, OSError, KeyError, TypeError) as error:
        raise ValueError(f"not the Arrow stream of an answer: {error!r}") from error
    return QueryResult(table.replace_schema_metadata(metadata or None), stats)


def encode_rows_stream(rows: pa.Table) -> bytes:
    """Return ``rows`` as one Arrow stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows, max_chunksize=_ROWS_A_CHUNK)
    return bytes(sink.getvalue())


def decode_rows_stream(stream: bytes | pa.Buffer, *, bytes_max: int) -> pa.Table:
    """Read what ``encode_rows_stream`` made, or anybody else: nothing in it is trusted yet.

    Args:
        stream: the rows lie in it where they can, without being copied.
        bytes_max: of the rows when they are read; a stream may be compressed.

    Raises:
        ValueError: it is cut short, or no Arrow stream.
        BatchTooLargeError: it has more than ``bytes_max``.
    """
    batches: list[pa.RecordBatch] = []
    size = 0
    try:
        reader = pa.ipc.open_stream(stream)
        for batch in reader:
            size += batch.nbytes
            if size > bytes_max:
                raise BatchTooLargeError(f"the rows have more than {bytes_max:,} bytes")
            batches.append(batch)
        return pa.Table.from_batches(batches, schema=reader.schema)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"not an Arrow stream: {error}") from error


class _Pieces(io.RawIOBase):
    """What Arrow has written and nobody has taken yet."""

    def __init__(self) -> None:
        super().__init__()
        self._held: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, content: ReadableBuffer) -> int:
        self._held.append(bytes(content))
        return len(self._held[-1])

    def take(self) -> bytes:
        held, self._held = self._held, []
        return b"".join(held)
