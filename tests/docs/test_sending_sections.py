"""The sections on metrics, event loops and functions as a service: their examples run."""

from __future__ import annotations

import http.server
import re
import runpy
import threading
import urllib.request
from pathlib import Path

import pytest

import eventmill
from eventmill.base.metrics import Metric
from eventmill.cli.main import run
from eventmill.client.flush_after import RESERVE_SECONDS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "sending.md").read_text("utf-8")
EXAMPLES = re.findall(r"^```py\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Return what runs the one example with a word in it, beside a folder that has the table."""
    monkeypatch.chdir(tmp_path)
    readme = (ROOT / "README.md").read_text("utf-8")
    (proto,) = re.findall(r"^```proto\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    Path("build.proto").write_text(proto)
    words = "table apply --proto build.proto --message ci.Build --table ops.builds --yes"
    assert run(words.split()) == 0

    def run_example(word):
        (example,) = [text for text in EXAMPLES if word in text]
        Path("example.py").write_text(example.replace("/tmp/eventmill-spool", "./spool"))
        return runpy.run_path("example.py")

    return run_example


def test_a_scrape_is_answered(program):
    metrics = program("prometheus_text")["Metrics"]
    metrics.log_message = lambda self, *args: None
    with http.server.HTTPServer(("127.0.0.1", 0), metrics) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/") as answer:
            text = answer.read().decode()
            assert answer.headers["Content-Type"] == "text/plain; version=0.0.4"
        thread.join()
    assert f"# TYPE {Metric.UPLOADER_LEFT_EVENTS} gauge\n" in text


def test_the_loop_sends(program, capsys):
    capsys.readouterr()
    program("AsyncBatchUploader")
    assert capsys.readouterr().out == "0 left\n"


def test_the_function_sends_before_it_returns(program):
    names = program("def handler")
    events, sink = names["events"], names["sink"]

    class Context:
        def get_remaining_time_in_millis(self):
            return 60_000

    assert names["handler"]({"commit": "c0de"}, Context()) == {"status": 200}
    assert names["handle_part"]("c0df") == 0
    events.close()
    sink.close()
    with eventmill.open_store("./eventmill-data", create=False) as store:
        found = [row["commit"] for row in store.query("SELECT commit FROM ops.builds")]
    assert sorted(found) == ["c0de", "c0df"]
    assert RESERVE_SECONDS == 0.1
    assert "less a tenth of a second (`reserve_seconds`)" in PAGE


def test_every_metric_of_the_page_exists():
    named = set(re.findall(r"eventmill_uploader_\w+", PAGE))
    assert named
    assert named <= {metric.value for metric in Metric}
