"""Tables of a store in a pipeline, and a slot's rows replaced after it; runners and job names."""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import GoogleCloudOptions, StandardOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.runner import PipelineState
from beam_place import run_rows, test_pipeline
from beam_world import HOUR, OUTPUT, SLOT, definition
from store_world import BUILDS, builds_batch, builds_spec

from eventmill.base.errors import OutputError, QueryError, StaleAttemptError, UsageError
from eventmill.base.settings import ServerSettings
from eventmill.beam import BeamSlot, EventsPipeline, ReadTable, WriteTable
from eventmill.beam.events_pipeline import RUNNER
from eventmill.server.run import Server
from eventmill.store.local.store import LocalStore
from eventmill.workflow.beam import PipelineError

BEAM_SLOT = BeamSlot.of_seconds(*SLOT)


@pytest.fixture
def store(tmp_path):
    """A store with 40 builds of two builders, in this process."""
    opened = LocalStore.open(str(tmp_path / "data"))
    opened.apply(builds_spec())
    opened.apply(definition(tmp_path / "workflow").output)
    opened.put(builds_batch(range(40)))
    yield opened
    opened.close()


@pytest.fixture(params=["folder", "server"])
def address(request, store):
    """Where the store is for a pipeline: its folder, or a server on it."""
    if request.param == "folder":
        yield store.path
        return
    server = Server(store, ServerSettings(port=0))
    server.start()
    yield server.url
    server.stop()


def test_a_table_is_read_as_dicts_with_python_values(address, refused):
    pipeline = test_pipeline()
    rows = pipeline | ReadTable("ci.builds", store=address)
    found = run_rows(pipeline, rows=rows)
    assert sorted(row["number"] for row in found["rows"]) == list(range(40))
    assert all(row["ended_at"].tzinfo is not None for row in found["rows"])
    assert not any(name.startswith("_") for name in found["rows"][0])
    assert found["counts"] == {"rows_read": 40}
    assert refused == []


def test_a_query_is_asked_with_those_parameters_that_it_mentions(address):
    pipeline = EventsPipeline([], store=address)
    rows = pipeline | ReadTable(
        BUILDS,
        sql="SELECT COUNT(*) AS builds, '@unused' AS text FROM ci.builds WHERE number < @Most",
        params={"most": 7, "unused": "x"},
    )
    assert run_rows(pipeline, rows=rows)["rows"] == [{"builds": 7, "text": "@unused"}]


def test_a_query_that_cannot_be_answered_fails_the_job(store):
    pipeline = test_pipeline()
    _ = pipeline | ReadTable("ci.builds", store=store.path, sql="SELECT nothing FROM ci.builds")
    with pytest.raises(QueryError, match="there is no column nothing"):
        pipeline.run()


def test_a_pipeline_without_a_store_is_told_to_name_one():
    with pytest.raises(UsageError, match=r"nothing says which store has ci\.builds"):
        _ = test_pipeline() | ReadTable("ci.builds")


def replaced(address, rows, *, generation=None, pipeline=None, slot=BEAM_SLOT, **more):
    """Write ``rows`` by a pipeline of their own."""
    pipeline = pipeline or EventsPipeline([], store=address)
    written = pipeline | beam.Create(rows)
    _ = written | WriteTable(
        "agg.builders", workflow="per-builder", slot=slot, generation=generation, **more
    )
    return pipeline.run()


def builders(store):
    rows = store.query("SELECT builder, builds, numbers FROM agg.builders ORDER BY builder")
    return [(row["builder"], row["builds"], row["numbers"]) for row in rows]


def test_a_slot_is_replaced_each_time_and_others_stay(store):
    server = Server(store, ServerSettings(port=0))
    server.start()
    try:
        later = BeamSlot.of_seconds(SLOT[1], SLOT[1] + HOUR)
        replaced(server.url, [{"builder": "z", "builds": 9}], slot=later)
        replaced(server.url, [{"builder": "a", "builds": 1}, {"builder": "b", "numbers": [1]}])
        assert builders(store) == [("a", 1, []), ("b", None, [1]), ("z", 9, [])]
        replaced(server.url, [{"builder": "c", "builds": 2}])
        assert builders(store) == [("c", 2, []), ("z", 9, [])]
        replaced(server.url, [])
        assert builders(store) == [("z", 9, [])]
    finally:
        server.stop()


def test_nothing_is_replaced_by_a_job_that_fails_or_is_overtaken(tmp_path, store):
    path = store.path
    store.close()
    replaced(path, [{"builder": "a", "builds": 1}], generation=10)
    with pytest.raises(OutputError, match="'many'"):
        replaced(path, [{"builder": "b", "builds": "many"}], generation=11)
    with pytest.raises(OutputError, match="'bilder'"):
        replaced(path, [{"bilder": "b"}], generation=12)
    with pytest.raises(StaleAttemptError):
        replaced(path, [{"builder": "late"}], generation=9)
    reader = LocalStore.open(path, writer=False)
    assert builders(reader) == [("a", 1, [])]
    reader.close()


def test_rows_wait_in_the_staging_folder_and_leave_nothing_there(tmp_path, store):
    path = store.path
    store.close()
    staging = tmp_path / "staging"
    replaced(path, [{"builder": "a", "builds": 1}], staging=str(staging))
    reader = LocalStore.open(path, writer=False)
    assert builders(reader) == [("a", 1, [])]
    reader.close()
    assert [entry for entry in staging.rglob("*") if entry.is_file()] == []


class Unfinished:
    """A result whose job never gets as far as DONE."""

    state = PipelineState.CANCELLED

    def wait_until_finish(self):
        return self.state


def test_a_final_state_other_than_done_replaces_nothing(monkeypatch, store):
    monkeypatch.setattr(FnApiRunner, "run_pipeline", lambda *_: Unfinished())
    with pytest.raises(PipelineError, match="ended in the state CANCELLED, not DONE"):
        replaced(store.path, [{"builder": "a"}])
    assert builders(store) == []


def test_a_pipeline_that_awaits_nothing_cannot_write(store):
    rows = test_pipeline() | beam.Create([{"builder": "a"}])
    with pytest.raises(UsageError, match=r"in place of beam\.Pipeline"):
        _ = rows | WriteTable("agg.builders", workflow="w1", slot=BEAM_SLOT, store=store.path)


def test_the_runner_is_named_and_options_pass_through(monkeypatch, refused):
    monkeypatch.setattr(sys, "argv", ["program", "--project=shop", "--temp_location=gs://b/t"])
    pipeline = EventsPipeline(name="my job")
    assert type(pipeline.runner) is FnApiRunner
    assert pipeline.options.view_as(StandardOptions).runner == RUNNER
    assert pipeline.options.view_as(GoogleCloudOptions).project == "shop"
    with pipeline:
        _ = pipeline | beam.Create([1])
    assert pipeline.result.state == PipelineState.DONE
    assert refused == []


def test_another_runner_can_be_named():
    name = "apache_beam.runners.direct.direct_runner.BundleBasedDirectRunner"
    assert type(EventsPipeline([f"--runner={name}"]).runner).__name__ == "BundleBasedDirectRunner"


@pytest.mark.parametrize("runner", ["DirectRunner", "PrismRunner", "SwitchingDirectRunner"])
def test_a_runner_that_downloads_is_refused(runner, refused):
    with pytest.raises(UsageError, match=f"--runner={runner} downloads"):
        EventsPipeline([f"--runner={runner}"])
    assert refused == []


def test_job_names_are_valid_and_unique():
    names = {EventsPipeline([], name="My Job_of!numbers").job_name for _ in range(5)}
    assert len(names) == 5
    assert all(re.fullmatch(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])", name) for name in names)
    assert EventsPipeline(["--job_name=mine"], job_name="other").job_name == "mine"
    with pytest.raises(UsageError, match="'Not_Valid' is no name"):
        EventsPipeline(["--job_name=Not_Valid"])


def test_a_slot_knows_its_moments():
    assert BEAM_SLOT.start == datetime.fromtimestamp(SLOT[0], UTC)
    assert BEAM_SLOT.end_usec - BEAM_SLOT.start_usec == HOUR * 1_000_000
    assert str(OUTPUT) == "local.agg.builders"
