"""Delivery, whatever ends the process that stages."""

import random
import signal

import pytest
from delivery_page import ITSELF
from delivery_world import LIFE, WAIT, Build
from sender_child import MORE

from eventmill.client.spool.owner import orphans

SECTION = "The end of a process"
pytestmark = pytest.mark.slow


def seeds(count):
    return pytest.mark.parametrize("seed", range(count), ids=lambda seed: f"seed{seed}")


@pytest.mark.delivery("`kill -9` in a burst of 1,000 events")
@seeds(3)
def test_killed_in_a_burst(cell, world, seed):
    rng = random.Random(seed)
    for life in range(3):
        child = cell.child("burst", world.server.url, count=1_000, begin=life * LIFE)
        cell.kill(child, signal.SIGKILL, after_lines=rng.randrange(1, 900))
        stats = cell.adopt()
    cell.judge(stats)


@pytest.mark.delivery("`kill -9` at a steady rate of 500 events a second")
@seeds(4)
def test_killed_at_a_steady_rate(cell, world, seed):
    rng = random.Random(seed)
    child = cell.child("steady", world.server.url, seed=seed)
    cell.kill(child, signal.SIGKILL, after_lines=20, after_seconds=rng.uniform(0.05, 0.6))
    cell.judge(cell.adopt())


@pytest.mark.delivery("`kill -9` while the network does all that it can")
@seeds(3)
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


@pytest.mark.delivery("`kill -9` while `close` runs")
@seeds(3)
def test_killed_in_close(cell, seed):
    proxy = cell.proxy(slow=1.0, slow_seconds=0.1)
    child = cell.child("long_close", proxy.url, count=1_000)
    seen = cell.read_lines(child, 1_000)
    child.send_signal(signal.SIGKILL)
    cell.note(seen + child.stdout.read())
    child.stdout.close()
    assert child.wait(WAIT) == -signal.SIGKILL
    assert cell.said == {"closing": True}, "it was killed after close"
    stats = cell.adopt()
    cell.judge(stats)
    assert stats.adopted > 0


@pytest.mark.delivery("`kill -9` of the process that takes over, three times in a row")
@seeds(3)
def test_killed_while_it_adopts(cell, seed):
    orphan = cell.left_by_a_dead_process()
    proxy = cell.proxy(slow=1.0, slow_seconds=0.05)
    rng = random.Random(seed)
    for life in range(1, 4):
        heir = cell.child(
            "adopt_until_killed",
            proxy.url,
            begin=life * LIFE,
            options={"in_flight_max": 1},
        )
        cell.kill(heir, signal.SIGKILL, after_seconds=rng.uniform(0.0, 0.3))
    assert orphan in orphans(str(cell.folder)), "there was nothing left to adopt"
    stats = cell.adopt()
    cell.judge(stats)
    assert stats.adopted > 0
    assert cell.happened["slow"] > 0


@pytest.mark.delivery("SIGTERM that nobody handles")
def test_sigterm(cell, world):
    child = cell.child("burst", world.server.url, count=100_000)
    cell.kill(child, signal.SIGTERM, after_lines=500)
    cell.judge(cell.adopt())


@pytest.mark.delivery("SIGTERM whose handler stages, closes and exits", delayed=ITSELF)
@seeds(6)
def test_sigterm_handled(cell, world, seed):
    child = cell.child("sigterm_closes", world.server.url)
    seen = cell.read_lines(child, 100 + 50 * seed)
    child.send_signal(signal.SIGTERM)
    assert cell.end_of(child, seen=seen) == 0
    assert cell.said["left"] == 0
    assert {MORE, MORE + 1, MORE + 2} <= cell.staged
    cell.judge(cell.adopt())


@pytest.mark.delivery("Ctrl-C again and again, and the program goes on", delayed=ITSELF)
@seeds(2)
def test_ctrl_c(cell, world, seed):
    child = cell.child("ctrl_c", world.server.url, count=20_000)
    seen = cell.read_lines(child, 10 + seed)
    while seen.count(b"\n") < 15_000:
        child.send_signal(signal.SIGINT)
        seen += cell.read_lines(child, 20)
    assert cell.end_of(child, seen=seen) == 0
    cell.judge(cell.adopt())
    assert cell.said["left"] == 0
    assert cell.said["struck"] >= cell.said["within"] > 5


@pytest.mark.delivery("`os._exit`")
def test_hard_exit(cell, world):
    assert cell.end_of(cell.child("hard_exit", world.server.url, count=3_000)) == 3
    stats = cell.adopt()
    cell.judge(stats)
    assert stats.adopted > 0


@pytest.mark.delivery("`os._exit` with the server down")
def test_hard_exit_with_the_server_down(cell):
    cell.left_by_a_dead_process()
    stats = cell.adopt()
    cell.judge(stats)
    assert stats.adopted == 300


@pytest.mark.delivery("an exit without `close`", delayed=ITSELF)
def test_exit_without_close(cell, world):
    assert cell.end_of(cell.child("plain_exit", world.server.url)) == 0
    assert set(cell.stored()) == cell.staged, "what there is time for is sent before the end"
    cell.judge(cell.adopt())


@pytest.mark.delivery("a `close` that has too little time, the server being down")
def test_short_close_with_the_server_down(cell):
    cell.proxy().down()
    assert cell.end_of(cell.child("short_close", cell._proxies[0].url)) == 0
    assert cell.said == {"left": 300}
    stats = cell.adopt()
    cell.judge(stats)
    assert stats.adopted == 300
    assert cell.happened["down"] == 1


@pytest.mark.delivery("events staged by functions of `atexit`, before and after the close")
def test_staged_at_exit(cell, world):
    assert cell.end_of(cell.child("at_exit", world.server.url)) == 0
    assert "closed" in cell.said["told"]
    assert len(cell.staged) == 340
    cell.judge(cell.adopt())


@pytest.mark.delivery("events staged by `__del__` in the middle of `stage`", delayed=ITSELF)
def test_staged_in_del(cell, world):
    assert cell.end_of(cell.child("in_del", world.server.url, count=2_000)) == 0
    cell.judge(cell.adopt())
    assert len(cell.staged) == 4_001, "and one for the heir"
    assert cell.said["within"] > 0
    assert cell.said["left"] == 0


@pytest.mark.delivery("no thread can be started until the end of the process")
def test_no_thread(cell, world):
    assert cell.end_of(cell.child("no_thread", world.server.url)) == 0
    assert cell.said["left"] == 300
    assert cell.said["refused"] > 0
    stats = cell.adopt()
    cell.judge(stats)
    assert stats.adopted == 300


@pytest.mark.delivery("no thread can be started for a while", delayed=ITSELF)
def test_no_thread_for_a_while(cell, world):
    assert cell.end_of(cell.child("no_thread", world.server.url, again=True)) == 0
    assert cell.said["left"] == 0
    assert cell.said["refused"] > 0
    cell.judge(cell.adopt())


@pytest.mark.delivery(
    "`kill -9`, the server being down", mode="memory", lost="what waits", delayed="no"
)
def test_killed_with_events_in_memory(cell):
    proxy = cell.proxy()
    proxy.down()
    child = cell.child(
        "burst", proxy.url, spool_dir=None, options={"durability": "memory"}, count=300
    )
    cell.kill(child, signal.SIGKILL, after_lines=299)
    waiting = set(cell.staged)
    stats = cell.adopt()
    cell.judge(stats, lost=waiting)
    assert stats.adopted == 0


@pytest.mark.delivery(
    "a `close` that has too little time, the server being down",
    mode="memory",
    counted="handed back",
    delayed="no",
)
def test_handed_back(cell):
    proxy = cell.proxy()
    proxy.down()
    back = []
    with cell.uploader(
        proxy.url,
        spool_dir=None,
        durability="memory",
        on_undelivered=lambda events, _: back.extend(events),
    ) as events:
        cell.stage(events, range(100))
        assert events.close(0.1) == 100
        stats = events.stats()
    assert stats.undelivered == {"UnavailableError": 100}
    names = {Build.FromString(event.payload).name for event in back}
    assert names == {f"{cell.name}/{number}" for number in range(100)}
    cell.judge(cell.adopt(), counted=range(100))
