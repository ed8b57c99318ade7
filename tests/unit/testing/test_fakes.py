import random

import pytest

from eventmill.base.errors import BackPressureError, PermanentError, UnavailableError
from eventmill.store.memory import MemoryStore
from eventmill.testing.events import BUILDS, build_batch, build_spec
from eventmill.testing.fakes import FakeClock, Faults, FlakySink, RecordingSink, WrappedSink


@pytest.fixture
def store():
    store = MemoryStore()
    store.apply(build_spec())
    yield store
    store.close()


def flaky(store, **faults):
    clock = FakeClock()
    return FlakySink(store, Faults(**faults), rng=random.Random(1), clock=clock), clock


def test_a_lost_request_never_arrives(store):
    sink, _ = flaky(store, request_lost=1.0)
    with pytest.raises(UnavailableError):
        sink.put(build_batch("a"))
    assert store.stats(BUILDS).rows == 0
    assert sink.happened == {"request_lost": 1}


def test_a_lost_reply_is_an_error_of_what_was_done(store):
    sink, _ = flaky(store, reply_lost=1.0)
    with pytest.raises(UnavailableError):
        sink.put(build_batch("a"))
    assert store.stats(BUILDS).rows == 1


def test_a_refusal_says_how_long_to_wait(store):
    sink, _ = flaky(store, refused=1.0)
    with pytest.raises(BackPressureError) as raised:
        sink.put(build_batch("a"))
    assert raised.value.retry_after_seconds == 1.0
    assert store.stats(BUILDS).rows == 0


def test_a_slow_answer_takes_its_time(store):
    sink, clock = flaky(store, slow=1.0, slow_seconds=7.0)
    assert sink.put(build_batch("a")).accepted == 1
    assert clock.slept == [7.0]


def test_every_call_can_fail(store):
    sink, _ = flaky(store, request_lost=1.0)
    for call in (lambda: sink.describe(BUILDS), lambda: sink.quarantine([])):
        with pytest.raises(UnavailableError):
            call()


def test_the_same_seed_gives_the_same_faults(store):
    def run():
        faults = Faults(request_lost=0.3, reply_lost=0.3)
        sink = FlakySink(store, faults, rng=random.Random(5))
        told = []
        for _ in range(30):
            try:
                sink.put(build_batch("a"))
                told.append(True)
            except UnavailableError:
                told.append(False)
        return told

    assert run() == run()


def test_a_recording_sink_remembers_batches_and_verdicts(store):
    sink = RecordingSink(store)
    batch = build_batch("a")
    assert [sink.put(batch), sink.put(batch)] == sink.verdicts
    assert sink.batches == [batch, batch]


def test_what_the_sink_within_cannot_do_is_an_error_and_nothing_is_dropped(store):
    class Bare:
        put = store.put

    sink = WrappedSink(Bare())
    assert sink.put(build_batch("a")).accepted == 1
    with pytest.raises(PermanentError, match="quarantine"):
        sink.quarantine([])
    with pytest.raises(PermanentError, match="describe"):
        sink.describe(BUILDS)


def test_time_passes_only_when_told():
    clock = FakeClock(100.0)
    clock.sleep(2.0)
    clock.advance(3.0)
    assert (clock.now(), clock.monotonic(), clock.slept) == (105.0, 5.0, [2.0])
