"""A store of a few lines, so that the server is tested apart from every real one."""

import threading

import pyarrow as pa
import pytest
from starlette.testclient import TestClient

from eventmill.base.errors import EventmillError, SchemaConflictError, TableNotFoundError
from eventmill.base.settings import ServerSettings
from eventmill.schema.problem import EventProblem, Reason
from eventmill.schema.table import Table, TableStats
from eventmill.server.app import make_app
from eventmill.testing.events import build_spec
from eventmill.wire.answer import QueryResult, QueryStats
from eventmill.wire.sink import Features
from eventmill.wire.verdict import Rejection, Verdict


class TinyStore:
    features = Features(durable=False, dedup_window_seconds=float("inf"), quarantines=True)

    def __init__(self):
        self.held = {}
        self.rows = {}
        self.quarantined = []
        self.batches = []
        self.error = None
        self.answer = pa.table({"one": [1]})
        self.questions = []
        self.apply(build_spec())

    def put(self, batch, *, timeout_seconds=None):
        if self.error:
            raise self.error
        self.describe(batch.table)
        self.batches.append(batch)
        duplicates, rejected = [], []
        for index, (insert_id, event) in enumerate(
            zip(batch.insert_ids, batch.events, strict=True)
        ):
            if event == b"\xff":
                problem = EventProblem(Reason.MALFORMED_EVENT, "", "not a message")
                rejected.append(Rejection.of(index, insert_id.decode(), problem))
            elif insert_id in self.rows:
                duplicates.append(index)
            else:
                self.rows[insert_id] = event
        return Verdict(batch.count, tuple(duplicates), tuple(rejected))

    def quarantine(self, events):
        self.quarantined.extend(events)

    def describe(self, table):
        if table not in self.held:
            raise TableNotFoundError(f"there is no table {table}")
        return self.held[table]

    def tables(self):
        if self.error:
            raise self.error
        return [self.held[name] for name in sorted(self.held)]

    def stats(self, table):
        self.describe(table)
        return TableStats(log_rows=len(self.rows), newest_event_at=1.5)

    def apply(self, spec, *, expected_version=None):
        live = self.held.get(spec.table)
        version = live.version if live else 0
        if expected_version not in (None, version):
            raise SchemaConflictError(f"version {version}, not {expected_version}")
        self.held[spec.table] = Table(spec, version + 1, 0.0, 0.0)
        return self.held[spec.table]

    def drop(self, table):
        self.describe(table)
        del self.held[table]

    def query(self, sql, params=None, *, row_limit=None, timeout_seconds=None, dry_run=False):
        if self.error:
            raise self.error
        self.questions.append((sql, params, row_limit, timeout_seconds, dry_run))
        return QueryResult(self.answer, QueryStats(0.5, 10, False, row_limit))

    def close(self):
        pass


class SubmittingStore(TinyStore):
    """Gives its verdicts from another thread, as a store with a group commit does."""

    def submit(self, batch, answer):
        def judge():
            try:
                verdict = self.put(batch)
            except EventmillError as error:
                answer(None, error)
            else:
                answer(verdict, None)

        threading.Thread(target=judge).start()


@pytest.fixture(params=[TinyStore, SubmittingStore], ids=["put", "submit"])
def either_store(request):
    return request.param()


@pytest.fixture
def store():
    return TinyStore()


@pytest.fixture
def client_of():
    """Return a function that makes a client of a store's server."""
    clients = []

    def make(store, **settings):
        app = make_app(store, ServerSettings(**settings))
        client = TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)
        clients.append(client.__enter__())
        return client

    yield make
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def client(store, client_of):
    return client_of(store)
