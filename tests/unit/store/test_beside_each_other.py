"""What the writer and the compactor do while the other is at work, or cannot work."""

import glob
import os
import subprocess
import time
from dataclasses import replace

import pytest
from store_world import BUILDS, builds_batch, builds_spec, stored_ids

from eventmill.base.errors import UnavailableError
from eventmill.schema.table import TableId
from eventmill.store.local import compaction, compactor
from eventmill.store.local.compaction import compact_once
from eventmill.store.local.disk import Disk
from eventmill.store.local.log import TableLog
from eventmill.store.local.store import LocalStore
from eventmill.wire.batch import Batch

OTHER = TableId("local", "ci", "others")


@pytest.fixture
def folder(tmp_path):
    return str(tmp_path / "store")


def opened(folder, **options):
    store = LocalStore.open(folder, **options)
    store.apply(builds_spec())
    return store


def test_a_definition_that_changed_after_the_compactor_looked_is_waited_for(folder, monkeypatch):
    """Frames of a definition that it does not know yet may hold columns it would leave out."""
    with opened(folder) as store:
        before = compaction.read_tables
        seen = before(store._admin, {})
        store.apply(replace(builds_spec(), description="changed"))
        store.put(builds_batch(range(20)))
        store.seal()
        monkeypatch.setattr(compaction, "read_tables", lambda *_: seen)
        report = compact_once(folder)
        assert report.rows == 0
        assert "the next round reads it" in report.errors[0]
        assert store.stats(BUILDS).log_rows == 20
        monkeypatch.setattr(compaction, "read_tables", before)
        assert compact_once(folder).rows == 20
        assert len(stored_ids(store)) == 20


def test_a_segment_that_goes_to_the_lake_while_the_log_is_recovered_is_known(folder, monkeypatch):
    with opened(folder) as store:
        store.put(builds_batch(range(20)))
        store.seal()
    recover_segment = TableLog._recover_segment
    compacted = []

    def compact_first(self, number, *, sealed):
        if sealed and not compacted:
            compacted.append(compact_once(folder).rows)
        yield from recover_segment(self, number, sealed=sealed)

    monkeypatch.setattr(TableLog, "_recover_segment", compact_first)
    with LocalStore.open(folder) as store:
        assert store.put(builds_batch(range(25))).duplicates == 20
        assert compacted == [20]
        assert len(stored_ids(store)) == 25


def test_a_table_that_cannot_be_compacted_keeps_no_other_waiting(folder, monkeypatch):
    with opened(folder) as store:
        store.apply(replace(builds_spec(), table=OTHER))
        one = builds_batch(range(10))
        store.put(one)
        store.put(Batch(OTHER, one.fingerprint, one.payload))
        store.seal()
        compact = compaction.Compactor._compact

        def fail_one(self, uid, table, *rest):
            if table.id == BUILDS:
                raise RuntimeError("this one is bad")
            compact(self, uid, table, *rest)

        monkeypatch.setattr(compaction.Compactor, "_compact", fail_one)
        report = compact_once(folder)
        assert report.errors == [f"{BUILDS}: this one is bad"]
        assert (store.stats(OTHER).lake_rows, store.stats(BUILDS).log_rows) == (10, 10)
        assert report.tables == [str(OTHER)]


def test_a_compactor_that_cannot_be_started_is_tried_again_and_stops_no_ack(folder, monkeypatch):
    tries = []
    start = compactor.CompactorProcess._start

    def refuse(self):
        tries.append(time.monotonic())
        if len(tries) < 3:
            raise OSError("no process can be made")
        return start(self)

    monkeypatch.setattr(compactor, "_RESTART_SECONDS", 0.02)
    monkeypatch.setattr(compactor.CompactorProcess, "_start", refuse)
    with opened(folder, compactor=True) as store:
        assert store.put(builds_batch(range(10))).accepted == 10
        deadline = time.monotonic() + 20
        while store._compactor.pid is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert store._compactor.pid is not None
        assert (len(tries), store._compactor.starts) == (3, 1)


def test_a_store_that_is_closed_while_its_compactor_starts_leaves_no_process(folder, monkeypatch):
    made = []
    popen = subprocess.Popen

    class Slow(popen):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            made.append(self)
            time.sleep(0.2)  # ``close`` comes now

    monkeypatch.setattr(compactor.subprocess, "Popen", Slow)
    store = opened(folder, compactor=True)
    deadline = time.monotonic() + 20
    while not made and time.monotonic() < deadline:
        time.sleep(0.001)
    store.close()
    assert [process.poll() is not None for process in made] == [True]


class BreaksOnce(Disk):
    """Fails to give the copy of damaged bytes its name, once."""

    breaks = 0

    def rename(self, source, target):
        if "damaged" in target and not self.breaks:
            self.breaks += 1
            raise OSError("broken off")
        super().rename(source, target)


def test_damaged_bytes_are_kept_whole_even_if_keeping_them_was_broken_off(folder):
    with opened(folder) as store:
        for start in range(0, 30, 10):
            store.put(builds_batch(range(start, start + 10)))
    (segment,) = glob.glob(f"{folder}/**/*.log", recursive=True)
    size = os.path.getsize(segment)
    with open(segment, "r+b") as file:
        file.seek(size // 2)
        byte = file.read(1)
        file.seek(size // 2)
        file.write(bytes([byte[0] ^ 1]))
    disk = BreaksOnce()
    with LocalStore.open(folder, disk=disk) as store, pytest.raises(UnavailableError):
        store.put(builds_batch([99]))
    assert disk.breaks == 1
    with LocalStore.open(folder) as store:
        store.put(builds_batch([99]))
        assert len(stored_ids(store)) == 21
    (kept,) = glob.glob(f"{folder}/**/damaged/*.bin", recursive=True)
    assert os.path.getsize(kept) > 40
    assert not glob.glob(f"{folder}/**/*.tmp", recursive=True)
