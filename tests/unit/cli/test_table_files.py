"""``eventmill table files``: the Parquet files that hold a table's rows, listed and linked."""

from __future__ import annotations

import errno
import os

import pyarrow.parquet as pq

SALES = b'{"item": "tea", "pieces": 2, "sold_at": "2026-11-01T12:00:00Z"}\n'


def test_files_are_listed_and_linked_and_stay_when_the_store_goes_on(shop, lines, tmp_path):
    assert shop("send", "shop.sales", lines(SALES)).code == 0
    before = shop("table", "files", "shop.sales")
    assert before.rows == []
    assert "in a file yet" in before.err
    assert shop("compact").code == 0
    (listed,) = shop("table", "files", "shop.sales").rows
    linked = shop("table", "files", "shop.sales", "--link", "deep/er")
    assert linked.code == 0, linked.err
    (row,) = linked.rows
    assert row["path"] == str(tmp_path / "deep" / "er" / "DAY=2026-11-01" / "0000000001-m0.parquet")
    assert (row["rows"], row["bytes"]) == (listed["rows"], listed["bytes"]) == (1, row["bytes"])
    assert os.path.samefile(row["path"], listed["path"])
    assert shop("table", "rm", "shop.sales", "--yes").code == 0
    assert not os.path.exists(listed["path"])
    assert pq.read_table(row["path"], partitioning=None)["item"].to_pylist() == ["tea"]
    assert os.listdir(tmp_path / "deep") == ["er"]


def test_what_cannot_be_listed_or_linked_says_so_and_leaves_nothing(
    shop, lines, tmp_path, monkeypatch
):
    assert shop("send", "shop.sales", lines(SALES)).code == 0
    assert shop("compact").code == 0
    nowhere = shop("table", "files", "shop.nothing", "--link", "a")
    assert nowhere.code == 1
    assert "no table local.shop.nothing" in nowhere.err
    (tmp_path / "there").mkdir()
    there = shop("table", "files", "shop.sales", "--link", "there")
    assert there.code == 2
    assert "is there already" in there.err
    afar = shop("table", "files", "shop.sales", "--store", "http://127.0.0.1:1")
    assert afar.code == 2
    assert "works on a data folder" in afar.err

    def other_disk(source, target):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", other_disk)
    refused = shop("table", "files", "shop.sales", "--link", "b")
    assert refused.code == 2
    assert "the same file system" in refused.err
    assert {"a", "b", "a.unfinished", "b.unfinished"} & set(os.listdir(tmp_path)) == set()
