"""A scheduler in a process of its own.

``race BOOK LOG`` runs bodies that only write a line; ``kill FOLDER WORKFLOWS SEED`` runs workflows
on the data folder, slowly, and says so; ``serve URL BOOK WORKFLOWS`` runs them through a server.
"""

from __future__ import annotations

import os
import random
import sys
import time

from schedule_world import Folder, Result, definition

from eventmill.base.settings import ScheduleSettings
from eventmill.client.http_store import HttpStore
from eventmill.schedule.book import RunBook
from eventmill.schedule.scheduler import Scheduler
from eventmill.schedule.workflow_folder import WorkflowFolder
from eventmill.store.local.store import LocalStore
from eventmill.workflow.reading import read_workflow
from eventmill.workflow.slot_run import run_slot

LEASE_SECONDS = 0.8
RACE_SLOTS, RACE_FLOWS = 50, 4
RACE_START = 1_750_000_000 // 3_600 * 3_600


def race_definitions():
    """Return workflows with 200 slots that are due, of which no more come during a test."""
    return [
        definition(f"flow{index}", start_at_seconds=RACE_START, parallel_slots=2)
        for index in range(RACE_FLOWS)
    ]


class RaceClock:
    """Real time, moved to just behind the last slot of the race."""

    def __init__(self):
        self._shift = RACE_START + RACE_SLOTS * 3_600 + 5 - time.time()

    def now(self):
        return time.time() + self._shift

    def monotonic(self):
        return time.monotonic()

    def sleep(self, seconds):
        time.sleep(seconds)


def write_line(path, line):
    """Append one line, whole, beside others who do the same."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, f"{line}\n".encode())
    os.close(file)


def racing_scheduler(book, path, name):
    """Return a scheduler whose bodies write who ran what."""

    def run(definition, slot, *, generation, body, log, cancel):
        write_line(path, f"{name} {definition.name} {slot[0]} {generation}")
        time.sleep(0.002)
        return Result()

    settings = ScheduleSettings(runs_max=6)
    folder = Folder(*race_definitions())
    return Scheduler(book, folder, run, settings=settings, clock=RaceClock())


def slowly(store, rng, tell):
    """Return a runner that takes its time between the steps of a slot, and says which it is at."""

    def run(definition, slot, *, generation, body, log, cancel):
        tell(f"begun {slot[0]}")

        def pause(text):
            log(text)
            time.sleep(rng.uniform(0.0, 0.06))

        result = run_slot(definition, store, slot, generation=generation, log=pause, cancel=cancel)
        time.sleep(rng.uniform(0.0, 0.06))  # its rows are stored, and the book does not know it
        return result

    return run


def tell(line):
    """Say something to the parent."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(kind, *words):
    """Run until killed."""
    if kind == "race":
        path, log = words
        scheduler = racing_scheduler(RunBook(path), log, os.getpid())
        tell("ready")
        sys.stdin.readline()  # both begin at one moment
    else:
        place, path, workflows, seed = words
        opened = HttpStore(place) if kind == "serve" else LocalStore.open(place)
        scheduler = Scheduler(
            RunBook(path),
            WorkflowFolder(workflows, read_workflow),
            slowly(opened, random.Random(int(seed)), tell),
            settings=ScheduleSettings(lease_seconds=LEASE_SECONDS),
        )
    scheduler.start()
    scheduler.wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
