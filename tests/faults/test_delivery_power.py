"""Delivery after power cuts: what was synced is there, whatever else the disk has or has not."""

import random
import shutil
import threading

import pytest
from power import RecordedDisk

from eventmill.base.clock import SYSTEM_CLOCK
from eventmill.base.errors import UnavailableError
from eventmill.client.spool.place import SpoolPlace
from eventmill.client.spool.spool import Spool
from eventmill.testing.events import build_type

SECTION = "Power cut"
pytestmark = pytest.mark.slow
SEEDS = pytest.mark.parametrize("seed", range(4), ids=lambda seed: f"seed{seed}")


def recorded(cell, tmp_path, durability, seed, *, failing_syncs=0):
    """Stage with the server up and then down; return the disk, with a mark at each event.

    The mark is the number; for an event that was only staged it is negative.
    """
    rng = random.Random(seed)
    root = tmp_path / "disk"
    root.mkdir()
    proxy = cell.proxy()
    with (
        RecordedDisk(root) as disk,
        cell.uploader(proxy.url, spool_dir=str(root / "spool"), durability=durability) as events,
    ):
        events._spool._segment_bytes = 1_500  # many of them
        for number in range(1, 201):
            if number == 60:
                assert events.flush(10) == 0
                proxy.down()
                disk.mark("down")
                disk.syncs_to_fail = failing_syncs
            if durability == "process" or rng.random() < 0.5:
                cell.stage(events, [number], size=rng.randrange(200))
                disk.mark(-number)
                continue
            try:
                assert events.stage_and_wait(cell.event(number, size=rng.randrange(200)))
                disk.mark(number)
            except UnavailableError:
                disk.mark(-number)
        events.close(0.0)
    cell.staged = {number for number in cell.staged if number < 60}
    return disk


def numbers_in(folder):
    """Return the numbers of all events that an heir finds below ``folder``."""
    place = SpoolPlace(
        str(folder / "spool" / "local.contract.builds"), "heir", {}, 1 << 20, 1 << 30, False
    )
    heir = Spool(threading.RLock(), SYSTEM_CLOCK, place)
    heir.adopt()
    found = set()
    while taken := heir.take(bytes_max=1 << 20, count_max=10_000):
        for payload in taken.payloads:
            found.add(int(build_type().parse(payload).name.rpartition("/")[2]))
    heir.close()
    return found


def promised(marks):
    """Return the numbers of which a caller was told, while the server was down, that they are safe.

    Whoever was told so of one event was told so of all that were staged before it.
    """
    after = marks[marks.index("down") + 1 :] if "down" in marks else []
    told = max((place for place, mark in enumerate(after) if mark > 0), default=-1)
    return {abs(mark) for mark in after[: told + 1]}


def every_cut_keeps_what_was_synced(disk, tmp_path, seed):
    """Cut the power after each step of the disk, with chance on the side of the unsynced."""
    rng = random.Random(seed)
    begin = disk.log.index("down")
    for at in range(begin, len(disk.log) + 1):
        likelihood = rng.choice([0.0, 0.5, 0.9])
        folder = tmp_path / "cut"
        marks = disk.after_cut(at, folder, lambda most=likelihood: rng.random() < most)
        missing = promised(marks) - numbers_in(folder)
        assert not missing, (at, missing)
        shutil.rmtree(folder)


@pytest.mark.delivery(
    "power cut at any step of the disk: what `stage_and_wait` or a sync had confirmed", mode="host"
)
@SEEDS
def test_power_cut(cell, world, tmp_path, seed):
    disk = recorded(cell, tmp_path, "host", seed)
    every_cut_keeps_what_was_synced(disk, tmp_path, seed)
    sent_after_cut(cell, disk, tmp_path, len(disk.log) - random.Random(seed).randrange(100))
    cell.judge(cell.adopt())


@pytest.mark.delivery("power cut on a disk on which three syncs have failed", mode="host")
@SEEDS
def test_power_cut_after_failed_syncs(cell, world, tmp_path, seed):
    disk = recorded(cell, tmp_path, "host", seed, failing_syncs=3)
    assert disk.happened_failures == 3
    every_cut_keeps_what_was_synced(disk, tmp_path, seed)
    sent_after_cut(cell, disk, tmp_path, len(disk.log))
    cell.judge(cell.adopt())


@pytest.mark.delivery(
    "power cut before the system has written anything back", lost="what was not written back"
)
def test_power_cut_of_what_was_not_synced(cell, world, tmp_path):
    disk = recorded(cell, tmp_path, "process", 1)
    unsent = set(range(60, 201))
    sent_after_cut(cell, disk, tmp_path, len(disk.log))
    cell.staged |= unsent
    cell.judge(cell.adopt(), lost=unsent)


def sent_after_cut(cell, disk, tmp_path, at):
    """Let the next process send what a power cut at ``at`` leaves of what was synced."""
    folder = tmp_path / "after"
    marks = disk.after_cut(at, folder, lambda: False)
    cell.staged |= promised(marks)
    cell.use_spool(folder / "spool")
