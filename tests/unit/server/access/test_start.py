"""Where a server listens, with keys and without; and what its own folder's owner needs."""

import http.client
import json
import os
import stat
from contextlib import closing

import pytest
from access_world import bearer, wish

from eventmill.address import connect, open_store
from eventmill.base.errors import UnauthenticatedError, UnavailableError, UsageError
from eventmill.base.settings import ServerSettings
from eventmill.server.access import Access
from eventmill.server.access.access import FOLDER_OWNER
from eventmill.server.run import Server
from eventmill.server.same_machine import is_loopback_name
from eventmill.store.local.lock import server_key, server_url
from eventmill.store.local.store import LocalStore
from eventmill.testing.events import BUILDS, build_batch, build_spec


@pytest.fixture
def folder(tmp_path):
    path = str(tmp_path / "data")
    with LocalStore.open(path) as store:
        store.apply(build_spec())
    return path


@pytest.fixture
def abroad(monkeypatch):
    """Let 127.0.0.2 count as an address that other machines can reach."""

    def is_loopback(host):
        return host != "127.0.0.2" and is_loopback_name(host)

    monkeypatch.setattr("eventmill.server.run.is_loopback_name", is_loopback)
    return ServerSettings(host="127.0.0.2", port=0)


def make_key(folder, name="ci", *grants):
    access = Access.open(folder)
    token = access.keys(FOLDER_OWNER).create(wish(name, *(grants or ("admin:*",)))).token
    access.close()
    return token


def get(server, path, token=None):
    connection = http.client.HTTPConnection(*server.url.removeprefix("http://").split(":"))
    connection.request("GET", path, headers=bearer(token) if token else {})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, json.loads(body)


def test_an_address_that_others_can_reach_needs_a_key_first(folder, abroad):
    with LocalStore.open(folder) as store:
        with pytest.raises(UsageError, match="eventmill key create"):
            Server(store, abroad)
        token = make_key(folder)
        with Server(store, abroad) as server:
            assert server.url.startswith("http://127.0.0.2:")
            assert get(server, "/api/v1/tables")[0] == 401
            assert get(server, "/api/v1/tables", token)[0] == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_all_addresses_of_a_machine_are_such_too(folder, host):
    with LocalStore.open(folder) as store, pytest.raises(UsageError, match="there is no key"):
        Server(store, ServerSettings(host=host, port=0))


def test_a_store_without_a_folder_has_no_keys_to_go_by(store, abroad):
    with pytest.raises(UsageError, match="there is no key"):
        Server(store, abroad)


def test_the_keys_of_the_folder_hold_for_whoever_serves_it(folder):
    token = make_key(folder)
    with LocalStore.open(folder) as store:
        server = Server(store, ServerSettings(port=0))
        with server:
            assert get(server, "/api/v1/tables")[0] == 401
            assert get(server, "/api/v1/tables", token)[0] == 200
        with pytest.raises(UnavailableError, match="closed"):
            server.access.policy_of(BUILDS)


def test_whoever_owns_the_folder_needs_no_key_beside_a_running_server(folder):
    make_key(folder)
    with LocalStore.open(folder) as store, Server(store, ServerSettings(port=0)) as server:
        store.announce(server.url, server.access.folder_token())
        assert server_url(folder) == server.url
        lock = os.path.join(folder, "writer.lock")
        assert stat.S_IMODE(os.stat(lock).st_mode) == 0o600
        sink = connect(folder)
        assert sink.address == server.url
        assert sink.put(build_batch("a")).accepted == 1
        sink.close()
        # By its address the server asks everybody; a key of one's own goes before the folder's.
        for address, key in ((server.url, None), (folder, "mine")):
            asked = open_store(address, key=key)
            with closing(asked), pytest.raises(UnauthenticatedError):
                asked.tables()
    assert server_key(folder) is None
    with open(lock) as file:
        assert "key" not in file.read()
