"""A grouped query over lake and tail against the same rows in a native DuckDB file."""

import os
import shutil
import tempfile
import time

import duckdb

from benchmarks.events import TABLE, make_batches, make_events, spec
from benchmarks.pairs import Measure, pair
from eventmill.store.local.compaction import compact_once
from eventmill.store.local.store import LocalStore

QUERIES = {
    "by day and builder: count, p95, distinct": (
        """SELECT TIMESTAMP_TRUNC(ended_at, DAY) AS day, builder, COUNT(*) AS n,
             APPROX_QUANTILES(duration_us, 100)[OFFSET(95)] AS p95,
             APPROX_COUNT_DISTINCT(test_name) AS tests
           FROM bench.results GROUP BY 1, 2""",
        """SELECT date_trunc('day', ended_at) AS day, builder, count(*) AS n,
             approx_quantile(duration_us, 0.95) AS p95,
             approx_count_distinct(test_name) AS tests
           FROM results GROUP BY 1, 2""",
    ),
    "by outcome: count": (
        "SELECT outcome, COUNT(*) AS n FROM bench.results GROUP BY 1",
        "SELECT outcome, count(*) AS n FROM results GROUP BY 1",
    ),
}


def bench(quick):
    """Return the measures of this module."""
    rows = 400_000 if quick else 2_000_000
    folder = tempfile.mkdtemp()
    try:
        with LocalStore.open(os.path.join(folder, "store")) as store:
            store.apply(spec())
            compacted = _fill(store, rows)
            stats = store.stats(TABLE)
            assert stats.rows == rows
            native = _native(store, os.path.join(folder, "native.duckdb"))
            measures = [
                Measure("compaction alone", compacted, "rows/s"),
                Measure("rows in the lake", stats.lake_rows, "rows"),
                Measure("rows in the log's tail", stats.log_rows, "rows"),
                Measure("lake bytes a row", stats.lake_bytes / max(1, stats.lake_rows), "bytes"),
            ]
            for name, (ours, theirs) in QUERIES.items():
                measures.append(_pair(store, native, name, ours, theirs, 5 if quick else 9))
            native.close()
    finally:
        shutil.rmtree(folder)
    return measures


def _fill(store, rows):
    """Put ``rows``, most of them compacted and a tail left in the log; return compacted rows/s."""
    events = make_events(100_000, days=10)
    tail = 50_000
    put = 0
    compaction = compacted = 0
    turn = 0
    while put < rows:
        part = events[: min(len(events), rows - put, max(tail, rows - tail - put))]
        for batch in make_batches(part, 500, b"fill%d" % turn):
            store.put(batch)
        put += len(part)
        turn += 1
        if put <= rows - tail:
            store.seal()
            began = time.perf_counter()
            compacted += compact_once(store.path).rows
            compaction += time.perf_counter() - began
    return compacted / compaction


def _native(store, path):
    """Return a connection to a DuckDB file with the same rows and types."""
    connection = duckdb.connect(path)
    connection.execute("SET TimeZone = 'UTC'")
    rows = store.query("SELECT * FROM bench.results", row_limit=None, timeout_seconds=600)
    connection.register("incoming", rows.to_arrow())
    connection.execute("CREATE TABLE results AS SELECT * FROM incoming")
    connection.unregister("incoming")
    connection.execute("CHECKPOINT")
    return connection


def _pair(store, native, name, ours, theirs, rounds):
    mine, other = [], []
    store.query(ours)
    native.sql(theirs).to_arrow_table()
    for _ in range(rounds):
        began = time.perf_counter()
        answer = store.query(ours, row_limit=None)
        mine.append((time.perf_counter() - began) * 1e3)
        began = time.perf_counter()
        expected = native.sql(theirs).to_arrow_table()
        other.append((time.perf_counter() - began) * 1e3)
        assert len(answer) == expected.num_rows
    # The target is for the question that reads columns; the other shows what asking costs.
    target = 1.8 if "builder" in name else None
    return pair(f"query {name} / native file", mine, other, "ms", at_most=target)
