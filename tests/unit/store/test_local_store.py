"""The embedded store as a whole: what the contracts do not say of every store."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
from queue import SimpleQueue

import pytest
from store_world import (
    BUILDS,
    DAY_SECONDS,
    FIRST_SECOND,
    build_event,
    build_type,
    builds_batch,
    builds_spec,
    stored_ids,
)

from eventmill.base.clock import utc_datetime
from eventmill.base.errors import (
    AccessError,
    BackPressureError,
    QueryCancelledError,
    QueryError,
    StorageFullError,
    UsageError,
)
from eventmill.base.settings import StoreSettings
from eventmill.schema.table import Partitioning, TableId
from eventmill.store.local.compaction import compact_once
from eventmill.store.local.disk import Disk
from eventmill.store.local.lock import server_url
from eventmill.store.local.store import LocalStore
from eventmill.testing.fakes import FakeClock
from eventmill.wire.batch import Batch


@pytest.fixture
def folder(tmp_path):
    return str(tmp_path / "store")


def opened(folder, **changes):
    disk = changes.pop("disk", Disk())
    clock = changes.pop("clock", None)
    kept = {"clock": clock} if clock else {}
    store = LocalStore.open(folder, options=StoreSettings(**changes), disk=disk, **kept)
    store.apply(builds_spec())
    return store


def test_rows_are_seen_at_once_in_log_and_lake_alike_and_after_reopening(folder):
    with opened(folder) as store:
        store.put(builds_batch(range(100), days=3))
        assert len(stored_ids(store)) == 100
        store.seal()
        compact_once(folder)
        store.put(builds_batch(range(100, 150)))
        stats = store.stats(BUILDS)
        assert (stats.log_rows, stats.lake_rows, stats.accepted) == (50, 100, 150)
        assert len(set(stored_ids(store))) == 150
    with opened(folder) as store:
        assert len(set(stored_ids(store))) == 150
        assert store.put(builds_batch(range(150), days=3)).duplicates == 150


@pytest.mark.slow
def test_another_process_reads_while_this_one_writes(folder):
    with opened(folder) as store:
        store.put(builds_batch(range(10)))
        code = (
            "import sys; from eventmill.store.local.store import LocalStore;"
            f"s = LocalStore.open({folder!r}, writer=False);"
            "print(list(s.query('SELECT COUNT(*) AS n FROM ci.builds'))); s.close()"
        )
        out = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
        )
    assert out.stdout.strip() == "[{'n': 10}]"


@pytest.mark.slow
def test_a_second_writer_is_told_who_the_first_is(folder):
    with opened(folder) as store:
        with pytest.raises(UsageError, match=r"this process has .* open already"):
            LocalStore.open(folder)
        code = f"from eventmill.store.local.store import LocalStore; LocalStore.open({folder!r})"
        other = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
        )
        assert f"StoreBusyError: process {os.getpid()} is writing" in other.stderr
        assert server_url(folder) is None
        store.announce("http://127.0.0.1:1")
        assert server_url(folder) == "http://127.0.0.1:1"
    assert server_url(folder) is None


def test_reading_where_there_is_no_store_says_what_makes_one(folder):
    with pytest.raises(UsageError, match="there is no store in"):
        LocalStore.open(folder, writer=False)


def test_a_reader_may_not_put(folder):
    with opened(folder):
        pass
    with (
        LocalStore.open(folder, writer=False) as reader,
        pytest.raises(AccessError, match="opened for reading"),
    ):
        reader.put(builds_batch([1]))


def test_the_store_keeps_its_own_tables_to_itself(folder):
    with opened(folder) as store:
        own = TableId("local", "eventmill", "quarantine")
        with pytest.raises(AccessError):
            store.put(Batch.build(own, "", [b"a"], [b""]))
        with pytest.raises(AccessError):
            store.drop(own)
        with pytest.raises(AccessError):
            store.apply(store.describe(own).spec)
        assert [str(t.id) for t in store.tables()] == ["local.ci.builds"]


def test_expired_partitions_go_and_are_counted(folder):
    clock = FakeClock(FIRST_SECOND + 4 * DAY_SECONDS)
    with opened(folder, clock=clock, file_grace_seconds=0.0) as store:
        store.apply(
            builds_spec(
                partitioning=Partitioning(column="ended_at", expiration_seconds=3 * DAY_SECONDS)
            )
        )
        store.put(builds_batch(range(90), days=3))
        store.seal()
        report = compact_once(folder, clock=clock)
        assert report.expired_rows == 30
        stats = store.stats(BUILDS)
        assert (stats.rows, stats.expired_rows, stats.accepted) == (60, 30, 90)
        days = store.query("SELECT DISTINCT DATE(ended_at) AS d FROM ci.builds")
        assert len(days) == 2
        clock.advance(1)
        compact_once(folder, clock=clock, options=StoreSettings(file_grace_seconds=0.0))
        files = [n for _, _, names in os.walk(folder) for n in names if n.endswith(".parquet")]
        assert len(files) == 2


def test_a_repeat_from_before_the_window_is_taken_out_by_compaction(folder):
    clock = FakeClock(FIRST_SECOND)
    options = {"dedup_window_seconds": 3600.0, "clock": clock}
    with opened(folder, **options) as store:
        store.put(builds_batch(range(20)))
        store.seal()
        compact_once(folder, clock=clock)
        clock.advance(3 * 3600)
        verdict = store.put(builds_batch(range(10, 30)))
        assert verdict.accepted == 20
        store.seal()
        report = compact_once(
            folder, clock=clock, options=StoreSettings(dedup_window_seconds=3600.0)
        )
        assert report.deduplicated_rows == 10
        assert stored_ids(store) == sorted(f"b-{n}" for n in range(30))
        stats = store.stats(BUILDS)
        assert (stats.accepted, stats.rows, stats.deduplicated_rows) == (40, 30, 10)


def test_senders_are_asked_to_pause_when_compaction_is_behind_and_go_on_after_it(folder):
    clock = FakeClock(FIRST_SECOND)
    with opened(folder, clock=clock, segment_bytes=2_000, sealed_bytes_max=10_000) as store:

        def put_all():
            for turn in range(100):
                store.put(builds_batch(range(turn * 50, turn * 50 + 50)))
                clock.advance(1)

        with pytest.raises(BackPressureError, match="wait for compaction") as refused:
            put_all()
        assert refused.value.retry_after_seconds
        kept = store.stats(BUILDS).rows
        assert kept < 5_000
        compact_once(folder)
        clock.advance(1)
        assert store.put(builds_batch(range(9_000, 9_010))).accepted == 10
        assert store.stats(BUILDS).rows == kept + 10


class FullDisk(Disk):
    """Says that no space is left while ``full``, after writing half."""

    full = False
    refusals = 0

    def append(self, fd, parts):
        if self.full:
            self.refusals += 1
            whole = b"".join(parts)
            os.write(fd, whole[: len(whole) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().append(fd, parts)


def test_on_a_full_disk_acks_stop_reads_go_on_and_ingest_resumes(folder):
    disk = FullDisk()
    with opened(folder, disk=disk) as store:
        store.put(builds_batch(range(10)))
        disk.full = True
        for _ in range(3):
            with pytest.raises(StorageFullError, match="no space is left"):
                store.put(builds_batch(range(5, 20)))
        assert disk.refusals >= 3
        assert len(stored_ids(store)) == 10
        disk.full = False
        verdict = store.put(builds_batch(range(5, 20)))
        assert (verdict.accepted, verdict.duplicates) == (10, 5)
        assert stored_ids(store) == sorted(f"b-{n}" for n in range(20))


def test_a_duplicate_is_not_answered_before_the_first_of_its_kind_is_synced(folder):
    entered, release = threading.Event(), threading.Event()

    class SlowDisk(Disk):
        fail = False

        def append(self, fd, parts):
            if self.fail:
                entered.set()
                release.wait(10)
                raise OSError(errno.EIO, "Input/output error")
            return super().append(fd, parts)

    disk = SlowDisk()
    with opened(folder, disk=disk) as store:
        store.put(builds_batch([0]))
        disk.fail = True
        first, second = SimpleQueue(), SimpleQueue()
        store.submit(builds_batch(range(1, 5)), lambda *answer: first.put(answer))
        assert entered.wait(10)
        store.submit(builds_batch(range(1, 5)), lambda *answer: second.put(answer))
        assert second.empty()
        disk.fail = False
        release.set()
        # The first failed and was stored nowhere, so the second is no duplicate of it.
        assert first.get(timeout=10)[1] is not None
        assert second.get(timeout=10)[0].accepted == 4
        assert len(stored_ids(store)) == 5


def test_an_answer_that_fails_does_not_stop_the_committer(folder, caplog):
    def broken(*_):
        raise RuntimeError("the loop is closed")

    with opened(folder) as store:
        store.submit(builds_batch([1]), broken)
        assert store.put(builds_batch([1, 2])).duplicates == 1
    assert "an answer could not be given" in caplog.text


def test_concurrent_putters_share_syncs(folder):
    syncs = []

    class CountingDisk(Disk):
        def append(self, fd, parts):
            syncs.append(fd)
            return super().append(fd, parts)

    with opened(folder, disk=CountingDisk()) as store:
        store.put(builds_batch([0]))
        del syncs[:]
        answers = SimpleQueue()
        for number in range(1, 201):
            store.submit(builds_batch([number]), lambda *answer: answers.put(answer))
        assert sum(answers.get(timeout=10)[0].accepted for _ in range(200)) == 200
        assert 0 < len(syncs) < 100


def test_a_quiet_table_is_sealed_after_its_time(folder):
    with opened(folder, seal_after_seconds=0.05) as store:
        store.put(builds_batch(range(5)))
        for _ in range(200):
            if compact_once(folder).rows:
                break
            threading.Event().wait(0.02)
        assert store.stats(BUILDS).lake_rows == 5


def test_small_files_of_a_partition_become_one(folder):
    with opened(folder) as store:
        merged = 0
        for turn in range(8):
            store.put(builds_batch(range(turn * 10, turn * 10 + 10)))
            store.seal()
            merged += compact_once(folder).merged_files
        assert merged == 8
        assert stored_ids(store) == sorted(f"b-{n}" for n in range(80))
        assert store.stats(BUILDS).lake_rows == 80


def test_a_dropped_table_is_gone_and_its_name_can_be_used_again(folder):
    with opened(folder) as store:
        store.put(builds_batch(range(5)))
        store.seal()
        compact_once(folder)
        store.drop(BUILDS)
        assert store.tables() == []
        store.apply(builds_spec())
        assert store.stats(BUILDS).accepted == 0
        assert store.put(builds_batch(range(5))).accepted == 5
        assert len(stored_ids(store)) == 5


def test_what_is_left_of_a_dropped_table_cannot_come_back_into_a_new_one(folder):
    with opened(folder) as store:
        store.put(builds_batch(range(5)))
        tables = os.path.join(folder, "tables")
        (old,) = [name for name in os.listdir(tables) if "ci.builds" in name]
        shutil.copytree(os.path.join(tables, old), os.path.join(folder, "left"))
        store.drop(BUILDS)
        shutil.move(os.path.join(folder, "left"), os.path.join(tables, old))
        store.apply(builds_spec())
        store.put(builds_batch([7]))
        assert stored_ids(store) == ["b-7"]
    with opened(folder) as store:
        assert stored_ids(store) == ["b-7"]


def test_a_segment_whose_removal_a_power_cut_undid_is_not_taken_in_again(folder):
    with opened(folder) as store:
        store.put(builds_batch(range(6)))
        store.seal()
        (log,) = [
            os.path.join(root, name)
            for root, _, names in os.walk(folder)
            for name in names
            if name.endswith(".log") and "ci.builds" in root
        ]
        with open(log, "rb") as file:
            content = file.read()
        compact_once(folder)
    with open(log, "wb") as file:
        file.write(content)
    with opened(folder) as store:
        store.put(builds_batch(range(5, 8)))
        store.seal()
        compact_once(folder)
        assert stored_ids(store) == sorted(f"b-{n}" for n in range(8))


def test_without_deduplication_compaction_keeps_repeats_too(folder):
    with opened(folder, dedup_window_seconds=0.0) as store:
        for _ in range(2):
            assert store.put(builds_batch([1])).accepted == 1
            store.seal()
            compact_once(folder, options=StoreSettings(dedup_window_seconds=0.0))
        assert stored_ids(store) == ["b-1", "b-1"]


def test_rows_that_a_dead_process_left_open_are_sealed_when_the_store_is_opened(folder):
    with opened(folder) as store:
        store.put(builds_batch(range(5)))
        shutil.copytree(folder, folder + "-killed")
    with LocalStore.open(folder + "-killed") as store:
        assert compact_once(folder + "-killed").rows == 5
        assert len(stored_ids(store)) == 5


def test_partition_pruning_shows_in_the_bytes_of_a_dry_run(folder):
    with opened(folder) as store:
        store.put(builds_batch(range(300), days=10))
        store.seal()
        compact_once(folder)
        whole = store.query("SELECT COUNT(*) AS n FROM ci.builds", dry_run=True).stats
        where = "WHERE ended_at >= TIMESTAMP_SECONDS(@a) AND ended_at < TIMESTAMP_SECONDS(@b)"
        params = {"a": FIRST_SECOND, "b": FIRST_SECOND + 3000}
        part = store.query(
            f"SELECT COUNT(*) AS n FROM ci.builds {where}", params, dry_run=True
        ).stats
        assert 0 < part.bytes_scanned < whole.bytes_scanned / 4
        counted = store.query(f"SELECT COUNT(*) AS n FROM ci.builds {where}", params)
        assert next(iter(counted))["n"] == 30


SLOW = (
    "SELECT COUNT(*) AS n FROM UNNEST(GENERATE_ARRAY(1, 20000)) AS a,"
    " UNNEST(GENERATE_ARRAY(1, 200000)) AS b WHERE MOD(a * b, 7) = 3"
)


def test_a_query_is_stopped_by_its_caller_and_by_its_time_limit(folder):
    with opened(folder) as store:
        with pytest.raises(QueryCancelledError, match=r"stopped after 0\.2 s"):
            store.query(SLOW, timeout_seconds=0.2)
        cancel = threading.Event()
        timer = threading.Timer(0.2, cancel.set)
        timer.start()
        with pytest.raises(QueryCancelledError, match="cancelled"):
            store.query(SLOW, cancel=cancel)
        timer.join()


def test_ctrl_c_ends_a_query_and_not_its_store(folder):
    assert threading.current_thread() is threading.main_thread()
    with opened(folder) as store:
        timer = threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT))
        timer.start()
        # Deaf to the signal, the query would run until its time is over and raise another error.
        with pytest.raises(KeyboardInterrupt):
            store.query(SLOW, timeout_seconds=5.0)
        timer.join()
        assert next(iter(store.query("SELECT 1 AS n")))["n"] == 1


def test_an_event_of_the_last_microsecond_is_told_as_it_is(folder):
    with opened(folder) as store:
        event = build_type().cls(number=1)
        event.ended_at.FromJsonString("9999-12-31T23:59:59.999999999Z")
        encoded = event.SerializeToString()
        store.put(Batch.build(BUILDS, build_type().fingerprint, [b"last"], [encoded]))
        newest = store.stats(BUILDS).newest_event_at
        assert utc_datetime(newest).year == 9999
        with pytest.raises(QueryError, match="column late has a time outside the years"):
            store.query("SELECT TIMESTAMP_ADD(ended_at, INTERVAL 1 DAY) AS late FROM ci.builds")


def test_an_unknown_column_is_named_with_what_was_perhaps_meant(folder):
    with opened(folder) as store:
        for sql in ("SELECT buildr FROM ci.builds", "SELECT 1 FROM ci.builds WHERE buildr = 'x'"):
            with pytest.raises(QueryError, match=r"no column buildr in local\.ci\.builds; did you"):
                store.query(sql)


def test_the_limit_on_rows_is_said(folder):
    with opened(folder) as store:
        store.put(builds_batch(range(50)))
        answer = store.query("SELECT number FROM ci.builds ORDER BY number", row_limit=7)
        assert [row["number"] for row in answer] == list(range(7))
        assert answer.stats.truncated
        whole = store.query("SELECT number FROM ci.builds", row_limit=50)
        assert not whole.stats.truncated


def test_an_event_of_another_table_is_quarantined_and_named(folder):
    with opened(folder) as store:
        newer = b"\xf2\x3f\x03new"  # field 1022
        batch = Batch.build(BUILDS, "0123456789abcdef", [b"a", b"b"], [newer, build_event(2)])
        verdict = store.put(batch)
        assert verdict.accepted == 1
        assert verdict.rejected[0].reason == "unknown_field"
        assert "1022" in verdict.rejected[0].message
        kept = next(iter(store.query("SELECT payload, insert_id FROM eventmill.quarantine")))
        assert (kept["payload"], kept["insert_id"]) == (newer, "a")
        store.put(batch)
        counted = store.query("SELECT COUNT(*) AS n FROM eventmill.quarantine")
        assert next(iter(counted))["n"] == 1


def test_messages_of_the_table_type_can_be_put_with_nested_values(folder):
    with opened(folder) as store:
        event = build_type().cls(number=7, builder="mac", status=2, tags=["a", "b"])
        event.steps.add(name="compile", status=1, duration_us=5)
        event.properties["os"] = "mac"
        store.put(
            Batch.build(BUILDS, build_type().fingerprint, [b"n"], [event.SerializeToString()])
        )
        for _ in range(2):  # from the log, then from the lake
            row = next(iter(store.query("SELECT * FROM ci.builds")))
            assert row["status"] == "FAILURE"
            assert row["ended_at"] is None
            assert row["cpu_seconds"] is None
            assert row["steps"] == [{"name": "compile", "status": "SUCCESS", "duration_us": 5}]
            assert row["properties"] == [{"key": "os", "value": "mac"}]
            store.seal()
            compact_once(folder)


def test_a_clock_that_is_set_ahead_does_not_empty_the_window(folder):
    class Clock(FakeClock):
        ahead = 0.0

        def now(self):
            return super().now() + self.ahead

    clock = Clock(FIRST_SECOND)
    with opened(folder, clock=clock) as store:
        store.apply(builds_spec())
        assert store.put(builds_batch([1, 2])).accepted == 2
        clock.ahead = 3 * DAY_SECONDS
        assert store.put(builds_batch([2, 3])).duplicates == 1
        clock.advance(2 * DAY_SECONDS)  # and now the time has passed
        assert store.put(builds_batch([1])).duplicates == 0
