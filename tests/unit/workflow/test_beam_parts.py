"""The launcher's parts, without Beam: names of jobs, the search for a Python, files of a job."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from beam_world import BEAM_PYTHON, ROOT, SLOT, build_rows, definition
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet
from store_world import builds_spec

from eventmill.base.errors import UsageError
from eventmill.base.settings import WorkflowSettings
from eventmill.store.memory import MemoryStore
from eventmill.workflow.beam import (
    BeamOptions,
    BeamRows,
    beam_job_name,
    check_job_name,
    run_beam_on_rows,
    run_beam_slot,
)
from eventmill.workflow.beam.dead_letters import keep_dead_letters, read_dead_letters
from eventmill.workflow.beam.job import DEAD_PREFIX, BeamJob, JobInput, JobResult, schema_text
from eventmill.workflow.beam.launch import environ_of
from eventmill.workflow.beam.options import find_beam_python
from eventmill.workflow.beam.parquet_rows import read_parquet_rows
from eventmill.workflow.beam.rows import DEAD_LETTERS_MAX, DeadLetter

VALID = re.compile(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])")
seconds = st.integers(0, 4_000_000_000)


@given(st.text(min_size=1), seconds, seconds, st.integers(0))
def test_every_job_name_is_one_that_runners_take(workflow, start, end, generation):
    name = beam_job_name(workflow, start, end, generation)
    assert VALID.fullmatch(name)
    assert name == beam_job_name(workflow, start, end, generation)


def test_names_differ_by_workflow_slot_and_attempt():
    long = "attempts_of_everything_that_there_is_now"
    makings = [
        (name, start, end, generation)
        for name in ("cq_attempts", "cq-attempts", long, long[:-1] + "x")
        for start in (0, 1)
        for end in (3600, 7200)
        for generation in (1, 2)
    ]
    names = {beam_job_name(*making) for making in makings}
    assert len(names) == len(makings)
    assert beam_job_name("cq_attempts", 0, 3600, 1).startswith("cq-attempts-19700101t0000-")


@pytest.mark.parametrize("name", ["", "A", "1a", "a_b", "a-", "a" * 41, "a", "a b"])
def test_a_bad_job_name_is_refused(name):
    with pytest.raises(UsageError, match="is no name of a Beam job"):
        check_job_name(name)


def test_the_python_that_is_named_is_taken(tmp_path):
    assert find_beam_python(BeamOptions(python=sys.executable)) == sys.executable
    with pytest.raises(UsageError, match="beam_python = '/nowhere/python' is not a program"):
        find_beam_python(BeamOptions(python="/nowhere/python"))


def test_else_this_one_if_it_has_beam_else_the_projects(tmp_path, monkeypatch):
    monkeypatch.setattr("eventmill.workflow.beam.options.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'eventmill\[server,beam\]'"):
        find_beam_python(BeamOptions(folder=str(tmp_path)))
    place = tmp_path / ".venv-beam" / "bin" / "python"
    place.parent.mkdir(parents=True)
    place.symlink_to(sys.executable)
    assert find_beam_python(BeamOptions(folder=str(tmp_path))) == str(place)
    monkeypatch.chdir(tmp_path)
    assert find_beam_python(BeamOptions()) == str(place)
    monkeypatch.setattr("eventmill.workflow.beam.options.find_spec", lambda name: name)
    assert find_beam_python(BeamOptions()) == sys.executable


def test_options_come_from_settings():
    settings = WorkflowSettings(
        beam_python="/p", beam_options="--runner=X --label 'two words'", beam_staging="gs://b"
    )
    assert BeamOptions.from_settings(settings, store="./data", key="k") == BeamOptions(
        python="/p",
        pipeline_options=("--runner=X", "--label", "two words"),
        staging="gs://b",
        dead_letters="./dead-letters",
        store="./data",
        key="k",
    )
    with pytest.raises(UsageError, match=r"workflow\.beam_options"):
        BeamOptions.from_settings(WorkflowSettings(beam_options="--a 'b"))


def test_the_child_gets_the_key_and_finds_what_lies_beside_the_pipeline(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    environ = environ_of(job(), BeamOptions(key="secret"))
    assert environ["EVENTMILL_KEY"] == "secret"
    assert environ["PYTHONPATH"] == f"/p{os.pathsep}/elsewhere"
    assert environ["PATH"] == os.environ["PATH"]
    monkeypatch.delenv("PYTHONPATH")
    assert environ_of(job(), BeamOptions())["PYTHONPATH"] == "/p"
    assert "EVENTMILL_KEY" not in environ_of(job(), BeamOptions())
    assert "secret" not in job().to_json()


def job(**more):
    wanted = {
        "version": "1",
        "workflow": "w1",
        "job_name": "w1-j",
        "pipeline_path": "/p/pipeline.py",
        "start_seconds": SLOT[0],
        "end_seconds": SLOT[1],
        "inputs": (JobInput("local.ci.builds", "TRUE"),),
        "output": "local.agg.builders",
        "output_schema": schema_text(pa.schema([("a", pa.list_(pa.decimal128(38, 9)))])),
        "folder": "/f",
        "pipeline_options": ("--a=b",),
    }
    return BeamJob(**{**wanted, **more})


def test_documents_are_read_as_they_were_written():
    assert BeamJob.from_json(job().to_json()) == job()
    assert job().schema == pa.schema([("a", pa.list_(pa.decimal128(38, 9)))])
    result = JobResult(state="FAILED", error="why", counters={"rows_read": 1})
    assert JobResult.from_json(result.to_json()) == result


def test_rows_of_all_files_are_read_and_none_is_an_empty_table(tmp_path):
    schema = pa.schema([("n", pa.int64())])
    assert read_parquet_rows([], schema) == schema.empty_table()
    for number, rows in enumerate(([1, 2], [], [3])):
        parquet.write_table(pa.table({"n": rows}, schema), tmp_path / f"DAY={number}.parquet")
    rows = read_parquet_rows(tmp_path.glob("*.parquet"), schema)
    assert rows.to_pylist() == [{"n": 1}, {"n": 2}, {"n": 3}]


def test_dead_letters_are_read_up_to_a_bound(tmp_path):
    letter = {"step": "s", "reason": "r", "message": "m", "row": "{}"}
    path = tmp_path / f"{DEAD_PREFIX}out-0.ndjson"
    path.write_text(f"{json.dumps(letter)}\n" * (DEAD_LETTERS_MAX + 1))
    assert read_dead_letters(str(tmp_path)) == (DeadLetter(**letter),) * DEAD_LETTERS_MAX


def test_a_slots_file_of_dead_letters_is_that_of_its_last_run(tmp_path):
    letter = DeadLetter("s", "r", "m", "{}")
    empty = pa.table({})
    with_one = BeamRows(empty, "j", dead_letters=[letter])
    path = keep_dead_letters(str(tmp_path), job(), with_one)
    assert path == str(tmp_path / "w1" / "20260921T140000Z.ndjson")
    assert [json.loads(line)["step"] for line in Path(path).read_text().splitlines()] == ["s"]
    assert keep_dead_letters(None, job(), with_one) is None
    assert keep_dead_letters(str(tmp_path), job(), BeamRows(empty, "j")) is None
    assert list((tmp_path / "w1").iterdir()) == []


def test_a_store_that_no_other_process_reaches_is_told(tmp_path):
    store = MemoryStore()
    store.apply(builds_spec())
    with pytest.raises(UsageError, match="give its address"):
        run_beam_slot(definition(tmp_path), store, SLOT, generation=1, log=print)


def test_rows_of_a_table_that_is_no_input_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"local\.ci\.bilds is no input of the workflow"):
        run_beam_on_rows(definition(tmp_path), {"ci.bilds": build_rows([])}, SLOT, log=print)


def test_the_launcher_does_not_import_beam():
    program = (
        "import sys, eventmill.workflow.beam; assert 'apache_beam' not in sys.modules;"
        "assert 'eventmill.beam' not in sys.modules"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr


def test_no_code_of_ours_runs_a_pipeline_on_a_runner_that_downloads():
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for folder in ("eventmill", "tests", "docs", "benchmarks")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".md", ".toml") and path != Path(__file__)
        for line in path.read_text("utf-8").splitlines()
        if re.search(r"""runner=["']?(Direct|Prism)|beam\.Pipeline\(\)|TestPipeline\(\)""", line)
    ]
    # What is refused, and a runner that its caller has vetted, may be spoken of.
    allowed = ("in this", "prism_location", "downloads")
    assert [line for line in found if not any(word in line for word in allowed)] == []
    assert BEAM_PYTHON.parent.name == "bin"
