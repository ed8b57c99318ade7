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
ROUNDS_MAX = 20


def await_success(book, seconds=60):
    deadline = time.monotonic() + seconds
    while sum(row.state == "succeeded" for row in all_slots(book)) < SLOTS:
        assert time.monotonic() < deadline, Counter(row.state for row in all_slots(book))
        time.sleep(0.05)


def all_slots(book):
    return [row for index in range(RACE_FLOWS) for row in book.slots(f"flow{index}")]


def judge(book, log):
    """Check that each slot was run once; return whether both took part, the edge of the test."""
    lines = [line.split() for line in log.read_text().splitlines()]
    ran = Counter((flow, start) for _, flow, start, _ in lines)
    assert len(ran) == SLOTS
    assert set(ran.values()) == {1}
    runs = book.runs(limit=10 * SLOTS)
    assert Counter(run.state for run in runs) == {"succeeded": SLOTS}
    generations = [int(generation) for *_, generation in lines]
    assert len(set(generations)) == SLOTS
    runners = Counter(who for who, *_ in lines)
    return len(runners) == 2 and min(runners.values()) > SLOTS / 20


def until_both_take_part(race, tmp_path):
    """Race anew while one has run nearly all: whoever keeps the book busy gets its next turn."""
    for turn in range(ROUNDS_MAX):
        folder = tmp_path / str(turn)
        folder.mkdir()
        if race(str(folder / "schedule.db"), folder / "log"):
            return
    pytest.fail(f"in each of {ROUNDS_MAX} rounds one of the two has run nearly all slots")


def race_of_threads(path, log):
    books = [RunBook(path) for _ in range(2)]
    schedulers = [racing_scheduler(book, str(log), index) for index, book in enumerate(books)]
    for scheduler in schedulers:
        scheduler.start()
    try:
        await_success(books[0])
    finally:
        for scheduler in schedulers:
            assert scheduler.stop(20)
    has_raced = judge(books[0], log)
    for book in books:
        book.close()
    return has_raced


def race_of_processes(path, log):
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
    has_raced = judge(book, log)
    book.close()
    return has_raced


@pytest.mark.parametrize("race", [race_of_threads, race_of_processes])
def test_of_two_schedulers_one_runs_each_slot(race, tmp_path):
    until_both_take_part(race, tmp_path)
