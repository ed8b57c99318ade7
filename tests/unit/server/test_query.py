import asyncio
import io
import json
import threading
from datetime import UTC, date, datetime, time
from decimal import Decimal

import pyarrow as pa
import pytest

from eventmill.base.errors import (
    BackPressureError,
    QueryCancelledError,
    QueryError,
    UnsupportedSqlError,
)
from eventmill.base.metrics import Metric, Metrics
from eventmill.base.settings import ServerSettings
from eventmill.server.access import Access
from eventmill.server.app import make_app
from eventmill.server.body import BodyBudget
from eventmill.server.query import QUERIES_WAITING_MAX, Queries, Question
from eventmill.wire.answer import QueryResult, QueryStats

QUERY = "/api/v1/query"


def kind(answer):
    return answer.json()["type"].removeprefix("urn:eventmill:problem:")


@pytest.fixture
def all_types(store):
    store.answer = pa.table(
        {
            "i": pa.array([2**53 + 1, None]),
            "f": pa.array([float("nan"), float("-inf")]),
            "s": pa.array(["ü,\n", None]),
            "b": pa.array([b"\xff", None]),
            "t": pa.array([datetime(2026, 1, 2, 3, 4, 5, 6, UTC), None], pa.timestamp("us", "UTC")),
            "dt": pa.array([datetime(2026, 1, 2), None], pa.timestamp("us")),
            "d": pa.array([date(2026, 1, 2), None]),
            "tm": pa.array([time(1, 2, 3), None], pa.time64("us")),
            "n": pa.array([Decimal("1.50"), None], pa.decimal128(38, 9)),
            "r": pa.array([{"x": float("inf"), "y": [b"a", None]}, None]),
            "m": pa.array([[("k", 1.5)], None], pa.map_(pa.string(), pa.float64())),
            "o": pa.array([True, None]),
        }
    )


FIRST = {
    "i": 2**53 + 1,
    "f": "NaN",
    "s": "ü,\n",
    "b": "/w==",
    "t": "2026-01-02T03:04:05.000006Z",
    "dt": "2026-01-02T00:00:00.000000",
    "d": "2026-01-02",
    "tm": "01:02:03.000000",
    "n": "1.500000000",
    "r": {"x": "Infinity", "y": ["YQ==", None]},
    "m": [{"key": "k", "value": 1.5}],
    "o": True,
}


def test_json_has_columns_rows_and_statistics(client, all_types):
    document = client.get(QUERY, params={"q": "SELECT 1"}).json()
    types = {column["name"]: column["type"] for column in document["columns"]}
    assert types == {
        "i": "INT64",
        "f": "FLOAT64",
        "s": "STRING",
        "b": "BYTES",
        "t": "TIMESTAMP",
        "dt": "DATETIME",
        "d": "DATE",
        "tm": "TIME",
        "n": "NUMERIC",
        "r": "STRUCT<x FLOAT64, y ARRAY<BYTES>>",
        "m": "ARRAY<STRUCT<key STRING, value FLOAT64>>",
        "o": "BOOL",
    }
    assert document["rows"][0] == FIRST
    assert document["rows"][1] == dict.fromkeys(FIRST) | {"f": "-Infinity"}
    assert document["stats"] == {
        "seconds": 0.5,
        "bytes_scanned": 10,
        "truncated": False,
        "row_limit": 100_000,
    }


def test_ndjson_has_one_row_a_line(client, all_types):
    answer = client.get(QUERY, params={"q": "x"}, headers={"Accept": "application/x-ndjson"})
    assert json.loads(answer.text.splitlines()[0]) == FIRST
    assert answer.headers["content-type"] == "application/x-ndjson"


def test_csv_has_a_head_and_quotes_what_needs_it(client, store):
    store.answer = pa.table({"s": ["a,b\n", None], "l": [[1, 2], []], "o": [True, False]})
    answer = client.get(QUERY, params={"q": "x", "format": "csv"})
    assert answer.text == 's,l,o\r\n"a,b\n","[1,2]",true\r\n,[],false\r\n'


def test_arrow_keeps_types_and_carries_the_statistics(client, store, all_types):
    answer = client.get(QUERY, params={"q": "x", "format": "arrow"})
    table = pa.ipc.open_stream(io.BytesIO(answer.content)).read_all()
    assert table.schema.equals(store.answer.schema)
    assert json.loads(table.schema.metadata[b"eventmill.stats"])["bytes_scanned"] == 10
    assert table.num_rows == 2


@pytest.mark.parametrize("form", ["json", "ndjson", "csv", "arrow"])
@pytest.mark.parametrize("rows", [0, 1, 1024, 3000])
def test_every_form_has_every_row(client, store, form, rows):
    store.answer = pa.table({"n": pa.array(range(rows), pa.int64())})
    answer = client.get(QUERY, params={"q": "x", "format": form})
    if form == "json":
        found = [row["n"] for row in answer.json()["rows"]]
    elif form == "arrow":
        found = pa.ipc.open_stream(answer.content).read_all()["n"].to_pylist()
    else:
        lines = answer.text.splitlines()[form == "csv" :]
        found = [int(line) if form == "csv" else json.loads(line)["n"] for line in lines]
    assert found == list(range(rows))


def test_post_says_everything_in_its_body(client, store):
    body = {
        "sql": "SELECT @a",
        "params": {"a": 5},
        "row_limit": None,
        "timeout_seconds": 2,
        "dry_run": True,
    }
    assert client.post(QUERY, json=body).status_code == 200
    assert store.questions == [("SELECT @a", {"a": 5}, None, 2, True)]


def test_get_takes_parameters_with_and_without_a_type(client, store):
    address = {"q": "x", "param.a": "5", "param.b:INT64": "6", "row_limit": "7", "dry_run": "true"}
    assert client.get(QUERY, params=address).status_code == 200
    assert store.questions == [("x", {"a": "5", "b": 6}, 7, 60.0, True)]


def test_no_query_gets_more_time_than_the_server_gives(client_of, store):
    client = client_of(store, query_seconds_max=3.0)
    client.post(QUERY, json={"sql": "x", "timeout_seconds": 100})
    client.post(QUERY, json={"sql": "x"})
    assert [question[3] for question in store.questions] == [3.0, 3.0]


@pytest.mark.parametrize(
    "body",
    [
        [],
        {},
        {"sql": 1},
        {"sql": "x", "row_limit": -1},
        {"sql": "x", "row_limit": True},
        {"sql": "x", "timeout_seconds": 0},
        {"sql": "x", "timeout_seconds": "1"},
        {"sql": "x", "params": []},
        {"sql": "x", "parms": {}},
    ],
)
def test_a_body_that_makes_no_sense_is_answered_with_400(client, store, body):
    answer = client.post(QUERY, json=body)
    assert (answer.status_code, kind(answer)) == (400, "usage")
    assert store.questions == []


@pytest.mark.parametrize(
    "address",
    ["", "?format=csv", "?q=x&format=xml", "?q=x&row_limit=y", "?q=x&limit=1", "?q=x&q=y"],
)
def test_an_address_that_makes_no_sense_is_answered_with_400(client, address):
    answer = client.get(QUERY + address)
    assert (answer.status_code, kind(answer)) == (400, "usage")


def test_an_answer_in_no_acceptable_form_is_406(client):
    answer = client.get(QUERY, params={"q": "x"}, headers={"Accept": "image/png"})
    assert (answer.status_code, kind(answer)) == (406, "not_acceptable")
    browser = "text/html,application/xhtml+xml,*/*;q=0.8"
    answer = client.get(QUERY, params={"q": "x"}, headers={"Accept": browser})
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (QueryError("no such column: x"), 400, "query"),
        (UnsupportedSqlError("MERGE"), 400, "unsupported_sql"),
        (QueryCancelledError("too long"), 408, "query_cancelled"),
    ],
)
def test_what_the_store_says_of_a_query_is_passed_on(client, store, error, status, code):
    store.error = error
    answer = client.get(QUERY, params={"q": "x"})
    assert (answer.status_code, kind(answer)) == (status, code)
    assert answer.json()["detail"] == str(error)


class Patient:
    """A store whose queries run until they are cancelled, or told to end."""

    def __init__(self):
        self.running = threading.Semaphore(0)
        self.end = threading.Event()
        self.cancelled = threading.Event()

    def query(self, sql, params, *, row_limit, timeout_seconds, dry_run, cancel):
        self.running.release()
        while not self.end.is_set():
            if cancel.wait(0.005):
                self.cancelled.set()
                raise QueryCancelledError("stopped")
        return QueryResult(pa.table({"a": [1]}), QueryStats(0.0, 0, False, row_limit))


def test_a_query_is_stopped_when_its_client_goes_away():
    store = Patient()
    app = make_app(store, ServerSettings())
    scope = {
        "type": "http",
        "method": "GET",
        "path": QUERY,
        "query_string": b"q=x",
        "headers": [(b"host", b"localhost")],
    }

    async def ask():
        messages = [{"type": "http.request"}]

        async def receive():
            if messages:
                return messages.pop()
            while not store.running.acquire(blocking=False):
                await asyncio.sleep(0)
            return {"type": "http.disconnect"}

        async def send(message):
            pass

        await app(scope, receive, send)

    asyncio.run(asyncio.wait_for(ask(), 10))
    assert store.cancelled.wait(5)


def test_queries_beyond_those_that_may_wait_are_told_to_come_again():
    store = Patient()
    metrics = Metrics()
    settings = ServerSettings(queries_running_max=2)
    queries = Queries(store, Access.in_memory(), settings, BodyBudget(10, metrics), metrics)
    futures = []
    try:
        futures.extend(
            queries._begin(Question("x", {}), threading.Event())
            for _ in range(2 + QUERIES_WAITING_MAX)
        )
        with pytest.raises(BackPressureError):
            queries._begin(Question("x", {}), threading.Event())
        for _ in range(2):
            assert store.running.acquire(timeout=5)
        assert metrics.value(Metric.QUERIES_RUNNING) == 2
        assert metrics.value(Metric.QUERIES_WAITING) == QUERIES_WAITING_MAX
        store.end.set()
        for future in futures:
            future.result(5)
        futures.append(queries._begin(Question("x", {}), threading.Event()))
        futures[-1].result(5)
    finally:
        store.end.set()
        queries.close()
    assert metrics.value(Metric.QUERIES_RUNNING) == metrics.value(Metric.QUERIES_WAITING) == 0


def test_closing_stops_what_runs_and_what_waits():
    store = Patient()
    metrics = Metrics()
    settings = ServerSettings(queries_running_max=1)
    queries = Queries(store, Access.in_memory(), settings, BodyBudget(10, metrics), metrics)
    first = queries._begin(Question("x", {}), threading.Event())
    second = queries._begin(Question("x", {}), threading.Event())
    assert store.running.acquire(timeout=5)
    queries.close()
    with pytest.raises(QueryCancelledError):
        first.result(5)
    assert second.cancelled()
    assert metrics.value(Metric.QUERIES_WAITING) == 0
