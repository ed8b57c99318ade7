"""Delivery, whatever the network does, and whatever becomes of the server."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from delivery_page import BACK, ITSELF, WITHIN_SECONDS
from delivery_world import WAIT

from eventmill.base.errors import StoreBusyError
from eventmill.client.drain import bring_back
from eventmill.client.spool.dead import dead_letters_in
from eventmill.store.local.store import LocalStore
from eventmill.testing.events import build_spec
from eventmill.testing.fakes import FakeClock

SECTION = "Server and network"
pytestmark = pytest.mark.slow
DAY_SECONDS = 86_400.0


def until(condition, *, seconds=WITHIN_SECONDS):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def case(says, likelihoods, options=None, **about):
    return pytest.param(
        likelihoods, options or {}, marks=pytest.mark.delivery(says, delayed=ITSELF), **about
    )


@pytest.mark.parametrize(
    ("likelihoods", "options"),
    [
        case("503 four times out of five", {"unavailable": 0.8}, id="unavailable"),
        case("408 of a proxy, every other time", {"timed_out": 0.5}, id="timed_out"),
        case("every other request reset in its middle", {"reset": 0.5}, id="reset"),
        case("every other reply lost", {"reply_lost": 0.5}, id="reply_lost"),
        case("a slow server", {"slow": 1.0, "slow_seconds": 0.05}, id="slow"),
        case(
            "a server that answers after `request_timeout_seconds`",
            {"slow": 0.5, "slow_seconds": 0.4},
            {"request_timeout_seconds": 0.2},
            id="too_slow",
        ),
    ],
)
def test_fault(cell, likelihoods, options):
    proxy = cell.proxy(seed=7, **likelihoods)
    assert cell.end_of(cell.child("plain_exit", proxy.url, options=options)) == 0
    cell.judge(cell.adopt())
    (fault,) = set(likelihoods) - {"slow_seconds"}
    assert cell.happened[fault] > 3


@pytest.mark.delivery(
    "the server down for 60 s, with the default pauses",
    delayed="until 30 s after the server is back",
)
def test_down_for_60_seconds_of_another_clock(cell):
    proxy = cell.proxy()
    clock = FakeClock()
    options = {"retry_base_seconds": 0.1, "retry_cap_seconds": 30.0, "rng": random.Random(5)}

    def pass_by(seconds, events):
        clock.advance(seconds)
        events._sending.wake_all()
        time.sleep(0.002)  # as long as a refused connection takes

    with cell.uploader(proxy.url, clock=clock, **options) as events:
        cell.stage(events, range(50))
        assert events.flush(WAIT) == 0
        proxy.down()
        cell.stage(events, range(50, 300))
        for _ in range(600):
            pass_by(0.1, events)
        stats = events.stats()
        assert (stats.accepted, stats.left) == (50, 250)
        assert 4 <= stats.retried <= 40, "pauses grow while the server is down"
        assert stats.oldest_age_seconds == pytest.approx(60.0, abs=1.0)
        proxy.up()
        back_at = clock.monotonic()
        while events.stats().left:
            assert clock.monotonic() <= back_at + 31.0, "later than the longest pause"
            pass_by(0.1, events)
    cell.judge(cell.adopt())
    assert cell.happened["down"] == 1


@pytest.mark.delivery("413 for what is over a limit on the way: batches are halved", delayed=ITSELF)
def test_too_large(cell):
    proxy = cell.proxy(body_bytes_max=700)
    with cell.uploader(proxy.url, batch_bytes=20_000) as events:
        cell.stage(events, range(400), size=40)
        assert events.flush(WAIT) == 0
        assert events.stats().undelivered == {}
    cell.judge(cell.adopt())
    assert cell.happened["too_large"] > 10


@pytest.mark.delivery(
    "one event that the server chokes on: a dead letter, sent when somebody asks for it"
)
def test_poison(cell):
    number = 123
    poison = f"{cell.name}/{number}*".encode()  # the field of the tag follows the name
    proxy = cell.proxy(poison=poison)
    told = []
    with cell.uploader(
        proxy.url, batch_bytes=20_000, on_undelivered=lambda events, error: told.extend(events)
    ) as events:
        cell.stage(events, range(400))
        assert events.flush(WAIT) == 0
        assert events.stats().undelivered == {"BatchError": 1}
    assert poison in told[0].payload
    assert set(cell.stored()) == cell.staged - {number}
    (letter,) = dead_letters_in(str(cell.folder))
    assert poison in Path(letter).read_bytes()
    assert bring_back(str(cell.folder)) == 1
    stats = cell.adopt()
    cell.judge(stats)
    assert stats.adopted == 1
    assert cell.happened["poisoned"] > 5


class ServeProcess:
    """``eventmill serve`` on a folder of its own; it comes back on the same port."""

    def __init__(self, folder):
        self.folder = str(folder)
        self.port = 0
        self.url = ""
        self.process = None

    def up(self):
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "eventmill",
                "serve",
                "--port",
                str(self.port),
                "--data",
                self.folder,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        line = self.process.stdout.readline().decode()
        assert line.startswith("listening on "), line
        self.url = line.split()[-1]
        self.port = int(self.url.rpartition(":")[2])

    def kill(self):
        """Kill the server, and what it has started, without a word."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def served(world, tmp_path):
    """A world whose server is a process that may be killed."""
    folder = str(tmp_path / "served")
    with LocalStore.open(folder) as store:
        store.apply(build_spec())
    serve = ServeProcess(folder)
    serve.up()
    yield SimpleNamespace(server=serve, folder=folder, clock=world.clock)
    serve.kill()


def opened(folder):
    """Open the store once the killed processes have let go of it."""
    deadline = time.monotonic() + WAIT
    while True:
        try:
            return LocalStore.open(folder)
        except StoreBusyError:
            assert time.monotonic() < deadline
            time.sleep(0.02)


@pytest.mark.delivery(
    "`kill -9` of the server in the middle of batches, three times or more", delayed=BACK
)
def test_server_killed(cell, served):
    rng = random.Random(11)
    cell.world = served
    proxy = cell.proxy()
    is_over = threading.Event()

    def stage(events):
        number = 0
        while not is_over.is_set():
            cell.stage(events, range(number, number + 5), size=50)
            number += 5
            time.sleep(0.01)

    with cell.uploader(proxy.url, batch_bytes=5_000) as events:
        thread = threading.Thread(target=stage, args=(events,))
        thread.start()
        try:
            kills = 0
            while kills < 3 or not proxy.happened["server_gone"]:
                kills += 1
                assert kills < 20, "no kill has struck in the middle of a batch"
                acked = events.stats().acked
                until(lambda before=acked: events.stats().acked > before + 50)
                time.sleep(rng.uniform(0.0, 0.05))
                until(lambda: events.stats().in_flight > 0)
                served.server.kill()
                until(lambda: events._delivery.last_error is not None)
                served.server.up()
        finally:
            is_over.set()
            thread.join()
        assert events.flush(WITHIN_SECONDS) == 0
        stats = events.stats()
        assert stats.retried > 3
    heir_stats = cell.adopt()
    served.server.kill()
    with opened(served.folder) as store:
        cell.world = SimpleNamespace(store=store)
        cell.judge(heir_stats)
    assert cell.happened["server_gone"] > 0
    assert cell.happened["server_away"] > 0


@pytest.mark.delivery("replies lost, and sent again an hour before the window ends", delayed=BACK)
def test_within_the_deduplication_window(cell, world):
    stats = sent_again_after(cell, world, DAY_SECONDS - 3_600.0)
    assert stats.duplicates >= 50
    cell.judge(cell.adopt())


def test_after_the_deduplication_window_events_are_stored_again(cell, world):
    sent_again_after(cell, world, DAY_SECONDS + 3_600.0)
    stored = set(cell.stored().values())  # all of them may have come before the server went
    assert 2 in stored <= {1, 2}, "the page says so in its first lines"


def sent_again_after(cell, world, seconds):
    """Lose every reply, pass ``seconds`` with the server out of reach, and let it all through."""
    proxy = cell.proxy(reply_lost=1.0)
    with contextlib.ExitStack() as undo:
        undo.callback(setattr, world.clock, "ahead_seconds", 0.0)
        undo.callback(setattr, world.clock, "passed_seconds", 0.0)
        with cell.uploader(proxy.url) as events:
            cell.stage(events, range(100))
            until(lambda: len(cell.stored()) >= 50)
            proxy.down()
            world.clock.ahead_seconds = world.clock.passed_seconds = seconds
            proxy.likelihoods = {}
            proxy.up()
            assert events.flush(WAIT) == 0
            assert cell.happened["reply_lost"] + proxy.happened["reply_lost"] > 3
            return events.stats()


@pytest.mark.parametrize(
    "days",
    [
        pytest.param(1, marks=pytest.mark.delivery("the wall clock set a day ahead", delayed=BACK)),
        pytest.param(-1, marks=pytest.mark.delivery("the wall clock set a day back", delayed=BACK)),
    ],
    ids=["ahead", "back"],
)
def test_wall_clock_jumps(cell, world, days):
    proxy = cell.proxy(seed=3, reply_lost=0.5)
    with contextlib.ExitStack() as undo:
        undo.callback(setattr, world.clock, "ahead_seconds", 0.0)
        with cell.uploader(proxy.url, clock=world.clock) as events:
            cell.stage(events, range(100))
            world.clock.ahead_seconds = days * DAY_SECONDS
            cell.stage(events, range(100, 200))
            assert events.flush(WAIT) == 0
            world.clock.ahead_seconds = 0.0
            cell.stage(events, range(200, 300))
            assert events.flush(WAIT) == 0
            assert events.stats().oldest_age_seconds == 0.0
        cell.judge(cell.adopt())
    assert cell.happened["reply_lost"] > 3
