"""``table copy``: what comes along, and what a second copy does."""

import json

import pytest

ROWS = "SELECT _insert_id AS id, item, pieces, sold_at, price FROM %s ORDER BY id"


@pytest.fixture
def sold(shop, tmp_path):
    path = tmp_path / "sales.ndjson"
    rows = [
        {"id": f"i{n}", "item": "tea", "pieces": n, "sold_at": f"2026-01-0{n % 7 + 1}T00:00:00Z"}
        for n in range(25)
    ]
    for row in rows[::2]:
        row["price"] = 1.5
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert shop("send", "shop.sales", str(path), "--insert-id-field", "id").code == 0
    return shop


def test_a_copy_has_the_definition_and_the_rows(sold, monkeypatch):
    monkeypatch.setattr("eventmill.cli.table_copy._PAGE_ROWS", 10)
    copied = sold("table", "copy", "shop.sales", "shop.copy")
    assert (copied.code, "25 rows" in copied.err) == (0, True)
    assert sold("query", ROWS % "shop.copy").rows == sold("query", ROWS % "shop.sales").rows
    shown = sold("table", "show", "shop.copy").rows[0]
    assert (shown["owner"], shown["partitioning"]["column"]) == ("till@example.com", "sold_at")
    again = sold("table", "copy", "shop.sales", "shop.copy")
    assert "0 rows" in again.err
    assert "25 were there before" in again.err


RICH = """\
syntax = "proto3";
package rich;
import "bqschema/options.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/duration.proto";
message Tree { string name = 1; repeated Tree below = 2; }
message Inner { google.protobuf.Struct about = 1; }
message M {
  string id = 1;
  google.protobuf.Timestamp at = 2;
  google.protobuf.Struct about = 3;
  google.protobuf.Value value = 4;
  repeated google.protobuf.Value values = 5;
  Tree tree = 6 [(bqschema.options).bq_type = "JSON"];
  repeated Tree trees = 7 [(bqschema.options).bq_type = "STRING"];
  map<string, Tree> by_name = 8 [(bqschema.options).bq_type = "JSON"];
  map<string, Inner> inner = 9;
  repeated Inner inners = 10;
  string price = 11 [(bqschema.options).bq_type = "NUMERIC"];
  string day = 12 [(bqschema.options).bq_type = "DATE"];
  string json = 13 [(bqschema.options).bq_type = "JSON"];
  int64 micros = 14 [(bqschema.options).bq_type = "TIMESTAMP"];
  google.protobuf.Duration took = 15;
  double size = 16;
  bytes raw = 17;
}
"""


def test_documents_and_every_other_kind_of_value_come_along(call, tmp_path, lines):
    (tmp_path / "rich.proto").write_text(RICH)
    made = call(
        *("table", "apply", "--proto", "rich.proto", "--message", "rich.M", "--table", "r.m"),
        *("--partition-by", "at", "--require-partition-filter", "--yes"),
    )
    assert made.code == 0, made.err
    tree = {"name": "a", "below": [{"name": "b"}]}
    full = {
        "id": "full", "at": "2026-01-01T00:00:00Z", "about": {"k": [1, None, "x"]}, "value": "text",
        "values": [None, 1, {"a": True}], "tree": tree, "trees": [tree, {}],
        "by_name": {"x": tree}, "inner": {"y": {"about": {"z": 1}}},
        "inners": [{"about": {}}, {}], "price": "1.50", "day": "2026-01-31",
        "json": '{"a": [1]}', "micros": 5, "took": "1.5s", "size": "NaN", "raw": "/w==",
    }  # fmt: skip
    rows = [full, {"id": "null", "value": None}, {"id": "empty"}]
    path = lines(*(f"{json.dumps(row)}\n".encode() for row in rows))
    assert call("send", "r.m", path).code == 0
    copied = call("table", "copy", "r.m", "r.copy")
    assert (copied.code, "3 rows" in copied.err) == (0, True), copied.err
    read = "SELECT * FROM r.%s WHERE _ingested_at >= TIMESTAMP '2000-01-01' ORDER BY id"
    first, second = (call("query", read % name).rows for name in ("m", "copy"))
    assert (len(first), first) == (3, second)
    shown = call("tail", "r.copy", "--no-follow").rows
    assert sorted(row["id"] for row in shown) == ["empty", "full", "null"]


def test_a_definition_alone_is_copied_without_rows(sold):
    assert sold("table", "copy", "shop.sales", "shop.copy", "--definition-only").code == 0
    assert sold("table", "show", "shop.copy").rows[0]["rows"] == 0


def test_a_table_that_is_not_there_cannot_be_copied(sold):
    missing = sold("table", "copy", "shop.salse", "shop.copy")
    assert missing.code == 1
    assert "shop.sales" in missing.err
