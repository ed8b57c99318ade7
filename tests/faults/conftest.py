"""The world of the delivery matrix: one store and server a module, one cell a test."""

from types import SimpleNamespace

import pytest
from delivery_world import Cell, Clock

from eventmill.base.settings import ServerSettings
from eventmill.server.run import Server
from eventmill.store.local.store import LocalStore
from eventmill.testing.events import build_spec


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A store, its server, and the clock of both."""
    clock = Clock()
    folder = str(tmp_path_factory.mktemp("store"))
    with LocalStore.open(folder, clock=clock) as store:
        store.apply(build_spec())
        with Server(store, ServerSettings(port=0)) as server:
            yield SimpleNamespace(folder=folder, store=store, server=server, clock=clock)


@pytest.fixture
def cell(world, tmp_path, request):
    """One run of one cell, which must end with a judgement."""
    cell = Cell(world, request, tmp_path / "spool")
    yield cell
    cell.end(has_failed=getattr(request.node, "has_failed", False))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    item.has_failed = getattr(item, "has_failed", False) or report.failed
    return report
