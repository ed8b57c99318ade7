"""A thousand events that come late, into a few slots: the repair beside running every slot."""

import dataclasses
import random
import time

from benchmarks.pairs import Measure, pair
from benchmarks.workflow.world import timed
from eventmill.workflow.shipped.cq_sample import sample_rows
from eventmill.workflow.slot_run import run_slot
from eventmill.workflow.touched import find_touched

LATE_EVENTS = 1_000
LATE_SLOTS = 3
_YEARS = 3e9


def bench_repair(world, runs, at_most):
    """Yield what the schedule does after late events, beside all its slots once."""
    definition = dataclasses.replace(world.definition, lateness_seconds=_YEARS)
    table = str(world.table.id)
    marks = {}

    def run(slots):
        for slot in slots:
            result = run_slot(
                definition, world.store, slot, generation=world.next_generation(), body="sql",
                log=lambda _: None,
            )  # fmt: skip
            marks[slot] = result.marks

    def look(since_us):
        return find_touched(
            definition, world.store, since={table: since_us}, known=marks.get, now=time.time()
        )

    world.forget_output()
    all_slots, _ = timed(run, world.slots)
    chance = random.Random(1)
    repairs = []
    for turn in range(runs):
        seen_us = time.time_ns() // 1_000  # all before it was settled when the last look looked
        late = sorted(chance.sample(world.slots, LATE_SLOTS))
        assert world.put(late_rows(late, turn)) == LATE_EVENTS
        looking, touched = timed(look, seen_us)
        running, _ = timed(run, touched.slots)
        assert list(touched.slots) == late
        repairs.append(looking + running)
    yield Measure("slots of an hour", len(world.slots), "slots")
    yield pair(
        "1,000 late events in 3 slots, repaired / every slot run",
        repairs, [all_slots] * runs, "s", at_most=at_most,
    )  # fmt: skip
    yield pair(
        "the same repair / one statement over all events", repairs, [world.sql_seconds] * runs, "s"
    )


def late_rows(slots, seed):
    """Return the late events: of attempts that start in ``slots``, and that are new."""
    rows = []
    share = LATE_EVENTS // len(slots)
    for place, (begin, _) in enumerate(slots):
        wanted = LATE_EVENTS - share * (len(slots) - 1) if place == 0 else share
        some = sample_rows(wanted, 1_000 + seed, start_seconds=begin, attempts_a_day=wanted * 24)
        timely = (row for row in some if "attempt_start_usec" in row)
        rows += [row for row, _ in zip(timely, range(wanted), strict=False)]
    return rows
