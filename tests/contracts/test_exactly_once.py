"""The promise of both uploaders, attacked: requests and replies are lost, each event is stored
exactly once. The seed of a failing run is in the test's name."""

import random

import pytest

from eventmill.base.errors import TransientError
from eventmill.client.batch_uploader import BatchUploader
from eventmill.client.uploader import Uploader, progress_of
from eventmill.store.memory import MemoryStore
from eventmill.testing.events import BUILDS, build_spec, build_type
from eventmill.testing.fakes import FakeClock, Faults, FlakySink

Build = build_type().cls
HEAVY = Faults(request_lost=0.25, reply_lost=0.25, refused=0.1, slow=0.05)
STORED = "SELECT name FROM contract.builds ORDER BY name"


@pytest.fixture(scope="module")
def store():
    store = MemoryStore()
    yield store
    store.close()


@pytest.fixture(autouse=True)
def _empty(store):
    store.apply(build_spec())
    yield
    store.drop(BUILDS)


def stored(store):
    return [row["name"] for row in store.query(STORED)]


@pytest.mark.parametrize("seed", range(200))
def test_each_event_is_stored_exactly_once(store, seed):
    rng = random.Random(seed)
    clock = FakeClock()
    sink = FlakySink(store, HEAVY, rng=rng, clock=clock)
    uploader = Uploader(sink, BUILDS, clock=clock, rng=rng)
    names = [f"{number:04}" for number in range(rng.randint(1, 60))]
    at = 0
    while at < len(names):
        part = names[at : at + rng.randint(1, 20)]
        at += len(part)
        events = [Build(name=name) if rng.random() < 0.5 else {"name": name} for name in part]
        put_to_the_end(uploader, events, rng)
    assert stored(store) == names


def put_to_the_end(uploader, events, rng):
    """Put as a caller does who never gives up, with limits that are often too short."""
    insert_ids = None
    while True:
        try:
            verdict = uploader.put(
                events, insert_ids=insert_ids, timeout_seconds=rng.choice([0.05, 1.0, 60.0])
            )
        except TransientError as error:
            insert_ids = progress_of(error).insert_ids
        else:
            assert verdict.ok
            assert verdict.accepted + verdict.duplicates == len(events)
            return


def test_the_faults_of_these_runs_do_happen(store):
    rng = random.Random(7)
    clock = FakeClock()
    sink = FlakySink(store, HEAVY, rng=rng, clock=clock)
    uploader = Uploader(sink, BUILDS, clock=clock, rng=rng)
    for number in range(100):
        put_to_the_end(uploader, [Build(name=str(number))], rng)
    assert all(
        sink.happened[name] > 3 for name in ("request_lost", "reply_lost", "refused", "slow")
    )


@pytest.mark.parametrize("seed", range(20))
def test_each_staged_event_is_stored_exactly_once(store, seed):
    rng = random.Random(seed)
    sink = FlakySink(store, Faults(request_lost=0.3, reply_lost=0.3), rng=rng)
    names = [f"{number:04}" for number in range(100)]
    with BatchUploader(
        sink,
        BUILDS,
        batch_bytes=500,
        flush_interval_seconds=0.0,
        retry_base_seconds=0.0001,
        retry_cap_seconds=0.001,
        rng=random.Random(seed),
    ) as uploader:
        for name in names:
            uploader.stage(Build(name=name) if rng.random() < 0.5 else {"name": name})
        assert uploader.flush(30) == 0
        stats = uploader.stats()
    assert stored(store) == names
    assert stats.accepted + stats.duplicates == 100
    assert stats.retried > 0
