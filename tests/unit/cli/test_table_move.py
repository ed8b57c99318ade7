"""``table copy --to bigquery://PROJECT``: each row once, however often the copy broke off."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from eventmill.base.settings import ServerSettings, StoreSettings
from eventmill.server.run import Server
from eventmill.store.bigquery.loading import FileLoader
from eventmill.store.bigquery.place import BigQueryPlace
from eventmill.store.bigquery.store import BigQueryStore
from eventmill.store.local.compaction import compact_once
from eventmill.store.local.store import LocalStore
from eventmill.testing.events import BUILDS, build_batch, build_spec

pytestmark = pytest.mark.slow

ROWS = "SELECT _insert_id AS id, item, pieces, sold_at, price FROM shop.sales ORDER BY id"


@pytest.fixture
def warehouse(tmp_path):
    """Another store behind a server, whose project is ``moved``; it forgets insert IDs at once."""
    options = StoreSettings(dedup_window_seconds=0)
    with (
        LocalStore.open(str(tmp_path / "warehouse"), options=options) as store,
        Server(store, ServerSettings(port=0)) as server,
    ):
        yield server


@pytest.fixture
def address(warehouse):
    return f"bigquery://moved?endpoint={warehouse.url}&write=insert_all&own_dataset=warehouse"


@pytest.fixture
def there(address):
    with BigQueryStore(BigQueryPlace.parse(address)) as store:
        yield store


def send(call, tmp_path, numbers):
    path = tmp_path / "sales.ndjson"
    rows = [
        {
            "id": f"i{n:03}",
            "item": "tea",
            "pieces": n,
            "sold_at": f"2026-01-{n % 7 + 1:02}T00:00:00Z",
        }
        for n in numbers
    ]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    sent = call("send", "shop.sales", str(path), "--insert-id-field", "id")
    assert sent.code == 0, sent.err


def jobs(store):
    """Return (ID, succeeded) of every load job, oldest first."""
    found = [(job.job_id, not job.error_result) for job in store.client.list_jobs()]
    return sorted(each for each in found if each[0].startswith("eventmill_copy_"))


def files_below(folder):
    return [name for _, _, names in os.walk(folder) for name in names]


def test_definitions_and_rows_move_up_and_are_compared(shop, tmp_path, address, there):
    send(shop, tmp_path, range(25))
    moved = shop("table", "copy", "--from", "eventmill-data", "--to", address)
    assert moved.code == 0, moved.err
    assert "shop.sales is copied into moved.shop.sales: 25 rows, checksum " in moved.err
    here = shop("query", ROWS).rows
    shown = shop("query", "--store", address, ROWS)
    assert (len(here), shown.rows) == (25, here)
    spec = there.describe(there.tables()[0].id).spec
    assert (spec.owner, spec.partitioning.column) == ("till@example.com", "sold_at")
    assert len(jobs(there)) == 7  # a file a day
    assert files_below("eventmill-data/copies") == ["list.json"]


def test_a_second_copy_loads_what_has_come_since(shop, tmp_path, address, there):
    send(shop, tmp_path, range(10))
    assert shop("table", "copy", "--to", address, "shop.sales").code == 0
    before = jobs(there)
    again = shop("table", "copy", "--to", address, "shop.sales")
    assert (again.code, jobs(there)) == (0, before)
    send(shop, tmp_path, range(10, 12))
    more = shop("table", "copy", "--to", address, "shop.sales")
    assert (more.code, "12 rows" in more.err) == (0, True)
    assert len(jobs(there)) == len(before) + 2


def test_rows_of_a_file_that_was_merged_since_are_not_loaded_again(shop, tmp_path, address, there):
    send(shop, tmp_path, [7])
    assert shop("table", "copy", "--to", address).code == 0
    for n in range(14, 14 + 7 * 9, 7):  # nine more files of one day, and so a merge
        send(shop, tmp_path, [n])
        with LocalStore.open("eventmill-data") as store:
            store.seal()
        compact_once("eventmill-data")
    before = len(jobs(there))
    more = shop("table", "copy", "--to", address)
    assert (more.code, "10 rows" in more.err) == (0, True), more.err
    assert len(jobs(there)) - before < 9  # so they were merged
    (row,) = there.query("SELECT COUNT(*) AS n FROM shop.sales")
    assert row["n"] == 10


_KILLED = """
import os, sys
from eventmill.store.bigquery.loading import FileLoader
from eventmill.cli.main import run
load, left = FileLoader.load, [int(sys.argv[1])]
wait = FileLoader._failure
def dying_load(self, path, stem):
    if not left[0]:
        os._exit(9)
    left[0] -= 1
    load(self, path, stem)
def dying_wait(self, job):
    if not left[0]:
        os._exit(9)  # the job is there, and nobody has waited for it
    return wait(self, job)
FileLoader.load, FileLoader._failure = dying_load, dying_wait
sys.exit(run(sys.argv[2:]))
"""


def test_a_copy_that_is_killed_goes_on_and_loads_no_file_twice(shop, tmp_path, address, there):
    send(shop, tmp_path, range(25))
    words = ["table", "copy", "--to", address]
    for at in (0, 3):
        killed = subprocess.run([sys.executable, "-c", _KILLED, str(at), *words], timeout=60)
        assert killed.returncode == 9
    begun = jobs(there)
    assert 0 < len(begun) < 7
    send(shop, tmp_path, range(25, 30))  # which may rewrite files that the copy has begun with
    finished = shop(*words)
    assert (finished.code, "30 rows" in finished.err) == (0, True), finished.err
    ended = jobs(there)
    assert set(begun) <= set(ended)
    assert all(succeeded for _, succeeded in ended)
    stems = [job_id.rpartition("_")[0] for job_id, _ in ended]
    assert len(stems) == len(set(stems))


def test_a_job_that_failed_is_tried_under_another_id(shop, tmp_path, address, there, monkeypatch):
    send(shop, tmp_path, [1])
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"this is no Parquet")
    load = FileLoader.load
    monkeypatch.setattr(FileLoader, "load", lambda self, _, stem: load(self, str(broken), stem))
    failed = shop("table", "copy", "--to", address)
    assert failed.code == 1
    assert "not Parquet" in failed.err
    monkeypatch.setattr(FileLoader, "load", load)
    again = shop("table", "copy", "--to", address)
    assert again.code == 0, again.err
    (first, second) = jobs(there)
    assert (first[1], second[1]) == (False, True)
    assert (first[0][:-1], first[0][-1], second[0][-1]) == (second[0][:-1], "0", "1")


def test_a_difference_is_told_with_both_numbers(shop, tmp_path, address, there):
    send(shop, tmp_path, range(5))
    assert shop("table", "copy", "--to", address).code == 0
    stray = shop(
        *("send", "--store", address, "shop.sales", "--insert-id-field", "id"),
        str(write(tmp_path, {"id": "stray", "item": "cup", "sold_at": "2026-01-01T00:00:00Z"})),
    )
    assert stray.code == 0, stray.err
    again = shop("table", "copy", "--to", address)
    assert again.code == 1
    assert "here  5 rows, checksum" in again.err
    assert "there 6 rows, checksum" in again.err


def write(tmp_path, row):
    path = tmp_path / "one.ndjson"
    path.write_text(json.dumps(row))
    return path


def test_rows_that_are_ahead_are_told_and_come_without_their_whole_event(
    call, tmp_path, address, there
):
    with LocalStore.open("eventmill-data") as store:
        store.apply(build_spec())
        store.put(build_batch("a", "b"))
        store.put(build_batch("c", version="newer"))
        assert store.stats(BUILDS).ahead_rows in (0, 1)
        store.put(build_batch("d", version="newer", events=[newer_build("d")]))
    moved = call("table", "copy", "--to", address)
    assert moved.code == 0, moved.err
    assert "of 1 rows of local.contract.builds not all came along" in moved.err
    (row,) = there.query("SELECT COUNT(*) AS n FROM contract.builds")
    assert row["n"] == 4


def newer_build(name):
    from eventmill.testing.events import build

    return build(name, "newer", host="h1")


RICH = """\
syntax = "proto3";
package rich;
import "bqschema/options.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
message Inner { google.protobuf.Struct about = 1; int64 big = 2; }
message M {
  string id = 1;
  google.protobuf.Timestamp at = 2;
  google.protobuf.Struct about = 3;
  repeated Inner inners = 4;
  string price = 5 [(bqschema.options).bq_type = "NUMERIC"];
  double size = 6;
  bytes raw = 7;
  string day = 8 [(bqschema.options).bq_type = "DATE"];
  string json = 9 [(bqschema.options).bq_type = "JSON"];
}
"""


def test_a_table_with_json_columns_is_loaded_as_lines_of_json(call, tmp_path, address, there):
    (tmp_path / "rich.proto").write_text(RICH)
    made = call(
        *("table", "apply", "--proto", "rich.proto", "--message", "rich.M", "--table", "r.m"),
        *("--partition-by", "at", "--require-partition-filter", "--yes"),
    )
    assert made.code == 0, made.err
    full = {
        "id": "full", "at": "2026-01-01T00:00:00.000001Z", "about": {"k": [1, None, "x"]},
        "inners": [{"about": {"deep": True}, "big": str(2**63 - 1)}, {}], "price": "1.50",
        "size": "NaN", "raw": "/w==", "day": "2026-01-31", "json": '"text"',
    }  # fmt: skip
    (tmp_path / "rich.ndjson").write_text(f"{json.dumps(full)}\n{json.dumps({'id': 'empty'})}\n")
    assert call("send", "r.m", "rich.ndjson").code == 0
    moved = call("table", "copy", "--to", address)
    assert moved.code == 0, moved.err
    read = "SELECT * FROM r.m WHERE at IS NULL OR at >= TIMESTAMP '2000-01-01' ORDER BY id"
    assert call("query", read).rows == call("query", "--store", address, read).rows
    formats = {job.source_format for job in there.client.list_jobs() if job.job_type == "load"}
    assert formats == {"NEWLINE_DELIMITED_JSON"}


def test_what_cannot_be_meant_is_refused(shop, address):
    assert shop("table", "copy", "shop.sales").code == 2
    assert shop("table", "copy", "--from", "x", "shop.sales", "shop.other").code == 2
    assert "bigquery://PROJECT" in shop("table", "copy", "--to", "http://localhost:1").err
    assert "there is no store" in shop("table", "copy", "--from", "none", "--to", address).err
    assert "there is no table" in shop("table", "copy", "--to", address, "shop.none").err
    only = shop("table", "copy", "--to", address, "--definition-only")
    assert (only.code, "moved.shop.sales is defined" in only.err) == (0, True)
