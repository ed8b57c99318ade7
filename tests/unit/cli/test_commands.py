"""The commands on a store in a folder, each as a person or a script would call it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import re
import subprocess
import sys
import termios
import threading
from types import SimpleNamespace

import orjson
import pyarrow.parquet as pq
import pytest

from eventmill.cli import send as send_module

GOOD = b'{"item": "tea", "pieces": 2, "sold_at": "2026-01-02T03:04:05Z"}\n'
BAD = b'{"item": "tea", "pieces": "many"}\n'
BOM = b"\xef\xbb\xbf"


def test_a_table_is_planned_applied_and_then_without_changes(call, proto):
    words = ("--proto", proto, "--message", "shop.Sale")
    planned = call("table", "plan", *words, "--format", "table")
    assert planned.code == 0
    assert "shop.sales" in planned.out
    assert call("table", "apply", *words, "--check").code == 4
    applied = call("table", "apply", *words, "--yes")
    assert applied.code == 0
    assert "version 1" in applied.err
    assert call("table", "apply", *words, "--check").code == 0
    assert call("table", "list").rows[0]["version"] == 1


def test_planning_makes_no_folder(call, proto, tmp_path):
    assert call("table", "plan", "--proto", proto, "--message", "shop.Sale").code == 0
    assert not (tmp_path / "eventmill-data").exists()


def test_a_change_that_the_table_does_not_allow_is_refused(shop, proto):
    with open(proto) as file:
        text = file.read()
    with open(proto, "w") as file:
        file.write(text.replace("int64 pieces", "string pieces"))
    refused = shop("table", "apply", "--proto", proto, "--message", "shop.Sale", "--yes")
    assert refused.code == 1
    assert "pieces" in refused.err
    planned = shop("table", "plan", "--proto", proto, "--message", "shop.Sale")
    assert planned.code == 1


def test_applying_needs_yes_where_nobody_can_be_asked(call, proto, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    asked = call("table", "apply", "--proto", proto, "--message", "shop.Sale")
    assert asked.code == 2
    assert "--yes" in asked.err


def test_the_command_line_wins_over_the_proto_and_says_so(call, proto):
    applied = call(
        *("table", "apply", "--proto", proto, "--message", "shop.Sale", "--yes"),
        *("--owner", "shop@example.com", "--partition-type", "month"),
        *("--partition-expiration", "30d", "--label", "team=till", "--freshness", "15m"),
    )
    assert applied.code == 0
    assert "owner" in applied.err
    shown = call("table", "show", "shop.sales", "--format", "table").out
    for text in ("shop@example.com", "MONTH of sold_at, kept 30d", "team=till", "15m"):
        assert text in shown
    document = call("table", "show", "shop.sales").rows[0]
    assert document["rows"] == 0


def test_what_neither_file_nor_command_line_says_stays_as_it_was(call, proto):
    words = ("table", "apply", "--proto", proto, "--message", "shop.Sale", "--yes")
    said = ("--label", "team=till", "--freshness", "15m", "--cluster-by", "item")
    assert call(*words, *said).code == 0
    assert call(*words).code == 0
    spec = call("table", "show", "shop.sales").rows[0]
    assert spec["version"] == 1
    assert call(*words, "--label", "team=other").code == 0
    shown = call("table", "show", "shop.sales", "--format", "table").out
    assert "team=other" in shown
    assert "15m" in shown
    assert "item" in shown


def test_compacting_beside_another_compactor_is_no_fault(shop, tmp_path):
    from eventmill.store.local.layout import Layout
    from eventmill.store.local.lock import FileLock

    lock = Layout.at(str(tmp_path / "eventmill-data")).compactor_lock
    code = (
        "import sys; from eventmill.store.local.lock import FileLock;"
        f"lock = FileLock({lock!r}, 'compacting'); print('held', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert other.stdout.readline() == b"held\n"
        answer = shop("compact")
        assert answer.code == 0
        assert "at work on this folder already" in answer.err
    finally:
        other.communicate(timeout=20)
    FileLock(lock, "compacting").release()
    assert shop("compact").rows[0]["errors"] == []


def test_compacting_where_there_is_no_store_says_so(call):
    answer = call("compact")
    assert answer.code == 2
    assert "there is no store" in answer.err


def test_a_table_is_removed_with_its_rows(shop, lines):
    assert shop("send", "shop.sales", lines(GOOD)).code == 0
    removed = shop("table", "rm", "shop.sales", "--yes")
    assert removed.code == 0
    assert "1 rows" in removed.err
    assert shop("table", "list").rows == []


def test_what_was_sent_is_answered_at_once(shop, lines):
    sent = shop("send", "shop.sales", lines(GOOD, b"\n", GOOD))
    assert sent.code == 0
    assert sent.rows[-1] == {
        "sent": 2,
        "accepted": 2,
        "duplicates": 0,
        "rejected": 0,
        "rejected_by_reason": {},
    }
    answer = shop("query", "SELECT item, SUM(pieces) AS pieces FROM shop.sales GROUP BY item")
    assert answer.rows == [{"item": "tea", "pieces": 4}]


def test_bad_lines_are_quarantined_and_the_good_ones_stay(shop, lines):
    sent = shop("send", "shop.sales", lines(GOOD, BAD, b"{torn\n", GOOD))
    assert sent.code == 3
    counts = sent.rows[-1]
    assert (counts["sent"], counts["accepted"], counts["rejected"]) == (4, 2, 2)
    assert counts["rejected_by_reason"] == {"wrong_type": 1, "malformed_json": 1}
    assert "line 2, field pieces: wrong_type" in sent.err
    listed = shop("quarantine", "list", "--reason", "wrong_type").rows
    assert [(row["table"], row["field"]) for row in listed] == [("local.shop.sales", "pieces")]
    shown = shop("quarantine", "show", listed[0]["insert_id"][:8] or "x").rows
    assert {"item": "tea", "pieces": "many"} in [
        orjson.loads(row["event"]) for row in shown if row["reason"] == "wrong_type"
    ]


def test_an_insert_id_of_ones_own_is_recognised_again(shop, lines):
    path = lines(b'{"id": "a1", "item": "tea"}\n')
    first = shop("send", "shop.sales", path, "--insert-id-field", "id").rows[-1]
    again = shop("send", "shop.sales", path, "--insert-id-field", "id").rows[-1]
    assert (first["accepted"], again["duplicates"]) == (1, 1)


@pytest.mark.parametrize("group_rows", [2, 5_000])
@pytest.mark.parametrize("is_stdin", [False, True])
def test_rejects_are_named_by_their_line_and_blank_lines_count(
    shop, lines, monkeypatch, group_rows, is_stdin
):
    monkeypatch.setattr(send_module, "BATCH_ROWS", group_rows)
    path = lines(GOOD, b"\n", b"  \r\n", BAD, GOOD, GOOD, b"\n", b"{torn\n")
    with open(path, "rb") as file:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=file))
        sent = shop("send", "shop.sales", "-" if is_stdin else path)
    told = [line.partition(":")[0] for line in sent.err.splitlines() if line.startswith("line ")]
    assert told == ["line 4, field pieces", "line 8"]


def test_with_insert_ids_a_file_sent_again_is_quarantined_once(shop, lines):
    nameless = b'{"item": "tea"}\n'
    path = lines(b'{"id": "a1"}\n', b"{torn\n", nameless, b"\n", nameless)
    words = ("send", "shop.sales", path, "--insert-id-field", "id")
    for _ in range(2):
        assert shop(*words).rows[-1]["rejected"] == 3
    listed = shop("quarantine", "list").rows
    assert sorted(row["reason"] for row in listed) == [
        *("bad_insert_id", "bad_insert_id", "malformed_json"),
    ]
    assert sorted(row["insert_id"].split("-")[1] for row in listed) == ["2", "3", "5"]


def test_without_insert_ids_bad_lines_are_kept_again_as_good_ones_are(shop, lines):
    path = lines(GOOD, b"{torn\n")
    for _ in range(2):
        assert shop("send", "shop.sales", path).code == 3
    assert shop("query", "SELECT COUNT(*) AS n FROM shop.sales").rows == [{"n": 2}]
    assert len(shop("quarantine", "list").rows) == 2


@pytest.mark.parametrize(
    ("content", "accepted", "rejected"),
    [
        ((BOM, GOOD, GOOD), 2, 0),
        ((BOM, b"\n", GOOD), 1, 0),
        ((GOOD, BOM, GOOD), 1, 1),
        ((BOM, BOM, GOOD), 0, 1),
        ((BOM,), 0, 0),
    ],
)
def test_a_byte_order_mark_is_left_out_at_the_very_start(
    shop, lines, monkeypatch, content, accepted, rejected
):
    monkeypatch.setattr(send_module, "BATCH_ROWS", 1)
    counts = shop("send", "shop.sales", lines(*content)).rows[-1]
    assert (counts["accepted"], counts["rejected"]) == (accepted, rejected)


@pytest.mark.parametrize("is_file", [True, False])
def test_on_a_terminal_a_long_send_shows_how_far_it_is(shop, lines, tmp_path, is_file):
    path = lines(GOOD * 20_000)
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    with open(path, "rb") as content:
        child = subprocess.Popen(
            [*(sys.executable, "-m", "eventmill", "send", "shop.sales"), path if is_file else "-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=theirs,
            cwd=tmp_path,
            env={**os.environ, "TERM": "xterm"},
        )
        os.close(theirs)
        shown = threading.Thread(target=lambda: told.append(_read_all(ours)))
        told: list[str] = []
        shown.start()
        out, _ = child.communicate(None if is_file else content.read(), timeout=60)
    shown.join(30)
    assert json.loads(out)["accepted"] == 20_000
    assert re.search(r"[1-9][\d,]*000 events\S* \S*[1-9][\d,]*/s", told[0]), told
    assert bool(re.search(r"remaining \S*\d\d:\d\d", told[0])) == is_file, told


def _read_all(terminal: int) -> str:
    pieces = []
    # Linux reports the other end's close as an error, macOS as the end of the file.
    with contextlib.suppress(OSError):
        while piece := os.read(terminal, 65_536):
            pieces.append(piece)
    os.close(terminal)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", b"".join(pieces).decode())


def test_in_a_pipe_a_send_shows_no_progress(shop, lines):
    assert shop("send", "shop.sales", lines(GOOD * 10)).err == ""


def test_sending_into_a_folder_without_a_store_makes_none(call, tmp_path):
    sent = call("send", "shop.sales", "-", "--store", "typo")
    assert sent.code == 2
    assert "there is no store at 'typo'" in sent.err
    assert not (tmp_path / "typo").exists()


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_quarantine_is_listed_in_two_lines_an_event_of_the_terminals_width(
    shop, lines, monkeypatch, columns
):
    identity = "till-4-2026-01-02-000001"
    row = {"id": identity, "pieces": "many\n" * 40}
    shop("send", "shop.sales", lines(orjson.dumps(row), b"\n"), "--insert-id-field", "id")
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = shop("quarantine", "list", "--format", "table").out.splitlines()
    assert len(shown) == 2
    assert "local.shop.sales" in shown[0]
    assert shown[0].endswith(f"  {identity}")
    assert shown[1].startswith("  wrong_type  pieces: 'many")
    assert len(shown[1]) <= columns


def test_quarantine_of_a_table_that_nobody_knows_is_an_error(shop, lines):
    unknown = shop("quarantine", "list", "--table", "shop.salse")
    assert (unknown.code, unknown.out) == (1, "")
    assert "local.shop.salse" in unknown.err
    assert shop("quarantine", "list", "--table", "shop.sales").code == 0


def test_quarantine_outlives_its_table(shop, lines):
    shop("send", "shop.sales", lines(BAD))
    assert shop("table", "rm", "shop.sales", "--yes").code == 0
    assert len(shop("quarantine", "list", "--table", "shop.sales").rows) == 1


def test_a_long_input_is_sent_in_groups(shop, lines, monkeypatch):
    monkeypatch.setattr(send_module, "BATCH_ROWS", 3)
    counts = shop("send", "shop.sales", lines(GOOD * 10, BAD)).rows[-1]
    assert (counts["sent"], counts["accepted"], counts["rejected"]) == (11, 10, 1)


def test_events_that_are_larger_encoded_than_as_json_are_cut_into_batches(readings, lines):
    wide = b'{"values": [%b0]}\n' % (b"0," * 99_999)
    over = b'{"values": [%b0]}\n' % (b"0," * 130_000)
    sent = readings("send", "lab.readings", lines(*[wide] * 10, over, *[wide] * 5))
    assert sent.code == 3, sent.err
    counts = sent.rows[-1]
    assert (counts["sent"], counts["accepted"], counts["rejected"]) == (16, 15, 1)
    assert counts["rejected_by_reason"] == {"event_too_large": 1}
    assert "line 11: event_too_large" in sent.err
    answer = readings(
        "query", "SELECT COUNT(*) AS n, SUM(ARRAY_LENGTH(values)) AS v FROM lab.readings"
    )
    assert answer.rows == [{"n": 15, "v": 1_500_000}]
    listed = readings("quarantine", "list").rows
    assert [row["reason"] for row in listed] == ["event_too_large"]


def test_of_a_line_without_end_only_the_beginning_is_held(monkeypatch):
    monkeypatch.setattr(send_module, "LINE_BYTES_MAX", 10)
    read = list(send_module.read_lines(io.BytesIO(b"x" * 95 + b"\nshort\nlast")))
    assert read == [b"x" * 10, b"short\n", b"last"]


def test_sending_to_no_table_or_from_no_file_says_what_to_do(shop):
    assert "no/such.ndjson" in shop("send", "shop.sales", "no/such.ndjson").err
    absent = shop("send", "shop.nothing", "-")
    assert absent.code == 1
    assert "shop.nothing" in absent.err


def test_a_query_takes_typed_parameters(shop, lines):
    shop("send", "shop.sales", lines(GOOD))
    sql = "SELECT item FROM shop.sales WHERE pieces >= @least AND sold_at < @before"
    words = ("--param", "least:INT64:2", "--param", "before:TIMESTAMP:2026-02-01T00:00:00Z")
    assert shop("query", sql, *words).rows == [{"item": "tea"}]


def test_a_parameter_may_be_an_array_and_its_value_may_hold_colons(shop):
    sql = "SELECT ARRAY_LENGTH(@days) AS days, @sizes[OFFSET(1)] AS size, @note AS note, @t AS t"
    words = (
        *("--param", 'days:ARRAY<DATE>:["2026-01-02", "2026-01-03"]'),
        *("--param", "sizes:array<int64>:[1, 2]"),
        *("--param", "note::a:b"),
        *("--param", "t:TIME:10:30:00"),
    )
    answer = shop("query", sql, *words)
    assert answer.code == 0, answer.err
    assert answer.rows == [{"days": 2, "size": 2, "note": "a:b", "t": "10:30:00.000000"}]


@pytest.mark.parametrize(
    "text", ["x", "x:INT64", "x:INT64:one", "x:WORD:1", ":INT64:1", "x:NUMERIC:1"]
)
def test_a_parameter_that_makes_no_sense_is_a_usage_error(shop, text):
    answer = shop("query", "SELECT 1", "--param", text)
    assert answer.code == 2
    assert "--param" in answer.err


def test_sql_may_come_from_stdin(shop, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("SELECT 1 AS one"))
    assert shop("query", "-").rows == [{"one": 1}]


def test_a_cut_answer_says_that_it_was_cut(shop, lines):
    shop("send", "shop.sales", lines(GOOD * 5))
    cut = shop("query", "SELECT item FROM shop.sales", "--row-limit", "2")
    assert len(cut.rows) == 2
    assert "--row-limit" in cut.err
    whole = shop("query", "SELECT item FROM shop.sales", "--row-limit", "0")
    assert (len(whole.rows), whole.err) == (5, "")


def test_a_dry_run_prints_the_bytes_and_no_rows(shop, lines):
    shop("send", "shop.sales", lines(GOOD))
    assert shop("query", "SELECT * FROM shop.sales", "--dry-run").rows[0]["bytes_scanned"] > 0


def test_sql_that_cannot_be_answered_is_an_error_of_one_line(shop):
    answer = shop("query", "SELEC 1")
    assert answer.code == 1
    assert answer.err.startswith("error: ")
    assert "Traceback" not in answer.err


@pytest.mark.parametrize("form", ["table", "json", "ndjson", "csv"])
def test_each_format_shows_the_rows(shop, lines, form):
    shop("send", "shop.sales", lines(GOOD))
    out = shop("query", "SELECT item, pieces FROM shop.sales", "--format", form).out
    assert "tea" in out
    if form == "json":
        assert json.loads(out) == [{"item": "tea", "pieces": 2}]
    if form == "csv":
        assert out == "item,pieces\r\ntea,2\r\n"


def test_parquet_goes_to_a_file_with_its_types(shop, lines, tmp_path):
    shop("send", "shop.sales", lines(GOOD))
    path = str(tmp_path / "sales.parquet")
    assert shop("query", "SELECT pieces, sold_at FROM shop.sales", "-o", path).code == 0
    table = pq.read_table(path)
    assert [str(field.type) for field in table.schema] == ["int64", "timestamp[us, tz=UTC]"]
    refused = shop("query", "SELECT 1", "--format", "parquet")
    assert refused.code == 2
    assert "-o FILE" in refused.err


def test_a_file_that_cannot_be_written_is_told(shop):
    answer = shop("query", "SELECT 1 AS one", "-o", "no/such/folder.csv")
    assert answer.code == 2
    assert "no/such/folder.csv" in answer.err


def test_tail_shows_the_newest_events_oldest_first(shop, lines):
    rows = [b'{"item": "%d"}\n' % number for number in range(5)]
    for row in rows:
        shop("send", "shop.sales", lines(row))
    shown = shop("tail", "shop.sales", "--no-follow", "-n", "3").rows
    assert [row["item"] for row in shown] == ["2", "3", "4"]
    some = shop("tail", "shop.sales", "--no-follow", "--where", "item = '1' -- the second").rows
    assert [row["item"] for row in some] == ["1"]


def test_compact_says_what_it_did(shop, lines):
    shop("send", "shop.sales", lines(GOOD))
    report = shop("compact").rows[0]
    assert report["rows"] >= 0
    assert shop("query", "SELECT COUNT(*) AS n FROM shop.sales").rows == [{"n": 1}]


def test_an_insert_id_that_nothing_has_is_told(shop):
    answer = shop("quarantine", "show", "nobody")
    assert answer.code == 2
    assert "quarantine list" in answer.err
