"""Delivery, whatever becomes of the disk and of what lies on it."""

import errno
import os
import random
import subprocess
from collections import Counter

import pytest
from delivery_page import BACK, ITSELF
from delivery_world import LIFE, WAIT
from spool_world import let_die

from eventmill.base.errors import BackPressureError
from eventmill.client.spool import owner
from eventmill.client.spool.record import HEAD_BYTES

SECTION = "Disk and spool"
pytestmark = pytest.mark.slow


def seeds(count):
    return pytest.mark.parametrize("seed", range(count), ids=lambda seed: f"seed{seed}")


def segment_of(cell):
    (segment,) = cell.folder.glob("*/*.seg")
    return segment


@pytest.mark.delivery(
    "a disk that fills up, and has room again: the caller is told of each event that is not taken"
)
def test_disk_full(cell):
    proxy = cell.proxy()
    proxy.down()
    options = {"block_timeout_seconds": 0.001}
    assert cell.end_of(cell.child("full_disk", proxy.url, options=options)) == 0
    assert len(cell.refused) == cell.said["dropped"] > 0
    assert cell.staged | cell.refused == set(range(350))
    assert cell.staged >= set(range(300, 350)), "staging goes on when there is room"
    stats = cell.adopt()
    cell.judge(stats)
    assert stats.adopted > 0


@pytest.mark.delivery("no space at the very moment at which a new segment begins", delayed=BACK)
def test_disk_full_at_a_new_segment(cell, monkeypatch):
    proxy = cell.proxy()
    proxy.down()
    real, refused = os.open, []

    def opened(path, flags, *args, **options):
        if flags & os.O_CREAT and str(path).endswith(".seg") and len(refused) < 20:
            refused.append(path)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        return real(path, flags, *args, **options)

    with cell.uploader(proxy.url, on_full="drop_newest") as events:
        events._spool._segment_bytes = 2_000
        cell.stage(events, range(100))
        monkeypatch.setattr(owner.os, "open", opened)
        taken = cell.stage(events, range(100, 400))
        stats = events.stats()
        assert stats.dropped == {"disk": 300 - taken}
        assert len(refused) == 300 - taken == 20
        proxy.up()
        assert events.flush(WAIT) == 0
    monkeypatch.undo()
    cell.judge(cell.adopt())


def quota(on_full, **about):
    says = f"a spool at its limit, `{on_full}`"
    return pytest.param(
        on_full, marks=pytest.mark.delivery(says, delayed=BACK, **about), id=on_full
    )


@pytest.mark.parametrize(
    "on_full",
    [quota("drop_oldest", counted="the oldest, by `oldest`"), quota("drop_newest")],
)
def test_quota_full(cell, on_full):
    told = Counter()
    proxy = cell.proxy()
    proxy.down()
    with cell.uploader(
        proxy.url,
        on_full=on_full,
        spool_bytes_max=2_000_000,
        on_drop=lambda reason, count: told.update({reason: count}),
    ) as events:
        taken = cell.stage(events, range(400), size=20_000)
        proxy.up()
        assert events.flush(WAIT) == 0
        stats = events.stats()
    lost = cell.staged - set(cell.stored())
    reason = on_full.removeprefix("drop_")
    assert stats.dropped == told == {reason: (400 - taken) or len(lost)}
    assert stats.dropped[reason] > 50
    if on_full == "drop_newest":
        assert lost == set()
    else:
        assert (taken, len(lost)) == (400, stats.dropped[reason])
        assert max(cell.staged) not in lost
    cell.judge(cell.adopt(), counted=lost)


@pytest.mark.delivery("a spool at its limit, `block`, until the time is over", delayed=BACK)
def test_quota_full_until_the_time_is_over(cell):
    proxy = cell.proxy()
    proxy.down()
    with cell.uploader(proxy.url, spool_bytes_max=2_000_000, block_timeout_seconds=0.002) as events:
        for number in range(400):
            try:
                cell.stage(events, [number], size=20_000)
            except BackPressureError:
                cell.refused.add(number)
        assert events.stats().dropped == {"timeout": len(cell.refused)}
        assert len(cell.refused) > 50
        assert len(cell.staged) + len(cell.refused) == 400
        proxy.up()
        assert events.flush(WAIT) == 0
    cell.judge(cell.adopt())


@pytest.mark.delivery("a spool at its limit, `block`, until there is room", delayed=ITSELF)
def test_quota_full_until_there_is_room(cell):
    proxy = cell.proxy(slow=1.0, slow_seconds=0.02)
    with cell.uploader(
        proxy.url, spool_bytes_max=2_000_000, batch_bytes=200_000, block_timeout_seconds=WAIT
    ) as events:
        waits = Counter()
        real = events._room._wait_for
        events._room._wait_for = lambda *args: (waits.update(["stage"]), real(*args))[1]
        assert cell.stage(events, range(400), size=20_000) == 400
        assert events.flush(WAIT) == 0
        assert events.stats().dropped == {}
    cell.judge(cell.adopt())
    assert waits["stage"] > 3


@pytest.mark.delivery("an I/O error at each checkpoint, and then a crash: all is sent again")
def test_checkpoints_fail(cell, world, monkeypatch):
    failed = []

    def fail(self, number, offset):
        failed.append(number)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(owner.OwnerFolder, "write_checkpoint", fail)
    with cell.uploader(world.server.url, close_at_exit=False) as events:
        cell.stage(events, range(300))
        assert events.flush(WAIT) == 0
        let_die(events)
        monkeypatch.undo()
        stats = cell.adopt()
    cell.judge(stats)
    assert len(failed) > 3
    assert stats.duplicates == 300


@pytest.mark.delivery(
    "bytes that have changed on the disk: each event hit is kept and counted",
    counted="those hit, by `damaged`",
)
@seeds(3)
def test_damaged_segment(cell, seed):
    cell.left_by_a_dead_process()
    segment = segment_of(cell)
    content = bytearray(segment.read_bytes())
    hit = random.Random(seed).sample(range(300), 3)
    for number in hit:
        at = content.index(f"{cell.name}/{number}".encode() + b"*")
        content[at] ^= 1 << seed
    segment.write_bytes(content)
    stats = cell.adopt()
    assert stats.dropped == {"damaged": 3}
    cell.judge(stats, counted=hit)
    assert len(list((cell.folder / ".damaged").iterdir())) == 3


@pytest.mark.delivery("the end of the process in the middle of a write: a torn tail")
@seeds(3)
def test_torn_tail(cell, seed):
    cell.left_by_a_dead_process()
    segment = segment_of(cell)
    content = segment.read_bytes()
    at = content.rindex(f"{cell.name}/299*".encode()) - HEAD_BYTES
    torn = content[content.rindex(b"E\x9d", 0, at + HEAD_BYTES) :]
    cut = random.Random(seed).randrange(1, len(torn))
    segment.write_bytes(content + torn[:cut])
    stats = cell.adopt()
    cell.judge(stats)
    assert stats.adopted == 300
    assert stats.dropped == {}


@pytest.mark.delivery("two processes that want to take over the same events")
def test_two_processes_adopt_one_orphan(cell, world):
    orphan = cell.left_by_a_dead_process()
    heirs = [
        cell.child(
            "adopt", world.server.url, stdin=subprocess.PIPE, orphan=orphan, begin=LIFE + number
        )
        for number in range(2)
    ]
    for heir in heirs:
        assert heir.stdout.readline() == b"{}\n"
    for heir in heirs:
        heir.stdin.write(b"\n")
    adopted = []
    for heir in heirs:
        assert cell.end_of(heir) == 0
        adopted.append(cell.said["adopted"])
    assert sorted(adopted) == [0, 300]
    cell.judge(cell.adopt())
