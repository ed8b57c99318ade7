"""The BigQuery store on a real project: set EVENTMILL_TEST_BIGQUERY_PROJECT to run it.

It costs cents: some rows in datasets of its own, ``eventmill_test_...``, which are removed at the
end, and which expire after a day if they are not. The credentials are the ambient ones.
"""

import contextlib
import os
import random
import secrets
import time

import pytest

from eventmill.base.errors import TransientError
from eventmill.cli.main import run
from eventmill.client.batch_uploader import BatchUploader
from eventmill.schema.table import TableId
from eventmill.store.bigquery.place import BigQueryPlace
from eventmill.store.bigquery.store import BigQueryStore
from eventmill.store.local.store import LocalStore
from eventmill.testing.events import build, build_batch, build_spec, build_type

PROJECT = os.environ.get("EVENTMILL_TEST_BIGQUERY_PROJECT", "")
HOME = os.environ.get("HOME", "")
DAY_MS = 86_400_000
PATIENCE_SECONDS = 600.0

pytestmark = [
    pytest.mark.external,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        not PROJECT, reason="external: EVENTMILL_TEST_BIGQUERY_PROJECT names no project"
    ),
]


@pytest.fixture(params=["storage", "insert_all"])
def world(request, monkeypatch):
    """Yield (store, a table in a dataset of its own)."""
    monkeypatch.setenv("HOME", HOME)  # where gcloud keeps a person's login
    suffix = secrets.token_hex(4)
    dataset, own = f"eventmill_test_{suffix}", f"eventmill_test_{suffix}_own"
    place = BigQueryPlace(PROJECT, write=request.param, own_dataset=own)
    with BigQueryStore(place) as store:
        for name in (dataset, own):
            made = store.client.create_dataset(name)
            made.default_table_expiration_ms = DAY_MS
            store.client.update_dataset(made, ["default_table_expiration_ms"])
        try:
            yield store, TableId(PROJECT, dataset, "builds")
        finally:
            for name in (dataset, own):
                store.client.delete_dataset(name, delete_contents=True, not_found_ok=True)


def patiently(work):
    """Repeat what time may mend, as an uploader does."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return work()
        except TransientError as error:
            if time.monotonic() > end:
                raise
            time.sleep(error.retry_after_seconds or 1.0)


def names(store, table):
    return [row["name"] for row in store.query(f"SELECT name FROM `{table}` ORDER BY name")]


def test_events_of_growing_definitions_are_stored_and_bad_ones_are_kept(world):
    store, table = world
    store.apply(build_spec(table, version="older"))
    assert (
        patiently(lambda: store.put(build_batch("a", table=table, version="older"))).accepted == 1
    )
    store.apply(build_spec(table))
    batch = build_batch("b", "bad", table=table, events=[build("b", ok=True), b"\xff\xff"])
    verdict = patiently(lambda: store.put(batch))
    assert (verdict.accepted, [each.index for each in verdict.rejected]) == (1, [1])
    view = TableId(table.project, table.dataset, "builds_deduplicated")
    assert names(store, view) == ["a", "b"]
    kept = store.query(f"SELECT insert_id FROM {store._quarantine.dataset}.quarantine_deduplicated")
    assert [row["insert_id"] for row in kept] == ["bad"]


def test_the_view_shows_once_what_was_sent_twice(world):
    store, table = world
    store.apply(build_spec(table))
    for _ in range(2):
        patiently(lambda: store.put(build_batch("a", "b", table=table)))
    view = TableId(table.project, table.dataset, "builds_deduplicated")
    assert names(store, view) == ["a", "b"]


def test_an_uploader_leaves_nothing_behind(world):
    store, table = world
    store.apply(build_spec(table))
    cls = build_type().cls
    with BatchUploader(store, table, durability="memory", rng=random.Random(1)) as events:
        for number in range(2_000):
            events.stage(cls(name=f"b{number}"))
        assert events.flush(PATIENCE_SECONDS) == 0
    (row,) = store.query(
        f"SELECT COUNT(*) AS n FROM `{table.project}.{table.dataset}.builds_deduplicated`"
    )
    assert row["n"] == 2_000


def test_a_folder_moves_up(world, tmp_path, monkeypatch):
    store, table = world
    here = TableId("local", table.dataset, table.table)
    with LocalStore.open(str(tmp_path / "data")) as source:
        source.apply(build_spec(here))
        source.put(build_batch(*map(str, range(100)), table=here))
    address = f"bigquery://{PROJECT}?own_dataset={store._quarantine.dataset}"
    with contextlib.chdir(tmp_path):
        assert run(["table", "copy", "--from", "data", "--to", address]) == 0
    assert len(names(store, table)) == 100
