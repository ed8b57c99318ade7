"""A crash before and after every step of replacing a slot: the rows of before, or of after."""

import os
import random
import shutil
import sqlite3
from contextlib import contextmanager

import pytest
from slot_child import FIRST, HOUR, TABLE, rows_of, slot_of
from store_world import builds_batch, builds_spec
from test_compaction_crash import CrashError, CrashingDisk

from eventmill.base.settings import StoreSettings
from eventmill.store.local.compaction import compact_once
from eventmill.store.local.disk import Disk
from eventmill.store.local.manifest import Manifest
from eventmill.store.local.store import LocalStore
from eventmill.store.slots import SlotKey

OPTIONS = StoreSettings(file_grace_seconds=0.0)
FOUND = """
SELECT builder, number, COUNT(*) AS n, SUM(artifact_bytes) AS s, COUNT(DISTINCT _insert_id) AS ids
FROM ci.builds WHERE STARTS_WITH(_insert_id, 'kills/') GROUP BY builder, number ORDER BY builder
"""


def state_of(slots):
    """Return what a query must find when each slot has the rows of a generation."""
    found = []
    for number, generation in slots.items():
        count = rows_of(number, generation).num_rows
        found.append((f"slot-{number}", generation, count, count * (count - 1) // 2, count))
    return sorted(found)


def found_in(store):
    return [(r["builder"], r["number"], r["n"], r["s"], r["ids"]) for r in store.query(FOUND)]


def put_slots(store, slots):
    for number, generation in slots.items():
        rows = rows_of(number, generation)
        store.replace_slot(TABLE, slot_of(number), rows, generation=generation)


def count_put(store):
    (row,) = store.query("SELECT COUNT(*) AS n FROM ci.builds WHERE STARTS_WITH(_insert_id, 'b-')")
    return row["n"]


def copied(folder, target):
    """Copy a store as it would be found after a crash of its process."""
    shutil.copytree(folder, target)
    return str(target)


def unlisted(folder):
    """Return names of lake files on disk that the manifest does not list."""
    db = sqlite3.connect(f"{folder}/store.db")
    listed = {os.path.basename(name) for (name,) in db.execute("SELECT name FROM files")}
    db.close()
    lake = [n for root, _, names in os.walk(folder) if "/lake" in root for n in names]
    return sorted(set(lake) - listed)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A store with twelve slots that were put together, two that were not, and rows that were put.

    Over three days, so that a slot lies in six files.
    """
    folder = str(tmp_path_factory.mktemp("prepared") / "store")
    with LocalStore.open(folder, options=OPTIONS) as store:
        store.apply(builds_spec())
        store.put(builds_batch(range(30), days=3))
        put_slots(store, dict.fromkeys(range(12), 1))
        store.seal()
        assert compact_once(folder, options=OPTIONS).merged_files
        put_slots(store, dict.fromkeys((12, 13), 1))
    return folder


class Steps(CrashingDisk):
    """Takes each transaction of the manifest for a step as well, once ``begin`` was called."""

    def __init__(self, at=None, after=False):
        super().__init__(at, after)
        self.has_begun = False

    def _step(self, name, *args):
        if not self.has_begun:
            return getattr(Disk, name)(self, *args)
        return super()._step(name, *args)

    def watch(self, monkeypatch):
        writing, steps = Manifest.writing, self

        @contextmanager
        def stepping(manifest):
            here, dies = steps.count, False
            if steps.has_begun:
                steps.count += 1
                steps.seen.append("transaction")
                dies = here == steps._at
            if dies and not steps._after:
                raise CrashError("before the transaction")
            with writing(manifest):
                yield
            if dies:
                raise CrashError("after the transaction")

        monkeypatch.setattr(Manifest, "writing", stepping)


BEFORE = dict.fromkeys(range(14), 1)
AFTER = {**BEFORE, 5: 2}


def replace_five(folder, disk, monkeypatch, crashed):
    """Replace slot 5, which lies in files with others; copy the folder where it dies."""
    with monkeypatch.context() as patch:
        disk.watch(patch)
        with LocalStore.open(folder, options=OPTIONS, disk=disk) as store:
            disk.has_begun = True
            try:
                put_slots(store, {5: 2})
            finally:
                disk.has_begun = False
                copied(folder, crashed)


@pytest.mark.slow
def test_a_crash_around_every_step_leaves_the_rows_of_before_or_those_of_after(
    prepared, tmp_path, monkeypatch
):
    dry = Steps()
    replace_five(copied(prepared, tmp_path / "dry"), dry, monkeypatch, tmp_path / "dried")
    assert {"sync_file", "rename", "sync_folder", "transaction"} <= set(dry.seen)
    assert dry.seen.count("rename") == 6, "three files of rows, and three without those of before"
    assert dry.seen[-1] == "transaction"
    strangers = 0
    for at in range(dry.count):
        # Dead after a step is dead before the next one: but for the last, which is the transaction.
        for after in (False, True) if at + 1 == dry.count else (False,):
            folder = copied(prepared, tmp_path / f"{at}-{after}")
            crashed = tmp_path / f"crashed-{at}-{after}"
            with pytest.raises(CrashError):
                replace_five(folder, Steps(at, after), monkeypatch, crashed)
            crashed = str(crashed)
            done = after and dry.seen[at] == "transaction"
            with LocalStore.open(crashed, writer=False) as reader:
                assert found_in(reader) == state_of(AFTER if done else BEFORE), (at, after)
            strangers += len(unlisted(crashed))
            finish(crashed)
            shutil.rmtree(folder)
            shutil.rmtree(crashed)
    assert strangers > 10, "crashes left files behind, and the next run removed them"


def finish(folder):
    """Replace the slot again, compact, and find it once and nothing left behind."""
    with LocalStore.open(folder, options=OPTIONS) as store:
        put_slots(store, {5: 2})
        for _ in range(3):
            assert compact_once(folder, options=OPTIONS).errors == []
            assert found_in(store) == state_of(AFTER)
        assert count_put(store) == 30
        stats = store.stats(TABLE)
        gone = stats.accepted - stats.rows
        assert gone == stats.replaced_rows >= rows_of(5, 1).num_rows
        assert unlisted(folder) == []


@pytest.mark.slow
def test_a_crash_of_the_compactor_beside_slots_loses_and_doubles_nothing(prepared, tmp_path):
    with LocalStore.open(copied(prepared, tmp_path / "more"), options=OPTIONS) as store:
        put_slots(store, dict.fromkeys(range(14, 22), 1))
    expected = {**BEFORE, **dict.fromkeys(range(14, 22), 1)}
    dry = CrashingDisk()
    report = compact_once(copied(tmp_path / "more", tmp_path / "dry"), options=OPTIONS, disk=dry)
    assert report.merged_files
    unlinks = [at for at, name in enumerate(dry.seen) if name == "unlink"]
    for at in sorted({*range(dry.count)} - {*unlinks} | {*unlinks[::8]}):
        # Transactions come after folders were synced; else dead after a step is before the next.
        for after in (False, True) if dry.seen[at] == "sync_folder" else (False,):
            folder = copied(tmp_path / "more", tmp_path / f"{at}-{after}")
            with pytest.raises(CrashError):
                compact_once(folder, options=OPTIONS, disk=CrashingDisk(at, after))
            with LocalStore.open(folder, options=OPTIONS) as store:
                assert found_in(store) == state_of(expected), (at, after, dry.seen[at])
                put_slots(store, {3: 2, 15: 2})
                for _ in range(2):
                    compact_once(folder, options=OPTIONS)
                    assert found_in(store) == state_of({**expected, 3: 2, 15: 2})
                assert unlisted(folder) == []
            shutil.rmtree(folder)


# -- races --------------------------------------------------------------------------------


class RacingDisk(Disk):
    """Lets something else happen before some of its operations, by a seed."""

    def __init__(self, rng, strike):
        self.is_on = False
        self.strikes = 0
        self._rng = rng
        self._strike = strike

    def _race(self):
        if self.is_on and self._rng.random() < 0.15:
            self.is_on = False
            self.strikes += 1
            self._strike()
            self.is_on = True

    def rename(self, source, target):
        self._race()
        super().rename(source, target)
        self._race()

    def sync_folder(self, path):
        self._race()
        super().sync_folder(path)
        self._race()


class Race:
    """Replaces slots and compacts, each in the midst of the other, and knows what must be there."""

    def __init__(self, folder, seed):
        self.rng = random.Random(seed)
        self.slots = {}
        """Hours of the first hour of each slot that has rows, and its generation."""
        self.reports = []
        self.replacing = RacingDisk(self.rng, lambda: self.compact(Disk()))
        self.compacting = RacingDisk(self.rng, self.replace)
        self.store = LocalStore.open(folder, options=OPTIONS, disk=self.replacing)
        self.store.apply(builds_spec())
        self._generation = 0

    def compact(self, disk):
        self.reports.append(compact_once(self.store.path, options=OPTIONS, disk=disk))

    def replace(self):
        """Replace one hour of the day, or three that begin at a multiple of three."""
        self._generation += 1
        first, hours = self.rng.randrange(18), 1
        if self.rng.random() < 0.15:
            first, hours = first // 3 * 3, 3
        elif self.slots.get(first // 3 * 3, (1,))[0] == 3:
            return  # within a longer slot that has rows
        slot = SlotKey("kills", FIRST + first * HOUR, FIRST + (first + hours) * HOUR)
        rows = rows_of(first, self._generation)
        self.store.replace_slot(TABLE, slot, rows, generation=self._generation)
        for other in range(first, first + hours):
            self.slots.pop(other, None)
        self.slots[first] = (hours, self._generation)

    def check(self):
        generations = {number: generation for number, (_, generation) in self.slots.items()}
        assert found_in(self.store) == state_of(generations)
        assert self.store.stats(TABLE).rows == sum(row[2] for row in state_of(generations))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_replacements_and_merges_that_race_leave_one_set_of_rows_for_each_slot(tmp_path, seed):
    race = Race(str(tmp_path / "store"), seed)
    with race.store:
        for turn in range(60):
            if turn % 6 == 5:
                race.compacting.is_on = True
                race.compact(race.compacting)
                race.compacting.is_on = False
            else:
                race.replacing.is_on = True
                race.replace()
                race.replacing.is_on = False
            race.check()
        for _ in range(2):
            race.compact(Disk())
            race.check()
        assert unlisted(race.store.path) == []
    assert race.compacting.strikes > 0
    assert race.replacing.strikes > 10
    assert sum(report.merged_files for report in race.reports) > 10
    assert [report.errors for report in race.reports if report.errors] == []
