"""``python -m benchmarks.bigquery [--quick]``: rows into a local server's BigQuery surface.

One server process on a data folder, one client thread. Google's own client and Eventmill's
BigQuery store send the same rows to it in turn; the surface alone is measured by requests that
were encoded before the clock began.
"""

import argparse
import contextlib
import http.client
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
import uuid
from importlib.metadata import version

from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery

from benchmarks.pairs import Measure, pair, report
from eventmill.client.uploader import Uploader
from eventmill.schema.document import columns_from_json
from eventmill.schema.from_fields import message_from_columns
from eventmill.schema.mapping import spec_from_proto
from eventmill.schema.table import TableId
from eventmill.store.bigquery.place import BigQueryPlace
from eventmill.store.bigquery.store import BigQueryStore

PROJECT = "bench-project"
ROWS = 500
ROW_BYTES = 451
"""Of a row as JSON, without its insert ID."""
FIELDS = [
    {"name": "event_id", "type": "STRING", "mode": "REQUIRED"},
    {"name": "at", "type": "TIMESTAMP"},
    {"name": "user", "type": "STRING"},
    {"name": "page", "type": "STRING"},
    {"name": "seconds", "type": "FLOAT"},
    {"name": "count", "type": "INTEGER"},
    {"name": "ok", "type": "BOOLEAN"},
    {
        "name": "context",
        "type": "RECORD",
        "fields": [
            {"name": "latitude", "type": "FLOAT"},
            {"name": "longitude", "type": "FLOAT"},
            {"name": "agent", "type": "STRING"},
            {"name": "referrer", "type": "STRING"},
        ],
    },
    {"name": "tags", "type": "STRING", "mode": "REPEATED"},
]


@contextlib.contextmanager
def served():
    """Yield the two addresses of a server in a process of its own: HTTP and gRPC."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "eventmill", "serve", "--port", "0", "--data", folder]
        server = subprocess.Popen(
            [*command, "--write-api-port", "0", "--until-stdin-ends"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            url, writing = (server.stdout.readline().strip().rpartition(" ")[2] for _ in range(2))
            yield url, writing
        finally:
            server.stdin.close()
            server.wait(60)
            server.stdout.close()


def make_rows(count, seed=1):
    """Return rows of ``ROW_BYTES``, as the project's and Google's clients both take them."""
    chance = random.Random(seed)
    rows = []
    for _ in range(count):
        row = {
            "event_id": str(uuid.UUID(int=chance.getrandbits(128))),
            "at": "2026-01-02T03:04:05.678901Z",
            "user": f"user-{chance.randrange(10**8):08}",
            "page": "",
            "seconds": round(chance.random() * 100, 6),
            "count": chance.randrange(10**6),
            "ok": True,
            "context": {
                "latitude": round(chance.random() * 90, 6),
                "longitude": round(chance.random() * 90, 6),
                "agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
                "referrer": "https://example.com/a/b",
            },
            "tags": ["alpha", "beta", "gamma"],
        }
        size = len(json.dumps(row, separators=(",", ":")))
        row["page"] = ("/docs/reference/" * 20)[: ROW_BYTES - size]
        rows.append(row)
    return rows


class Surface:
    """One connection, and requests that were encoded beforehand."""

    def __init__(self, url, table):
        host = urllib.parse.urlsplit(url)
        self._line = http.client.HTTPConnection(host.hostname, host.port)
        self._path = (
            f"/bigquery/v2/projects/{PROJECT}/datasets/bench/tables/{table.table_id}/insertAll"
        )

    def send(self, body):
        """Send one request and see that every row was taken."""
        self._line.request("POST", self._path, body, {"Content-Type": "application/json"})
        answer = self._line.getresponse()
        document = json.loads(answer.read())
        assert answer.status == 200, document
        assert "insertErrors" not in document, document


def rate(send, items, rows_each):
    """Return (rows a second, seconds of each call) of sending ``items`` one after another."""
    seconds = []
    began = time.perf_counter()
    for item in items:
        at = time.perf_counter()
        send(item)
        seconds.append(time.perf_counter() - at)
    return len(items) * rows_each / (time.perf_counter() - began), seconds


def percentile(values, percent):
    """Return the value that ``percent`` of ``values`` do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def bench(quick):
    """Return the measures of this module."""
    rounds, requests = (3, 20) if quick else (7, 60)
    rows = make_rows(ROWS)
    with served() as (url, writing):
        google = bigquery.Client(
            project=PROJECT,
            credentials=AnonymousCredentials(),
            client_options={"api_endpoint": url},
        )
        google.create_dataset("bench")
        schema = [bigquery.SchemaField.from_api_repr(field) for field in FIELDS]
        table = google.create_table(bigquery.Table(f"{PROJECT}.bench.rows", schema=schema))
        surface = Surface(url, table)
        with contextlib.ExitStack() as opened:
            uploaders = [
                _uploader(opened, name, url, writing, way)
                for name, way in (("ours", "insert_all"), ("streamed", "storage"))
            ]
            measures = _rounds(google, table, surface, uploaders, rows, rounds, requests)
        measures += _single(google, table, rows, 200 if quick else 1_000)
        measures.append(_question(google, 20 if quick else 100))
        google.close()
    return measures


def _uploader(opened, name, url, writing, way):
    """Return an uploader into a table of its own, by one of the store's ways of writing."""
    place = BigQueryPlace(
        PROJECT, endpoint=url, write_endpoint=writing, write=way, own_dataset="warehouse"
    )
    store = opened.enter_context(BigQueryStore(place))
    table = TableId(PROJECT, "bench", name)
    descriptor_set, message = message_from_columns(table, columns_from_json(FIELDS))
    store.apply(spec_from_proto(table, descriptor_set, message, partitioning=None))
    return Uploader(store, str(table))


def _rounds(google, table, surface, uploaders, rows, rounds, requests):
    alone, theirs, ours, their_seconds, our_seconds = [], [], [], [], []
    streamed, streamed_seconds = [], []

    def by_google(part):
        assert google.insert_rows_json(table, part) == []

    def by_store(part):
        assert uploaders[0].put(part).accepted == len(part)

    def by_stream(part):
        assert uploaders[1].put(part).accepted == len(part)

    for warm in (by_google, by_store, by_stream):
        rate(warm, [rows] * 3, ROWS)
    for _ in range(rounds):
        bodies = [
            json.dumps({"rows": [{"insertId": str(uuid.uuid4()), "json": row} for row in rows]})
            for _ in range(requests)
        ]
        alone.append(rate(surface.send, bodies, ROWS)[0])
        for send, rates, seconds in (
            (by_google, theirs, their_seconds),
            (by_store, ours, our_seconds),
            (by_stream, streamed, streamed_seconds),
        ):
            found, each = rate(send, [rows] * requests, ROWS)
            rates.append(found)
            seconds += each
    taken = statistics.median(alone)
    return [
        Measure(
            "surface, one connection, 500 rows of 451 bytes a request",
            taken,
            "rows/s",
            statistics.median(theirs),
            round(statistics.median(a / b for a, b in zip(alone, theirs, strict=True)), 3),
            "at least 15,000",
            taken >= 15_000,
        ),
        _of_google("insert_rows_json of Google's client, one thread", theirs),
        pair("Eventmill's BigQuery store, insertAll / Google's client", ours, theirs, "rows/s"),
        pair("the same, Storage Write API / Google's client", streamed, theirs, "rows/s"),
        *(
            Measure(
                f"a request of 500 rows by {way}, 99th percentile / Google's client",
                percentile(seconds, 99) * 1e3,
                "ms",
                percentile(their_seconds, 99) * 1e3,
                round(percentile(seconds, 99) / percentile(their_seconds, 99), 3),
            )
            for way, seconds in (("insertAll", our_seconds), ("a stream", streamed_seconds))
        ),
    ]


def _of_google(name, rates):
    value = statistics.median(rates)
    return Measure(name, value, "rows/s", None, None, "at least 15,000", value >= 15_000)


def _single(google, table, rows, count):
    """One row a request: what a service that streams each event feels."""

    def send(row):
        assert google.insert_rows_json(table, [row]) == []

    rate(send, rows[:20], 1)
    _, seconds = rate(send, [rows[n % ROWS] for n in range(count)], 1)
    half = percentile(seconds, 50) * 1e3
    return [
        Measure("one row a request, median", half, "ms", None, None, "at most 8", half <= 8),
        Measure("one row a request, 99th percentile", percentile(seconds, 99) * 1e3, "ms"),
    ]


def _question(google, count):
    _, seconds = rate(lambda sql: list(google.query_and_wait(sql)), ["SELECT 1"] * count, 1)
    return Measure("SELECT 1, median", percentile(seconds, 50) * 1e3, "ms")


def main():
    """Run the benchmark, print its table, and write it down."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--quick", action="store_true", help="under a minute")
    chosen = parser.parse_args()
    packages = ("google-cloud-bigquery", "sqlglot")
    report("bigquery", bench(chosen.quick), [(name, version(name)) for name in packages])


if __name__ == "__main__":
    main()
