"""Kept connections to one server: http.client under a pool that threads and forks cannot harm.

``http.client`` and nothing above it: a program that only sends should not pay for a library's
import, which costs more than a thousand requests.
"""

from __future__ import annotations

import http.client
import io
import os
import socket
import threading
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from eventmill.base.clock import Clock
from eventmill.base.errors import UnavailableError, UsageError
from eventmill.client.spool.forking import fork_pause

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

IDLE_SECONDS_MAX = 55.0
"""Age of an idle connection beyond which it is not used again: shorter than the server's 75 s and
the 60 s of common proxies, so that the client is the one who closes."""


_SAID_CHARACTERS_MAX = 200
"""Of an answer that is none, in the error that tells of it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer, read whole."""

    status: int
    headers: Mapping[str, str]
    """By lower-case name."""
    body: bytes


class ConnectionPool:
    """Connections to one server. Safe from any thread; a forked child starts with none."""

    def __init__(
        self, url: str, clock: Clock, *, connections_max: int, connect_timeout_seconds: float
    ) -> None:
        """Prepare the pool; nothing is connected yet.

        Args:
            url: ``http://host:port`` or ``https://host``, with or without a path before ours.
            clock: measures idleness and deadlines.
            connections_max: idle connections to keep; more are opened when threads need them.
            connect_timeout_seconds: time for one connection to be made.

        Raises:
            UsageError: the URL is not of that form.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise UsageError(f"{url!r} is not the URL of a server: {error}") from error
        if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
            raise UsageError(f"{url!r} is not the URL of a server: write http://HOST:PORT")
        if parts.username or parts.password:
            raise UsageError("a URL must not carry credentials: give them as key")
        self.prefix = parts.path.rstrip("/")
        self._is_https = parts.scheme == "https"
        self._host, self._port = host, port
        self._clock = clock
        self._connections_max = connections_max
        self._connect_timeout_seconds = connect_timeout_seconds
        self._lock = threading.RLock()
        self._idle: list[tuple[http.client.HTTPConnection, float]] = []
        _live_pools.add(self)

    def send(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
        *,
        timeout_seconds: float,
        repeatable: bool,
    ) -> Answer:
        """Send one request and read its answer.

        A kept connection may have been closed by the server at the moment it was used again; a
        repeatable request is then sent once more, on a new one.

        Args:
            method: of HTTP.
            path: below the URL's own, with its query.
            body: None for none.
            headers: in addition to Host and Content-Length.
            timeout_seconds: for all of it.
            repeatable: whether it does no harm when it was carried out already; if not, it goes
                on a new connection, on which that question cannot come up.

        Raises:
            UnavailableError: no connection, a connection that broke, or no answer in time.
        """
        deadline = self._clock.monotonic() + timeout_seconds
        connection = self._take() if repeatable else None
        if connection is not None:
            try:
                return self._exchange(connection, method, path, body, headers, deadline)
            except (http.client.RemoteDisconnected, ConnectionError):
                connection.close()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                raise self._unavailable(error) from error
        connection = self._connect(deadline)
        try:
            return self._exchange(connection, method, path, body, headers, deadline)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise self._unavailable(error) from error

    def close(self) -> None:
        """Close the idle connections, and each one that is busy when its answer is read."""
        with self._lock:
            self._connections_max = 0
            idle, self._idle = self._idle, []
        for connection, _ in idle:
            connection.close()

    def forget_connections(self) -> None:
        """Begin anew in a forked child: the sockets, and perhaps the lock, are the parent's."""
        self._lock = threading.RLock()
        # Closing gives back the child's descriptor alone; the parent's stays open.
        for connection, _ in self._idle:
            connection.close()
        self._idle = []

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
        deadline: float,
    ) -> Answer:
        limit = partial(self._limit, connection.sock, deadline)
        connection.response_class = partial(_Response, limit)  # type: ignore[assignment]
        limit()
        connection.request(method, self.prefix + path, body, dict(headers))
        response = connection.getresponse()
        content = response.read()
        answer = Answer(
            response.status,
            {name.lower(): value for name, value in response.getheaders()},
            content,
        )
        if response.will_close:
            connection.close()
        else:
            self._keep(connection)
        return answer

    def _limit(self, sock: socket.socket, deadline: float) -> None:
        """Let the next call on ``sock`` take no longer than until ``deadline``."""
        remaining = deadline - self._clock.monotonic()
        if remaining <= 0:
            raise TimeoutError("timed out")
        sock.settimeout(remaining)

    def _connect(self, deadline: float) -> http.client.HTTPConnection:
        with fork_pause.lock:
            import encodings.idna  # noqa: F401 - as each look-up of a host's name does
        timeout = min(self._connect_timeout_seconds, deadline - self._clock.monotonic())
        kind = http.client.HTTPSConnection if self._is_https else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=max(timeout, 0.001))
        try:
            connection.connect()
        except OSError as error:
            connection.close()
            raise self._unavailable(error) from error
        return connection

    def _take(self) -> http.client.HTTPConnection | None:
        oldest = self._clock.monotonic() - IDLE_SECONDS_MAX
        while True:
            with self._lock:
                if not self._idle:
                    return None
                connection, kept_at = self._idle.pop()
            if kept_at >= oldest:
                return connection
            connection.close()

    def _keep(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            if len(self._idle) < self._connections_max:
                self._idle.append((connection, self._clock.monotonic()))
                return
        connection.close()

    def _unavailable(self, error: Exception) -> UnavailableError:
        place = f"{self._host}:{self._port}" if self._port else self._host
        if isinstance(error, TimeoutError):
            return UnavailableError(f"the server at {place} did not answer in time")
        if isinstance(error, http.client.HTTPException):
            # What it holds may be anything that the other end has sent.
            said = repr(error)[:_SAID_CHARACTERS_MAX]
            return UnavailableError(f"the server at {place} gave no answer of HTTP: {said}")
        return UnavailableError(f"the server at {place} cannot be reached: {error or repr(error)}")


class _Response(http.client.HTTPResponse):
    """An answer that is in time as a whole, however slowly its bytes drip in."""

    def __init__(
        self, limit: Callable[[], None], sock: socket.socket, *, method: str | None = None
    ) -> None:
        super().__init__(sock, method=method)
        self.fp.close()
        self.fp = io.BufferedReader(_TimedReads(limit, sock))


class _TimedReads(io.RawIOBase):
    """What a socket receives; ``limit`` is called before each read, and may raise TimeoutError."""

    def __init__(self, limit: Callable[[], None], sock: socket.socket) -> None:
        self._limit = limit
        self._raw = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        self._limit()
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


_live_pools: weakref.WeakSet[ConnectionPool] = weakref.WeakSet()


def _forget_in_child() -> None:
    for pool in list(_live_pools):
        pool.forget_connections()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_forget_in_child)
