"""A crash before and after every file operation of compaction: no row is lost or doubled."""

import os
import shutil

import pytest
from store_world import BUILDS, builds_batch, builds_spec, stored_ids

from eventmill.base.settings import StoreSettings
from eventmill.store.local.compaction import compact_once
from eventmill.store.local.disk import Disk
from eventmill.store.local.store import LocalStore

OPTIONS = StoreSettings(segment_bytes=4_000, file_grace_seconds=0.0)
OPERATIONS = ("folder", "sync_file", "rename", "sync_folder", "unlink")


class CrashError(BaseException):
    """Stands for the process dying: nothing in the product may catch it."""


class CrashingDisk(Disk):
    """Counts file operations, and dies before or after one of them."""

    def __init__(self, at=None, after=False):
        self.count = 0
        self.seen = []
        self._at = at
        self._after = after

    def _step(self, name, *args):
        here = self.count
        self.count += 1
        self.seen.append(name)
        if here == self._at and not self._after:
            raise CrashError(f"before {name}")
        result = getattr(Disk, name)(self, *args)
        if here == self._at and self._after:
            raise CrashError(f"after {name}")
        return result

    def folder(self, path):
        return self._step("folder", path)

    def sync_file(self, path):
        return self._step("sync_file", path)

    def rename(self, source, target):
        return self._step("rename", source, target)

    def sync_folder(self, path):
        return self._step("sync_folder", path)

    def unlink(self, path):
        return self._step("unlink", path)


def make_store(folder):
    """Return a folder with sealed segments over three days, and small files to merge."""
    with LocalStore.open(folder, options=OPTIONS) as store:
        store.apply(builds_spec())
        for turn in range(9):
            store.put(builds_batch(range(turn * 30, turn * 30 + 30), days=3))
            store.seal()
            if turn < 7:
                compact_once(folder, options=OPTIONS)
    return folder


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return make_store(str(tmp_path_factory.mktemp("prepared") / "store"))


@pytest.mark.slow
def test_a_crash_around_every_file_operation_loses_and_doubles_nothing(prepared, tmp_path):
    expected = sorted(f"b-{n}" for n in range(270))
    shutil.copytree(prepared, tmp_path / "dry")
    dry = CrashingDisk()
    report = compact_once(str(tmp_path / "dry"), options=OPTIONS, disk=dry)
    assert report.segments, "the run must compact"
    assert report.merged_files, "the run must merge"
    assert set(dry.seen) == set(OPERATIONS)
    for at in range(dry.count):
        for after in (False, True):
            folder = str(tmp_path / f"crash-{at}-{after}")
            shutil.copytree(prepared, folder)
            disk = CrashingDisk(at, after)
            with pytest.raises(CrashError):
                compact_once(folder, options=OPTIONS, disk=disk)
            with LocalStore.open(folder, writer=False) as reader:
                assert stored_ids(reader) == expected, (at, after, dry.seen[at])
            # The next run finishes the work and leaves nothing behind.
            compact_once(folder, options=OPTIONS)
            compact_once(folder, options=OPTIONS)
            with LocalStore.open(folder, options=OPTIONS) as store:
                assert stored_ids(store) == expected, (at, after, dry.seen[at])
                assert store.stats(BUILDS).lake_rows == len(expected)
                repeated = store.put(builds_batch(range(270), days=3))
                assert repeated.duplicates == 270
            assert not [n for _, _, names in os.walk(folder) for n in names if n.endswith(".tmp")]
            shutil.rmtree(folder)
