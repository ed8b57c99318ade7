"""``cq_attempts`` slot by slot on the embedded store: late events, counts, samples."""

import collections
from itertools import islice

import cq_world as world
import orjson
import pytest
from click.testing import CliRunner

from eventmill.cli.workflow_sample import sample_command
from eventmill.store.local.store import LocalStore
from eventmill.testing.fakes import FakeClock
from eventmill.workflow.case_run import run_cases
from eventmill.workflow.reading import SHIPPED_FOLDER, list_workflows, read_workflow
from eventmill.workflow.shipped.cq_sample import START_SECONDS, sample_builds, sample_rows
from eventmill.workflow.slot_run import run_slot
from eventmill.workflow.touched import find_touched

SLOT = (START_SECONDS, START_SECONDS + 3_600)
HALF_PAST = START_SECONDS + 1_800


def event(action, second, **fields):
    """Return an event of the attempt that starts half past the hour."""
    return {
        "timestamp_millis": (HALF_PAST + second) * 1000,
        "action": action,
        "attempt_start_usec": HALF_PAST * 1_000_000,
        "issue": "1",
        **fields,
    }


@pytest.fixture
def clock():
    return FakeClock(now=SLOT[1] + 60)


@pytest.fixture
def store(tmp_path, clock):
    with LocalStore.open(tmp_path / "store", clock=clock) as opened:
        for spec in world.specs():
            if spec.table.dataset == "cq":
                opened.apply(spec)
        yield opened


def run(name, store, clock, lines=None):
    definition = read_workflow(str(world.SHIPPED / name))
    generation = int(clock.now() * 1_000_000)
    log = [].append if lines is None else lines.append
    return run_slot(definition, store, SLOT, generation=generation, body="sql", log=log)


def touched(name, store, clock, marks):
    definition = read_workflow(str(world.SHIPPED / name))
    return find_touched(definition, store, since={}, known={SLOT: marks}.get, now=clock.now()).slots


def test_an_attempt_that_goes_on_after_its_slot_is_completed_when_it_ends(store, clock):
    world.put_events(store, [event("PATCH_START", 5), event("VERIFIER_TRIGGER", 10)])
    lines = []
    first = run("cq_attempts", store, clock, lines)
    assert first.output_rows == 0
    assert first.counts["dropped_attempts_incomplete"] == 1
    assert "dropped_attempts_incomplete: 1" in lines
    assert touched("cq_attempts", store, clock, first.marks) == ()

    clock.advance(3_600)  # in the next slot it ends
    world.put_events(store, [event("PATCH_STOP", 5_000)])
    assert touched("cq_attempts", store, clock, first.marks) == (SLOT,)
    clock.advance(1)
    second = run("cq_attempts", store, clock)
    assert (second.output_rows, second.replaced_rows) == (1, 0)
    assert touched("cq_attempts", store, clock, second.marks) == ()
    sql = "SELECT click_to_result_sec AS seconds FROM aggregated.cq_attempts"
    assert [row["seconds"] for row in store.query(sql)] == [5_000.0]

    clock.advance(1)
    third = run("cq_attempts", store, clock)
    assert (third.output_rows, third.replaced_rows) == (1, 1)


def test_a_build_that_comes_late_repairs_its_attempt(store, clock):
    failure = {"failure_reason": {"fail_type": "FAILED_JOBS"}, "contributing_buildbucket_ids": [7]}
    world.put_events(
        store,
        [event("PATCH_START", 5), event("PATCH_FAILED", 6, **failure), event("PATCH_STOP", 7)],
    )
    first = run("cq_attempts_with_builds", store, clock)
    sql = "SELECT fail_type FROM aggregated.cq_attempts_with_builds"
    assert [row["fail_type"] for row in store.query(sql)] == ["FAILED_JOBS"]
    clock.advance(600)
    build = {"id": 7, "builder": "chromium_presubmit", "status": "FAILURE"}
    world.put_events(store, [{**build, "attempt_start_usec": HALF_PAST * 1_000_000}], "cq.builds")
    assert touched("cq_attempts_with_builds", store, clock, first.marks) == (SLOT,)
    clock.advance(1)
    run("cq_attempts_with_builds", store, clock)
    assert [row["fail_type"] for row in store.query(sql)] == ["FAILED_PRESUBMIT_BOT"]


def test_a_time_that_no_timestamp_can_be_stops_no_slot(store, clock):
    world.put_events(store, [event("PATCH_START", 5), event("PATCH_STOP", 6)])
    far = [event("PATCH_START", 5) | {"attempt_start_usec": at} for at in (2**63 - 1, -(2**63))]
    world.put_events(store, far)
    first = run("cq_attempts", store, clock)
    assert (first.input_rows, first.output_rows) == (2, 1)
    assert touched("cq_attempts", store, clock, first.marks) == ()


def test_those_that_ship_can_be_read_and_pass_their_cases():
    found = list_workflows([SHIPPED_FOLDER])
    assert found.broken == ()
    assert {"cq_attempts", "cq_attempts_with_builds"} <= {one.name for one in found.definitions}
    outcomes = [outcome for one in found.definitions for outcome in run_cases(one, body="sql")]
    assert len(outcomes) >= 4
    assert [(one.case, one.told) for one in outcomes if not one.passed] == []


def test_the_same_seed_gives_the_same_sample_and_another_one_another():
    assert list(sample_rows(50, 1)) == list(sample_rows(50, 1))
    assert list(sample_rows(50, 1)) != list(sample_rows(50, 2))
    rows = list(sample_rows(50, 1))
    assert list(sample_builds(iter(rows), 1)) == list(sample_builds(iter(rows), 1))


def test_the_sample_has_every_action_and_every_accident():
    rows = list(sample_rows(2_000, 1))
    assert {row["action"] for row in rows} == {*world.ACTIONS}
    end = START_SECONDS * 1_000_000 + 2_000 * 30 * 1_000_000
    made, counts = world.attempts_of(rows, START_SECONDS * 1_000_000, end)
    assert len(made) > 1_800
    assert counts["skipped_events_without_timestamp"] > 10
    assert counts["dropped_attempts_incomplete"] > 10
    assert sum("attempt_start_usec" not in row for row in rows) > 3
    assert max(collections.Counter(map(orjson.dumps, rows)).values()) > 1
    timed = [row["timestamp_millis"] for row in rows if "timestamp_millis" in row]
    assert timed != sorted(timed)
    hour = 3_600_000
    over = [
        row for row in rows
        if {"timestamp_millis", "attempt_start_usec"} <= {*row}
        and row["timestamp_millis"] // hour > row["attempt_start_usec"] // 1000 // hour
    ]  # fmt: skip
    assert len(over) > 100
    reasons = collections.Counter(
        (row["attempt_start_usec"], row["timestamp_millis"])
        for row in rows
        if "failure_reason" in row and {"timestamp_millis", "attempt_start_usec"} <= {*row}
    )
    assert max(reasons.values()) > 1


def test_the_sql_agrees_with_the_oracle_on_the_sample():
    rows = list(islice(sample_rows(300, 7), 2_500))
    end = START_SECONDS * 1_000_000 + 86_400_000_000
    made, _ = world.attempts_of(rows, START_SECONDS * 1_000_000, end)
    sql = (world.FOLDER / "query.sql").read_text()
    params = world.slot_params(world.START, world.START + 24 * world.HOUR)
    assert world.query_rows(world.store_of(rows), sql, params) == made


def test_the_command_writes_the_sample_as_lines():
    given = ["cq_attempts", "--attempts", "20", "--seed", "3", "--start", "2026-03-01"]
    answer = CliRunner().invoke(sample_command, given)
    assert answer.exit_code == 0
    rows = [orjson.loads(line) for line in answer.output.splitlines()]
    assert rows == list(sample_rows(20, 3, start_seconds=1_772_323_200))
    answer = CliRunner().invoke(sample_command, [*given, "--table", "cq.builds"])
    builds = [orjson.loads(line) for line in answer.output.splitlines()]
    assert builds == list(sample_builds(iter(rows), 3))
