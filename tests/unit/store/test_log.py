"""The log on a real folder: recovery from any cut and any flipped byte, and from a failing disk."""

import errno
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventmill.base.errors import StorageFullError, UnavailableError
from eventmill.schema.table import TableId
from eventmill.store.local.disk import Disk
from eventmill.store.local.frame import encode_head, is_torn_tail
from eventmill.store.local.layout import Layout
from eventmill.store.local.log import TableLog
from eventmill.store.local.manifest import Manifest

TABLE = TableId("local", "ci", "builds")


class World:
    """A store's folder with one table and no schema behind it."""

    def __init__(self, path, disk=None):
        self.layout = Layout.at(str(path))
        os.makedirs(self.layout.tables, exist_ok=True)
        self.manifest = Manifest(self.layout.database, create=True)
        rows = self.manifest.table_rows()
        if not rows:
            with self.manifest.writing():
                self.manifest.insert_table(str(TABLE), False, "{}", "f", 0.0)
        self.uid = self.manifest.table_rows()[0][0]
        self.disk = disk or Disk()

    def log(self, segment_bytes=10_000):
        return TableLog(TABLE, self.uid, self.layout, self.manifest, self.disk, segment_bytes)

    def segment(self, number):
        return self.layout.of(TABLE, self.uid).segment(number)


def frame(number, payload=None):
    payload = payload or b"payload %d" % number
    return [encode_head(payload, sequence=number, received_us=0, version=1, count=1), payload]


def sequences(log):
    return [f.sequence for f in log.recover()]


def test_what_was_appended_is_recovered_in_order_over_several_segments(tmp_path):
    world = World(tmp_path)
    log = world.log(segment_bytes=120)
    assert sequences(log) == []
    for number in range(1, 10):
        log.append(frame(number), 1)
    assert len(world.manifest.segments(world.uid)) > 2
    log.abandon()
    assert sequences(world.log()) == list(range(1, 10))
    assert {s.state for s in world.manifest.segments(world.uid)} == {"sealed"}


@pytest.mark.slow
@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_log_cut_anywhere_is_recovered_up_to_the_cut(tmp_path_factory, data):
    world = World(tmp_path_factory.mktemp("log"))
    log = world.log()
    sequences(log)
    ends = []
    for number in range(1, 6):
        log.append(frame(number), 1)
        ends.append(log.open_bytes)
    log.abandon()
    cut = data.draw(st.integers(0, ends[-1]))
    os.truncate(world.segment(1), cut)
    whole = sum(end <= cut for end in ends)
    assert sequences(world.log()) == list(range(1, whole + 1))
    assert not os.path.exists(world.layout.of(TABLE, world.uid).damaged)
    # The log goes on from there, and a second recovery finds the same and the new.
    again = world.log()
    sequences(again)
    again.append(frame(99), 1)
    again.abandon()
    assert sequences(world.log()) == [*range(1, whole + 1), 99]


@pytest.mark.slow
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_flipped_byte_anywhere_costs_one_frame_whose_bytes_are_kept(tmp_path_factory, data):
    world = World(tmp_path_factory.mktemp("log"))
    log = world.log()
    sequences(log)
    starts = [0]
    for number in range(1, 6):
        log.append(frame(number), 1)
        starts.append(log.open_bytes)
    log.abandon()
    with open(world.segment(1), "rb") as file:
        content = bytearray(file.read())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    with open(world.segment(1), "wb") as file:
        file.write(content)
    hit = sum(start <= at for start in starts)
    assert sequences(world.log()) == [n for n in range(1, 6) if n != hit]
    damaged = os.path.join(
        world.layout.of(TABLE, world.uid).damaged, f"{1:010d}-{starts[hit - 1]}.bin"
    )
    torn = is_torn_tail(bytes(content[starts[hit - 1] :])) and hit == 5
    assert os.path.exists(damaged) != torn
    if not torn:
        with open(damaged, "rb") as file:
            assert file.read() == bytes(content[starts[hit - 1] : starts[hit]])


class FullDisk(Disk):
    """Writes half of what it is given, then says that no space is left, while ``full``."""

    full = False
    sync_fails = False
    truncate_fails = False
    refusals = 0

    def append(self, fd, parts):
        whole = b"".join(parts)
        if self.full:
            self.refusals += 1
            os.write(fd, whole[: len(whole) * 2 // 3])
            raise OSError(errno.ENOSPC, "No space left on device")
        if self.sync_fails:
            self.refusals += 1
            os.write(fd, whole)
            raise OSError(errno.EIO, "Input/output error")
        return super().append(fd, parts)

    def sync(self, fd):
        if self.sync_fails:
            raise OSError(errno.EIO, "Input/output error")
        super().sync(fd)

    def truncate(self, fd_or_path, size):
        if self.truncate_fails:
            raise OSError(errno.EIO, "Input/output error")
        super().truncate(fd_or_path, size)


def test_a_full_disk_refuses_the_append_and_leaves_no_trace_of_it(tmp_path):
    disk = FullDisk()
    world = World(tmp_path, disk)
    log = world.log()
    sequences(log)
    log.append(frame(1), 1)
    disk.full = True
    with pytest.raises(StorageFullError, match="no space is left"):
        log.append(frame(2) + frame(3), 2)
    assert disk.refusals == 1
    disk.full = False
    log.append(frame(4), 1)
    log.abandon()
    assert sequences(world.log()) == [1, 4]


def test_after_a_failed_sync_nothing_more_is_written_to_that_segment(tmp_path):
    disk = FullDisk()
    world = World(tmp_path, disk)
    log = world.log()
    sequences(log)
    log.append(frame(1), 1)
    disk.sync_fails = True
    with pytest.raises(UnavailableError):
        log.append(frame(2), 1)
    assert disk.refusals
    disk.sync_fails = False
    list(log.recover())
    log.append(frame(3), 1)
    assert os.path.exists(world.segment(2))
    log.abandon()
    assert sequences(world.log()) == [1, 3]


def test_a_log_that_cannot_be_cut_back_says_so_and_is_sound_after_recovery(tmp_path):
    disk = FullDisk()
    world = World(tmp_path, disk)
    log = world.log()
    sequences(log)
    log.append(frame(1), 1)
    disk.sync_fails = disk.truncate_fails = True
    with pytest.raises(UnavailableError, match="could not be cut back"):
        log.append(frame(2), 1)
    assert log.is_broken
    disk.sync_fails = disk.truncate_fails = False
    # What the failed write left is found, hence known, and cannot be stored a second time.
    assert sequences(log) == [1, 2]


def test_recovery_syncs_what_a_killed_writer_may_not_have_synced(tmp_path):
    class NotingDisk(Disk):
        synced = ()

        def sync_file(self, path):
            self.synced += (path,)
            super().sync_file(path)

    world = World(tmp_path)
    log = world.log()
    sequences(log)
    log.append(frame(1), 1)
    log.abandon()
    world.disk = NotingDisk()
    assert sequences(world.log()) == [1]
    assert world.disk.synced == (world.segment(1),)
    assert sequences(world.log()) == [1]
    assert world.disk.synced == (world.segment(1),)  # sealed now, hence synced before


def test_a_roll_that_fails_leaves_no_file_behind(tmp_path):
    class NoFolderSync(Disk):
        fails = 0

        def sync_folder(self, path):
            if self.fails:
                self.fails += 1
                raise OSError(errno.ENOSPC, "No space left on device")
            super().sync_folder(path)

    disk = NoFolderSync()
    world = World(tmp_path, disk)
    log = world.log()
    sequences(log)
    disk.fails = 1
    for _ in range(3):
        with pytest.raises(StorageFullError):
            log.append(frame(1), 1)
    assert disk.fails == 4
    assert os.listdir(world.layout.of(TABLE, world.uid).log) == []
    disk.fails = 0
    log.append(frame(2), 1)
    log.abandon()
    assert sequences(world.log()) == [2]


def test_a_segment_file_that_the_manifest_never_listed_is_adopted_when_it_holds_frames(tmp_path):
    world = World(tmp_path)
    os.makedirs(world.layout.of(TABLE, world.uid).log)
    with open(world.segment(7), "wb") as file:
        file.write(b"".join(frame(5)))
    with open(world.segment(8), "wb"):
        pass
    assert sequences(world.log()) == [5]
    assert [s.number for s in world.manifest.segments(world.uid)] == [7]
    assert not os.path.exists(world.segment(8))
    log = world.log()
    sequences(log)
    log.append(frame(6), 1)
    log.abandon()
    assert sequences(world.log()) == [5, 6]
