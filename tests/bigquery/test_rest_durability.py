"""What was answered is kept: a server that is killed, and clients that go on as they do."""

import json
import os
import signal
import subprocess
import sys
import threading

import pytest
from bigquery_world import EVENT_FIELDS, PROJECT
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from requests.exceptions import ConnectionError as RequestsConnectionError

pytestmark = pytest.mark.slow
TABLE = f"{PROJECT}.d.events"
UNREACHED = (RequestsConnectionError, ConnectionError, exceptions.RetryError)


class Process:
    """``eventmill serve`` as a process of its own."""

    def __init__(self, folder):
        command = [sys.executable, "-m", "eventmill", "serve", "--data", str(folder), "--port", "0"]
        self.process = subprocess.Popen(
            [*command, "--until-stdin-ends"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.url = self.process.stdout.readline().removeprefix("listening on ").strip()
        self.client = bigquery.Client(
            project=PROJECT,
            credentials=AnonymousCredentials(),
            client_options={"api_endpoint": self.url},
        )

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.end()

    def end(self):
        self.client.close()
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()


@pytest.fixture
def start(tmp_path):
    """Start a server on the test's folder; what still runs is ended with the test."""
    started = []

    def begin():
        started.append(Process(tmp_path / "data"))
        return started[-1]

    yield begin
    for one in started:
        if one.process.poll() is None:
            one.end()


def count(server):
    (row,) = server.client.query_and_wait(
        f"SELECT COUNT(*) AS n, COUNT(DISTINCT id) AS d FROM `{TABLE}`"
    )
    return row.n, row.d


@pytest.mark.timeout(240)
def test_what_was_acked_survives_kill_9_and_is_not_doubled_by_its_sender(start):
    server = start()
    server.client.create_dataset("d")
    server.client.create_table(bigquery.Table(TABLE, schema=EVENT_FIELDS))
    acked: list[int] = []
    sent = 0
    for round_ in range(3):
        stop = threading.Event()

        def send(stop=stop, server=server):
            nonlocal sent
            client = server.client
            while not stop.is_set():
                first = sent
                rows = [{"id": first + n, "name": "x" * 50} for n in range(20)]
                ids = [f"row-{first + n}" for n in range(20)]
                sent += 20
                try:
                    if client.insert_rows_json(TABLE, rows, row_ids=ids, retry=None) == []:
                        acked.extend(range(first, first + 20))
                except UNREACHED:
                    return

        sender = threading.Thread(target=send)
        sender.start()
        while len(acked) < (round_ + 1) * 400:
            assert sender.is_alive() or len(acked) >= (round_ + 1) * 400
        server.kill()
        stop.set()
        sender.join()
        server = start()
        total, distinct = count(server)
        assert total == distinct >= len(acked)
        # A sender that has no answer sends again: everything, under the same insert IDs.
        for first in range(0, sent, 500):
            part = range(first, min(first + 500, sent))
            rows = [{"id": n, "name": "x" * 50} for n in part]
            errors = server.client.insert_rows_json(TABLE, rows, row_ids=[f"row-{n}" for n in part])
            assert errors == []
        assert count(server) == (sent, sent)
    assert len(acked) >= 1_200


@pytest.mark.timeout(120)
def test_a_load_job_goes_on_after_kill_9(start, tmp_path):
    server = start()
    server.client.create_dataset("d")
    server.client.create_table(bigquery.Table(TABLE, schema=EVENT_FIELDS))
    rows = 60_000
    path = tmp_path / "rows.ndjson"
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(
            json.dumps({"id": number, "name": "x" * 100}) + "\n" for number in range(rows)
        )
    config = bigquery.LoadJobConfig(
        source_format="NEWLINE_DELIMITED_JSON",
        schema=EVENT_FIELDS,
        write_disposition="WRITE_APPEND",
    )
    with open(path, "rb") as file:
        job = server.client.load_table_from_file(file, TABLE, job_config=config, job_id="long-load")
    assert job.state != "DONE"
    while (found := count(server)[0]) == 0:
        assert server.client.get_job("long-load").state != "DONE"
    assert found < rows  # it is killed in the middle of it
    server.kill()
    server = start()
    done = server.client.get_job("long-load").result()
    assert (done.state, done.error_result, done.output_rows) == ("DONE", None, rows)
    assert count(server) == (rows, rows)
    left = os.listdir(tmp_path / "data" / "surface" / "uploads")
    left += os.listdir(tmp_path / "data" / "surface" / "rows")
    assert left == []


@pytest.mark.timeout(60)
def test_a_query_cut_short_is_asked_again_by_its_client(start):
    server = start()
    slow = """WITH a AS (SELECT x FROM UNNEST(GENERATE_ARRAY(1, 100000)) AS x)
              SELECT SUM(p.x * q.x * r.x) AS s FROM a AS p, a AS q, a AS r WHERE p.x + q.x < r.x"""
    server.client.query(slow, job_id="cut-short", job_retry=None)
    server.kill()
    server = start()
    found = server.client.get_job("cut-short")
    assert (found.state, found.error_result["reason"]) == ("DONE", "jobBackendError")
    assert "jobBackendError" in bigquery.retry.job_retry_reasons
