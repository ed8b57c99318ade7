"""A folder with keys, by a clock of the test's, and a server on a real store behind them."""

from __future__ import annotations

import pytest
from access_world import OPEN, SECRET, wish
from starlette.testclient import TestClient

from eventmill.base.settings import ServerSettings
from eventmill.server.access import Access
from eventmill.server.access.access import FOLDER_OWNER
from eventmill.server.access.upkeep import AccessUpkeep
from eventmill.server.app import make_app
from eventmill.store.memory import MemoryStore
from eventmill.testing.events import build_batch, build_spec
from eventmill.testing.fakes import FakeClock


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def access(tmp_path, clock):
    found = Access.open(str(tmp_path), clock=clock)
    yield found
    found.close()


@pytest.fixture
def ring(access):
    """The keys, as whoever owns the folder administers them."""
    return access.keys(FOLDER_OWNER)


@pytest.fixture
def make(access, ring):
    """Make a key with grants such as ``reader:ops.*``; return its token."""

    def made(name, *grants, **more):
        new = ring.create(wish(name, *grants, **more))
        access.look()
        return new.token

    return made


@pytest.fixture
def store(clock):
    """Two tables with a row each, one of them of no business to most keys."""
    found = MemoryStore(clock)
    for table in (OPEN, SECRET):
        found.apply(build_spec(table))
        found.put(build_batch("seed", table=table))
    yield found
    found.close()


@pytest.fixture
def client_of(store, access):
    clients = []

    def make_client(**settings):
        app = make_app(store, ServerSettings(**settings), access=access)
        client = TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)
        clients.append(client.__enter__())
        return client

    yield make_client
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def client(client_of):
    return client_of()


@pytest.fixture
def audit(access, store, clock):
    """Write down what is due, and return every row of the audit."""
    upkeep = AccessUpkeep(access, store, clock)

    def rows(**wanted):
        upkeep.round()
        found = store.query("SELECT * FROM eventmill.audit ORDER BY recorded_at, act")
        return [row for row in found if all(row[key] == value for key, value in wanted.items())]

    return rows
