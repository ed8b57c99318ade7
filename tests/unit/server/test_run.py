import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

from eventmill.base.errors import UsageError
from eventmill.base.settings import ServerSettings
from eventmill.server.run import Server
from eventmill.testing.events import build_batch

HEADERS = {"Content-Type": "application/vnd.eventmill.batch"}
EVENTS = "/api/v1/tables/contract.builds/events"


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_an_address_that_others_can_reach_is_refused_with_the_way_out(store, host):
    with pytest.raises(UsageError, match=r"127\.0\.0\.1"):
        Server(store, ServerSettings(host=host, port=0))


def test_a_name_that_is_no_address_is_refused(store):
    with pytest.raises(UsageError, match="not an address"):
        Server(store, ServerSettings(host="256.0.0.1", port=0))


def test_a_port_that_is_taken_is_refused_with_the_way_out(store):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UsageError, match="--port 0"):
            Server(store, ServerSettings(port=taken.getsockname()[1]))


def test_the_port_is_known_before_it_serves_and_free_after_it_stops(store):
    server = Server(store, ServerSettings(port=0))
    assert server.url == f"http://127.0.0.1:{server.port}"
    with server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
        connection.request("GET", "/healthz")
        assert json.loads(connection.getresponse().read())["status"] == "ok"
        connection.close()
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", server.port))


def test_a_stop_answers_what_has_begun(store):
    begun, go_on = threading.Event(), threading.Event()
    put = store.put

    def slow_put(batch, *, timeout_seconds=None):
        begun.set()
        assert go_on.wait(10)
        return put(batch)

    store.put = slow_put
    server = Server(store, ServerSettings(port=0))
    server.start()
    answers = []

    def ask():
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        connection.request("POST", EVENTS, build_batch("a").payload, HEADERS)
        answers.append(json.loads(connection.getresponse().read()))
        connection.close()

    asking = threading.Thread(target=ask)
    asking.start()
    assert begun.wait(5)
    stopping = threading.Thread(target=server.stop)
    stopping.start()
    stopping.join(0.3)
    assert stopping.is_alive()
    go_on.set()
    asking.join(20)
    stopping.join(20)
    assert not stopping.is_alive()
    assert answers[0]["accepted"] == 1


def test_a_server_that_was_never_started_stops(store):
    server = Server(store, ServerSettings(port=0))
    server.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port), timeout=5)


def test_a_stop_that_runs_out_of_time_keeps_the_address_and_says_so(store, monkeypatch, caplog):
    begun, go_on = threading.Event(), threading.Event()
    server = Server(store, ServerSettings(port=0))
    service = server._service

    def stuck():
        begun.set()
        assert go_on.wait(10)

    monkeypatch.setattr(service._uvicorn, "run", lambda sockets: stuck())
    monkeypatch.setattr("eventmill.server.run.DRAIN_SECONDS", 0)
    monkeypatch.setattr("eventmill.server.run.START_SECONDS_MAX", 0.05)
    service.start()
    try:
        assert begun.wait(5)
        assert not server.stop()
        assert server._socket.fileno() >= 0
        told = caplog.records[-1]
        assert told.levelname == "ERROR"
        assert server.url in told.getMessage()
        assert "still" in told.getMessage()
    finally:
        go_on.set()
        assert service.wait(5)
    assert server.stop()
    assert server._socket.fileno() == -1


def test_a_stop_from_another_thread_waits_for_serve_forever(store):
    server = Server(store, ServerSettings(port=0))
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    assert server._service.started.wait(10)
    assert server.stop()
    assert server._service._idle.is_set()
    serving.join(10)
    assert not serving.is_alive()


PROGRAM = """
import sys
sys.path.insert(0, {folder!r})
from conftest import TinyStore
from eventmill.base.settings import ServerSettings
from eventmill.server.run import Server
server = Server(TinyStore(), ServerSettings(port=0))
print(server.url, flush=True)
server.serve_forever()
print("ended", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_forever_returns_after_a_signal(number):
    program = PROGRAM.format(folder=os.path.dirname(__file__))
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        url = child.stdout.readline().strip()
        port = int(url.rpartition(":")[2])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/healthz")  # answered once it serves: the socket is bound
        assert connection.getresponse().status == 200
        child.send_signal(number)
        out, _ = child.communicate(timeout=20)
        connection.close()
    finally:
        child.kill()
        child.wait()
    assert out == "ended\n"
    assert child.returncode == 0
