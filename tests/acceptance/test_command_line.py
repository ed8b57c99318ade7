"""The program as a process: a server, commands beside it, pipes and signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

PROTO = """\
syntax = "proto3";
package shop;
message Sale { string item = 1; int64 pieces = 2; }
"""
EVENTMILL = [sys.executable, "-m", "eventmill"]
END_SECONDS = 20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sale.proto").write_text(PROTO)
    return tmp_path


def eventmill(folder: Path, *words: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*EVENTMILL, *words], cwd=folder, input=given, capture_output=True, timeout=60, check=False
    )


def begin(folder: Path, *words: str, **more) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*EVENTMILL, *words], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more
    )


@pytest.fixture
def server(folder):
    """A server on the folder ``eventmill-data``, and its URL."""
    with begin(folder, "serve", "--port", "0") as child:
        try:
            line = child.stdout.readline().decode()
            assert line.startswith("listening on http://127.0.0.1:"), child.stderr.read().decode()
            yield child, line.split()[-1]
        finally:
            child.kill()


def apply(folder: Path, *more: str):
    words = ("--proto", "sale.proto", "--message", "shop.Sale", "--table", "shop.sales", "--yes")
    done = eventmill(folder, "table", "apply", *words, *more)
    assert done.returncode == 0, done.stderr.decode()


def test_commands_work_beside_a_server_on_the_same_folder(folder, server):
    child, url = server
    apply(folder)
    lines = b'{"item": "tea", "pieces": 2}\n' * 100
    sent = eventmill(folder, "send", "shop.sales", given=lines)
    assert json.loads(sent.stdout)["accepted"] == 100, sent.stderr
    over_http = eventmill(folder, "send", "shop.sales", "--store", url, given=lines + b"x\n")
    assert over_http.returncode == 3
    sql = "SELECT COUNT(*) AS n, (SELECT COUNT(*) FROM eventmill.quarantine) AS bad FROM shop.sales"
    for store in ("./eventmill-data", url):
        answer = eventmill(folder, "query", sql, "--store", store)
        assert json.loads(answer.stdout) == {"n": 200, "bad": 1}, answer.stderr
    child.send_signal(signal.SIGINT)
    assert child.wait(END_SECONDS) == 0
    assert b"Traceback" not in child.stderr.read()
    after = eventmill(folder, "query", "SELECT COUNT(*) AS n FROM shop.sales")
    assert json.loads(after.stdout) == {"n": 200}


def test_a_second_server_on_the_folder_is_refused_with_a_reason(folder, server):
    second = eventmill(folder, "serve", "--port", "0")
    assert second.returncode == 1
    assert str(server[0].pid) in second.stderr.decode()


def test_two_senders_to_one_folder_wait_for_each_other(folder):
    apply(folder)
    senders = [begin(folder, "send", "shop.sales", stdin=subprocess.PIPE) for _ in range(3)]
    for sender in senders:
        sender.stdin.write(b'{"item": "tea"}\n' * 50)
        sender.stdin.close()
        sender.stdin = None
    for sender in senders:
        _, err = sender.communicate(timeout=60)
        assert sender.returncode == 0, err.decode()
    answer = eventmill(folder, "query", "SELECT COUNT(*) AS n FROM shop.sales")
    assert json.loads(answer.stdout) == {"n": 150}


def test_a_reader_that_goes_away_ends_the_query_quietly(folder):
    apply(folder)
    sql = "SELECT x FROM UNNEST(GENERATE_ARRAY(1, 90000)) AS x"
    with begin(folder, "query", sql) as child:
        assert child.stdout.readline() == b'{"x":1}\n'
        child.stdout.close()
        assert child.stderr.read() == b""
        assert child.wait(END_SECONDS) == 141


def test_tail_shows_a_live_event_and_ends_on_ctrl_c(folder, server):
    apply(folder)
    eventmill(folder, "send", "shop.sales", given=b'{"item": "old"}\n')
    with begin(folder, "tail", "shop.sales") as child:
        assert json.loads(child.stdout.readline())["item"] == "old"
        eventmill(folder, "send", "shop.sales", given=b'{"item": "new"}\n')
        assert json.loads(child.stdout.readline())["item"] == "new"
        child.send_signal(signal.SIGINT)
        assert child.wait(END_SECONDS) == 130
        assert b"Traceback" not in child.stderr.read()


def test_a_store_that_nobody_serves_is_an_error_of_one_line(folder):
    answer = eventmill(folder, "query", "SELECT 1", "--store", "http://127.0.0.1:9")
    assert answer.returncode == 1
    told = answer.stderr.decode()
    assert told.startswith("error: ")
    assert "127.0.0.1:9" in told
    assert "Traceback" not in told


def test_the_demo_ends_with_accounts_that_add_up(folder):
    done = eventmill(folder, "demo", "--once", "--json", "--data", str(folder / "demo"))
    assert done.returncode == 0, done.stderr.decode()
    told = json.loads(done.stdout.splitlines()[-1])
    assert sorted(told) == sorted(
        ["sent", "accepted", "duplicates", "quarantined", "workflow_rows", "seconds"]
    )
    assert told["sent"] == told["accepted"] + told["duplicates"] + told["quarantined"]
    assert (told["duplicates"], told["quarantined"]) == (1_000, 37)
    assert told["accepted"] >= 336_776 + told["workflow_rows"]
    assert told["workflow_rows"] > 5_000
    printed = done.stdout.decode()
    assert "█" in printed
    assert "chromium/src" in printed  # a row of cq_attempts
    assert "its alert fired: a slot of cq_failed_share failed" in printed
    assert "it recovered: yes" in printed


def test_the_demo_takes_its_server_with_it(folder):
    data = folder / "demo"
    with begin(folder, "demo", "--data", str(data), start_new_session=True) as child:
        line = child.stdout.readline().decode()
        assert line.startswith("server at http://"), child.stderr.read().decode()
        os.killpg(child.pid, signal.SIGINT)
        assert child.wait(2 * END_SECONDS) in (0, 130)
        assert b"Traceback" not in child.stderr.read()
    from eventmill.store.local.lock import server_url

    assert server_url(str(data)) is None
