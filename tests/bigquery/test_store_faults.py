"""A warehouse behind a bad network: nothing is lost, and the view shows nothing twice."""

import contextlib
import dataclasses
import random

import pytest
from warehouse_chaos import ConnectionChaos, RestChaos
from warehouse_world import served

from eventmill.base.settings import StoreSettings
from eventmill.client.batch_uploader import BatchUploader
from eventmill.store.bigquery import insert_all
from eventmill.store.bigquery.store import BigQueryStore
from eventmill.store.local.store import LocalStore
from eventmill.testing.events import BUILDS, build_spec, build_type

EVENTS = 300


@pytest.fixture
def forgetful(tmp_path):
    """A store that knows no insert IDs, as BigQuery knows none for longer than a minute."""
    options = StoreSettings(dedup_window_seconds=0)
    with LocalStore.open(str(tmp_path / "behind"), options=options) as store:
        yield store


def send(store, table=BUILDS):
    """Send ``EVENTS`` builds in many small batches, until each has its verdict."""
    cls = build_type().cls
    with BatchUploader(
        store, table, durability="memory", batch_bytes=200, flush_interval_seconds=0.0,
        retry_base_seconds=0.01, retry_cap_seconds=0.05, rng=random.Random(7),
    ) as events:  # fmt: skip
        for number in range(EVENTS):
            events.stage(cls(name=f"b{number}", seconds=number))
        assert events.flush(90.0) == 0
        stats = events.stats()
    assert (stats.accepted, stats.undelivered, stats.rejected) == (EVENTS, {}, 0)


def counts(store):
    """Return rows in the table, in its view, and different events in the view."""
    found = [
        store.query(f"SELECT COUNT(*) AS n, COUNT(DISTINCT name) AS names FROM {name}")
        for name in ("contract.builds", "contract.builds_deduplicated")
    ]
    (table,), (view,) = found
    return table["n"], view["n"], view["names"]


@pytest.mark.slow
def test_insert_all_over_a_bad_network(forgetful, monkeypatch):
    # Google's client would hide most faults by its own retries, and wait for seconds.
    monkeypatch.setattr(insert_all, "_RETRY_SECONDS", 0.001)
    likelihoods = dict.fromkeys(
        ("lost", "duplicated", "reply_lost", "500", "503", "429", "delay"), 0.07
    )
    monkeypatch.setattr("eventmill.store.bigquery.faults.QUOTA_PAUSE_SECONDS", 0.05)
    with served(forgetful, write="insert_all") as place:
        port = int(place.endpoint.rpartition(":")[2])
        with RestChaos(port, seed=3, **likelihoods) as proxy:
            mistreated = dataclasses.replace(place, endpoint=proxy.url)
            with BigQueryStore(mistreated) as store:
                store.apply(build_spec())
                send(store)
        with BigQueryStore(place) as store:
            rows, shown, names = counts(store)
    assert (shown, names) == (EVENTS, EVENTS)
    assert rows > EVENTS  # so some were stored twice, and the view has hidden that
    assert {fault for fault in likelihoods if not proxy.happened[fault]} == set()


@pytest.mark.slow
def test_the_storage_write_api_over_connections_that_are_cut(forgetful):
    with contextlib.ExitStack() as open_things:
        place = open_things.enter_context(served(forgetful))
        port = int(place.write_endpoint.rpartition(":")[2])
        proxy = open_things.enter_context(
            ConnectionChaos(port, seed=5, bytes_min=2_000, bytes_max=9_000)
        )
        mistreated = dataclasses.replace(place, write_endpoint=proxy.address)
        with BigQueryStore(mistreated) as store:
            store.apply(build_spec())
            send(store)
        with BigQueryStore(place) as store:
            rows, shown, names = counts(store)
    assert (shown, names) == (EVENTS, EVENTS)
    assert rows >= EVENTS
    assert proxy.happened["cut"] >= 3


def test_a_change_under_a_stale_etag_is_made_again(forgetful):
    with served(forgetful, write="insert_all") as place:
        port = int(place.endpoint.rpartition(":")[2])
        with RestChaos(port, seed=1, stale_etag=0.6) as proxy:
            mistreated = dataclasses.replace(place, endpoint=proxy.url)
            with BigQueryStore(mistreated) as store:
                store.apply(build_spec(version="older"))
                for version in ("current", "newer", "newest"):
                    store.apply(build_spec(version=version))
                columns = [c.name for c in store.describe(BUILDS).spec.columns]
    assert proxy.happened["stale_etag"]
    assert columns[-2:] == ["host", "ports"]
