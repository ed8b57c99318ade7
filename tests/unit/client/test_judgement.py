"""Whose fault a refusal is: the events', and then they are kept apart; or not, and they wait."""

import os

import pytest
from spool_world import WAIT, Build

from eventmill.base.errors import (
    AccessError,
    BatchTooLargeError,
    CorruptStoreError,
    PermanentError,
    TableNotFoundError,
    UnavailableError,
)
from eventmill.client.batch_uploader import BatchUploader
from eventmill.client.spool.dead import dead_letters_in
from eventmill.schema.problem import Reason
from eventmill.testing.events import build_type
from eventmill.wire.sink import Features, NotJudgedError
from eventmill.wire.verdict import Rejection, Verdict

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no spool on this system")


@pytest.fixture(params=["disk", "memory"])
def uploader_of(sink, tmp_path, request):
    made = []

    def make(**options):
        place = {"spool_dir": str(tmp_path / "spool")} if request.param == "disk" else {}
        events = BatchUploader(
            sink,
            "contract.builds",
            **{"retry_base_seconds": 0.001, "retry_cap_seconds": 0.01, **place, **options},
        )
        made.append(events)
        return events

    yield make
    sink.gate.set()
    for events in made:
        events.close(WAIT)
        stats = events.stats()
        settled = stats.accepted + stats.duplicates + stats.rejected + stats.left
        assert stats.staged == settled + sum(stats.undelivered.values())


@pytest.mark.parametrize("from_call", ["put", "describe"])
def test_events_wait_while_nobody_judges_them(uploader_of, sink, from_call):
    told = []
    events = uploader_of(on_undelivered=lambda *refused: told.append(refused))
    error = NotJudgedError("something else has answered")
    if from_call == "put":
        sink.errors = [error] * 5
    else:
        sink.describe_error = error
    events.stage(Build(name="a"))
    if from_call == "describe":
        assert events.flush(0.5) == 1
        sink.describe_error = None
    assert events.flush(WAIT) == 0
    assert len(sink.rows) == 1
    assert events.stats().retried > 0
    assert told == []


@pytest.mark.parametrize("error", [TableNotFoundError, AccessError, CorruptStoreError])
def test_events_on_disk_wait_while_a_store_takes_none(sink, tmp_path, error):
    with BatchUploader(
        sink, "contract.builds", spool_dir=str(tmp_path), retry_cap_seconds=0.01
    ) as events:
        sink.errors = [error("not now")] * 5
        events.stage(Build(name="a"))
        assert events.flush(WAIT) == 0
        assert len(sink.rows) == 1
        assert dead_letters_in(events.spool_folder) == []


def test_what_quarantine_does_not_take_holds_back_no_neighbour(uploader_of, sink):
    told = []
    events = uploader_of(on_undelivered=lambda refused, why: told.append((refused, why)))
    sink.describe_error = UnavailableError("down")
    events.stage({"name": "a"}, insert_id="1")
    events.stage({"seconds": "x"}, insert_id="2")
    events.stage({"name": "c"}, insert_id="3")

    def quarantine(refused):
        raise BatchTooLargeError("too large for quarantine")

    sink.quarantine = quarantine
    sink.describe_error = None
    assert events.flush(WAIT) == 0
    assert set(sink.rows) == {b"1", b"3"}
    ((refused, why),) = told
    assert [(event.insert_id, event.is_json) for event in refused] == [("2", True)]
    assert isinstance(why, BatchTooLargeError)
    stats = events.stats()
    assert (stats.accepted, stats.rejected) == (2, 0)
    assert stats.undelivered == {"BatchTooLargeError": 1}


def test_what_a_sink_without_quarantine_rejects_is_handed_back(uploader_of, sink):
    told = []
    events = uploader_of(on_undelivered=lambda refused, why: told.append((refused, why)))
    sink.features = Features(durable=True, dedup_window_seconds=0.0, quarantines=False)
    real = sink.put

    def put(batch, *, timeout_seconds=None):
        real(batch)
        return Verdict(batch.count, (0,), (Rejection(1, "?", Reason.WRONG_TYPE, "name", "no"),))

    sink.put = put
    payloads = [Build(name=name) for name in "abc"]
    for message in payloads:
        events.stage(message, insert_id=f"i-{message.name}")
    assert events.flush(WAIT) == 0
    ((refused, why),) = told
    (event,) = refused
    assert (event.insert_id, event.payload) == ("i-b", payloads[1].SerializeToString())
    assert event.fingerprint == sink.batches[0].fingerprint
    assert isinstance(why, PermanentError)
    stats = events.stats()
    assert (stats.accepted, stats.duplicates, stats.rejected) == (1, 1, 0)
    assert stats.undelivered == {"PermanentError": 1}
    assert len(dead_letters_in(events.spool_folder)) == 1 if events.spool_folder else True


def test_what_close_hands_back_says_by_which_type_it_was_encoded(sink):
    told = []
    sink.describe_error = UnavailableError("down")
    events = BatchUploader(
        sink, "contract.builds", on_undelivered=lambda left, why: told.extend(left)
    )
    events.stage(Build(name="a"))
    events.stage({"name": "b"})
    assert events.close(0.05) == 2
    assert [(event.is_json, event.fingerprint) for event in told] == [
        (False, build_type().fingerprint),
        (True, ""),
    ]
