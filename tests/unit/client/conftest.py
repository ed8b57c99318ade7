"""A sink of a few lines, and an HTTP server that answers what it is told."""

import http.server
import threading
from types import SimpleNamespace

import pytest

from eventmill.base.errors import TableNotFoundError
from eventmill.schema.table import Table
from eventmill.testing.events import BUILDS, build_spec
from eventmill.wire.sink import Features
from eventmill.wire.verdict import Verdict


class ListSink:
    """Keeps events by insert ID; ``errors`` are raised first, one a put."""

    features = Features(durable=False, dedup_window_seconds=float("inf"), quarantines=True)

    def __init__(self):
        self.rows = {}
        self.batches = []
        self.quarantined = []
        self.errors = []
        self.describe_error = None
        self.timeouts = []
        self.table = Table(build_spec(), 1, 0.0, 0.0)
        self.arrived = threading.Event()
        self.gate = threading.Event()
        """Clear it, and puts wait."""
        self.gate.set()

    def put(self, batch, *, timeout_seconds=None):
        self.timeouts.append(timeout_seconds)
        self.arrived.set()
        assert self.gate.wait(20)
        if self.errors:
            error = self.errors.pop(0)
            if error is not None:
                raise error
        self.batches.append(batch)
        duplicates = []
        for index, (insert_id, event) in enumerate(
            zip(batch.insert_ids, batch.events, strict=True)
        ):
            if insert_id in self.rows:
                duplicates.append(index)
            self.rows[insert_id] = event
        return Verdict(batch.count, tuple(duplicates))

    def describe(self, table):
        if self.describe_error:
            raise self.describe_error
        if table != BUILDS:
            raise TableNotFoundError(f"there is no table {table}")
        return self.table

    def quarantine(self, events):
        self.quarantined.extend(events)

    def close(self):
        pass


@pytest.fixture
def sink():
    sink = ListSink()
    yield sink
    sink.gate.set()


class Script(http.server.ThreadingHTTPServer):
    """Answers each request with what ``answer`` returns: (status, headers, body), or None to
    break the connection off without a word."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), ScriptedRequest)
        self.answer = lambda request: (200, {}, b"{}")
        self.requests = []
        self.connections = 0
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address):
        pass


class ScriptedRequest(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        super().setup()
        self.server.connections += 1

    def reply(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        request = SimpleNamespace(
            command=self.command, path=self.path, headers=self.headers, body=body
        )
        self.server.requests.append(request)
        answer = self.server.answer(request)
        if answer is None:
            self.close_connection = True
            return
        status, headers, body = answer
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = reply

    def log_message(self, *args):
        pass


@pytest.fixture
def script():
    server = Script()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()
