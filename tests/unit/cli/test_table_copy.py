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


def test_a_definition_alone_is_copied_without_rows(sold):
    assert sold("table", "copy", "shop.sales", "shop.copy", "--definition-only").code == 0
    assert sold("table", "show", "shop.copy").rows[0]["rows"] == 0


def test_a_table_that_is_not_there_cannot_be_copied(sold):
    missing = sold("table", "copy", "shop.salse", "shop.copy")
    assert missing.code == 1
    assert "shop.sales" in missing.err
