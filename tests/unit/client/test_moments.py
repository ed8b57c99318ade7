"""Moments between two steps of the sender, in which something else happens."""

import os
import threading

import pytest
from spool_world import ALL, WAIT, Build, Owner, numbers_of

from eventmill.base.errors import UsageError
from eventmill.client.batch_uploader import BatchUploader
from eventmill.client.spool import segment
from eventmill.client.spool.place import SpoolPlace
from eventmill.client.spool.spool import Spool
from eventmill.testing.fakes import FakeClock

SIZE = 100_000


@pytest.fixture
def uploader_of(sink, tmp_path):
    made = []

    def make(**options):
        options = {"spool_dir": str(tmp_path), "flush_interval_seconds": 0.0, **options}
        made.append(BatchUploader(sink, "contract.builds", **options))
        return made[-1]

    yield make
    sink.gate.set()
    for uploader in made:
        uploader.close(WAIT)


def filled(uploader_of, sink, **options):
    """Return an uploader whose spool has no room for one more event, and is not being sent."""
    events = uploader_of(spool_bytes_max=2_000_000, **options)
    sink.gate.clear()
    while events._spool.bytes < 1_850_000:
        events.stage(Build(tags=["x" * SIZE]))
    return events


def just_before_waiting(events, action):
    """Do ``action`` when ``stage`` has found no room, and does not wait for it yet."""
    real = events._room.take_in

    def take_in(*arguments):
        action()
        return real(*arguments)

    events._room.take_in = take_in


def test_room_made_just_before_stage_waits_for_it_is_seen(uploader_of, sink):
    events = filled(uploader_of, sink, block_timeout_seconds=0.001)

    def make_room():
        sink.gate.set()
        assert events.flush(WAIT) == 0

    just_before_waiting(events, make_room)
    assert events.stage(Build(tags=["x" * SIZE]))
    assert events.stats().dropped == {}


def test_a_close_just_before_stage_waits_for_room_is_seen(uploader_of, sink):
    events = filled(uploader_of, sink, block_timeout_seconds=None)
    just_before_waiting(events, lambda: events.close(0.0))
    with pytest.raises(UsageError, match="closed"):
        events.stage(Build(tags=["x" * SIZE]))


def test_ctrl_c_in_close_hands_back_what_is_in_memory(uploader_of, sink, monkeypatch):
    back = []
    events = uploader_of(
        spool_dir=None, durability="memory", on_undelivered=lambda left, _: back.extend(left)
    )
    sink.gate.clear()
    events.stage(Build(name="a"))

    def interrupted(timeout_seconds=None):
        raise KeyboardInterrupt

    monkeypatch.setattr(events, "flush", interrupted)
    with pytest.raises(KeyboardInterrupt):
        events.close(WAIT)
    assert [event.payload for event in back] == [Build(name="a").SerializeToString()]
    with pytest.raises(UsageError, match="closed"):
        events.stage(Build())


def gated_sync(monkeypatch):
    """Let the first sync of a file hang until ``go`` is set; return both events and the count."""
    reached, go, synced = threading.Event(), threading.Event(), []
    real = os.fdatasync

    def sync(descriptor):
        if not reached.is_set():
            reached.set()
            assert go.wait(WAIT)
        real(descriptor)
        synced.append(descriptor)

    monkeypatch.setattr(segment.os, "fdatasync", sync)
    return reached, go, synced


def test_a_sync_waits_for_a_segment_that_another_one_is_about_to_sync(tmp_path, monkeypatch):
    own = Owner(tmp_path, segment_bytes=100)
    own.append(1, 2)
    reached, go, _ = gated_sync(monkeypatch)
    first = threading.Thread(target=own.spool.sync)
    first.start()
    assert reached.wait(WAIT)
    second = threading.Thread(target=own.spool.sync)
    second.start()
    second.join(0.1)
    assert second.is_alive(), "it says that all is synced before it is"
    assert own.spool.synced_count == 0
    go.set()
    first.join(WAIT)
    second.join(WAIT)
    assert own.spool.synced_count == 2


def test_what_is_on_its_way_is_synced_though_the_rest_of_its_segment_is_dropped(
    tmp_path, monkeypatch
):
    own = Owner(tmp_path)
    own.append(1, 2, 3)
    on_its_way = own.spool.take(**{**ALL, "count_max": 1})
    assert own.drop_oldest() == 2
    _, go, synced = gated_sync(monkeypatch)
    go.set()
    own.spool.sync()
    assert len(synced) == 1
    own.spool.settle(on_its_way)
    own.spool.sync()
    assert len(synced) == 1


@pytest.mark.parametrize("is_synced", [True, False])
def test_an_heir_of_durability_host_syncs_what_it_takes_over(tmp_path, monkeypatch, is_synced):
    left = Owner(tmp_path, "gone", segment_bytes=100)
    left.append(1, 2, 3)
    left.crash()
    _, go, synced = gated_sync(monkeypatch)
    go.set()
    place = SpoolPlace(str(tmp_path), "heir", {}, 10_000, 1 << 20, is_synced)
    heir = Spool(threading.RLock(), FakeClock(), place)
    heir.adopt()
    assert len(synced) == (3 if is_synced else 0)
    taken = list(iter(lambda: heir.take(**ALL), None))
    assert numbers_of(taken) == [1, 2, 3]
    heir.close()


def test_an_heir_whose_disk_fails_to_sync_sends_all_the_same(tmp_path, monkeypatch, caplog):
    left = Owner(tmp_path, "gone")
    left.append(1, 2, 3)
    left.crash()

    def fail(descriptor):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(segment.os, "fdatasync", fail)
    place = SpoolPlace(str(tmp_path), "heir", {}, 10_000, 1 << 20, is_synced=True)
    heir = Spool(threading.RLock(), FakeClock(), place)
    heir.adopt()
    assert "cannot be synced" in caplog.text
    assert numbers_of(list(iter(lambda: heir.take(**ALL), None))) == [1, 2, 3]
    heir.close()
