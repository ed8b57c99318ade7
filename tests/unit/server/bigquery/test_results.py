"""Answers on disk, and their pages."""

import os

import pyarrow as pa
import pytest

from eventmill.server.bigquery import results
from eventmill.server.bigquery.errors import ApiError
from eventmill.server.bigquery.results import Results

NUMBERS = pa.table({"n": range(10_000)})


@pytest.fixture
def kept(tmp_path):
    return Results(str(tmp_path / "results"))


def numbers(kept, start, count, key="a"):
    page = kept.page(key, start, count)
    return page.rows["n"].to_pylist(), page.next_start, page.total


@pytest.mark.parametrize("chunks", [[10_000], [1, 9_999], [4_096, 4_096, 1_808], [5_000, 0, 5_000]])
def test_pages_of_every_size_and_place(kept, chunks):
    at, parts = 0, []
    for size in chunks:
        parts += NUMBERS.slice(at, size).to_batches() or []
        at += size
    kept.keep("a", pa.Table.from_batches(parts, schema=NUMBERS.schema))
    assert numbers(kept, 0, 3) == ([0, 1, 2], 3, 10_000)
    assert numbers(kept, 4_094, 4) == ([4_094, 4_095, 4_096, 4_097], 4_098, 10_000)
    assert numbers(kept, 9_999, 5) == ([9_999], None, 10_000)
    assert numbers(kept, 10_000, 5) == ([], None, 10_000)
    assert numbers(kept, 0, 0) == ([], 0, 10_000)
    assert numbers(kept, 0, 20_000)[0] == list(range(10_000))


def test_an_answer_without_rows(kept):
    kept.keep("a", NUMBERS.slice(0, 0), durable=True)
    assert numbers(kept, 0, 5) == ([], None, 0)
    assert kept.read("a").schema == NUMBERS.schema


def test_a_page_is_bounded_by_its_bytes_and_always_goes_on(kept, monkeypatch):
    kept.keep("a", pa.table({"s": ["x" * 1_000] * 100, "n": range(100)}))
    monkeypatch.setattr(results, "PAGE_BYTES_MAX", 10_000)
    seen, start, pages = [], 0, 0
    while start is not None:
        page = kept.page("a", start, 1_000)
        assert page.rows.num_rows <= 10
        seen += page.rows["n"].to_pylist()
        start, pages = page.next_start, pages + 1
    assert seen == list(range(100))
    assert pages >= 10
    monkeypatch.setattr(results, "PAGE_BYTES_MAX", 10)
    assert kept.page("a", 0, 1_000).rows.num_rows == 1


def test_old_answers_go_and_then_those_that_are_too_many(kept, monkeypatch, tmp_path):
    for age, key in [(3, "a"), (2, "b"), (1, "c"), (0, "d")]:
        kept.keep(key, NUMBERS)
        os.utime(tmp_path / "results" / f"{key}.arrow", (1_000 - age, 1_000 - age))
    assert kept.prune(1_000.0) == 0
    assert kept.prune(997.0 + results.KEPT_SECONDS, spared=frozenset({"b"})) == 1
    assert [kept.has(key) for key in "abcd"] == [False, True, True, True]
    size = os.path.getsize(tmp_path / "results" / "d.arrow")
    monkeypatch.setattr(results, "KEPT_BYTES_MAX", size)
    assert kept.prune(1_000.0, spared=frozenset({"b"})) == 2
    assert [kept.has(key) for key in "bcd"] == [True, False, False]
    with pytest.raises(ApiError, match="not kept any more"):
        kept.page("c", 0, 1)
    kept.forget("b")
    kept.forget("b")
    assert not kept.has("b")
