"""``counts.sql``: what a run counts beside its rows, in its log and its result."""

from __future__ import annotations

import pytest
from workflow_world import HOUR, NOON, builds_at, builds_store, make_workflow

from eventmill.base.errors import QueryError, UsageError
from eventmill.workflow.reading import read_workflow
from eventmill.workflow.slot_run import run_slot

SLOT = (NOON, NOON + HOUR)
OF_SLOT = "FROM ci.builds WHERE ended_at >= @slot_start AND ended_at < @slot_end"


def run(tmp_path, counts):
    store = builds_store()
    store.put(builds_at(NOON + 10, range(3)))
    store.put(builds_at(NOON + HOUR, [10]))
    definition = read_workflow(str(make_workflow(tmp_path, files={"counts.sql": counts})))
    lines = []
    try:
        return run_slot(definition, store, SLOT, generation=1, log=lines.append), lines
    finally:
        store.close()


def test_counts_are_in_the_log_and_in_the_result(tmp_path):
    counts = f"SELECT COUNT(*) * 1000 AS odd, COUNT(*) / 2 AS half {OF_SLOT}"
    result, lines = run(tmp_path, counts)
    assert result.counts == {"odd": 3_000, "half": 1.5}
    assert "odd: 3,000" in lines
    assert "half: 1.5" in lines


def test_without_the_file_there_are_none(tmp_path):
    store = builds_store()
    definition = read_workflow(str(make_workflow(tmp_path)))
    result = run_slot(definition, store, SLOT, generation=1, log=lambda _: None)
    assert result.counts == {}
    store.close()


@pytest.mark.parametrize(
    "counts",
    [
        f"SELECT number {OF_SLOT}",  # three rows
        f"SELECT number {OF_SLOT} AND number > 99",  # none
        f"SELECT MAX(builder) AS word {OF_SLOT}",
        f"SELECT MAX(number) AS most {OF_SLOT} AND number > 99",  # NULL
        f"SELECT LOGICAL_OR(number > 1) AS big {OF_SLOT}",
    ],
)
def test_anything_but_one_row_of_numbers_fails_the_run(tmp_path, counts):
    with pytest.raises(QueryError, match=r"counts\.sql of the workflow .* one row of numbers"):
        run(tmp_path, counts)


def test_it_is_checked_when_the_folder_is_read(tmp_path):
    folder = make_workflow(tmp_path, files={"counts.sql": "SELECT COUNT(*) AS n FROM ci.builds"})
    with pytest.raises(QueryError, match=r"counts\.sql: it uses neither @slot_start"):
        read_workflow(str(folder))
    (folder / "counts.sql").write_text(f"SELECT COUNT(*) AS n {OF_SLOT}".replace("ci.", "other."))
    with pytest.raises(UsageError, match=r"counts\.sql reads local\.other\.builds"):
        read_workflow(str(folder))
    (folder / "counts.sql").write_bytes(b"SELECT \xff")
    with pytest.raises(UsageError, match=r"counts\.sql cannot be read"):
        read_workflow(str(folder))
