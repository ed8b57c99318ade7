"""A proxy before a server that does to requests what networks do, and counts what it did."""

import contextlib
import http.client
import http.server
import json
import random
import socket
import struct
import threading
import time
from collections import Counter

FAULTS = ("unavailable", "timed_out", "slow", "reset", "reply_lost")


class ChaosProxy:
    """Listens on a free port of this machine. Faults strike puts of events alone.

    ``unavailable`` answers 503, ``timed_out`` 408 as an impatient proxy does, ``slow`` forwards
    after ``slow_seconds``, ``reset`` breaks the connection off in the middle of the request's body,
    ``reply_lost`` forwards and breaks it off before the reply. Each of them has a likelihood; the
    same seed gives the same sequence.

    A body above ``body_bytes_max`` is answered 413, as by a proxy with a limit, and one with
    ``poison`` in it 400, as by a server that chokes on it. A server that goes away in the middle
    of a request counts as ``server_gone``, one that was not there as ``server_away``.
    """

    def __init__(
        self,
        server_port,
        seed=0,
        *,
        slow_seconds=0.3,
        body_bytes_max=None,
        poison=None,
        port=0,
        **likelihoods,
    ):
        assert set(likelihoods) <= set(FAULTS)
        self.server_port = server_port
        self.slow_seconds = slow_seconds
        self.body_bytes_max = body_bytes_max
        self.poison = poison
        self.likelihoods = likelihoods
        self.happened = Counter()
        """Faults so far; and ``down``, how often: what the kernel refuses nobody here can count."""
        self._rng = random.Random(seed)
        self._lock = threading.Lock()
        self._server = None
        self.port = port
        self._listen()
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.down()

    def down(self):
        """Refuse connections, and break off those that there are."""
        server, self._server = self._server, None
        if server is not None:
            self.happened["down"] += 1
            server.shutdown()
            server.server_close()
            for connection in list(server.connections):
                with contextlib.suppress(OSError):  # it may have ended by itself
                    connection.shutdown(socket.SHUT_RDWR)

    def up(self):
        """Listen again, on the same port."""
        self._listen()

    def draw(self):
        """Return the fault that strikes the next put; None: none does."""
        with self._lock:
            drawn = self._rng.random()
            for fault, likelihood in self.likelihoods.items():
                drawn -= likelihood
                if drawn < 0:
                    self.happened[fault] += 1
                    return fault
        return None

    def refuse(self, body):
        """Return status, headers and content of what refuses ``body``; None: it passes."""
        if self.body_bytes_max is not None and len(body) > self.body_bytes_max:
            self.happened["too_large"] += 1
            return 413, {"Content-Type": "text/html"}, b"<h1>Request Entity Too Large</h1>"
        if self.poison is not None and self.poison in body:
            self.happened["poisoned"] += 1
            problem = {"type": "urn:eventmill:problem:batch", "detail": "the body is no batch"}
            content_type = {"Content-Type": "application/problem+json"}
            return 400, content_type, json.dumps(problem).encode()
        return None

    def _listen(self):
        self._server = _Listener(("127.0.0.1", self.port), _Request)
        self._server.proxy = self
        self._server.connections = set()
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()


class _Listener(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def handle_error(self, request, client_address):
        pass  # senders die and break off here


class _Request(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self):
        self.server.connections.discard(self.connection)
        super().finish()

    def forward(self):
        size = int(self.headers.get("Content-Length") or 0)
        proxy = self.server.proxy
        fault = proxy.draw() if self.path.endswith("/events") else None
        if fault == "reset":
            self.rfile.read(size // 2)
            self.break_off()
            return
        body = self.rfile.read(size)
        if fault in ("unavailable", "timed_out"):
            status = 503 if fault == "unavailable" else 408
            self.answer(status, {"Content-Type": "text/plain"}, b"not now")
            return
        refusal = proxy.refuse(body) if self.path.endswith("/events") else None
        if refusal is not None:
            self.answer(*refusal)
            return
        if fault == "slow":
            time.sleep(proxy.slow_seconds)
        inner = http.client.HTTPConnection("127.0.0.1", proxy.server_port, timeout=30)
        try:
            inner.connect()
        except OSError:
            proxy.happened["server_away"] += 1
            self.break_off()
            return
        try:
            inner.request(self.command, self.path, body, dict(self.headers))
            reply = inner.getresponse()
            content = reply.read()
        except (OSError, http.client.HTTPException):
            proxy.happened["server_gone"] += 1
            self.break_off()
            return
        finally:
            inner.close()
        if fault == "reply_lost":
            self.break_off()
            return
        self.answer(reply.status, {"Content-Type": reply.headers.get("Content-Type")}, content)

    do_GET = do_POST = forward

    def answer(self, status, headers, content):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": len(content)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(content)

    def break_off(self):
        """End the connection with a reset, as a crash or a firewall does: no polite end."""
        self.close_connection = True
        lingers_not = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, lingers_not)
        self.connection.close()

    def log_message(self, *args):
        pass
