"""Two schedulers on one run book: each slot is run by one of them."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from schedule_child import RACE_FLOWS, RACE_SLOTS, racing_scheduler

from eventmill.schedule.book import RunBook

HERE = Path(__file__).parent
SLOTS = RACE_FLOWS * RACE_SLOTS


def await_success(book, seconds=60):
    deadline = time.monotonic() + seconds
    while sum(row.state == "succeeded" for row in all_slots(book)) < SLOTS:
        assert time.monotonic() < deadline, Counter(row.state for row in all_slots(book))
        time.sleep(0.05)


def all_slots(book):
    return [row for index in range(RACE_FLOWS) for row in book.slots(f"flow{index}")]


def judge(book, log):
    """Check that each slot was run once, and that both took part; the edge of the test."""
    lines = [line.split() for line in log.read_text().splitlines()]
    ran = Counter((flow, start) for _, flow, start, _ in lines)
    assert len(ran) == SLOTS
    assert set(ran.values()) == {1}
    runners = Counter(who for who, *_ in lines)
    assert len(runners) == 2, runners
    assert min(runners.values()) > SLOTS / 20, runners
    runs = book.runs(limit=10 * SLOTS)
    assert Counter(run.state for run in runs) == {"succeeded": SLOTS}
    generations = [int(generation) for *_, generation in lines]
    assert len(set(generations)) == SLOTS


def test_two_threads_with_connections_of_their_own(tmp_path):
    path, log = str(tmp_path / "schedule.db"), tmp_path / "log"
    books = [RunBook(path) for _ in range(2)]
    schedulers = [racing_scheduler(book, str(log), index) for index, book in enumerate(books)]
    for scheduler in schedulers:
        scheduler.start()
    try:
        await_success(books[0])
    finally:
        for scheduler in schedulers:
            assert scheduler.stop(20)
    judge(books[0], log)
    for book in books:
        book.close()


@pytest.mark.slow
def test_two_processes(tmp_path):
    path, log = str(tmp_path / "schedule.db"), tmp_path / "log"
    book = RunBook(path)
    children = [
        subprocess.Popen(
            [sys.executable, str(HERE / "schedule_child.py"), "race", path, str(log)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"PYTHONPATH": str(HERE.parent), "PATH": ""},
        )
        for _ in range(2)
    ]
    try:
        for child in children:
            assert child.stdout.readline() == b"ready\n"
        for child in children:
            child.stdin.write(b"go\n")
            child.stdin.flush()
        await_success(book)
    finally:
        for child in children:
            child.kill()
            child.communicate()
    judge(book, log)
    book.close()
