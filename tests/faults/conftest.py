"""The world of the delivery matrix: one store and server a module, one cell a test."""

import subprocess
from types import SimpleNamespace

import pytest
from delivery_world import Cell, Clock, start_child
from outage import Outage

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


@pytest.fixture(scope="session", autouse=True)
def outage(request, tmp_path_factory):
    """A server's outage of a minute, which passes while other tests run."""
    outage = Outage(tmp_path_factory.mktemp("outage"))
    if any(item.name == "test_down_for_60_seconds" for item in request.session.items):
        given = {"how": "through_outage", "cell": "down_for_60_seconds"}
        outage.begin(
            lambda url, spool_dir: start_child(
                "sender_child.py",
                {**given, "url": url, "spool_dir": spool_dir},
                stdin=subprocess.PIPE,
            )
        )
    yield outage
    outage.end()


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
