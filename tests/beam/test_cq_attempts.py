"""``cq_attempts`` as Beam makes the same rows as its SQL, on the FnApiRunner."""

import importlib.util
import random
import sys

import apache_beam as beam
import cq_world as world
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from eventmill.beam import check_merge_laws
from eventmill.workflow.case_run import run_cases
from eventmill.workflow.reading import read_workflow

SEEDS = 24
SPAN_USEC = 2 * world.HOUR_USEC
SQL = (world.FOLDER / "query.sql").read_text()


def pipeline_module(folder):
    """Import the ``pipeline.py`` of a workflow under a name of its own."""
    name = f"pipeline_of_{folder.name}"
    spec = importlib.util.spec_from_file_location(name, folder / "pipeline.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def run(folder, inputs):
    """Return the rows, the dead letters and the counters of a pipeline over rows in memory."""
    rows, dead = [], []
    pipeline = beam.Pipeline(runner=FnApiRunner(), options=PipelineOptions([]))
    made = Read(
        {name: pipeline | f"Make {name}" >> beam.Create(some) for name, some in inputs.items()}
    )
    out, letters = pipeline_module(folder).build(pipeline, made, None)
    if isinstance(letters, list):
        letters = letters | "All dead letters" >> beam.Flatten()
    with Kept(out, rows), Kept(letters, dead):
        result = pipeline.run()
        assert result.wait_until_finish() == "DONE"
    counters = {}
    for one in result.metrics().query()["counters"]:
        name = one.key.metric.name
        counters[name] = counters.get(name, 0) + one.committed
    return sorted(rows, key=world.sort_key), dead, counters


class Kept:
    """Keeps what a PCollection has in a list, while the pipeline runs in this process."""

    lists = {}  # noqa: RUF012 - of the process, for workers in its threads

    def __init__(self, collection, kept):
        self._name = f"keep {id(kept)}"
        self._kept = kept
        _ = collection | self._name >> beam.Map(Kept.keep, self._name)

    def __enter__(self):
        Kept.lists[self._name] = self._kept

    def __exit__(self, *_):
        del Kept.lists[self._name]

    @staticmethod
    def keep(row, name):
        Kept.lists[name].append(row)


def many_events():
    """Return random sets of events, each in two hours of its own."""
    events = []
    for seed in range(SEEDS):
        for event in world.random_events(seed, 160):
            if "attempt_start_usec" in event:
                event["attempt_start_usec"] += seed * SPAN_USEC
            events.append(event)
    return events


@pytest.fixture(scope="module")
def told():
    """Return a store with many random sets of events, and its rows as a pipeline reads them."""
    store = world.store_of(many_events())
    rows = store.query("SELECT * FROM cq.raw_events", row_limit=None).to_arrow().to_pylist()
    return store, rows


def whole_slot():
    return world.slot_params(world.START, world.START + SEEDS * 2 * world.HOUR)


@pytest.mark.parametrize("order", ["as stored", "shuffled"])
def test_beam_makes_the_rows_of_the_sql(told, order):
    store, events = told
    if order == "shuffled":
        events = random.Random(1).sample(events, len(events))
    rows, dead, counters = run(world.FOLDER, {"cq.raw_events": events})
    assert rows == world.query_rows(store, SQL, whole_slot())
    assert len(rows) > 100
    assert dead
    assert all("dry_run" in letter["message"] for letter in dead)
    without = sum(
        one["timestamp_millis"] is None or one["attempt_start_usec"] is None for one in events
    )
    assert counters["rows_skipped"] == without > 0
    assert counters["rows_dropped"] > 0


def test_the_order_of_the_input_cannot_matter_to_the_combine(told):
    module = pipeline_module(world.FOLDER)
    combine = module.Attempts()
    rows = [one for one in told[1] if combine.key(one) is not None]
    check_merge_laws(combine, [combine.value(one) for one in rows[:200]])


class Read(dict):
    """Inputs in memory, which a pipeline may also ask for by a query for all of one."""

    def read(self, name, *, sql):
        assert sql == f"SELECT * FROM {name}"
        return self[name]


def test_beam_makes_the_rows_of_the_sql_with_builds(told, monkeypatch):
    monkeypatch.syspath_prepend(str(world.WITH_BUILDS))
    events = world.store_of([])
    builds = [one for seed in range(3) for one in world.random_builds(seed)]
    world.put_events(events, many_events())
    world.put_events(events, builds, "cq.builds")
    sql = (world.WITH_BUILDS / "query.sql").read_text()
    wanted = world.query_rows(events, sql, whole_slot())
    plain = world.query_rows(told[0], SQL, whole_slot())
    assert wanted != plain  # builds did change some
    every = events.query("SELECT * FROM cq.builds", row_limit=None).to_arrow().to_pylist()
    inputs = {"cq.raw_events": told[1], "cq.builds": every}
    rows, _, _ = run(world.WITH_BUILDS, inputs)
    assert rows == wanted


def test_what_is_copied_from_cq_attempts_is_the_same():
    copied = (world.WITH_BUILDS / "attempts.py").read_bytes()
    assert copied == (world.FOLDER / "pipeline.py").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("folder", [world.FOLDER, world.WITH_BUILDS], ids=lambda one: one.name)
def test_the_cases_that_ship_pass_with_the_beam_body(folder):
    outcomes = list(run_cases(read_workflow(str(folder)), body="beam"))
    assert outcomes
    assert [(one.case, one.told) for one in outcomes if not one.passed] == []
