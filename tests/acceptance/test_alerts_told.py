"""Alerts as they are lived with: a workflow fails, is mended, and its server dies."""

from __future__ import annotations

import http.server
import json
import os
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from schedule_project import HOUR, START, sale_spec, sell, write_workflow

from eventmill.store.local.store import LocalStore

pytestmark = pytest.mark.slow

EVENTMILL = [sys.executable, "-m", "eventmill"]
WAIT_SECONDS = 40.0
SQL = """\
SELECT UNIX_SECONDS(TIMESTAMP_TRUNC(sold_at, HOUR)) AS hour, SUM({pieces}) AS pieces,
  COUNT(*) AS sales
FROM shop.sales WHERE sold_at >= @slot_start AND sold_at < @slot_end GROUP BY hour
"""


class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append(json.loads(body)["alerts"][0])
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def hook():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    server.got = []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def project(tmp_path: Path, hook):
    """A store with sales, a workflow whose last slot fails, and a webhook."""
    store = LocalStore.open(str(tmp_path / "eventmill-data"))
    store.apply(sale_spec(tmp_path))
    sell(store, 39, 5)
    store.close()
    start = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(START + 39 * HOUR))
    write_workflow(
        tmp_path / "workflows", "bad", sql=SQL.format(pieces="CAST(item AS INT64)"),
        schedule=f'retries = 0\nstart = "{start}"',
    )  # fmt: skip
    (tmp_path / "alerts").mkdir()
    (tmp_path / "alerts" / "channels.toml").write_text(
        '[[channel]]\nname = "hook"\nkind = "webhook"\n'
        f'url = "http://127.0.0.1:{hook.server_port}/"\n'
    )
    return tmp_path


def wait_for(condition):
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.1)


def eventmill(folder: Path, *words: str):
    return subprocess.run(
        [*EVENTMILL, *words], cwd=folder, capture_output=True, timeout=60, check=False, text=True
    )


def told(hook, rule):
    return [alert["status"] for alert in hook.got if alert["labels"]["alertname"] == rule]


def test_a_workflow_fails_is_mended_and_its_server_dies(project, hook):
    environment = {**os.environ, "EVENTMILL_ALERT_EVERY_SECONDS": "1"}
    with subprocess.Popen(
        [*EVENTMILL, "serve", "--port", "0"], cwd=project, env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as server:  # fmt: skip
        try:
            url = server.stdout.readline().split()[-1]
            wait_for(lambda: told(hook, "workflow_failed"))
            (alert,) = [a for a in hook.got if a["labels"]["alertname"] == "workflow_failed"]
            assert alert["labels"]["subject"] == "dataflow-workflow-bad"
            assert alert["labels"]["owner"] == "till@example.com"
            assert "a slot of bad failed" in alert["annotations"]["summary"]
            assert "CAST: the text is not an INT64" in alert["annotations"]["summary"]
            with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
                text = answer.read().decode()
            assert 'eventmill_alerts_firing{severity="critical"} 1' in text
            assert 'eventmill_alerts_firing{severity="warning"} 0' in text

            (project / "workflows" / "bad" / "query.sql").write_text(SQL.format(pieces="pieces"))
            command = alert["annotations"]["summary"].split("`")[-2]
            assert command.startswith("eventmill workflow backfill bad ")
            done = eventmill(project, *command.split()[1:])
            assert done.returncode == 0, done.stderr
            wait_for(lambda: len(told(hook, "workflow_failed")) == 2)
            assert told(hook, "workflow_failed") == ["firing", "resolved"]
            check = eventmill(project, "alert", "check")
            assert (check.returncode, check.stdout) == (0, ""), check.stderr
        finally:
            server.kill()

    with sqlite3.connect(project / "eventmill-data" / "schedule.db") as book:
        book.execute("UPDATE heartbeats SET at = at - 61")  # a minute later
    book.close()
    elsewhere = project / "elsewhere"
    elsewhere.mkdir()
    check = eventmill(elsewhere, "alert", "check", "--tell", "--store", "../eventmill-data")
    assert check.returncode == 4, check.stderr
    assert "scheduler_dead" in check.stdout
    assert f"the rules and channels are those of {project / 'alerts'}" in check.stderr
    assert told(hook, "scheduler_dead") == ["firing"]
    assert told(hook, "workflow_failed") == ["firing", "resolved"]
    assert {alert["labels"]["alertname"] for alert in hook.got} == {
        "workflow_failed", "scheduler_dead",
    }  # fmt: skip
