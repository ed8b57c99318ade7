"""Delivery across forks: the parent's events are the parent's, a child begins empty."""

import os
import signal

import pytest
from delivery_world import HEIRS
from forking_child import FORK_OFFSET

SECTION = "Forks"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system"),
]


def child_of(cell, how, url, **given):
    return cell.child(how, url, script="forking_child.py", **given)


def by_child(cell):
    """Return how many events were staged in each process, the parent's first."""
    counts = {}
    for number in cell.staged:
        if number < HEIRS:
            counts[number // FORK_OFFSET] = counts.get(number // FORK_OFFSET, 0) + 1
    return [counts[place] for place in sorted(counts)]


@pytest.mark.delivery("a fork before the first event")
def test_fork_before_the_first_event(cell, world):
    assert cell.end_of(child_of(cell, "fork_first", world.server.url)) == 0
    cell.judge(cell.adopt())
    assert by_child(cell) == [300, 300]


@pytest.mark.delivery("a fork while events wait and threads send")
def test_fork_while_events_wait(cell, world):
    assert cell.end_of(child_of(cell, "fork_later", world.server.url)) == 0
    cell.judge(cell.adopt())
    assert by_child(cell) == [300, 300]


@pytest.mark.delivery("web workers forked after loading, as with Gunicorn's `preload_app`")
def test_workers_of_a_web_server(cell, world):
    assert cell.end_of(child_of(cell, "preload", world.server.url)) == 0
    cell.judge(cell.adopt())
    assert by_child(cell) == [300, 300, 300]


@pytest.mark.delivery("`multiprocessing` with forked workers")
def test_multiprocessing(cell, world):
    assert cell.end_of(child_of(cell, "multiprocessing_fork", world.server.url)) == 0
    cell.judge(cell.adopt())
    assert by_child(cell) == [300, 300, 300]


@pytest.mark.delivery("a pool of forked workers, killed and replaced, as with Celery's prefork")
def test_workers_of_a_task_queue(cell, world):
    assert cell.end_of(child_of(cell, "prefork", world.server.url, seed=5)) == 0
    cell.judge(cell.adopt())
    assert cell.said["forked"] == 9
    assert cell.said["killed"] == 3
    assert cell.said["left"] == 0
    staged = by_child(cell)
    assert staged[0] == 310
    assert staged.count(60) >= 6, "those that were not killed"


@pytest.mark.delivery("a fork while another thread is in the middle of `stage`")
def test_fork_while_another_thread_holds_the_lock(cell, world):
    assert cell.end_of(child_of(cell, "fork_under_lock", world.server.url)) == 0
    cell.judge(cell.adopt())
    assert cell.said["held"] >= 5
    assert cell.said["left"] == 0
    assert by_child(cell)[1:] == [60] * cell.said["forked"]


@pytest.mark.delivery("a fork while a thread takes over; the parent is killed, the child lives on")
def test_fork_while_a_thread_adopts(cell, world):
    cell.left_by_a_dead_process()
    child = child_of(cell, "fork_while_adopting", world.server.url, begin=1_000)
    cell.note(cell.read_lines(child, 10))
    grandchild = cell.said["child"]
    try:
        assert child.wait(20) == -signal.SIGKILL
        stats = cell.adopt()
        os.kill(grandchild, 0)  # it lives, and stands in nobody's way
    finally:
        os.kill(grandchild, signal.SIGINT)
    cell.judge(stats)
    assert stats.adopted >= 10
