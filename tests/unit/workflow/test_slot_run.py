"""One attempt at one slot: what is written, what is counted, and how it ends early."""

from __future__ import annotations

import inspect
import re
import threading
import time
from dataclasses import replace

import pyarrow as pa
import pytest
from store_world import builds_spec
from workflow_world import (
    HOUR,
    NOON,
    PROTO,
    SQL,
    builds_at,
    builds_store,
    make_workflow,
    rows_of,
)

from eventmill.base.errors import (
    OutputError,
    QueryCancelledError,
    QueryError,
    SchemaConflictError,
    StaleAttemptError,
    TableNotFoundError,
    UsageError,
)
from eventmill.schema.table import Partitioning, TableId
from eventmill.store.local.store import LocalStore
from eventmill.store.memory import MemoryStore
from eventmill.testing.fakes import FakeClock
from eventmill.workflow import beam
from eventmill.workflow.input_marks import InputMark
from eventmill.workflow.reading import read_workflow
from eventmill.workflow.slot_run import run_slot

SLOT = (NOON, NOON + HOUR)
OUTPUT = TableId("local", "ci", "builds_per_builder")
SLOW = (
    "SELECT @slot_start AS slot_start, COUNT(*) AS builds FROM UNNEST(GENERATE_ARRAY(1, 40000)) a"
)
SLOW += ", UNNEST(GENERATE_ARRAY(1, 40000)) b, ci.builds WHERE MOD(a * b, 7) = 1"


@pytest.fixture(params=["memory", "local"])
def store(request, tmp_path):
    opened = MemoryStore() if request.param == "memory" else LocalStore.open(str(tmp_path / "d"))
    yield builds_store(opened)
    opened.close()


def definition_of(tmp_path, **changes):
    return read_workflow(str(make_workflow(tmp_path, **changes)))


def run(definition, store, slot=SLOT, generation=1, **changes):
    lines = changes.pop("lines", [])
    return run_slot(definition, store, slot, generation=generation, log=lines.append, **changes)


def test_a_slot_gets_the_rows_of_its_body(tmp_path, store):
    definition = definition_of(tmp_path)
    store.put(builds_at(NOON + 10, range(3), cpu_seconds=2.0))
    store.put(builds_at(NOON + HOUR - 1, [10], builder="mac"))
    store.put(builds_at(NOON + HOUR, [11], builder="mac"))  # of the next slot
    store.put(builds_at(NOON - 1, [12]))  # of the one before
    lines = []
    result = run(definition, store, lines=lines)
    found = [(row["builder"], row["builds"], row["cpu_seconds"]) for row in rows_of(store)]
    assert found == [("linux", 3, 6.0), ("mac", 1, None)]
    assert {row["slot_start"].timestamp() for row in rows_of(store)} == {NOON}
    assert (result.input_rows, result.output_rows, result.replaced_rows) == (4, 2, 0)
    assert result.seconds > 0
    sql = "SELECT UNIX_MICROS(MAX(_ingested_at)) AS t FROM ci.builds WHERE number IN (0, 1, 2, 10)"
    (newest,) = store.query(sql)
    assert result.marks == {"local.ci.builds": InputMark(4, newest["t"])}
    assert any("local.ci.builds has 4 rows of it" in line for line in lines)
    assert any("gave 2 rows" in line for line in lines)


def test_running_again_replaces_and_adds_nothing(tmp_path, store):
    definition = definition_of(tmp_path)
    store.put(builds_at(NOON, [1]))
    run(definition, store)
    run(definition, store, (NOON + HOUR, NOON + 2 * HOUR), generation=2)
    store.put(builds_at(NOON, [2, 3], builder="mac"))
    result = run(definition, store, generation=3)
    assert (result.output_rows, result.replaced_rows) == (2, 1)
    assert [(row["builder"], row["builds"]) for row in rows_of(store)] == [("linux", 1), ("mac", 2)]
    with pytest.raises(StaleAttemptError):
        run(definition, store, generation=2)
    assert len(rows_of(store)) == 2


def test_the_marks_are_taken_before_the_body_runs(tmp_path, store):
    """Rows that come while the body runs must look new to the next look, not seen."""
    definition = definition_of(tmp_path)
    store.put(builds_at(NOON, [1]))
    asked = []
    real = store.query

    def query(sql, params=None, **options):
        asked.append(sql)
        if sql == definition.sql:
            store.put(builds_at(NOON + 1, [2]))
        return real(sql, params, **options)

    store.query = query
    result = run(definition, store)
    assert asked[-1] == definition.sql  # the edge was reached: the body was asked last
    assert result.marks["local.ci.builds"].count == 1
    assert rows_of(store)[0]["builds"] == 2


def test_slot_by_says_which_rows_are_counted(tmp_path, store):
    keys = 'slot_by = "TIMESTAMP_ADD(ended_at, INTERVAL 1 HOUR) -- an hour later"'
    definition = definition_of(tmp_path, input_keys=keys)
    store.put(builds_at(NOON - HOUR, [1, 2, 3]))
    store.put(builds_at(NOON, [4]))
    assert run(definition, store).marks["local.ci.builds"].count == 3


@pytest.mark.parametrize("slot_by", ["no_such", "TIMESTAMP_MICROS(no_such)", "builder"])
def test_a_slot_by_that_does_not_fit_its_table_is_told_as_such(tmp_path, store, slot_by):
    store.put(builds_at(NOON, [1]))
    definition = definition_of(tmp_path, input_keys=f'slot_by = "{slot_by}"')
    told = f"slot_by of the input local.ci.builds, {slot_by}: "
    with pytest.raises(QueryError, match=re.escape(told)):
        run(definition, store)


@pytest.mark.parametrize("column", ["ended_at", None])
def test_inputs_that_want_a_partition_filter_have_one(tmp_path, column):
    for keys in ("", 'slot_by = "TIMESTAMP_SECONDS(number)"'):
        store = builds_store(
            partitioning=Partitioning(column=column), require_partition_filter=True
        )
        sql = SQL.replace("WHERE", "WHERE _ingested_at > TIMESTAMP '2000-01-01' AND")
        definition = definition_of(tmp_path, input_keys=keys, sql=sql)
        store.put(builds_at(NOON, [1, NOON + 5]))
        counts = {("ended_at", ""): 2, (None, ""): 0}
        assert run(definition, store).input_rows == counts.get((column, keys), 1)


def test_a_missing_input_is_told_with_what_to_do(tmp_path):
    store = MemoryStore()
    with pytest.raises(TableNotFoundError, match=r"local\.ci\.builds, an input of .* per-builder"):
        run(definition_of(tmp_path), store)
    assert store.tables() == []  # nor was the output made


def test_the_output_gets_the_columns_that_it_lacks_and_loses_none(tmp_path, store):
    store.put(builds_at(NOON, [1]))
    run(definition_of(tmp_path), store)
    fewer = PROTO.replace("  optional double cpu_seconds = 4;", "  string note = 9;")
    sql = SQL.replace(", SUM(cpu_seconds) AS cpu_seconds", ", 'new' AS note")
    run(definition_of(tmp_path, proto=fewer, sql=sql), store, generation=2)
    columns = [column.name for column in store.describe(OUTPUT).spec.columns]
    assert columns == ["slot_start", "builder", "builds", "cpu_seconds", "note"]
    assert rows_of(store)[0]["note"] == "new"


def test_an_output_that_cannot_become_what_the_proto_says_is_the_runs_error(tmp_path, store):
    store.put(builds_at(NOON, [1]))
    run(definition_of(tmp_path), store)
    before = rows_of(store)
    changed = definition_of(tmp_path, proto=PROTO.replace("int64 builds", "string builds"))
    with pytest.raises(SchemaConflictError, match="the output of the workflow per-builder, cannot"):
        run(changed, store, generation=2)
    assert rows_of(store) == before


def test_an_output_that_somebody_dropped_is_made_again(tmp_path, store):
    definition = definition_of(tmp_path)
    store.put(builds_at(NOON, [1]))
    run(definition, store)
    store.drop(OUTPUT)
    assert run(definition, store, generation=2).output_rows == 1
    assert len(rows_of(store)) == 1


def test_rows_that_do_not_fit_change_nothing(tmp_path, store):
    store.put(builds_at(NOON, [1]))
    run(definition_of(tmp_path), store)
    before = rows_of(store)
    wrong = definition_of(tmp_path, sql=SQL.replace("COUNT(*)", "'many'"))
    with pytest.raises(OutputError, match="builds"):
        run(wrong, store, generation=2)
    assert rows_of(store) == before


def test_sql_that_does_not_fit_the_tables_is_the_runs_error(tmp_path, store):
    wrong = definition_of(tmp_path, sql=SQL.replace("builder,", "no_such_column AS builder,"))
    with pytest.raises(QueryError, match="no_such_column"):
        run(wrong, store)


def test_only_parameters_that_the_query_uses_are_given(tmp_path, store):
    sql = "SELECT @slot_end AS slot_start, 'all' AS builder, COUNT(*) AS builds FROM ci.builds"
    assert run(definition_of(tmp_path, sql=sql), store).output_rows == 1
    assert rows_of(store)[0]["slot_start"].timestamp() == NOON + HOUR


def test_a_query_is_stopped_when_the_run_is_cancelled(tmp_path, store):
    definition = definition_of(tmp_path, sql=SLOW)
    store.put(builds_at(NOON, [1]))
    cancel = threading.Event()
    real = store.query

    def query(sql, params=None, **options):
        if sql == SLOW:
            threading.Timer(0.2, cancel.set).start()
        return real(sql, params, **options)

    store.query = query
    # as_cancellable looks for the parameter itself.
    query.__signature__ = inspect.signature(real)
    began = time.monotonic()
    with pytest.raises(QueryCancelledError):
        run(definition, store, cancel=cancel)
    assert cancel.is_set()
    assert time.monotonic() - began < 20
    assert rows_of(store) == []


def test_a_query_is_stopped_at_the_timeout(tmp_path, store):
    definition = replace(definition_of(tmp_path, sql=SLOW), timeout_seconds=1.0)
    store.put(builds_at(NOON, [1]))
    began = time.monotonic()
    with pytest.raises(QueryCancelledError, match="stopped after"):
        run(definition, store)
    assert time.monotonic() - began < 20


def test_no_rows_are_written_after_the_time_is_over_or_the_run_cancelled(tmp_path, store):
    definition = definition_of(tmp_path)
    store.put(builds_at(NOON, [1]))
    real = store.query

    for end in ("late", "cancelled"):
        clock, cancel = FakeClock(), threading.Event()

        def query(sql, params=None, *, end=end, clock=clock, cancel=cancel, **options):
            answer = real(sql, params, **options)
            if sql == definition.sql:
                cancel.set() if end == "cancelled" else clock.sleep(3_601)
            return answer

        store.query = query
        with pytest.raises(QueryCancelledError, match=r"took longer than|was cancelled"):
            run(definition, store, clock=clock, cancel=cancel)
        assert cancel.is_set() or clock.slept == [3_601]
        assert rows_of(store) == []


def test_a_body_that_the_workflow_has_not_is_refused(tmp_path, store):
    with pytest.raises(UsageError, match="has no beam body; it has: sql"):
        run(definition_of(tmp_path), store, body="beam")


def test_a_store_that_cannot_replace_slots_is_refused(tmp_path):
    class Plain:
        def __init__(self, store):
            self.query, self.describe = store.query, store.describe

    with pytest.raises(UsageError, match="cannot replace the rows of a slot"):
        run(definition_of(tmp_path), Plain(builds_store()))


@pytest.fixture
def beam_calls(monkeypatch):
    calls = []

    def run_beam_slot(definition, store, slot, **options):
        calls.append((slot, options))
        rows = pa.table({"builder": ["beam"], "builds": [7], "slot_start": [None]})
        return beam.BeamRows(rows, job_name="job", counters={"rows_read": 3})

    monkeypatch.setattr(beam, "run_beam_slot", run_beam_slot)
    return calls


def test_a_beam_body_gives_the_rows_that_are_written(tmp_path, beam_calls):
    files = {"pipeline.py": "def build(pipeline, inputs, slot): ...\n"}
    definition = definition_of(tmp_path, files=files)
    store = builds_store()
    lines = []
    result = run(definition, store, body="beam", generation=9, lines=lines)
    assert (result.output_rows, rows_of(store)[0]["builds"]) == (1, 7)
    ((slot, options),) = beam_calls
    assert slot == SLOT
    assert options["generation"] == 9
    assert 0 < options["timeout_seconds"] <= definition.timeout_seconds
    assert "rows_read: 3" in lines
    run(definition, store, generation=10)
    assert len(beam_calls) == 1  # the first of two bodies is SQL


@pytest.mark.parametrize("kind", [beam.PipelineCancelledError, beam.PipelineTimeoutError])
def test_a_beam_body_that_was_ended_ends_the_run_as_a_query_does(tmp_path, monkeypatch, kind):
    def run_beam_slot(*_, **__):
        raise kind("ended")

    monkeypatch.setattr(beam, "run_beam_slot", run_beam_slot)
    files = {"pipeline.py": "def build(pipeline, inputs, slot): ...\n"}
    definition = definition_of(tmp_path, sql=None, files=files)
    with pytest.raises(QueryCancelledError, match="ended"):
        run(definition, builds_store())


def test_the_same_table_may_have_other_workflows_and_other_rows(tmp_path, store):
    store.put(builds_at(NOON, [1]))
    first = definition_of(tmp_path)
    second = definition_of(tmp_path, name="per-builder-again")
    run(first, store)
    run(second, store)
    assert len(rows_of(store)) == 2
    run(first, store, generation=2)
    assert len(rows_of(store)) == 2


def test_an_input_partitioned_by_ingestion_is_counted_by_it(tmp_path):
    clock = FakeClock(NOON + 60)
    store = MemoryStore(clock)
    store.apply(builds_spec(partitioning=Partitioning()))
    store.put(builds_at(NOON - 86_400, [1, 2]))
    clock.advance(HOUR)
    store.put(builds_at(NOON - 86_400, [3]))
    assert run(definition_of(tmp_path), store).marks["local.ci.builds"].count == 2
