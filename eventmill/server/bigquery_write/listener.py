"""The listener of the Storage Write API, beside the server's own."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

import grpc

from eventmill.base.clock import SYSTEM_CLOCK, Clock
from eventmill.base.errors import UsageError
from eventmill.base.metrics import Metrics
from eventmill.server.access import Access
from eventmill.server.bigquery_write.service import REQUEST_BYTES_MAX, WriteService
from eventmill.server.bigquery_write.streams import Streams
from eventmill.store.port import Store

CONNECTIONS_MAX = 100
"""Connections at one time: each holds a thread while it is open, which costs little when idle."""
_STOP_SECONDS = 2.0
"""An idle connection ends no sooner; a request takes milliseconds."""
_FILE = "streams.db"


class WriteListener:
    """Listens for gRPC on loopback. The port is known when the object exists."""

    def __init__(
        self,
        store: Store,
        access: Access,
        *,
        folder: str | None,
        host: str = "127.0.0.1",
        port: int = 0,
        clock: Clock = SYSTEM_CLOCK,
        metrics: Metrics | None = None,
    ) -> None:
        """Bind the address; nothing is answered before ``start``.

        Args:
            store: where rows go; stays the caller's.
            access: who may write; stays the caller's.
            folder: where streams are kept; None: in memory, like the store's rows.
            host: address of this machine; it has been checked to be allowed.
            port: 0 picks a free one.
            clock: says when.
            metrics: registry to count in; None: a new one.

        Raises:
            UsageError: the address cannot be bound.
        """
        self._streams = Streams(":memory:" if folder is None else os.path.join(folder, _FILE))
        self._threads = ThreadPoolExecutor(CONNECTIONS_MAX, thread_name_prefix="write api")
        self._server = grpc.server(
            self._threads,
            maximum_concurrent_rpcs=CONNECTIONS_MAX,
            options=[
                ("grpc.max_receive_message_length", REQUEST_BYTES_MAX),
                ("grpc.so_reuseport", 0),
            ],
        )
        service = WriteService(store, access, self._streams, clock, metrics or Metrics())
        self._server.add_generic_rpc_handlers((service.handler(),))
        shown = f"[{host}]" if ":" in host else host
        try:
            self.port: int = self._server.add_insecure_port(f"{shown}:{port}")
        except RuntimeError as error:
            self._streams.close()
            raise UsageError(
                f"port {port} of {host} cannot be taken for the Storage Write API: 0 picks a free"
                " one"
            ) from error
        self.address = f"{shown}:{self.port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Answer calls in background threads."""
        self._server.start()

    def stop(self) -> None:
        """End every connection; requests that have begun are answered within two seconds."""
        self._server.stop(_STOP_SECONDS).wait()
        # A request that was cut off may be half-way into the store, which the caller closes next.
        self._threads.shutdown()
        self._streams.close()
