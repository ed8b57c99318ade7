"""A store to send into, as a folder and as a server; and Google's insertAll in a few lines."""

from __future__ import annotations

import http.server
import json
import threading
from types import SimpleNamespace

import pytest
from log_world import Logs, logs_spec, logs_store
from store_world import builds_spec

import eventmill
from eventmill.base.settings import ServerSettings
from eventmill.server.run import Server
from eventmill.store.memory import MemoryStore


@pytest.fixture(params=["folder", "server"])
def address(request, tmp_path):
    """Where ``eventmill.connect`` and ``open_store`` find a store with the table ``ci.builds``."""
    if request.param == "folder":
        folder = str(tmp_path / "data")
        store = eventmill.open_store(folder, create=True)
        store.apply(builds_spec())
        store.close()
        yield folder
        return
    store = MemoryStore()
    store.apply(builds_spec())
    with Server(store, ServerSettings(port=0)) as server:
        yield server.url
    store.close()


@pytest.fixture
def store(address):
    store = eventmill.open_store(address)
    yield store
    store.close()


@pytest.fixture
def folder_logs(tmp_path):
    folder = str(tmp_path / "data")
    store = eventmill.open_store(folder, create=True)
    store.apply(logs_spec())
    store.close()
    reader = eventmill.open_store(folder, writer=False)
    yield Logs(folder, None, reader)
    reader.close()


@pytest.fixture
def server_logs(tmp_path):
    store = logs_store()
    with Server(store, ServerSettings(port=0)) as server:
        yield Logs(server.url, str(tmp_path / "spool"), store)
    store.close()


@pytest.fixture(params=["folder", "server"])
def logs(request):
    return request.getfixturevalue(f"{request.param}_logs")


class InsertAll(http.server.ThreadingHTTPServer):
    """Keeps the rows of each insertAll, and answers with the errors that it is told.

    What is asked and answered is as in cloud.google.com/bigquery/docs/reference/rest/v2/tabledata.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), InsertAllRequest)
        self.requests = []
        self.columns = []
        self.errors_of = lambda rows: []
        self.status = 200
        self.url = f"http://127.0.0.1:{self.server_port}"


class InsertAllRequest(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.requests.append(SimpleNamespace(path=self.path, **body))
        errors = self.server.errors_of([row["json"] for row in body["rows"]])
        self._answer(self.server.status, {"insertErrors": errors} if errors else {})

    def do_GET(self):
        self.server.requests.append(SimpleNamespace(path=self.path, rows=[]))
        fields = [{"name": name, "type": "STRING"} for name in self.server.columns]
        reference = {"projectId": "cloud", "datasetId": "ci", "tableId": "builds"}
        self._answer(200, {"tableReference": reference, "schema": {"fields": fields}})

    def _answer(self, status, document):
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def insert_all():
    server = InsertAll()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()
