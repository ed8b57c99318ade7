"""``table export``: from a live table, and from files without any store."""

import json
from pathlib import Path

import pytest


def test_a_live_table_and_its_proto_give_the_same(shop, proto):
    live = shop("table", "export", "shop.sales")
    assert live.code == 0
    assert [field["name"] for field in json.loads(live.out)] == [
        "item",
        "pieces",
        "sold_at",
        "price",
    ]
    assert shop("table", "export", "--proto", proto).out == live.out
    statement = shop("table", "export", "shop.sales", "--format", "ddl").out
    assert statement == shop("table", "export", "--proto", proto, "--format", "ddl").out
    assert "PARTITION BY TIMESTAMP_TRUNC(`sold_at`, DAY)" in statement


def test_files_need_no_store_and_none_is_made(call, proto, tmp_path):
    assert call("table", "export", "--proto", proto, "-o", str(tmp_path / "fields.json")).code == 0
    assert json.loads((tmp_path / "fields.json").read_text())[0]["name"] == "item"
    assert not (tmp_path / "eventmill-data").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "name a TABLE"),
        (("shop.sales", "--message", "shop.Sale"), "give --proto as well"),
        (("--proto", "two.proto"), "one with --message"),
        (("--proto", "missing.proto"), "missing.proto"),
        (("--proto", "two.proto", "--message", "t.C"), "t.C"),
    ],
)
def test_what_is_wrong_is_said(call, tmp_path, words, told):
    Path(tmp_path / "two.proto").write_text(
        'syntax = "proto3"; package t; message A { string a = 1; } message B { string b = 1; }'
    )
    answer = call("table", "export", *words)
    assert answer.code in (1, 2)
    assert told in answer.err
