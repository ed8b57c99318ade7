"""Every end of a sending process, and every fault on its way: nothing is lost, nothing doubled.

Processes and the server are real; between them stands ``chaos.ChaosProxy``. Each cell of the
matrix leaves one line in ``build/delivery-matrix.ndjson``.
"""

import contextlib
import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from chaos import ChaosProxy
from sender_child import FORK_OFFSET

from eventmill.base.clock import SystemClock
from eventmill.base.settings import ServerSettings
from eventmill.client.batch_uploader import BatchUploader
from eventmill.client.http_sink import HttpSink
from eventmill.client.spool.owner import orphans
from eventmill.server.run import Server
from eventmill.store.local.store import LocalStore
from eventmill.testing.events import build_spec, build_type

HERE = Path(__file__).parent
MATRIX = HERE.parent.parent / "build" / "delivery-matrix.ndjson"
WAIT = 20.0
LIFE = 10_000
"""Between the numbers of one sender's events and the next one's."""
SMALL = {
    "retry_base_seconds": 0.01,
    "retry_cap_seconds": 0.1,
    "flush_interval_seconds": 0.005,
    "batch_bytes": 2_000,
}
Build = build_type().cls

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no spool on this system"),
]


class Clock(SystemClock):
    """The machine's clock, with a wall clock that somebody sets."""

    def __init__(self):
        self.ahead_seconds = 0.0

    def now(self):
        return super().now() + self.ahead_seconds


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A store, its server, and the clock of both; and an empty matrix."""
    MATRIX.parent.mkdir(exist_ok=True)
    MATRIX.unlink(missing_ok=True)
    clock = Clock()
    with LocalStore.open(str(tmp_path_factory.mktemp("store")), clock=clock) as store:
        store.apply(build_spec())
        with Server(store, ServerSettings(port=0)) as server:
            yield SimpleNamespace(store=store, server=server, clock=clock)


class Cell:
    """One cell of the matrix: its senders, what they staged, and what became of it."""

    def __init__(self, world, name, spool_dir):
        self.world = world
        self.name = name
        self.spool_dir = str(spool_dir)
        self.folder = Path(spool_dir, "local.contract.builds")
        self.staged = set()
        self.refused = set()
        self.said = {}
        self.happened = Counter()
        self._proxies = []
        self._numbers_of_heirs = iter(range(10_000_000, 20_000_000))

    # -- senders -------------------------------------------------------------------------------

    def proxy(self, **likelihoods):
        """Return a proxy before the server; its port listens until the cell is judged."""
        proxy = ChaosProxy(self.world.server.port, **likelihoods)
        self._proxies.append(proxy)
        return proxy

    def child(self, how, url, *, stdin=None, **given):
        """Start a sender that ends as ``how`` says."""
        given = {"how": how, "url": url, "spool_dir": self.spool_dir, "cell": self.name, **given}
        return subprocess.Popen(
            [sys.executable, str(HERE / "sender_child.py"), json.dumps(given)],
            stdout=subprocess.PIPE,
            stdin=stdin,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )

    def end_of(self, child, *, timeout_seconds=WAIT):
        """Wait for the end of ``child`` and all that it forked; note what it staged."""
        out, _ = child.communicate(timeout=timeout_seconds)
        self.note(out)
        return child.returncode

    def kill(self, child, number, *, after_lines=0, after_seconds=0.0):
        """Send a signal when so many events are staged and so much time has passed."""
        seen = b""
        while seen.count(b"\n") <= after_lines:
            readable, _, _ = select.select([child.stdout], [], [], WAIT)
            assert readable, "the child stages nothing"
            seen += child.stdout.read(4096)
        time.sleep(after_seconds)
        child.send_signal(number)
        self.note(seen + child.stdout.read())
        child.stdout.close()
        assert child.wait(WAIT) == -number

    def note(self, out):
        for line in out.split(b"\n")[:-1]:
            if line.startswith(b"{"):
                self.said.update(json.loads(line))
            elif line.startswith(b"r"):
                self.refused.add(int(line[1:]))
            else:
                self.staged.add(int(line))

    @contextlib.contextmanager
    def uploader(self, url, **options):
        """Yield an uploader in this process; what it stages through ``stage`` is noted."""
        options = {**SMALL, "spool_dir": self.spool_dir, **options}
        with HttpSink(url) as sink, BatchUploader(sink, "contract.builds", **options) as events:
            yield events

    def stage(self, events, numbers, *, size=10):
        """Stage events in this process; return how many were taken."""
        before = len(self.staged)
        for number in numbers:
            if events.stage(Build(name=f"{self.name}/{number}", tags=["x" * size])):
                self.staged.add(number)
        return len(self.staged) - before

    # -- what became of it ---------------------------------------------------------------------

    def adopt(self):
        """Let a new uploader send what is left; return its counts."""
        begun = time.monotonic()
        with self.uploader(self.world.server.url) as heir:
            self.stage(heir, [next(self._numbers_of_heirs)])
            while len(list(orphans(str(self.folder)))) > 1:
                assert time.monotonic() < begun + WAIT, "what was left is not adopted"
                time.sleep(0.002)
            assert heir.flush(WAIT) == 0
            self.adopted_seconds = time.monotonic() - begun
        left = set(os.listdir(self.folder)) - {".damaged", ".dead"}
        assert left == set(), "a spool in which nothing waits is still there"
        return heir.stats()

    def stored(self):
        """Return how often each number of this cell is in the store."""
        rows = self.world.store.query(
            f"SELECT name FROM contract.builds WHERE STARTS_WITH(name, '{self.name}/')",
            row_limit=None,
        )
        return Counter(int(row["name"].rpartition("/")[2]) for row in rows)

    def judge(self, stats, *, lost=(), mode="process"):
        """Compare what was staged with what is stored, write the cell's line, and assert."""
        stored = self.stored()
        for proxy in self._proxies:
            self.happened.update(proxy.happened)
        missing = self.staged - set(stored)
        doubled = sorted(number for number, count in stored.items() if count > 1)
        line = {
            "cell": self.name,
            "mode": mode,
            "staged": len(self.staged),
            "lost": len(missing - set(lost)),
            "doubled": len(doubled),
            "dropped_and_counted": len(set(lost)),
            "adopted": stats.adopted,
            "adopted_seconds": round(self.adopted_seconds, 3),
            "faults": dict(self.happened),
        }
        with MATRIX.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        assert missing == set(lost)
        assert doubled == []
        assert not self.refused & set(stored), "the caller was told that these are not taken"
        assert len(self.staged) > 1
        return stored


@pytest.fixture
def cell(world, tmp_path, request):
    name = request.node.name.removeprefix("test_").replace("[", " ").rstrip("]")
    cell = Cell(world, name, tmp_path / "spool")
    yield cell
    for proxy in cell._proxies:
        proxy.down()


def test_killed_in_a_burst_of_1000(cell, world):
    rng = random.Random(1)
    for life in range(5):
        child = cell.child("burst", world.server.url, count=1_000, begin=life * LIFE)
        cell.kill(child, signal.SIGKILL, after_lines=rng.randrange(1, 900))
        stats = cell.adopt()
    cell.judge(stats)


@pytest.mark.parametrize("seed", range(4))
def test_killed_at_a_steady_rate(cell, world, seed):
    rng = random.Random(seed)
    child = cell.child("steady", world.server.url, seed=seed)
    cell.kill(child, signal.SIGKILL, after_lines=20, after_seconds=rng.uniform(0.05, 0.6))
    cell.judge(cell.adopt())


@pytest.mark.parametrize("seed", range(3))
def test_killed_while_all_faults_strike(cell, seed):
    proxy = cell.proxy(
        seed=seed, unavailable=0.2, reset=0.2, reply_lost=0.2, slow=0.1, slow_seconds=0.02
    )
    rng = random.Random(seed)
    for life in range(3):
        child = cell.child("steady", proxy.url, seed=seed, begin=life * LIFE)
        cell.kill(child, signal.SIGKILL, after_lines=20, after_seconds=rng.uniform(0.1, 0.3))
    cell.judge(cell.adopt())
    assert min(cell.happened[fault] for fault in ("unavailable", "reset", "reply_lost")) > 0


def test_sigterm(cell, world):
    child = cell.child("burst", world.server.url, count=100_000)
    cell.kill(child, signal.SIGTERM, after_lines=500)
    cell.judge(cell.adopt())


@pytest.mark.parametrize("server", ["up", "down"])
def test_hard_exit(cell, server):
    proxy = cell.proxy()
    if server == "down":
        proxy.down()
    assert cell.end_of(cell.child("hard_exit", proxy.url)) == 3
    stats = cell.adopt()
    cell.judge(stats)
    assert stats.adopted == 300 or server == "up"


def test_exit_without_close(cell, world):
    assert cell.end_of(cell.child("plain_exit", world.server.url)) == 0
    assert set(cell.stored()) == cell.staged, "what there is time for is sent before the end"
    cell.judge(cell.adopt())


def test_short_close_with_the_server_down(cell):
    cell.proxy().down()
    assert cell.end_of(cell.child("short_close", cell._proxies[0].url)) == 0
    assert cell.said == {"left": 300}
    stats = cell.adopt()
    cell.judge(stats)
    assert stats.adopted == 300
    assert cell.happened["down"] == 1


@pytest.mark.parametrize("how", ["fork_first", "fork_later", "multiprocessing_fork"])
def test_fork(cell, world, how):
    assert cell.end_of(cell.child(how, world.server.url)) == 0
    cell.judge(cell.adopt())
    assert sum(number >= FORK_OFFSET for number in cell.staged) >= 300
    assert sum(number < FORK_OFFSET for number in cell.staged) == 300


@pytest.mark.parametrize(
    ("likelihoods", "options"),
    [
        ({"unavailable": 0.8}, {}),
        ({"reset": 0.5}, {}),
        ({"reply_lost": 0.5}, {}),
        ({"slow": 1.0, "slow_seconds": 0.05}, {}),
        ({"slow": 0.5, "slow_seconds": 0.4}, {"request_timeout_seconds": 0.2}),
    ],
    ids=["503 storm", "reset mid-body", "reply lost", "slow server", "no answer in time"],
)
def test_fault(cell, likelihoods, options):
    proxy = cell.proxy(seed=7, **likelihoods)
    assert cell.end_of(cell.child("plain_exit", proxy.url, options=options)) == 0
    cell.judge(cell.adopt())
    (fault,) = set(likelihoods) - {"slow_seconds"}
    assert cell.happened[fault] > 3


def test_server_down_for_3_seconds(cell):
    proxy = cell.proxy()
    with cell.uploader(proxy.url) as events:
        cell.stage(events, range(100))
        proxy.down()
        cell.stage(events, range(100, 400))
        time.sleep(3.0)
        assert events.stats().left > 0
        assert events.stats().retried > 3
        proxy.up()
        assert events.flush(WAIT) == 0
    cell.judge(cell.adopt())
    assert cell.happened["down"] == 1


def test_disk_full(cell):
    proxy = cell.proxy()
    proxy.down()
    options = {"block_timeout_seconds": 0.001}
    assert cell.end_of(cell.child("full_disk", proxy.url, options=options)) == 0
    assert len(cell.refused) == cell.said["dropped"] > 0
    assert cell.staged | cell.refused == set(range(350))
    assert cell.staged >= set(range(300, 350)), "staging goes on when there is room"
    cell.judge(cell.adopt())


@pytest.mark.parametrize("on_full", ["drop_oldest", "drop_newest"])
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
    cell.judge(cell.adopt(), lost=lost)


@pytest.mark.parametrize("seed", range(3))
def test_damaged_segment(cell, seed):
    cell.proxy().down()
    assert cell.end_of(cell.child("hard_exit", cell._proxies[0].url)) == 3
    (segment,) = cell.folder.glob("*/*.seg")
    content = bytearray(segment.read_bytes())
    hit = random.Random(seed).sample(range(300), 3)
    for number in hit:
        at = content.index(f"{cell.name}/{number}".encode() + b"*")
        content[at] ^= 1 << seed
    segment.write_bytes(content)
    stats = cell.adopt()
    assert stats.dropped == {"damaged": 3}
    cell.judge(stats, lost=hit)
    assert len(list((cell.folder / ".damaged").iterdir())) == 3


def test_two_processes_adopt_one_orphan(cell, world):
    cell.proxy().down()
    assert cell.end_of(cell.child("hard_exit", cell._proxies[0].url)) == 3
    (orphan,) = orphans(str(cell.folder))
    heirs = [
        cell.child(
            "adopt", world.server.url, stdin=subprocess.PIPE, orphan=orphan, begin=1_000 + number
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


@pytest.mark.parametrize("days", [1, -1])
def test_wall_clock_jumps(cell, world, days):
    proxy = cell.proxy(seed=3, reply_lost=0.5)
    with contextlib.ExitStack() as undo:
        undo.callback(setattr, world.clock, "ahead_seconds", 0.0)
        with cell.uploader(proxy.url, clock=world.clock) as events:
            cell.stage(events, range(100))
            world.clock.ahead_seconds = days * 86_400.0
            cell.stage(events, range(100, 200))
            assert events.flush(WAIT) == 0
            world.clock.ahead_seconds = 0.0
            cell.stage(events, range(200, 300))
            assert events.flush(WAIT) == 0
            assert events.stats().oldest_age_seconds == 0.0
        cell.judge(cell.adopt())
    assert cell.happened["reply_lost"] > 3
