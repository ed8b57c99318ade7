"""One connection of the Storage Write API: requests in, answers out, in order.

The API is a stream in both directions that BigQuery closes when it was idle for ten minutes, and
whenever it likes. A connection here carries one request at a time; more at once take more
connections, as the senders above have several threads.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from queue import Empty, SimpleQueue
from typing import Any

import grpc
from google.api_core import exceptions as api
from google.cloud.bigquery_storage_v1 import BigQueryWriteClient
from google.cloud.bigquery_storage_v1.types import AppendRowsRequest, AppendRowsResponse
from google.protobuf.descriptor_pb2 import DescriptorProto

REQUEST_BYTES_MAX = 9_000_000
"""Rows of one request. The service takes 10 MB, of which this leaves room for the rest
(cloud.google.com/bigquery/quotas#write-api-limits, looked up 2026-11-24)."""


class BrokenConnectionError(Exception):
    """The stream ended before the answer came; the rows may have been appended."""


class AppendConnection:
    """An open stream to one write stream of one table, with one type of rows. For one user."""

    def __init__(
        self, client: BigQueryWriteClient, stream: str, descriptor: DescriptorProto
    ) -> None:
        """Open the stream; what it says of stream and type goes with the first request.

        Args:
            client: of the API.
            stream: full name of the write stream.
            descriptor: self-contained type of the rows.
        """
        self._requests: SimpleQueue[AppendRowsRequest | None] = SimpleQueue()
        self._answers: SimpleQueue[AppendRowsResponse | Exception] = SimpleQueue()
        self._first: AppendRowsRequest | None = AppendRowsRequest(write_stream=stream)
        self._first.proto_rows.writer_schema.proto_descriptor = descriptor
        self.is_broken = False
        # Routed by the stream's name, as the service wants it.
        # The transport's own call: the client's waits for a first answer before it returns.
        open_stream: Any = client.transport.append_rows
        self._call: Any = open_stream(
            iter(self._requests.get, None),
            metadata=(("x-goog-request-params", f"write_stream={stream}"),),
        )
        self._reader = threading.Thread(target=self._read, name=f"append {stream}", daemon=True)
        self._reader.start()

    def append(
        self, rows: list[bytes], timeout_seconds: float, offset: int | None = None
    ) -> AppendRowsResponse:
        """Send rows and wait for the answer, which may be an error of its own.

        Args:
            rows: at least one, at most ``REQUEST_BYTES_MAX`` together.
            timeout_seconds: how long to wait.
            offset: the place of the first in the stream; None: at its end.

        Raises:
            BrokenConnectionError: no answer came; the connection is of no more use.
        """
        request: Any = self._first or AppendRowsRequest()  # proto-plus takes plain values
        self._first = None
        request.proto_rows.rows.serialized_rows = rows
        if offset is not None:
            request.offset = offset
        self._requests.put(request)
        try:
            answer = self._answers.get(timeout=timeout_seconds)
        except Empty:
            self.close()
            raise BrokenConnectionError(f"no answer within {timeout_seconds:g} s") from None
        if isinstance(answer, Exception):
            self.close()
            raise BrokenConnectionError(str(answer)) from answer
        return answer

    def close(self) -> None:
        """End the stream; a second call does nothing."""
        self.is_broken = True
        self._requests.put(None)
        self._call.cancel()

    def _read(self) -> None:
        end: Exception = EOFError("BigQuery closed the stream")
        try:
            for answer in self._call:
                self._answers.put(answer)
        except grpc.RpcError as error:
            end = api.from_grpc_error(error)
        self.is_broken = True
        self._answers.put(end)
        self._requests.put(None)  # gRPC's own thread waits for requests, and ends with this one


def requests_of(rows: list[bytes]) -> Iterator[slice]:
    """Yield the places of rows that go into one request each, in order."""
    begin = size = 0
    for place, row in enumerate(rows):
        if place > begin and size + len(row) + 16 > REQUEST_BYTES_MAX:
            yield slice(begin, place)
            begin, size = place, 0
        size += len(row) + 16
    if begin < len(rows):
        yield slice(begin, len(rows))
