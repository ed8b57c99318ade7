"""The rows of a job on their way into a table: every one judged first, each stored once.

All rows are laid down in a file before the first one is stored, so that a bad row stops the job
while nothing of it is in the table. Each row's insert ID comes from the job's key and its place: a
job that is run again after the server ended stores what is missing, and nothing twice.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import IO

from eventmill.base.errors import QueryCancelledError, TransientError
from eventmill.schema.table import Table
from eventmill.server.access import Principal
from eventmill.server.bigquery.errors import ApiError
from eventmill.server.bigquery.rooms import Rooms
from eventmill.wire.batch import Batch
from eventmill.wire.split import cut

PATIENCE_SECONDS = 120.0
"""How long a job waits for a store that is full or asks for a pause, before it fails."""
_PAUSE_SECONDS_MAX = 5.0
_CHUNK_ROWS = 10_000
_LENGTH = struct.Struct("<I")


class RowWriter:
    """Stores the rows of jobs."""

    def __init__(self, rooms: Rooms, folder: str) -> None:
        """Lay rows down in ``folder`` before they are stored; it is made when it is missing."""
        self._rooms = rooms
        self._folder = folder
        os.makedirs(folder, mode=0o700, exist_ok=True)

    def write(
        self,
        key: str,
        table: Table,
        events: Iterable[tuple[bytes, bytes]],
        *,
        before_first: Callable[[], None],
        cancel: threading.Event,
        principal: Principal | None,
    ) -> int:
        """Store all of ``events``, and return how many there are.

        Args:
            key: of the job, from which the rows' insert IDs come.
            table: where they go.
            events: insert ID, or empty for one of the job's own, and the encoded event; whatever
                the iterator raises stops the job with nothing stored.
            before_first: called once all are there, before the first one is stored.
            cancel: stops the job; rows that are stored by then stay.
            principal: whose quota they count against; None: nobody's.
        """
        path = os.path.join(self._folder, f"{key}.events")
        try:
            with open(path, "wb") as file:
                for pair in events:
                    if cancel.is_set():
                        raise QueryCancelledError("the job was cancelled")
                    for content in pair:
                        file.write(_LENGTH.pack(len(content)))
                        file.write(content)
            before_first()
            count = 0
            for pairs in _chunks(path):
                ids = [
                    insert_id or f"{key}-{count + index}".encode()
                    for index, (insert_id, _) in enumerate(pairs)
                ]
                chunk = [event for _, event in pairs]
                for part in cut(ids, chunk):
                    span = slice(part.start, part.stop)
                    batch = Batch.build(
                        table.id,
                        table.spec.fingerprint,
                        ids[span],
                        chunk[span],
                        client="bigquery job",
                    )
                    self._put(batch, cancel, principal)
                count += len(chunk)
            return count
        finally:
            if os.path.exists(path):
                os.unlink(path)

    def _put(self, batch: Batch, cancel: threading.Event, principal: Principal | None) -> None:
        clock, rooms = self._rooms.clock, self._rooms
        give_up_at = clock.monotonic() + PATIENCE_SECONDS
        size = sum(map(len, batch.events))
        while True:
            if cancel.is_set():
                raise QueryCancelledError("the job was cancelled; rows that were stored stay")
            try:
                if principal is not None:
                    rooms.guard.charge(principal, batch.table, batch.count, size)
                verdict = rooms.store.put(batch)
                break
            except TransientError as error:
                pause = min(error.retry_after_seconds or 0.5, _PAUSE_SECONDS_MAX)
                if clock.monotonic() + pause > give_up_at:
                    raise
                clock.sleep(pause)
        if verdict.rejected:
            first = verdict.rejected[0]
            raise ApiError(
                400,
                "invalid",
                f"the table was changed while the job ran: {first.field}: {first.message}",
                first.field,
            )


def _chunks(path: str) -> Iterator[list[tuple[bytes, bytes]]]:
    with open(path, "rb") as file:
        while chunk := list(islice(_pairs(file), _CHUNK_ROWS)):
            yield chunk


def _pairs(file: IO[bytes]) -> Iterator[tuple[bytes, bytes]]:
    while head := file.read(_LENGTH.size):
        insert_id = file.read(_LENGTH.unpack(head)[0])
        (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
        yield insert_id, file.read(length)
