"""Late rows and runs on stores behind a wire: a server, and BigQuery's surface of one."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager

import pytest
from store_world import builds_spec
from warehouse_world import served
from workflow_world import HOUR, NOON, builds_at, make_workflow, rows_of

from eventmill.base.clock import SYSTEM_CLOCK, utc_datetime
from eventmill.base.settings import ServerSettings
from eventmill.client.http_store import HttpStore
from eventmill.schema.table import Partitioning
from eventmill.server.run import Server
from eventmill.store.bigquery.store import BigQueryStore
from eventmill.store.memory import MemoryStore
from eventmill.testing.fakes import FakeClock
from eventmill.workflow.input_marks import take_mark
from eventmill.workflow.reading import read_workflow
from eventmill.workflow.slot_run import run_slot
from eventmill.workflow.touched import find_touched

pytestmark = pytest.mark.slow

NAME = "local.ci.builds"
SLOT = (NOON, NOON + HOUR)


@contextmanager
def opened(kind, clock):
    """Yield a store behind a wire, whose rows are taken by ``clock``."""
    with ExitStack() as stack:
        if kind == "http":
            server = stack.enter_context(Server(MemoryStore(clock), ServerSettings(port=0)))
            yield stack.enter_context(HttpStore(server.url))
        else:
            place = stack.enter_context(served(MemoryStore(clock)))
            yield stack.enter_context(BigQueryStore(place, clock))


@pytest.mark.parametrize("kind", ["http", "bigquery"])
@pytest.mark.parametrize("schedule", ['every = "1h"', 'cron = "0 * * * *"'])
@pytest.mark.parametrize("needs_filter", [False, True])
@pytest.mark.parametrize("column", ["ended_at", None])
def test_late_rows_are_found_and_counted(tmp_path, kind, schedule, needs_filter, column):
    clock = FakeClock(NOON + 3 * HOUR)
    with opened(kind, clock) as store:
        check_late_rows(tmp_path, store, clock, schedule, needs_filter, column)


def check_late_rows(tmp_path, store, clock, schedule, needs_filter, column):
    partitioning = Partitioning(column=column)
    store.apply(builds_spec(partitioning=partitioning, require_partition_filter=needs_filter))
    keys = 'slot_by = "TIMESTAMP_ADD(ended_at, INTERVAL 0 SECOND) -- as it is"'
    folder = make_workflow(tmp_path, schedule=schedule, input_keys=keys)
    definition = read_workflow(str(folder))
    spec = store.describe(definition.inputs[0].table).spec
    since = {}
    marks = {}

    def mark():
        start, end = map(utc_datetime, SLOT)
        return {NAME: take_mark(store, definition.inputs[0], spec, start, end)}

    def look():
        found = find_touched(definition, store, since=since, known=marks.get, now=clock.now())
        since.update(found.seen)
        return found

    store.put(builds_at(NOON, [1, 2]))
    marks[SLOT] = mark()
    assert marks[SLOT][NAME].count == 2
    assert look().slots == ()
    clock.advance(1)
    store.put(builds_at(NOON + 60, [3]))
    assert look().slots == (SLOT,)
    marks[SLOT] = mark()
    assert look().slots == ()
    clock.advance(definition.lateness_seconds)
    store.put(builds_at(NOON + 60, [4, 5]))
    found = look()
    assert (found.slots, dict(found.too_late)) == ((), {SLOT: 2})


@pytest.mark.parametrize("kind", ["http", "bigquery"])
def test_a_slot_is_run_and_repaired(tmp_path, kind):
    # In real time: BigQuery ends tables that a run needs for a while by its own clock.
    start = int(SYSTEM_CLOCK.now()) // HOUR * HOUR - 2 * HOUR
    slot = (start, start + HOUR)
    definition = read_workflow(str(make_workflow(tmp_path)))
    marks = {}
    since = {}
    with opened(kind, SYSTEM_CLOCK) as store:
        store.apply(builds_spec())
        store.put(builds_at(start, range(3)))
        for generation, rows in enumerate((3, 5), 1):
            done = run_slot(definition, store, slot, generation=generation, log=lambda _: None)
            marks[slot] = done.marks
            assert (done.input_rows, done.output_rows) == (rows, 1)
            assert done.replaced_rows == generation - 1
            assert [row["builds"] for row in rows_of(store)] == [rows]
            first = 10 * generation
            store.put(builds_at(start + first, range(first, first + 2)))
            now = SYSTEM_CLOCK.now()
            look = find_touched(definition, store, since=since, known=marks.get, now=now)
            since = look.seen
            assert look.slots == (slot,)
