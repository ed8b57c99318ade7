"""What an evaluation costs, where there is much to look at."""

import dataclasses
import random

import pytest
from schedule_world import HOUR, definition
from store_world import builds_spec

from eventmill.base.clock import SYSTEM_CLOCK
from eventmill.schedule.alert_book import AlertBook
from eventmill.schedule.alert_facts import WorkflowFacts
from eventmill.schedule.alert_files import AlertFiles
from eventmill.schedule.alerts import STORE_SECONDS_MAX, AlertEngine
from eventmill.schedule.book import RunBook
from eventmill.schema.table import TableId
from eventmill.store.local.store import LocalStore
from eventmill.testing.fakes import FakeClock

FLOWS, SLOTS, TABLES = 1_000, 100, 200
SECONDS_MAX = 1.0


@pytest.mark.slow
def test_a_thousand_workflows_and_two_hundred_tables_take_less_than_a_second(tmp_path):
    made_at = SYSTEM_CLOCK.now()
    # Eight days later each table is compared with the week before.
    clock = FakeClock((made_at // HOUR + 8 * 24) * HOUR + 30.0)
    now = clock.now()
    flows = [definition(f"flow{number:04}") for number in range(FLOWS)]
    runs = RunBook(str(tmp_path / "schedule.db"))
    found = {flow.name: (flow.owner, flow.timetable.text) for flow in flows}
    runs.note_workflows(found, {}, now - 200 * HOUR)
    runs.beat("host/1", now)
    with runs.file.writing() as db:
        db.executemany(
            "INSERT INTO slots (workflow, start_seconds, end_seconds, state, origin, reason,"
            " due_at, not_before, changed_at, succeeded_at)"
            " VALUES (?1, ?2, ?3, 'succeeded', 'schedule', '', ?3, ?3, ?3, ?3)",
            [
                (flow.name, end - HOUR, end)
                for flow in flows
                for end in range(int(now - 30) - (SLOTS - 1) * HOUR, int(now), HOUR)
            ],
        )
    book = AlertBook(str(tmp_path / "schedule.db"))
    seconds = []
    with LocalStore.open(str(tmp_path / "data")) as store:
        for number in range(TABLES):
            spec = dataclasses.replace(builds_spec(), table=TableId.parse(f"local.ci.t{number:03}"))
            store.apply(dataclasses.replace(spec, freshness_seconds=86_400.0 * 30))
        engine = AlertEngine(
            store, book, WorkflowFacts(runs, lambda: flows), lambda: AlertFiles({}, (), (), {}),
            clock, random.Random(1),
        )  # fmt: skip
        for _ in range(TABLES // 25 + 2):
            began = SYSTEM_CLOCK.monotonic()
            assert engine.evaluate_workflows() == []
            engine.evaluate_store(STORE_SECONDS_MAX)
            seconds.append(SYSTEM_CLOCK.monotonic() - began)
            clock.advance(30.0)
            runs.beat("host/1", clock.now())
        assert engine._volume.unjudged() == frozenset()
        assert all(rule.error is None for rule in book.rules())
    book.close()
    runs.close()
    # The first starts the engine of the queries.
    assert sorted(seconds[1:])[len(seconds) // 2] < SECONDS_MAX, seconds
