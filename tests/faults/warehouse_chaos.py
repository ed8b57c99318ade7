"""Proxies before a warehouse: one that mistreats HTTP requests, one that cuts connections."""

import contextlib
import http.client
import random
import re
import socket
import threading
import time
from collections import Counter

import chaos

FAULTS = (
    "lost", "duplicated", "reply_lost", "reset", "500", "503", "429", "delay", "stale_etag",
)  # fmt: skip
_OF_THE_CONNECTION = frozenset(("connection", "content-length", "date", "server"))
_REASONS = {"500": "backendError", "503": "backendError", "429": "rateLimitExceeded"}


class RestChaos(chaos.ChaosProxy):
    """A proxy of BigQuery's REST interface; ``likelihoods`` are of ``FAULTS``.

    ``lost`` ends the connection without a request forwarded, ``reset`` in the middle of its body,
    ``duplicated`` forwards it twice, ``reply_lost`` forwards it and ends the connection.
    ``stale_etag`` strikes changes of tables alone, the others requests whose path matches
    ``paths``: rows, unless told otherwise.
    """

    def __init__(self, server_port, seed=0, *, paths="/insertAll$", **likelihoods):
        assert set(likelihoods) <= set(FAULTS)
        super().__init__(server_port, seed)
        self.likelihoods = likelihoods
        self.paths = re.compile(paths)

    def draw(self, changes_a_table=False):
        """Return the fault that strikes the next request; None: none does."""
        with self._lock:
            drawn = self._rng.random()
            for fault, likelihood in self.likelihoods.items():
                if (fault == "stale_etag") != changes_a_table:
                    continue
                drawn -= likelihood
                if drawn < 0:
                    self.happened[fault] += 1
                    return fault
        return None

    def _listen(self):
        self._server = chaos._Listener(("127.0.0.1", self.port), _Request)
        self._server.proxy = self
        self._server.connections = set()
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()


class _Request(chaos._Request):
    def forward(self):
        size = int(self.headers.get("Content-Length") or 0)
        proxy = self.server.proxy
        changes_a_table = "If-Match" in self.headers
        headers = dict(self.headers)
        fault = None
        if proxy.paths.search(self.path.split("?")[0]) or changes_a_table:
            fault = proxy.draw(changes_a_table)
        if fault == "reset":
            self.rfile.read(size // 2)
            self.break_off()
            return
        body = self.rfile.read(size)
        if fault == "lost":
            self.break_off()
            return
        if fault in _REASONS:
            self.answer(int(fault), {"Content-Type": "application/json"}, _refusal(fault))
            return
        if fault == "delay":
            time.sleep(0.2)
        if fault == "stale_etag":
            headers["If-Match"] = '"stale"'
        if fault == "duplicated":
            self.send_on(body, headers)
        reply = self.send_on(body, headers)
        if fault == "reply_lost":
            self.break_off()
            return
        self.answer(*reply)

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = forward

    def send_on(self, body, headers):
        inner = http.client.HTTPConnection("127.0.0.1", self.server.proxy.server_port, timeout=30)
        headers = {name: value for name, value in headers.items() if name != "Accept-Encoding"}
        try:
            inner.request(self.command, self.path, body, headers)
            reply = inner.getresponse()
            content = reply.read()
            given = {n: v for n, v in reply.headers.items() if n.lower() not in _OF_THE_CONNECTION}
            return reply.status, given, content
        finally:
            inner.close()


def _refusal(status):
    reason = _REASONS[status]
    return (
        f'{{"error": {{"code": {status}, "message": "not now", "status": "X", "errors":'
        f' [{{"reason": "{reason}", "message": "not now", "domain": "global"}}]}}}}'
    ).encode()


class ConnectionChaos:
    """Passes bytes on, and cuts each connection after a random number of them, either way."""

    def __init__(self, server_port, seed=0, *, bytes_min, bytes_max):
        self._server_port = server_port
        self._bounds = (bytes_min, bytes_max)
        self._rng = random.Random(seed)
        self.happened = Counter()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._open = set()
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in list(self._open):
            _cut(each)
        self._thread.join(5)

    def spare(self):
        """Cut no more."""
        self._bounds = (1 << 60, 1 << 60)

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._server_port))
            pair = (client, server)
            self._open.update(pair)
            left = [self._rng.randint(*self._bounds)]
            for source, target in (pair, pair[::-1]):
                threading.Thread(
                    target=self._pump, args=(source, target, left), daemon=True
                ).start()

    def _pump(self, source, target, left):
        try:
            while content := source.recv(65_536):
                left[0] -= len(content)
                if left[0] <= 0 and self._bounds[0] < 1 << 60:
                    self.happened["cut"] += 1
                    break
                target.sendall(content)
        except OSError:
            pass
        for each in (source, target):
            _cut(each)
            self._open.discard(each)


def _cut(one):
    with contextlib.suppress(OSError):  # it may have ended by itself
        one.shutdown(socket.SHUT_RDWR)
    one.close()
