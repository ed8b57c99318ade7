import json
import random
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventmill.base.errors import (
    BackPressureError,
    StorageFullError,
    TableNotFoundError,
    UnavailableError,
    UsageError,
)
from eventmill.client.http_sink import HttpSink
from eventmill.client.uploader import Uploader, progress_of
from eventmill.schema.document import table_to_json
from eventmill.schema.problem import Reason
from eventmill.schema.table import Table
from eventmill.testing.events import BUILDS, build_spec, build_type
from eventmill.testing.fakes import FakeClock
from eventmill.wire.batch import (
    BATCH_BYTES_MAX,
    BATCH_EVENTS_MAX,
    EVENT_BYTES_MAX,
    Batch,
    payload_overhead_bytes,
)
from eventmill.wire.split import cut

Build = build_type().cls
Timestamp = Build.DESCRIPTOR.fields_by_name["at"].message_type


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def uploader(sink, clock):
    return Uploader(sink, "contract.builds", clock=clock, rng=random.Random(1))


def test_one_message_a_list_an_iterator_and_dicts_are_all_events(uploader, sink):
    assert uploader.put(Build(name="a")).accepted == 1
    assert uploader.put([Build(name="b"), {"name": "c"}]).accepted == 2
    assert uploader.put(Build(name=n) for n in "de").accepted == 2
    assert uploader.put({"name": "f", "seconds": 3}).accepted == 1
    assert uploader.put([]).count == 0
    parse = build_type().parse
    assert [parse(event).name for event in sink.rows.values()] == list("abcdef")
    assert {batch.fingerprint for batch in sink.batches} == {build_type().fingerprint}


@pytest.mark.parametrize("event", ["text", b"bytes", 5, None, [1], [Build(), "x"], [[Build()]]])
def test_what_is_no_event_is_a_usage_error_and_nothing_is_sent(uploader, sink, event):
    with pytest.raises(UsageError):
        uploader.put(event)
    assert sink.batches == []


def test_among_several_events_the_one_that_is_none_is_named(uploader, sink):
    with pytest.raises(UsageError, match=r"event 2, counted from 0: a str is no event"):
        uploader.put([Build(name="a"), {"name": "b"}, "x"])
    assert sink.batches == []


def test_a_message_of_another_type_is_a_usage_error(uploader, sink):
    from google.protobuf.timestamp_pb2 import Timestamp

    with pytest.raises(UsageError, match=r"google.protobuf.Timestamp.*eventmill.testing.Build"):
        uploader.put([Build(name="a"), Timestamp(seconds=1)])
    assert sink.batches == []


def test_a_dict_that_does_not_fit_is_rejected_by_index_and_kept_and_the_others_go_on(
    uploader, sink
):
    rows = [{"name": "a"}, {"nmae": "b"}, {"name": "c"}, {"seconds": "x"}]
    verdict = uploader.put(rows, insert_ids=list("1234"))
    assert [(r.index, r.insert_id, r.reason, r.field) for r in verdict.rejected] == [
        (1, "2", Reason.UNKNOWN_FIELD, "nmae"),
        (3, "4", Reason.WRONG_TYPE, "seconds"),
    ]
    assert verdict.accepted == 2
    assert list(sink.rows) == [b"1", b"3"]
    assert [(event.insert_id, event.payload) for event in sink.quarantined] == [
        ("2", b'{"nmae": "b"}'),
        ("4", b'{"seconds": "x"}'),
    ]


def test_verdicts_of_the_sink_are_given_their_place_among_all_events(uploader):
    uploader.put({"name": "c"}, insert_ids="3")
    verdict = uploader.put([{"x": 1}, {"name": "b"}, {"name": "c"}], insert_ids=list("123"))
    assert (verdict.duplicate_indexes, verdict.accepted) == ((2,), 1)
    assert [r.index for r in verdict.rejected] == [0]


def test_all_events_bad_sends_no_batch(uploader, sink):
    verdict = uploader.put([{"x": 1}, {"y": 1}])
    assert (verdict.count, verdict.accepted, len(verdict.rejected)) == (2, 0, 2)
    assert sink.batches == []


def test_a_column_that_the_table_has_got_since_is_found(uploader, sink):
    assert uploader.put({"name": "a", "host": "h"}).rejected[0].reason is Reason.UNKNOWN_FIELD
    sink.table = Table(build_spec(version="newer"), 2, 0.0, 0.0)
    assert uploader.put({"name": "a", "host": "h"}).accepted == 1


def test_an_event_over_the_limit_is_rejected_alone(uploader, sink):
    large = Build(name="x" * EVENT_BYTES_MAX)
    verdict = uploader.put([Build(name="a"), large, {"name": "y" * EVENT_BYTES_MAX}])
    assert [(r.index, r.reason) for r in verdict.rejected] == [
        (1, Reason.EVENT_TOO_LARGE),
        (2, Reason.EVENT_TOO_LARGE),
    ]
    assert verdict.accepted == 1
    assert [event.is_json for event in sink.quarantined] == [False, True]


def test_many_events_are_cut_into_batches_within_the_limits(uploader, sink):
    assert uploader.put(Build(name=str(n)) for n in range(25_000)).accepted == 25_000
    assert [batch.count for batch in sink.batches] == [10_000, 10_000, 5_000]
    sink.batches.clear()
    assert uploader.put([Build(name="x" * 900_000)] * 25).accepted == 25
    assert [batch.count for batch in sink.batches] == [9, 9, 7]
    assert all(len(batch.payload) <= BATCH_BYTES_MAX for batch in sink.batches)


def test_transient_errors_are_retried_with_the_same_insert_ids(uploader, sink, clock):
    sink.errors = [UnavailableError("1"), BackPressureError("2", retry_after_seconds=3.0), None]
    assert uploader.put(Build(name="a")).accepted == 1
    assert len(sink.timeouts) == 3
    assert 0 <= clock.slept[0] <= 0.1
    assert clock.slept[1] == 3.0
    assert sink.timeouts[0] == 30.0
    assert sink.timeouts[2] == pytest.approx(30.0 - sum(clock.slept))


def test_at_the_deadline_the_last_error_is_raised_with_how_far_it_came(uploader, sink, clock):
    sink.errors = [None] + [UnavailableError("no")] * 500 + [StorageFullError("last")] * 500
    ids = [f"id-{n}" for n in range(BATCH_EVENTS_MAX + 5)]
    with pytest.raises(UnavailableError) as raised:
        uploader.put([Build(name="a")] * len(ids), insert_ids=ids, timeout_seconds=5)
    assert clock.monotonic() <= 5
    assert len(clock.slept) > 3
    progress = progress_of(raised.value)
    assert (progress.verdict.count, progress.verdict.accepted) == (10_000, 10_000)
    assert progress.insert_ids == tuple(ids)
    sink.errors = []
    again = uploader.put([Build(name="a")] * len(ids), insert_ids=progress.insert_ids)
    assert (again.duplicates, again.accepted) == (10_000, 5)


def test_progress_counts_events_that_were_rejected_on_the_way(uploader, sink):
    sink.errors = [UnavailableError("no")] * 1000
    with pytest.raises(UnavailableError) as raised:
        uploader.put([{"x": 1}, {"name": "a"}, {"x": 2}], timeout_seconds=1)
    progress = progress_of(raised.value)
    assert (progress.verdict.count, progress.verdict.accepted) == (1, 0)
    assert progress_of(UnavailableError("other")) is None


def test_the_error_that_is_raised_is_the_last_one(uploader, sink):
    sink.errors = [UnavailableError("1"), *[StorageFullError("2")] * 1000]
    with pytest.raises(StorageFullError):
        uploader.put(Build(), timeout_seconds=2)


def test_a_permanent_error_is_raised_at_once(uploader, sink, clock):
    sink.errors = [TableNotFoundError("gone")]
    with pytest.raises(TableNotFoundError):
        uploader.put(Build())
    assert clock.slept == []
    with pytest.raises(TableNotFoundError):
        Uploader(sink, "contract.none").put(Build())


def test_a_sink_that_cannot_describe_takes_messages_but_no_dicts(sink):
    class Bare:
        put = sink.put

    uploader = Uploader(Bare(), "contract.builds")
    assert uploader.put(Build()).accepted == 1
    with pytest.raises(UsageError, match="schema"):
        uploader.put({"name": "a"})


@pytest.mark.parametrize(
    "insert_ids", ["", ["a"], ["a", ""], ["a", "x" * 129], ["a", "\ud800"], [1, 2]]
)
def test_insert_ids_that_make_no_sense_are_a_usage_error(uploader, sink, insert_ids):
    with pytest.raises(UsageError):
        uploader.put([Build(), Build()], insert_ids=insert_ids)
    assert sink.batches == []


def test_without_insert_ids_every_put_makes_its_own(uploader, sink):
    message = Build(name="a")
    uploader.put(message)
    uploader.put(message)
    assert len(sink.rows) == 2


def test_arguments_that_make_no_sense_are_a_usage_error(sink):
    with pytest.raises(UsageError):
        Uploader(sink, "nonsense")
    with pytest.raises(UsageError):
        Uploader(sink, BUILDS, timeout_seconds=0)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(0, 60)), max_size=40),
    st.integers(1, 6),
    st.integers(payload_overhead_bytes(0) + 80, 400),
)
def test_a_cut_loses_nothing_keeps_order_and_limits(sizes, events_max, bytes_max):
    ids = [b"i" * size for size, _ in sizes]
    events = [b"e" * size for _, size in sizes]
    parts = list(cut(ids, events, events_max=events_max, bytes_max=bytes_max))
    assert [index for part in parts for index in part] == list(range(len(sizes)))
    previous = None
    for part in parts:
        batch = Batch.build(BUILDS, "", ids[part.start : part.stop], events[part.start : part.stop])
        assert 1 <= batch.count <= events_max
        assert len(batch.payload) <= bytes_max
        if previous is not None:  # the next event did not fit any more
            more = [*range(previous.start, previous.stop), part.start]
            grown = Batch.build(BUILDS, "", [ids[i] for i in more], [events[i] for i in more])
            assert grown.count > events_max or len(grown.payload) > bytes_max
        previous = part


@pytest.mark.parametrize("silent", ["GET", "/api/v1/quarantine", "/events"])
def test_a_server_that_says_nothing_holds_a_put_no_longer_than_its_time_limit(script, silent):
    is_over = threading.Event()

    def answer(request):
        if silent in (request.command, request.path) or request.path.endswith(silent):
            is_over.wait(8)
        document = table_to_json(Table(build_spec(), 1, 0.0, 0.0))
        return (200, {}, json.dumps(document if request.command == "GET" else {}).encode())

    script.answer = answer
    with HttpSink(script.url) as sink:
        begun = time.monotonic()
        with pytest.raises(UnavailableError, match="in time"):
            Uploader(sink, BUILDS).put([{"seconds": "x"}, {"name": "a"}], timeout_seconds=0.4)
        assert time.monotonic() - begun < 3
        is_over.set()
