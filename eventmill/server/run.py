"""A server as a program runs it: a socket first, then uvicorn, then an end that drains."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import threading
from collections.abc import Iterator
from types import FrameType

import uvicorn
from starlette.applications import Starlette

from eventmill.base.errors import UnavailableError, UsageError
from eventmill.base.metrics import Metrics
from eventmill.base.service import Service
from eventmill.base.settings import ServerSettings
from eventmill.server.access import Access
from eventmill.server.app import make_app, table_quota
from eventmill.server.same_machine import is_loopback_name
from eventmill.store.port import Store

DRAIN_SECONDS = 10
"""How long a stop waits for requests that have begun."""
KEEP_ALIVE_SECONDS = 75
"""How long an idle connection stays open: longer than the clients' own limit of 55 s, so that it
is the client who closes and none sends into a connection that is being closed."""
START_SECONDS_MAX = 15.0
_BACKLOG = 2048

_logger = logging.getLogger(__name__)


class Server:
    """Serves one store. The socket is bound when the object exists, so its port is known."""

    def __init__(
        self,
        store: Store,
        settings: ServerSettings | None = None,
        metrics: Metrics | None = None,
        access: Access | None = None,
    ) -> None:
        """Bind the address; nothing is answered before ``serve_forever`` or ``start``.

        Args:
            store: stays the caller's, who closes it after the server has stopped.
            settings: host, port and limits; None: the defaults.
            metrics: registry to count in; None: a new one.
            access: who may do what, the caller's; None: by the keys in the store's folder, and
                for a store without a folder by none.

        Raises:
            UsageError: the address cannot be bound, or others can reach it and there is no key.
        """
        self._settings = settings or ServerSettings()
        self._owns_access = access is None
        self.access = access or _access_of(store, self._settings)
        self.app: Starlette = make_app(store, self._settings, metrics, self.access)
        self._socket = _bind(
            self._settings.host, self._settings.port, keys_are_required=self.access.is_required
        )
        host, port = self._socket.getsockname()[:2]
        self.port: int = port
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{port}"
        self._service = _UvicornService(self._config(), self._socket)

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def serve_forever(self) -> None:
        """Serve in this thread until SIGINT or SIGTERM (or ``stop`` from another thread).

        Promise: on return every request that had begun within ten seconds of the signal is
        answered, and the address is free. A second SIGINT does not wait.
        """
        self._service.serve()

    def start(self) -> None:
        """Serve in a background thread; on return requests are answered.

        Raises:
            UnavailableError: it did not come up within 15 seconds.
        """
        self._service.start()
        if not self._service.started.wait(START_SECONDS_MAX):
            self.stop()
            raise UnavailableError(f"the server at {self.url} did not start")

    def stop(self) -> bool:
        """Stop taking requests, answer those that have begun, and give the address back.

        Returns:
            Whether it has ended. False: after 25 seconds it still answers a request, which is
            logged. The address then stays taken and the store must stay open; a second call
            waits again.
        """
        seconds = DRAIN_SECONDS + START_SECONDS_MAX
        if not self._service.stop(seconds):
            # A socket closed under the thread that serves it would make its number free for
            # the next file that is opened, and the thread would read that.
            _logger.error(
                "the server at %s has not ended within %g s: a request is still being answered,"
                " its address stays taken, and the store must stay open until it has ended",
                self.url,
                seconds,
            )
            return False
        self._socket.close()
        if self._owns_access:
            self.access.close()
        return True

    def _config(self) -> uvicorn.Config:
        return uvicorn.Config(
            self.app,
            loop="auto",  # uvloop where it is installed
            http="httptools",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=_BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=DRAIN_SECONDS,
        )


class _UvicornService(Service):
    """Uvicorn as a background thread."""

    def __init__(self, config: uvicorn.Config, bound: socket.socket) -> None:
        super().__init__("eventmill-server")
        self.started = threading.Event()
        self._uvicorn = _Uvicorn(config, self.started)
        self._bound = bound
        self._idle = threading.Event()
        self._idle.set()

    def run(self, stopping: threading.Event) -> None:
        self.serve()

    def serve(self) -> None:
        self._idle.clear()
        try:
            self._uvicorn.run(sockets=[self._bound])
        finally:
            self._idle.set()

    def wait(self, timeout_seconds: float | None = None) -> bool:
        # Beside the service's own thread, that of the caller of ``serve_forever``.
        return super().wait(timeout_seconds) and self._idle.wait(timeout_seconds)

    def wake(self) -> None:
        self._uvicorn.should_exit = True


class _Uvicorn(uvicorn.Server):
    """Uvicorn that tells when it answers, and ends without raising the signal once more."""

    def __init__(self, config: uvicorn.Config, started: threading.Event) -> None:
        super().__init__(config)
        self._answers = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._answers.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        signals = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self._exit) for number in signals}
        try:
            yield
        finally:
            for number, restored in before.items():
                signal.signal(number, restored)

    def _exit(self, number: int, frame: FrameType | None) -> None:
        self.handle_exit(number, frame)


def _access_of(store: Store, settings: ServerSettings) -> Access:
    quota = table_quota(settings)
    folder = getattr(store, "path", None)
    if isinstance(folder, str):
        return Access.open(folder, table_quota=quota)
    return Access.in_memory(table_quota=quota)


def _bind(host: str, port: int, *, keys_are_required: bool) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise UsageError(f"{host!r} is not an address of this machine: {error}") from error
    family, kind, protocol, _, address = found[0]
    if not is_loopback_name(str(address[0])) and not keys_are_required:
        raise UsageError(
            f"{host!r} can be reached from other machines, and there is no key to tell them apart:"
            " anyone could read and write every table. Make a key first"
            " (`eventmill key create NAME --grant 'admin:*'`), or listen on 127.0.0.1"
        )
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(_BACKLOG)
    except OSError as error:
        bound.close()
        raise UsageError(
            f"port {port} of {host} cannot be taken: {error.strerror}; --port 0 picks a free one"
        ) from error
    return bound
