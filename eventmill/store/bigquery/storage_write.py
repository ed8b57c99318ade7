"""Rows into a table by the Storage Write API: its default stream, and pending ones."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from google.api_core import exceptions as api
from google.cloud.bigquery_storage_v1 import BigQueryWriteClient
from google.cloud.bigquery_storage_v1.types import (
    AppendRowsResponse,
    BatchCommitWriteStreamsRequest,
    StorageError,
    WriteStream,
)
from google.protobuf.descriptor_pb2 import DescriptorProto
from google.rpc import code_pb2

from eventmill.base.clock import Clock
from eventmill.base.errors import AccessError, BackPressureError, PermanentError, UnavailableError
from eventmill.schema.table import TableId
from eventmill.store.bigquery.connection import (
    AppendConnection,
    BrokenConnectionError,
    requests_of,
)
from eventmill.store.bigquery.faults import (
    PERMISSION_HINT,
    QUOTA_PAUSE_SECONDS,
    google_errors,
    translated,
)

APPEND_TIMEOUT_SECONDS = 60.0
_TRIES = 3
_IDLE_SECONDS_MAX = 480.0
"""BigQuery closes a connection that was idle for ten minutes; a younger one is used again
(cloud.google.com/bigquery/docs/write-api-best-practices, looked up 2026-11-24)."""
_CONNECTIONS_KEPT = 8
_COMMIT_AGAIN = (
    api.ServerError, api.RetryError, api.Aborted, api.Cancelled, api.TooManyRequests,
)  # fmt: skip
"""After these nobody knows whether the stream was committed: asking again tells."""
_TRANSIENT = frozenset(
    (
        code_pb2.ABORTED, code_pb2.CANCELLED, code_pb2.DEADLINE_EXCEEDED, code_pb2.INTERNAL,
        code_pb2.UNAVAILABLE, code_pb2.UNKNOWN,
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RowFault:
    """One row that BigQuery does not take."""

    index: int
    """Place among the rows that were given."""
    message: str


class TableNotThereError(Exception):
    """BigQuery says that the table, or a column of the rows, does not exist: perhaps not yet."""


class RowSink(Protocol):
    """A way into a table for encoded rows."""

    def append(
        self,
        table: TableId,
        descriptor: DescriptorProto,
        rows: list[bytes],
        timeout_seconds: float,
    ) -> Sequence[RowFault]:
        """Append rows, at least once each, but those that are returned as faulty.

        ``timeout_seconds`` is how long each request may take.

        Raises:
            TableNotThereError: no row was appended by the request that met it.
            TransientError: any row may have been appended.
            PermanentError: as before, and it would be so again.
        """
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...


class StorageWriter:
    """Appends by kept connections to default streams. Safe from any thread."""

    def __init__(self, make_client: Callable[[], BigQueryWriteClient], clock: Clock) -> None:
        """Prepare; nothing is connected yet.

        Args:
            make_client: makes the API's client when it is needed first.
            clock: measures idleness.
        """
        self._make_client = make_client
        self._clock = clock
        self._lock = threading.Lock()
        self._client: BigQueryWriteClient | None = None
        self._idle: dict[tuple[str, bytes], list[tuple[AppendConnection, float]]] = {}
        self._is_closed = False

    def append(
        self,
        table: TableId,
        descriptor: DescriptorProto,
        rows: list[bytes],
        timeout_seconds: float = APPEND_TIMEOUT_SECONDS,
    ) -> Sequence[RowFault]:
        """Append rows to the default stream, at least once each (see ``RowSink.append``)."""
        faults: list[RowFault] = []
        places = list(range(len(rows)))
        while places:
            chosen = [rows[place] for place in places]
            found: dict[int, str] = {}
            done = 0
            for part in requests_of(chosen):
                answer = self._send(table, descriptor, chosen[part], timeout_seconds)
                found = _row_faults(answer, part.start)
                if found:
                    break
                _raise_for(answer, table)
                done = part.stop
            # A request with a faulty row appends none: without those rows, the rest goes again.
            faults += [RowFault(places[at], text) for at, text in found.items()]
            places = [place for at, place in enumerate(places) if at >= done and at not in found]
        return sorted(faults, key=lambda fault: fault.index)

    def append_all(self, table: TableId, descriptor: DescriptorProto, rows: list[bytes]) -> None:
        """Append all rows or none: they are seen together, when the stream is committed.

        The commit is asked for again on the same stream until it is answered, so that rows are
        not committed twice.

        Raises:
            TableNotThereError: nothing was committed.
            TransientError: nothing was committed, or the commit was not answered.
            PermanentError: a row is faulty; nothing was committed.
        """
        client = self._connected()
        parent = _table_path(table)
        with google_errors(f"writing to {table}"):
            try:
                stream = client.create_write_stream(
                    parent=parent, write_stream=WriteStream(type_=WriteStream.Type.PENDING)
                )
            except api.NotFound as error:
                raise TableNotThereError(str(error)) from error
        connection = AppendConnection(client, stream.name, descriptor)
        try:
            for part in requests_of(rows):
                self._append_at(connection, table, rows[part], part.start)
        except BrokenConnectionError as error:
            self._raise_for_broken(error, table)
            raise UnavailableError(f"writing to {table} broke off: {error}") from error
        finally:
            connection.close()
        with google_errors(f"finishing a stream of {table}"):
            client.finalize_write_stream(name=stream.name)
        self._commit(client, table, stream.name)

    def close(self) -> None:
        """Close the idle connections; a second call does nothing."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, {}
            client, self._client = self._client, None
        for kept in idle.values():
            for connection, _ in kept:
                connection.close()
        if client is not None:
            client.transport.close()

    def _append_at(
        self, connection: AppendConnection, table: TableId, rows: list[bytes], offset: int
    ) -> None:
        answer = connection.append(rows, APPEND_TIMEOUT_SECONDS, offset)
        faults = _row_faults(answer, offset)
        if faults:
            place, text = next(iter(faults.items()))
            raise PermanentError(
                f"{table} does not take {len(faults)} rows, so none was written; the first is"
                f" row {place}: {text}"
            )
        _raise_for(answer, table)

    def _commit(self, client: BigQueryWriteClient, table: TableId, stream: str) -> None:
        request = BatchCommitWriteStreamsRequest(parent=_table_path(table), write_streams=[stream])
        for left in reversed(range(_TRIES)):
            try:
                answer = client.batch_commit_write_streams(request)
            except _COMMIT_AGAIN as error:
                if not left:
                    raise translated(error, f"committing rows of {table}") from error
                self._clock.sleep(1.0)
                continue
            except api.GoogleAPICallError as error:
                raise translated(error, f"committing rows of {table}") from error
            told = [each.code for each in answer.stream_errors]
            if told and told != [StorageError.StorageErrorCode.STREAM_ALREADY_COMMITTED]:
                raise PermanentError(
                    f"rows of {table} were not committed: {answer.stream_errors[0].error_message}"
                )
            return

    def _send(
        self,
        table: TableId,
        descriptor: DescriptorProto,
        rows: list[bytes],
        timeout_seconds: float,
    ) -> AppendRowsResponse:
        """Send one request, on another connection when one breaks: at least once is kept."""
        stream = f"{_table_path(table)}/streams/_default"
        key = (stream, descriptor.SerializeToString(deterministic=True))
        for left in reversed(range(_TRIES)):
            # When one breaks, those that were kept beside it are likely to be broken as well.
            kept = self._take(key) if left == _TRIES - 1 else None
            connection = kept or AppendConnection(self._connected(), stream, descriptor)
            try:
                answer = connection.append(rows, timeout_seconds)
            except BrokenConnectionError as error:
                self._raise_for_broken(error, table)
                # Whoever waited in vain for so long decides whether to wait again.
                if not left or error.__cause__ is None:
                    raise UnavailableError(f"writing to {table} broke off: {error}") from error
                continue
            if answer.error.code == code_pb2.UNAUTHENTICATED:
                # A connection has the token that it was opened with, which ends before it does.
                connection.close()
                if kept is not None:
                    continue
            else:
                self._keep(key, connection)
            return answer
        raise AssertionError("the last try returns or raises")

    @staticmethod
    def _raise_for_broken(error: BrokenConnectionError, table: TableId) -> None:
        """Raise when the stream ended for a reason that another connection would meet again."""
        cause = error.__cause__
        if isinstance(cause, api.NotFound):
            raise TableNotThereError(str(cause)) from error
        if isinstance(cause, (api.ClientError, api.MethodNotImplemented)) and not isinstance(
            cause, (api.Aborted, api.AlreadyExists, api.Cancelled)
        ):
            raise translated(cause, f"writing to {table}") from error

    def _connected(self) -> BigQueryWriteClient:
        with self._lock:
            if self._is_closed:
                raise UnavailableError("the store is closed")
            if self._client is None:
                self._client = self._make_client()
            return self._client

    def _take(self, key: tuple[str, bytes]) -> AppendConnection | None:
        oldest = self._clock.monotonic() - _IDLE_SECONDS_MAX
        while True:
            with self._lock:
                kept = self._idle.get(key)
                if not kept:
                    return None
                connection, kept_at = kept.pop()
            if kept_at >= oldest and not connection.is_broken:
                return connection
            connection.close()

    def _keep(self, key: tuple[str, bytes], connection: AppendConnection) -> None:
        now = self._clock.monotonic()
        with self._lock:
            done = self._without_old(now - _IDLE_SECONDS_MAX)
            kept = self._idle.setdefault(key, [])
            if len(kept) < _CONNECTIONS_KEPT and not self._is_closed:
                kept.append((connection, now))
            else:
                done.append(connection)
        for each in done:
            each.close()

    def _without_old(self, oldest: float) -> list[AppendConnection]:
        """Take out what nobody has used for long, such as for rows of an older definition."""
        done = []
        for key, kept in list(self._idle.items()):
            done += [connection for connection, at in kept if at < oldest]
            self._idle[key] = [each for each in kept if each[1] >= oldest]
            if not self._idle[key]:
                del self._idle[key]
        return done


def _table_path(table: TableId) -> str:
    return f"projects/{table.project}/datasets/{table.dataset}/tables/{table.table}"


def _row_faults(answer: AppendRowsResponse, start: int) -> dict[int, str]:
    return {start + each.index: each.message for each in answer.row_errors}


def _raise_for(answer: AppendRowsResponse, table: TableId) -> None:
    """Raise for an answer that says that the request failed as a whole."""
    code, text = answer.error.code, f"writing to {table}: {answer.error.message}"
    if not code:
        return
    details = [_storage_error(each) for each in answer.error.details]
    codes = StorageError.StorageErrorCode
    if code == code_pb2.NOT_FOUND or codes.TABLE_NOT_FOUND in details:
        raise TableNotThereError(text)
    if codes.SCHEMA_MISMATCH_EXTRA_FIELDS in details:
        raise TableNotThereError(text)
    if code in _TRANSIENT:
        raise UnavailableError(text)
    if code == code_pb2.RESOURCE_EXHAUSTED:
        raise BackPressureError(text, retry_after_seconds=QUOTA_PAUSE_SECONDS)
    if code in (code_pb2.PERMISSION_DENIED, code_pb2.UNAUTHENTICATED):
        raise AccessError(f"{text}: {PERMISSION_HINT}")
    raise PermanentError(text)


def _storage_error(detail: object) -> int:
    """Return the code of a detail of an error, 0 when it is of another kind."""
    error = StorageError.pb(StorageError())
    unpack = getattr(detail, "Unpack", None)
    return error.code if unpack is not None and unpack(error) else 0
