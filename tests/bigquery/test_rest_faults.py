"""Google's own client and a server, with a bad network between them: nothing lost, nothing doubled.

The client is unmodified; only its pauses before another try are shortened.
"""

import io
import json
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from bigquery_world import PROJECT, Place
from google.api_core import exceptions
from google.cloud import bigquery
from google.resumable_media.requests import _request_helpers
from warehouse_chaos import RestChaos

RETRY = bigquery.DEFAULT_RETRY.with_delay(initial=0.01, maximum=0.05).with_timeout(60.0)
FAULTS = ("lost", "duplicated", "reply_lost", "reset", "500", "503", "429", "delay")
FIELDS = [
    bigquery.SchemaField("id", "INTEGER", "REQUIRED"),
    bigquery.SchemaField("text", "STRING"),
]
SENDERS, REQUESTS, ROWS = 4, 25, 10


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    found = Place(tmp_path_factory.mktemp("faults"))
    found.client.create_dataset("d")
    yield found
    found.close()


def mistreated(place, seed, paths, **likelihoods):
    """Return a proxy before the server."""
    port = int(place.url.rpartition(":")[2])
    return RestChaos(port, seed, paths=paths, **likelihoods)


def client_by(place, proxy):
    """Return a client that knows the proxy alone."""
    direct, place.url = place.url, proxy.url
    try:
        return place.new_client()
    finally:
        place.url = direct


def make(place, name):
    return place.client.create_table(bigquery.Table(f"{PROJECT}.d.{name}", schema=FIELDS))


def stored(place, name):
    """Return how often each ID is in a table, as rows without any cache or proxy."""
    return Counter(row["id"] for row in place.store.query(f"SELECT id FROM `{PROJECT}`.d.{name}"))


def struck(proxy, *faults):
    """See that every fault has struck."""
    assert {fault for fault in faults if not proxy.happened[fault]} == set(), proxy.happened


@pytest.mark.slow
def test_rows_that_are_streamed_are_stored_once_each(place):
    table = make(place, "streamed")
    bad = {7, 133, 512}
    with mistreated(place, 11, "/insertAll$", **dict.fromkeys(FAULTS, 0.06)) as proxy:
        client = client_by(place, proxy)

        def send(sender):
            refused = set()
            for request in range(REQUESTS):
                first = (sender * REQUESTS + request) * ROWS
                ids = range(first, first + ROWS)
                told = client.insert_rows_json(
                    table,
                    [{"id": "x" if n in bad else n, "text": f"row {n}"} for n in ids],
                    row_ids=[f"row-{n}" for n in ids],
                    skip_invalid_rows=True,
                    retry=RETRY,
                )
                refused |= {ids[error["index"]] for error in told}
            return refused

        with ThreadPoolExecutor(SENDERS) as threads:
            refused = set().union(*threads.map(send, range(SENDERS)))
    assert refused == bad
    wanted = set(range(SENDERS * REQUESTS * ROWS)) - bad
    assert stored(place, "streamed") == Counter(dict.fromkeys(wanted, 1))
    struck(proxy, *FAULTS)


@pytest.mark.slow
def test_files_that_are_loaded_are_loaded_once_each(place, monkeypatch):
    # Between two tries of an upload it waits for a second or more, whatever it is told.
    soon = SimpleNamespace(sleep=lambda seconds: time.sleep(min(seconds, 0.02)))
    monkeypatch.setattr(_request_helpers, "time", soon)
    table, files, known = make(place, "loaded"), 40, 0
    paths = "^/upload/|/jobs$|/jobs/"
    with mistreated(place, 12, paths, **dict.fromkeys(FAULTS, 0.06)) as proxy:
        client = client_by(place, proxy)
        config = bigquery.LoadJobConfig(
            schema=FIELDS, source_format=bigquery.SourceFormat.NEWLINE_DELIMITED_JSON
        )
        for file in range(files):
            rows = [{"id": file * ROWS + n, "text": "x"} for n in range(ROWS)]
            content = "\n".join(map(json.dumps, rows)).encode()
            # Without a size the client sends a file in pieces, with one in a single request.
            size = None if file % 2 else len(content)
            try:
                job = client.load_table_from_file(
                    io.BytesIO(content), table, job_id=f"load-{file}", job_config=config,
                    size=size, num_retries=20,
                )  # fmt: skip
            except exceptions.Conflict:
                # An answer was lost: as in BigQuery, the job's name tells that it is there.
                job = client.get_job(f"load-{file}", retry=RETRY)
                known += 1
            while not job.done(retry=RETRY):
                time.sleep(0.01)  # result() looks once a second
            assert (job.error_result, job.output_rows) == (None, ROWS)
    assert known
    assert stored(place, "loaded") == Counter(dict.fromkeys(range(files * ROWS), 1))
    struck(proxy, *FAULTS)


@pytest.mark.slow
def test_answers_that_are_appended_are_appended_once_each(place):
    table, queries = make(place, "appended"), 40
    with mistreated(place, 13, "/jobs$", **dict.fromkeys(FAULTS, 0.06)) as proxy:
        client = client_by(place, proxy)
        for number in range(queries):
            config = bigquery.QueryJobConfig(
                destination=table.reference, write_disposition="WRITE_APPEND"
            )
            sql = f"SELECT {number} AS id, 'x' AS text"
            job = client.query(sql, job_config=config, retry=RETRY)
            assert [row.id for row in job.result(retry=RETRY, timeout=60)] == [number]
    assert stored(place, "appended") == Counter(dict.fromkeys(range(queries), 1))
    struck(proxy, *FAULTS)


def test_no_change_is_lost_under_a_stale_etag(place):
    """Two writers add a label each, many times; each reads again when it is told 412."""
    make(place, "labelled")
    refused = Counter()
    with mistreated(place, 14, "$^", stale_etag=0.4) as proxy:
        client = client_by(place, proxy)

        def label(writer):
            for number in range(8):
                while True:
                    table = client.get_table("d.labelled")
                    table.labels = {**table.labels, f"{writer}{number}": "x"}
                    try:
                        client.update_table(table, ["labels"], retry=None)
                    except exceptions.PreconditionFailed:
                        refused[writer] += 1
                        continue
                    break

        with ThreadPoolExecutor(2) as threads:
            list(threads.map(label, "ab"))
    labels = place.client.get_table("d.labelled").labels
    assert set(labels) == {f"{writer}{number}" for writer in "ab" for number in range(8)}
    assert proxy.happened["stale_etag"] >= 3
    assert sum(refused.values()) >= proxy.happened["stale_etag"]
