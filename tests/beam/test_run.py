"""The process that runs a pipeline: what it makes of ``pipeline.py``, and what it tells."""

from __future__ import annotations

import os
import sys
import textwrap

import pyarrow as pa
import pytest
from apache_beam.internal import pickler
from apache_beam.io.filesystem import FileMetadata
from apache_beam.io.localfilesystem import LocalFileSystem
from beam_world import PIPELINE, SLOT, build_rows

from eventmill.beam.failure import describe_failure
from eventmill.beam.run import run_job
from eventmill.workflow.beam.job import BeamJob, JobInput, schema_text
from eventmill.workflow.beam.launch import version
from eventmill.workflow.beam.parquet_rows import read_parquet_rows

SCHEMA = pa.schema(
    [("builder", pa.string()), ("builds", pa.int64()), ("numbers", pa.list_(pa.int64()))]
)
ROWS = [(1, "a", 0), (2, "b", 5), (3, "a", 3599), (4, "a", 3600), (5, None, 7)]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run ``pipeline.py`` on rows in this process; return the output's rows and the counts."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    workflow = tmp_path / "workflow"
    workflow.mkdir()

    def run_pipeline(text, **more):
        monkeypatch.delitem(sys.modules, "pipeline", raising=False)
        (workflow / "pipeline.py").write_text(textwrap.dedent(text))
        with pa.OSFile(str(tmp_path / "in.arrow"), "wb") as file:
            rows = build_rows(ROWS)
            with pa.ipc.new_file(file, rows.schema) as out:
                out.write_table(rows)
        within = "ended_at >= @slot_start AND ended_at < @slot_end"
        job = BeamJob(**{
            "version": version("eventmill"),
            "workflow": "w1",
            "job_name": "w1-job",
            "pipeline_path": str(workflow / "pipeline.py"),
            "start_seconds": SLOT[0],
            "end_seconds": SLOT[1],
            "inputs": (JobInput("local.ci.builds", within), JobInput("local.ci.other", "TRUE")),
            "output": "local.agg.builders",
            "output_schema": schema_text(SCHEMA),
            "folder": str(tmp_path),
            "files": {"local.ci.builds": str(tmp_path / "in.arrow")},
            **more,
        })  # fmt: skip
        try:
            result = run_job(job)
        except Exception as error:  # noqa: BLE001 - whatever a runner raises
            return describe_failure(error, str(workflow))
        assert result.state == "DONE"
        found = read_parquet_rows(tmp_path.glob("rows-*.parquet"), SCHEMA)
        return sorted(found.to_pylist(), key=str), dict(result.counters)

    return run_pipeline


OUTPUT = [
    {"builder": "a", "builds": 2, "numbers": [1, 3]},
    {"builder": "b", "builds": 1, "numbers": [2]},
]


def test_the_output_is_written_in_the_columns_of_the_table(run, refused):
    counts = {"rows_read": 4, "rows_skipped": 1, "rows_written": 2}
    assert run(PIPELINE) == (OUTPUT, counts)
    assert refused == []


def test_what_the_module_defines_is_sent_with_the_pipeline(run, monkeypatch):
    run(PIPELINE)
    sent = pickler.dumps(sys.modules["pipeline"].PerBuilder())
    monkeypatch.delitem(sys.modules, "pipeline")
    monkeypatch.setattr(sys, "path", [])  # a worker that has never seen the file
    assert pickler.loads(sent).key({"builder": "a"}) == ("a",)


def test_an_input_can_be_read_by_a_query_of_ones_own(run):
    pipeline = """
        def build(pipeline, inputs, slot):
            assert list(inputs) == ["ci.builds", "ci.other"]
            assert len(inputs) == 2
            assert inputs["ci.builds"] is inputs["local.ci.builds"]
            return inputs.read(
                "ci.builds",
                sql="SELECT COUNT(*) AS builds FROM ci.builds WHERE number > @least AND ended_at <"
                " @slot_end",
                params={"least": 1},
            )
    """
    assert run(pipeline)[0] == [{"builder": None, "builds": 3, "numbers": None}]


def test_several_dead_letter_outputs_and_named_tuples_are_taken(run, tmp_path):
    pipeline = """
        from typing import NamedTuple
        import apache_beam as beam
        from eventmill.beam import Counters, with_dead_letters

        class Row(NamedTuple):
            builder: str
            builds: int

        class First(beam.DoFn):
            def __init__(self):
                self.counters = Counters()
            def process(self, row):
                self.counters.add("seen")
                if row["number"] == 1:
                    raise ValueError("one")
                yield row

        def second(row):
            if row["number"] == 2:
                raise KeyError("two")
            return Row(row["builder"] or "nobody", row["number"])

        def build(pipeline, inputs, slot):
            rows, some = inputs["ci.builds"] | with_dead_letters(First(), step="first")
            rows, more = rows | with_dead_letters(second, step="second")
            return rows, [some, more]
    """
    rows, counts = run(pipeline)
    assert [(row["builder"], row["builds"]) for row in rows] == [("a", 3), ("nobody", 5)]
    assert counts == {"rows_dead": 2, "rows_read": 4, "rows_written": 2, "seen": 4}
    letters = "".join(path.read_text() for path in tmp_path.glob("dead-*.ndjson"))
    assert sorted(line[line.index('"step"') :] for line in letters.splitlines()) == [
        '"step": "first"}',
        '"step": "second"}',
    ]


FAILURES = {
    "OutputError: the pipeline gives 1 (int) in the column 'builder' of local.agg.builders, which"
    " is string: Expected bytes, got a 'int' object": """
        import apache_beam as beam
        def build(pipeline, inputs, slot):
            return inputs["ci.builds"] | beam.Map(lambda row: {"builder": row["number"]})
    """,
    "OutputError: the pipeline gives a column 'number', which the output local.agg.builders has"
    " not; it has builder, builds, numbers": """
        def build(pipeline, inputs, slot):
            return inputs["ci.builds"]
    """,
    "TypeError: a row is a dict or a NamedTuple, not int: 1": """
        import apache_beam as beam
        def build(pipeline, inputs, slot):
            return pipeline | beam.Create([1])
    """,
    "defines no function build(pipeline, inputs, slot)": "x = 1",
    "SyntaxError: invalid syntax (pipeline.py, line 1)": "def build(:",
    "returned NoneType: wanted is a PCollection": "def build(pipeline, inputs, slot): return None",
    "'ci.bilds' is no input of this workflow; [[input]] in workflow.toml names ci.builds,"
    " ci.other; at pipeline.py:1, build": "def build(p, inputs, s): return inputs['ci.bilds']",
    "there are no rows for the table local.ci.other; there are some for local.ci.builds": (
        "def build(p, inputs, s): return inputs['ci.other']"
    ),
    "QueryError: there is no column nothing in local.ci.builds": """
        def build(pipeline, inputs, slot):
            return inputs.read("ci.builds", sql="SELECT nothing FROM ci.builds")
    """,
}


@pytest.mark.parametrize("told", FAILURES)
def test_a_failure_is_told_in_one_sentence(run, told):
    found = run(FAILURES[told])
    assert told in found
    assert "\n" not in found


def test_another_version_of_eventmill_is_told(run):
    assert "run by Eventmill 0.0.9" in run(PIPELINE, version="0.0.9")


def test_a_runner_that_downloads_is_refused(run, refused):
    assert "downloads a program" in run(PIPELINE, pipeline_options=("--runner=DirectRunner",))
    assert refused == []


class ElsewhereFileSystem(LocalFileSystem):
    """Stands for a bucket: paths that no file function of this machine takes."""

    root = ""

    @classmethod
    def scheme(cls):
        return "elsewhere"

    @classmethod
    def _here(cls, path):
        return path.replace("elsewhere://", f"{cls.root}/")

    def join(self, basepath, *paths):
        return "/".join([basepath.rstrip("/"), *paths])

    def split(self, path):
        head, _, tail = path.rpartition("/")
        return head, tail

    def mkdirs(self, path):
        super().mkdirs(self._here(path))

    def match(self, patterns, limits=None):
        found = super().match([self._here(pattern) for pattern in patterns], limits)
        for result, pattern in zip(found, patterns, strict=True):
            result.pattern = pattern
            result.metadata_list = [
                FileMetadata(
                    one.path.replace(f"{self.root}/", "elsewhere://"),
                    one.size_in_bytes,
                    one.last_updated_in_seconds,
                )
                for one in result.metadata_list
            ]
        return found

    def exists(self, path):
        return super().exists(self._here(path))

    def create(self, path, *rest, **more):
        return super().create(self._here(path), *rest, **more)

    def open(self, path, *rest, **more):
        return super().open(self._here(path), *rest, **more)

    def rename(self, sources, targets):
        super().rename([self._here(one) for one in sources], [self._here(one) for one in targets])

    def delete(self, paths):
        for path in paths:
            os.remove(self._here(path))


def test_output_in_another_file_system_is_fetched_and_removed_there(run, tmp_path, monkeypatch):
    bucket = tmp_path / "bucket"
    bucket.mkdir()
    monkeypatch.setattr(ElsewhereFileSystem, "root", str(bucket))
    found = run(PIPELINE, staging="elsewhere://staging/w1-job")
    assert found[0] == OUTPUT, found
    assert [path for path in bucket.rglob("*") if path.is_file()] == []
    assert (bucket / "staging").is_dir()
