import gc
import logging
import random
import threading
import time

import pytest
from google.protobuf.duration_pb2 import Duration

from eventmill.base.errors import (
    BackPressureError,
    TableNotFoundError,
    UnavailableError,
    UsageError,
)
from eventmill.client.batch_uploader import BatchUploader
from eventmill.client.sending import _Worker
from eventmill.client.tally import RareLog
from eventmill.schema.problem import EventProblem, Reason
from eventmill.schema.table import Table
from eventmill.testing.contracts import ServiceContract
from eventmill.testing.events import BUILDS, build_spec, build_type
from eventmill.testing.fakes import FakeClock
from eventmill.wire.batch import EVENT_BYTES_MAX

Build = build_type().cls
WAIT = 10.0


def conserved(stats):
    settled = stats.accepted + stats.duplicates + stats.rejected + sum(stats.undelivered.values())
    return stats.staged == settled + stats.dropped.get("oldest", 0) + stats.left


@pytest.fixture
def uploader_of(sink):
    made = []

    def make(**options):
        options = {"retry_base_seconds": 0.001, "retry_cap_seconds": 0.01, **options}
        uploader = BatchUploader(sink, "contract.builds", **options)
        made.append(uploader)
        return uploader

    yield make
    sink.gate.set()
    for uploader in made:
        uploader.close(WAIT)
        assert conserved(uploader.stats())


class TestSender(ServiceContract):
    @pytest.fixture
    def service(self, uploader_of):
        return _Worker(uploader_of()._sending, "test")


class TestSyncing(ServiceContract):
    @pytest.fixture
    def service(self, uploader_of):
        return uploader_of()._syncing


def test_events_arrive_in_order_and_are_counted(uploader_of, sink):
    events = uploader_of()
    for number in range(5000):
        assert events.stage(Build(name=str(number)))
    assert events.flush(WAIT) == 0
    parse = build_type().parse
    assert [parse(event).name for event in sink.rows.values()] == [str(n) for n in range(5000)]
    stats = events.stats()
    assert (stats.staged, stats.accepted, stats.left, stats.in_flight) == (5000, 5000, 0, 0)
    assert stats.oldest_age_seconds == 0.0
    assert sink.quarantined == []


def test_no_thread_exists_before_the_first_event(uploader_of):
    before = set(threading.enumerate())  # threads of other tests may end meanwhile
    events = uploader_of()
    assert set(threading.enumerate()) <= before
    events.stage(Build())
    assert len(set(threading.enumerate()) - before) == 1
    assert events.close(WAIT) == 0
    assert set(threading.enumerate()) <= before


def test_a_message_may_be_changed_after_it_was_staged(uploader_of, sink):
    message = Build(name="before")
    row = {"name": "row", "tags": ["x"]}
    events = uploader_of()
    events.stage(message)
    events.stage(row)
    message.name = row["name"] = "after"
    row["tags"].append("y")
    assert events.flush(WAIT) == 0
    parsed = [build_type().parse(event) for event in sink.rows.values()]
    assert [(event.name, list(event.tags)) for event in parsed] == [("before", []), ("row", ["x"])]


def test_a_batch_waits_for_company_until_its_time(uploader_of, sink):
    events = uploader_of(flush_interval_seconds=0.05)
    for number in range(10):
        events.stage(Build(name=str(number)))
    assert sink.arrived.wait(WAIT)
    assert events.flush(WAIT) == 0
    assert sink.batches[0].count > 1


def test_a_full_batch_does_not_wait(uploader_of, sink):
    events = uploader_of(flush_interval_seconds=3600.0, batch_bytes=1000)
    for _ in range(12):
        events.stage(Build(name="x" * 100))
    assert sink.arrived.wait(WAIT)
    assert events.flush(WAIT) == 0
    assert all(len(batch.payload) <= 1000 + 16 for batch in sink.batches)
    assert len(sink.batches) >= 2


def test_own_insert_ids_are_kept_and_make_duplicates(uploader_of, sink):
    events = uploader_of()
    for _ in range(2):
        events.stage(Build(name="a"), insert_id="mine")
        assert events.flush(WAIT) == 0
    assert list(sink.rows) == [b"mine"]
    assert events.stats().duplicates == 1
    with pytest.raises(UsageError):
        events.stage(Build(), insert_id="")


def test_what_does_not_fit_is_told_to_the_caller(uploader_of, sink):
    events = uploader_of()
    events.stage({"name": "a"})
    assert events.flush(WAIT) == 0
    with pytest.raises(EventProblem) as raised:
        events.stage({"seconds": "x"})
    assert (raised.value.reason, raised.value.field) == (Reason.WRONG_TYPE, "seconds")
    with pytest.raises(EventProblem) as raised:
        events.stage(Build(name="x" * EVENT_BYTES_MAX))
    assert raised.value.reason is Reason.EVENT_TOO_LARGE
    for no_event in ("text", None, [Build()]):
        with pytest.raises(UsageError):
            events.stage(no_event)
    with pytest.raises(UsageError, match="Duration"):
        events.stage(Duration())
    assert events.stats().staged == 1


def test_dicts_staged_before_the_schema_is_known_are_judged_when_it_is(uploader_of, sink):
    events = uploader_of()
    sink.describe_error = UnavailableError("down")
    events.stage({"name": "a"}, insert_id="1")
    events.stage({"seconds": "x"}, insert_id="2")
    events.stage({"name": "c"}, insert_id="3")
    assert events.flush(0.05) == 3
    sink.describe_error = None
    assert events.flush(WAIT) == 0
    assert list(sink.rows) == [b"1", b"3"]
    assert [(e.insert_id, e.reason) for e in sink.quarantined] == [("2", Reason.WRONG_TYPE)]
    stats = events.stats()
    assert (stats.accepted, stats.rejected) == (2, 1)
    assert stats.retried > 0


def test_a_dict_with_a_column_that_the_table_has_got_since_is_taken(uploader_of, sink):
    events = uploader_of()
    events.stage({"name": "a"})
    assert events.flush(WAIT) == 0
    sink.table = Table(build_spec(version="newer"), 2, 0.0, 0.0)
    events.stage({"name": "b", "host": "h"}, insert_id="b")
    assert events.flush(WAIT) == 0
    assert build_type("newer").parse(sink.rows[b"b"]).host == "h"


def test_messages_of_another_type_never_reach_the_table(uploader_of, sink):
    undelivered = []
    events = uploader_of(batch_bytes=1, on_undelivered=lambda e, why: undelivered.append((e, why)))
    sink.describe_error = UnavailableError("down")
    events.stage(Duration(seconds=1))
    events.stage(Duration(seconds=2))
    sink.describe_error = None
    assert events.flush(WAIT) == 0
    assert sink.batches == []
    assert sum(len(batch) for batch, _ in undelivered) == 2
    assert all(isinstance(why, UsageError) for _, why in undelivered)
    with pytest.raises(UsageError):
        events.stage(Duration(seconds=3))
    events.stage(Build(name="a"))
    assert events.flush(WAIT) == 0
    assert len(sink.rows) == 1


def test_transient_errors_are_retried_until_they_end(uploader_of, sink):
    sink.errors = [UnavailableError("down")] * 20 + [
        BackPressureError("slow", retry_after_seconds=0.001)
    ]
    events = uploader_of()
    for number in range(100):
        events.stage(Build(name=str(number)))
    assert events.flush(WAIT) == 0
    stats = events.stats()
    assert (stats.accepted, stats.retried) == (100, 21)


def test_what_the_sink_will_not_take_is_handed_back_and_counted(uploader_of, sink):
    undelivered = []
    events = uploader_of(on_undelivered=lambda e, why: undelivered.append((e, why)))
    sink.errors = [TableNotFoundError("gone")]
    events.stage(Build(name="a"), insert_id="1")
    assert events.flush(WAIT) == 0
    events.stage(Build(name="b"), insert_id="2")
    assert events.flush(WAIT) == 0
    ((handed, why),) = undelivered
    assert [(e.insert_id, build_type().parse(e.payload).name) for e in handed] == [("1", "a")]
    assert isinstance(why, TableNotFoundError)
    assert events.stats().undelivered == {"TableNotFoundError": 1}
    assert list(sink.rows) == [b"2"]


def test_without_a_callback_a_loss_is_logged_once_a_minute(uploader_of, sink, caplog):
    sink.errors = [TableNotFoundError("gone")] * 3
    events = uploader_of()
    for _ in range(3):
        events.stage(Build())
        assert events.flush(WAIT) == 0
    assert events.stats().undelivered == {"TableNotFoundError": 3}
    (record,) = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert "gone" in record.getMessage()


def test_a_callback_that_fails_stops_nothing(uploader_of, sink):
    def broken(events, why):
        raise RuntimeError("broken callback")

    events = uploader_of(on_undelivered=broken)
    sink.errors = [TableNotFoundError("gone")]
    events.stage(Build())
    assert events.flush(WAIT) == 0
    events.stage(Build(), insert_id="2")
    assert events.flush(WAIT) == 0
    assert list(sink.rows) == [b"2"]
    assert events.stats().undelivered == {"TableNotFoundError": 1}


def fill(events, sink, name="x" * 900_000):
    """Stage until one batch waits in the sink and the queue has room for no other event."""
    sink.gate.clear()
    sink.arrived.clear()
    events.stage(Build(name=name))
    assert sink.arrived.wait(WAIT)
    events.stage(Build(name=name))


def test_a_full_queue_blocks_until_there_is_room(uploader_of, sink):
    events = uploader_of(spool_bytes_max=2_000_000, flush_interval_seconds=0.0)
    fill(events, sink)
    done = threading.Event()

    def stage():
        events.stage(Build(name="x" * 900_000))
        done.set()

    thread = threading.Thread(target=stage)
    thread.start()
    assert not done.wait(0.05)
    sink.gate.set()
    assert done.wait(WAIT)
    thread.join()
    assert events.flush(WAIT) == 0
    assert len(sink.rows) == 3


def test_a_queue_that_stays_full_is_told_to_the_caller(uploader_of, sink):
    events = uploader_of(
        spool_bytes_max=2_000_000, flush_interval_seconds=0.0, block_timeout_seconds=0.01
    )
    fill(events, sink)
    with pytest.raises(BackPressureError, match="full"):
        events.stage(Build(name="x" * 900_000))
    assert events.stats().dropped == {"timeout": 1}


def test_a_full_queue_can_refuse_the_newest(uploader_of, sink, caplog):
    events = uploader_of(
        spool_bytes_max=2_000_000, flush_interval_seconds=0.0, on_full="drop_newest"
    )
    fill(events, sink)
    assert not events.stage(Build(name="y" * 900_000))
    assert events.stats().dropped == {"newest": 1}
    assert events.stats().staged == 2
    assert "full" in caplog.text


def test_a_full_queue_can_drop_the_oldest(uploader_of, sink):
    events = uploader_of(
        spool_bytes_max=2_000_000, flush_interval_seconds=0.0, on_full="drop_oldest"
    )
    fill(events, sink)
    assert events.stage(Build(name="y" * 900_000), insert_id="newest")
    assert events.stats().dropped == {"oldest": 1}
    sink.gate.set()
    assert events.flush(WAIT) == 0
    assert len(sink.rows) == 2
    assert b"newest" in sink.rows


def test_a_thread_that_waits_for_room_is_woken_by_close(uploader_of, sink):
    events = uploader_of(
        spool_bytes_max=2_000_000, flush_interval_seconds=0.0, block_timeout_seconds=None
    )
    fill(events, sink)
    raised = []

    def stage():
        try:
            events.stage(Build(name="x" * 900_000))
        except UsageError as error:
            raised.append(error)

    thread = threading.Thread(target=stage)
    thread.start()
    events.close(0.05)
    thread.join(WAIT)
    assert not thread.is_alive()
    assert raised


def test_flush_waits_only_for_what_was_staged_before_it(uploader_of, sink):
    events = uploader_of(flush_interval_seconds=0.0)
    sink.gate.clear()
    sink.arrived.clear()
    events.stage(Build(name="a"))
    assert sink.arrived.wait(WAIT)
    assert events.flush(0.01) == 1
    left = []
    flushing = threading.Thread(target=lambda: left.append(events.flush(WAIT)))
    flushing.start()
    events.stage(Build(name="b"))
    sink.gate.set()
    flushing.join(WAIT)
    assert left == [0]


def test_close_keeps_to_its_time_and_hands_back_what_is_left(uploader_of, sink):
    undelivered = []
    events = uploader_of(
        flush_interval_seconds=0.0, on_undelivered=lambda e, why: undelivered.append((e, why))
    )
    sink.gate.clear()
    sink.arrived.clear()
    events.stage(Build(name="a"), insert_id="1")
    assert sink.arrived.wait(WAIT)
    events.stage(Build(name="b"), insert_id="2")
    begun = time.monotonic()
    assert events.close(0.1) == 2
    assert time.monotonic() - begun < 2.0
    assert events.close(0.1) == 0
    ((handed, why),) = undelivered
    assert [e.insert_id for e in handed] == ["1", "2"]
    assert isinstance(why, UnavailableError)
    with pytest.raises(UsageError, match="closed"):
        events.stage(Build())
    assert events.stats().undelivered == {"UnavailableError": 2}


def test_close_does_not_wait_out_a_long_pause_between_attempts(uploader_of, sink):
    sink.errors = [UnavailableError("down")]

    class Longest(random.Random):
        def uniform(self, a, b):
            return b

    events = uploader_of(
        flush_interval_seconds=0.0,
        retry_base_seconds=3600.0,
        retry_cap_seconds=3600.0,
        rng=Longest(),
    )
    events.stage(Build(name="a"))
    assert sink.arrived.wait(WAIT)
    assert events.close(WAIT) == 0
    assert len(sink.rows) == 1


def test_the_end_of_a_with_block_sends_everything(sink):
    with BatchUploader(sink, BUILDS, flush_interval_seconds=3600.0) as events:
        events.stage(Build(name="a"))
    assert len(sink.rows) == 1


def test_many_threads_may_stage_at_once(uploader_of, sink):
    events = uploader_of(batch_bytes=2000, in_flight_max=1)

    def stage(thread):
        for number in range(300):
            events.stage(Build(name="x"), insert_id=f"{thread}-{number}")

    threads = [threading.Thread(target=stage, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert events.flush(WAIT) == 0
    assert len(sink.rows) == 1800
    for thread in range(6):
        mine = [int(i.split(b"-")[1]) for i in sink.rows if i.startswith(b"%d-" % thread)]
        assert mine == list(range(300))


@pytest.mark.parametrize(
    "options",
    [
        {"batch_bytes": 0},
        {"batch_bytes": 10_000_000},
        {"spool_bytes_max": 1000},
        {"on_full": "explode"},
        {"flush_interval_seconds": -1},
        {"request_timeout_seconds": 0},
        {"in_flight_max": 0},
        {"durability": "eternal"},
        {"durability": "memory", "spool_dir": "x"},
        {"durability": "process"},
    ],
)
def test_arguments_that_make_no_sense_are_a_usage_error(sink, options):
    with pytest.raises(UsageError):
        BatchUploader(sink, "contract.builds", **options)


def test_a_user_without_a_home_is_told_where_a_spool_could_be(sink, monkeypatch):
    def nobody(user):
        raise KeyError(user)

    sink.address = "http://127.0.0.1:1"
    for name in ("HOME", "XDG_STATE_HOME", "EVENTMILL_SPOOL_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)
    with pytest.raises(UsageError, match="EVENTMILL_SPOOL_DIR"):
        BatchUploader(sink, BUILDS)
    assert BatchUploader(sink, BUILDS, durability="memory").close() == 0
    monkeypatch.setenv("EVENTMILL_SPOOL_DIR", "/spools")
    assert BatchUploader(sink, BUILDS).spool_folder.startswith("/spools/")


@pytest.mark.parametrize("on_full", ["drop_oldest", "drop_newest", "block"])
def test_no_event_is_taken_between_the_count_of_what_is_left_and_the_end(
    uploader_of, sink, monkeypatch, on_full
):
    sink.describe_error = UnavailableError("down")
    events = uploader_of(on_full=on_full, spool_bytes_max=2_000_000)
    while events.stats().staged_bytes < 1_950_000:
        events.stage(Build(name="x" * 50_000))
    room, closings = events._room.take_in, []

    def take_in(*refused):
        closings.append(events.begin_close())  # by another thread
        return room(*refused)

    monkeypatch.setattr(events._room, "take_in", take_in)
    with pytest.raises(UsageError, match="closed"):
        events.stage(Build(name="x" * 100_000))
    staged = events.stats().staged
    assert closings[0].end(0.0) == staged


def test_a_cause_is_logged_once_a_minute_with_how_often_it_was_held_back(caplog):
    clock = FakeClock()
    log = RareLog(clock)
    for _ in range(5):
        log.tell(logging.ERROR, "a", "a happened")
    log.tell(logging.ERROR, "b", "b happened")
    clock.advance(60)
    log.tell(logging.ERROR, "a", "a happened")
    assert [record.getMessage() for record in caplog.records] == [
        "a happened",
        "b happened",
        "a happened (4 more like it)",
    ]


def test_a_closed_uploader_is_forgotten(sink):
    events = BatchUploader(sink, BUILDS)
    events.close()
    import weakref

    gone = weakref.ref(events)
    del events
    gc.collect()
    assert gone() is None
