"""The commands on a store in a folder, each as a person or a script would call it."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import orjson
import pyarrow.parquet as pq
import pytest

from eventmill.cli import send as send_module

GOOD = b'{"item": "tea", "pieces": 2, "sold_at": "2026-01-02T03:04:05Z"}\n'
BAD = b'{"item": "tea", "pieces": "many"}\n'


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
    assert "event 2, field pieces" in sent.err
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
    assert "event 11: event_too_large" in sent.err
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
