"""kill -9 of a scheduler in the middle of a run, and a scheduler that stood still and woke up."""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from schedule_project import HOUR, START, START_TEXT, sale_spec, sell, totals, write_workflow

from eventmill.base.settings import ServerSettings
from eventmill.schedule.book import RunBook
from eventmill.server.run import Server
from eventmill.store.local.store import LocalStore

HERE = Path(__file__).parent
KILLS = 20
SLOTS = 30
LIVES_MAX = 60
SCHEDULE = f'start = "{START_TEXT}"\nretries = 1000\nretry_base = "10ms"\n'


@pytest.fixture
def project(tmp_path):
    """A data folder with two sales in each of the hours, and the workflow that adds them up."""
    folder = str(tmp_path / "data")
    with LocalStore.open(folder) as store:
        store.apply(sale_spec(tmp_path))
        for hour in range(SLOTS):
            sell(store, hour, hour + 1, count=2)
    write_workflow(tmp_path / "workflows", schedule=SCHEDULE)
    return tmp_path


@pytest.fixture
def book(project):
    book = RunBook(str(project / "data" / "schedule.db"))
    yield book
    book.close()


def start_child(kind, place, project, seed):
    path = str(project / "data" / "schedule.db")
    script = str(HERE / "schedule_child.py")
    words = [kind, place, path, str(project / "workflows"), str(seed)]
    return subprocess.Popen(
        [sys.executable, script, *words],
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": str(HERE.parent), "PATH": os.environ["PATH"]},
        bufsize=0,
    )


def await_line(child, seconds=30.0):
    """Return the next line of the child; None when it has none within the time."""
    readable, _, _ = select.select([child.stdout], [], [], seconds)
    return child.stdout.readline().decode().split() if readable else None


def wanted(book):
    """Return the slots of the hours that have sales."""
    return book.slots("hourly", START, START + SLOTS * HOUR)


def one_life(project, book, rng, seed):
    """Let a scheduler run for a random while and kill it; return the runs that it left behind."""
    child = start_child("kill", str(project / "data"), project, seed)
    try:
        for _ in range(rng.randint(1, 3)):
            if await_line(child) is None:
                break
        time.sleep(rng.uniform(0.0, 0.25))
    finally:
        child.kill()
        child.communicate()
    return [run.id for run in book.running()]


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_scheduler_killed_at_random_points_leaves_each_slot_with_one_set_of_rows(project, book):
    rng = random.Random(20)
    killed = []
    lives = 0
    while len(killed) < KILLS:
        lives += 1
        assert lives <= LIVES_MAX
        if all(slot.state == "succeeded" for slot in wanted(book)) and wanted(book):
            # All are done, and kills are left: let the hours be run once more.
            with book.file.writing() as db:
                db.execute("UPDATE slots SET state = 'waiting' WHERE state = 'succeeded'")
        left = one_life(project, book, rng, lives)
        killed += left
    last = start_child("kill", str(project / "data"), project, 0)
    try:
        deadline = time.monotonic() + 120
        while not all(slot.state == "succeeded" for slot in wanted(book)):
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        last.kill()
        last.communicate()
    assert len(killed) >= KILLS  # the edge: so many were killed while a slot was being run
    for run_id in killed:
        run = book.run(run_id)
        assert run.state == "lost"
        later = [one for one in book.runs("hourly", 10_000) if one.slot == run.slot]
        assert any(one.id > run_id and one.state == "succeeded" for one in later)
    with LocalStore.open(str(project / "data")) as store:
        assert totals(store) == [(hour, 2 * (hour + 1), 2) for hour in range(SLOTS)]


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_scheduler_that_stood_still_cannot_undo_what_another_did(project, book):
    with (
        LocalStore.open(str(project / "data")) as store,
        Server(store, ServerSettings(port=0)) as server,
    ):
        stopped = start_child("serve", server.url, project, 1)
        other = None
        try:
            assert await_line(stopped)[0] == "begun"
            stopped.send_signal(signal.SIGSTOP)
            still = {run.id: run.slot for run in book.running()}
            assert still  # the edge: it stands still with a claim
            other = start_child("serve", server.url, project, 2)
            deadline = time.monotonic() + 60
            while not all(slot.state == "succeeded" for slot in wanted(book)) or not wanted(book):
                assert time.monotonic() < deadline
                time.sleep(0.1)
            sell(store, 0, 1_000)  # so that rows of before and after can be told apart
            with book.file.writing() as db:
                db.execute("UPDATE slots SET state = 'waiting' WHERE start_seconds = ?", (START,))
            while book.slots("hourly", START, START + 1)[0].input_rows != 3:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            before = totals(store)
            stopped.send_signal(signal.SIGCONT)
            time.sleep(1.5)  # it goes on with its run, which is somebody else's by now
            assert totals(store) == before
            assert {book.run(run_id).state for run_id in still} == {"lost"}
            lines = [line.text for run_id in still for line in book.run_log(run_id)]
            assert any("lease" in line for line in lines)
        finally:
            for child in (stopped, other):
                if child is not None:
                    child.kill()
                    child.communicate()
