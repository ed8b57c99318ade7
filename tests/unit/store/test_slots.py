"""Slots in the embedded store: their files, beside compaction, restarts, expiry and clocks."""

from __future__ import annotations

import os
import sqlite3
import threading
from dataclasses import replace

import pyarrow as pa
import pytest

from eventmill.base.errors import (
    AccessError,
    StorageFullError,
    TableNotFoundError,
    UsageError,
)
from eventmill.base.settings import StoreSettings
from eventmill.cli.tail import Feed
from eventmill.schema.table import Partitioning
from eventmill.store.local import compaction, slot_writer
from eventmill.store.local.compaction import compact_once
from eventmill.store.local.disk import Disk
from eventmill.store.local.leaving import Leaving
from eventmill.store.local.store import LocalStore
from eventmill.store.slots import SlotOutcome
from eventmill.testing.contracts.slots import HOUR, hour, output
from eventmill.testing.events import BUILDS, build_batch, build_spec
from eventmill.testing.fakes import FakeClock

OPTIONS = StoreSettings(file_grace_seconds=0.0)


@pytest.fixture
def folder(tmp_path):
    return str(tmp_path / "store")


@pytest.fixture
def store(folder):
    with LocalStore.open(folder, options=OPTIONS) as store:
        store.apply(build_spec())
        yield store


def compact(store, **given):
    report = compact_once(store.path, options=OPTIONS, **given)
    assert report.errors == []
    return report


def fill(store, slots, *, rows=2):
    for number in slots:
        store.replace_slot(BUILDS, hour(number), output(f"h{number:02}", rows), generation=1)


def names(store):
    sql = "SELECT name, COUNT(*) AS n FROM contract.builds GROUP BY name ORDER BY name"
    return {row["name"]: row["n"] for row in store.query(sql)}


def live_files(folder):
    db = sqlite3.connect(f"{folder}/store.db")
    try:
        found = db.execute("SELECT name FROM files WHERE removed_at IS NULL").fetchall()
    finally:
        db.close()
    return sorted(name for (name,) in found)


def files_on_disk(folder):
    found = []
    for root, _, files in os.walk(os.path.join(folder, "tables")):
        found += [name for name in files if "lake" in root]
    return sorted(found)


class HookedDisk(Disk):
    """Calls ``hook`` before the names of new files are made sure of, so many times."""

    def __init__(self, hook, times=1):
        self.hook = hook
        self.left = times

    def sync_folder(self, path):
        if self.left and "lake" in path:
            self.left -= 1
            self.hook()
        super().sync_folder(path)


class FullDisk(Disk):
    """Has no space for new files while ``is_full``."""

    is_full = False

    def sync_file(self, path):
        if self.is_full:
            raise OSError(28, "No space left on device")
        super().sync_file(path)


# -- files --------------------------------------------------------------------------------


def test_small_files_of_slots_are_put_together_and_apart_from_those_of_events(store):
    for number in range(8):
        store.put(build_batch(f"put{number}"))
        store.seal()
        compact_once(store.path, options=OPTIONS)
    fill(store, range(7))
    compact(store)
    assert len(live_files(store.path)) == 8  # seven of slots are too few
    fill(store, [7])
    assert compact(store).merged_files == 8
    assert len(live_files(store.path)) == 2
    before = names(store)
    fill(store, range(8, 15))
    assert compact(store).merged_files == 8, "what was put together is small enough to be again"
    assert names(store) == {**before, **{f"h{n:02}": 2 for n in range(8, 15)}}
    outcome = store.replace_slot(BUILDS, hour(3), output("new", 1), generation=2)
    assert outcome == SlotOutcome(1, 2)
    compact(store)
    stats = store.stats(BUILDS)
    assert (stats.rows, stats.replaced_rows, stats.accepted) == (8 + 29, 2, 8 + 31)


def test_files_that_nobody_lists_are_gone_after_the_grace_period(store):
    fill(store, range(9))
    compact(store)
    store.replace_slot(BUILDS, hour(3), output("new", 1), generation=2)
    compact(store)
    assert files_on_disk(store.path) == [os.path.basename(name) for name in live_files(store.path)]


def test_what_a_dead_writer_left_is_removed_by_the_next_one_and_not_by_the_compactor(store):
    fill(store, [0])
    lake = os.path.join(store.path, "tables")
    (day,) = [root for root, _, files in os.walk(lake) if "DAY=" in root and files]
    left = [
        "slot-0000000000000001-000001-m0.parquet",
        "slot-0000000000000002-000001-m0.parquet.tmp",
    ]
    for name in left:
        with open(os.path.join(day, name), "wb") as file:
            file.write(b"PAR1")
    compact(store)
    assert set(left) <= set(files_on_disk(store.path))
    with LocalStoreAgain(store) as again:
        fill(again, [1])
        assert not set(left) & set(files_on_disk(again.path))
        assert names(again) == {"h00": 2, "h01": 2}


class LocalStoreAgain:
    """Closes a store and opens its folder anew."""

    def __init__(self, store, **given):
        store.close()
        self.store = LocalStore.open(store.path, options=OPTIONS, **given)

    def __enter__(self):
        return self.store

    def __exit__(self, *exc):
        self.store.close()


def test_a_full_disk_changes_nothing_and_leaves_nothing(folder):
    disk = FullDisk()
    with LocalStore.open(folder, options=OPTIONS, disk=disk) as store:
        store.apply(build_spec())
        fill(store, [0])
        disk.is_full = True
        with pytest.raises(StorageFullError):
            store.replace_slot(BUILDS, hour(0), output("new", 5), generation=2)
        assert names(store) == {"h00": 2}
        disk.is_full = False
        store.replace_slot(BUILDS, hour(0), output("new", 5), generation=2)
        assert names(store) == {"new": 5}
        compact(store)
        assert len(files_on_disk(folder)) == 1


def test_a_reader_may_not_replace(store):
    with (
        LocalStore.open(store.path, writer=False) as reader,
        pytest.raises(AccessError, match="opened for reading"),
    ):
        reader.replace_slot(BUILDS, hour(0), output("x", 1), generation=1)


def test_a_file_of_an_older_definition_keeps_its_columns_when_a_slot_leaves_it(store):
    fill(store, range(9))
    compact(store)
    store.apply(build_spec(version="newest"))
    rows = pa.table({"name": ["new"], "host": ["h"], "ports": [[1]]})
    store.replace_slot(BUILDS, hour(4), rows, generation=2)
    sql = "SELECT name, host, ports FROM contract.builds WHERE name IN ('h03', 'new') ORDER BY name"
    old = {"name": "h03", "host": None, "ports": []}
    assert list(store.query(sql)) == [old, old, {"name": "new", "host": "h", "ports": [1]}]
    compact(store)
    assert list(store.query(sql)) == [old, old, {"name": "new", "host": "h", "ports": [1]}]


# -- beside compaction --------------------------------------------------------------------


def test_a_replacement_begins_anew_when_compaction_has_put_its_files_together(folder):
    disk = HookedDisk(lambda: compact_once(folder, options=OPTIONS), times=0)
    with LocalStore.open(folder, options=OPTIONS, disk=disk) as store:
        store.apply(build_spec())
        fill(store, range(9))
        disk.left = 1
        outcome = store.replace_slot(BUILDS, hour(4), output("new", 1), generation=2)
        assert disk.left == 0
        assert outcome == SlotOutcome(1, 2)
        expected = {f"h{n:02}": 2 for n in range(9) if n != 4}
        assert names(store) == {**expected, "new": 1}
        # A file was written without the slot's rows, as it had been put together with others.
        assert any("-000002-m0" in name for name in live_files(folder))
        assert len(live_files(folder)) == 2


def test_a_replacement_begins_anew_when_a_file_vanishes_before_it_is_read(store, monkeypatch):
    fill(store, range(9))
    compact(store)
    (before,) = live_files(store.path)
    read, struck = slot_writer.read_as_it_was, []

    def strike(path):
        if not struck:
            struck.append(path)
            fill(store_of_others, range(9, 17))
            for _ in range(2):  # put together, and then removed
                compact(store)
            assert not os.path.exists(path)
        return read(path)

    monkeypatch.setattr(slot_writer, "read_as_it_was", strike)
    store_of_others = OtherSlots(store)
    outcome = store.replace_slot(BUILDS, hour(4), output("new", 1), generation=2)
    assert struck[0].endswith(before)
    assert outcome == SlotOutcome(1, 2)
    compact(store)
    assert names(store) == {**{f"h{n:02}": 2 for n in range(17) if n != 4}, "new": 1}
    compact(store)
    assert files_on_disk(store.path) == [os.path.basename(name) for name in live_files(store.path)]


class OtherSlots:
    """Replaces slots of a store's table while one of them is on its way."""

    def __init__(self, store):
        self._store = store

    def replace_slot(self, table, *args, **given):
        turns = self._store._slots._turns
        kept = dict(turns)
        for uid in kept:  # the turn is taken, and what lies there is not left over
            turns[uid] = slot_writer._TableTurn(is_swept=True)
        self._store.replace_slot(table, *args, **given)
        turns.update(kept)


def test_a_merge_is_put_off_when_a_slot_is_replaced_meanwhile(store):
    fill(store, range(9))

    def strike():
        store.replace_slot(BUILDS, hour(4), output("new", 1), generation=2)

    disk = HookedDisk(strike)
    assert compact(store, disk=disk).merged_files == 0
    assert disk.left == 0
    expected = {**{f"h{n:02}": 2 for n in range(9) if n != 4}, "new": 1}
    assert names(store) == expected
    assert compact(store).merged_files == 9
    assert names(store) == expected
    assert len(files_on_disk(store.path)) >= 1
    compact(store)
    assert len(files_on_disk(store.path)) == 1


def expiring_spec():
    partitioning = Partitioning(column="at", expiration_seconds=3 * 86_400)
    return replace(build_spec(), partitioning=partitioning)


def one_row_at(clock):
    return pa.table({"at": pa.array([int(clock.now()) * 10**6], pa.timestamp("us", "UTC"))})


def test_rows_that_expire_while_they_are_replaced_are_counted_once(folder, monkeypatch):
    clock = FakeClock()
    old = one_row_at(clock)
    with LocalStore.open(folder, options=OPTIONS, clock=clock) as store:
        store.apply(expiring_spec())
        for number in range(2):
            store.replace_slot(BUILDS, hour(number), old, generation=1)
        clock.advance(10 * 86_400)
        expires_at, struck = compaction.expires_at, []

        def strike(*args):
            if not struck:
                struck.append(store.replace_slot(BUILDS, hour(0), pa.table({}), generation=2))
            return expires_at(*args)

        monkeypatch.setattr(compaction, "expires_at", strike)
        assert compact_once(folder, options=OPTIONS, clock=clock).expired_rows == 1
        assert struck == [SlotOutcome(0, 1)]
        stats = store.stats(BUILDS)
        assert (stats.rows, stats.expired_rows, stats.replaced_rows) == (0, 1, 1)


def test_rows_that_have_expired_are_not_replaced_and_stand_in_nobodys_way(folder):
    clock = FakeClock()
    old = one_row_at(clock)
    with LocalStore.open(folder, options=OPTIONS, clock=clock) as store:
        store.apply(expiring_spec())
        store.replace_slot(BUILDS, hour(0), old, generation=1)
        store.replace_slot(BUILDS, hour(1), old, generation=1)
        clock.advance(10 * 86_400)
        report = compact_once(folder, options=OPTIONS, clock=clock)
        assert report.expired_rows == 2
        outcome = store.replace_slot(BUILDS, hour(0), old, generation=2)
        assert outcome == SlotOutcome(1, 0), "what has expired is not there to be replaced"
        stats = store.stats(BUILDS)
        assert (stats.rows, stats.expired_rows, stats.replaced_rows) == (1, 2, 0)
        # A longer slot whose rows have all expired does not stand in the way of shorter ones.
        store.replace_slot(BUILDS, hour(0, hours=2), old, generation=3)
        clock.advance(1)
        compact_once(folder, options=OPTIONS, clock=clock)
        assert store.stats(BUILDS).rows == 0
        store.replace_slot(BUILDS, hour(0), old, generation=4)
        assert store.stats(BUILDS).accepted == 5


def test_a_table_that_is_dropped_and_made_again_has_no_slots(store):
    fill(store, range(3))
    store.drop(BUILDS)
    with pytest.raises(TableNotFoundError):
        fill(store, [0])
    store.apply(build_spec())
    assert names(store) == {}
    outcome = store.replace_slot(BUILDS, hour(0, hours=2), output("x", 1), generation=0)
    assert outcome == SlotOutcome(1, 0)


def test_slots_of_one_table_from_many_threads_are_all_there(store):
    def work(first):
        for number in range(first, first + 5):
            for generation in range(1, 4):
                store.replace_slot(
                    BUILDS, hour(number), output(f"h{number:02}", generation), generation=generation
                )

    threads = [threading.Thread(target=work, args=(5 * each,)) for each in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert names(store) == {f"h{n:02}": 3 for n in range(20)}
    assert store.stats(BUILDS).replaced_rows == 20 * 3


# -- restarts and clocks ------------------------------------------------------------------


def test_a_restart_remembers_generations_and_takes_no_insert_id_of_a_slot_for_one_that_was_put(
    store,
):
    store.put(build_batch("put"))
    fill(store, [0])
    with LocalStoreAgain(store) as again:
        assert again.put(build_batch("put")).duplicates == 1
        like = build_batch("alike", insert_ids=[hour(0).insert_id(0).encode()])
        assert again.put(like).accepted == 1
        outcome = again.replace_slot(BUILDS, hour(0), pa.table({}), generation=1)
        assert outcome == SlotOutcome(0, 2)
        assert names(again) == {"alike": 1, "put": 1}


def test_a_row_that_is_put_is_no_late_duplicate_of_one_of_a_slot(folder):
    clock = FakeClock()
    options = replace(OPTIONS, dedup_window_seconds=60.0)
    with LocalStore.open(folder, options=options, clock=clock) as store:
        store.apply(build_spec())
        fill(store, [0])
        clock.advance(120)
        store.put(build_batch("alike", insert_ids=[hour(0).insert_id(0).encode()]))
        store.seal()
        assert compact_once(folder, options=options, clock=clock).deduplicated_rows == 0
        assert names(store) == {"alike": 1, "h00": 2}


@pytest.mark.parametrize("into_the_lake", [False, True])
def test_times_of_ingestion_grow_when_the_clock_goes_back_and_the_store_starts_anew(
    folder, into_the_lake
):
    for life in range(3):
        clock = FakeClock(now=1_790_000_000.0 - life * HOUR)
        with LocalStore.open(folder, options=OPTIONS, clock=clock) as store:
            store.apply(build_spec())
            for turn in range(2):
                store.put(build_batch(f"{life}{turn}put"))
                rows = output(f"{life}{turn}slot", 1)
                store.replace_slot(BUILDS, hour(10 * life + turn), rows, generation=1)
            if life == 0:  # the newest of all is in the log
                store.put(build_batch("09put"))
            if life == 1:  # the newest of all is gone, and is later than all others nevertheless
                store.replace_slot(BUILDS, hour(11), pa.table({}), generation=2)
            if into_the_lake:
                store.seal()
                for _ in range(2):
                    compact(store, clock=clock)
    with LocalStore.open(folder, writer=False) as reader:
        sql = "SELECT name, _ingested_at AS at FROM contract.builds ORDER BY at"
        rows = list(reader.query(sql))
    found = [row["name"] for row in rows]
    assert found == sorted(found)
    assert len({row["at"] for row in rows}) == len(rows) == 12


def test_each_batch_of_one_group_has_its_own_time(folder):
    with LocalStore.open(folder, clock=FakeClock()) as store:
        store.apply(build_spec())
        done = threading.Barrier(9)
        for name in "abcdefgh":
            store.submit(build_batch(name), lambda *_: threading.Thread(target=done.wait).start())
        done.wait(30)
        rows = store.query("SELECT name FROM contract.builds ORDER BY _ingested_at")
        assert [row["name"] for row in rows] == list("abcdefgh")
        (row,) = store.query("SELECT COUNT(DISTINCT _ingested_at) AS n FROM contract.builds")
        assert row["n"] == 8


# -- who reads such a table ---------------------------------------------------------------


def test_a_live_tail_shows_the_rows_of_a_slot_that_is_run_again(store):
    fill(store, [0], rows=1)
    feed = Feed(store, BUILDS)
    assert [row["name"] for row in feed.newest(10)] == ["h00"]
    assert list(feed.fresh()) == []
    store.replace_slot(BUILDS, hour(0), output("again", 1), generation=2)
    assert [row["name"] for row in feed.fresh()] == ["again"]
    assert list(feed.fresh()) == []


def test_a_copy_goes_on_with_new_slots_and_not_when_carried_rows_were_replaced(store):
    fill(store, [0, 1])
    first = Leaving(store.path, BUILDS, "there")
    listed = first.next()
    assert sum(file.rows for file in listed.files) == 4
    first.carried(listed)
    fill(store, [2])
    second = Leaving(store.path, BUILDS, "there")
    listed = second.next()
    assert [file.rows for file in listed.files] == [2]
    second.carried(listed)
    assert Leaving(store.path, BUILDS, "there").next() is None
    fill(store, [0])
    with pytest.raises(UsageError, match="run again since a part of it was copied"):
        Leaving(store.path, BUILDS, "there").next()
    assert sum(file.rows for file in Leaving(store.path, BUILDS, "elsewhere").next().files) == 6
