"""``eventmill workflow new|list|test|try``: what they make, print and exit with."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pyarrow as pa
import pytest
from store_world import builds_spec
from workflow_world import PROTO, SQL, make_workflow

from eventmill.cli.main import run
from eventmill.store.local.store import LocalStore
from eventmill.workflow import beam
from eventmill.workflow.cron_slots import CronSlots
from eventmill.workflow.every_slots import EverySlots
from eventmill.workflow.reading import read_workflow

BUILDS_PROTO = (Path(__file__).parents[2] / "protos" / "builds.proto").read_text()
WITH_PROTO = {
    "input_keys": 'proto = "builds.proto"\nmessage = "ci.Build"',
    "files": {"builds.proto": BUILDS_PROTO},
}
ROWS = [
    {"number": 1, "builder": "linux", "ended_at": "2026-01-01T00:10:00Z", "cpu_seconds": 2.5},
    {"number": 2, "builder": "linux", "ended_at": "2026-01-01T00:20:00Z"},
    {"number": 3, "builder": "mac", "ended_at": "2026-01-01T01:00:00Z"},
]


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(capsys, *words):
    code = run(["workflow", *words])
    told = capsys.readouterr()
    return code, told.out, told.err


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


def write_rows(path, rows=ROWS):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


# -- new ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "timetable"),
    [
        ((), EverySlots(3_600)),
        (("--every", "15m"), EverySlots(900)),
        (("--every", "7d"), EverySlots(7 * 86_400)),
        (("--cron", "30 2 * * *"), CronSlots("30 2 * * *")),
        (
            ("--cron", "0 0 * * *", "--timezone", "America/New_York"),
            CronSlots("0 0 * * *", "America/New_York"),
        ),
    ],
)
def test_a_new_workflow_passes_its_case_at_once(project, capsys, words, timetable):
    made = call(
        capsys, "new", "my-builds_1", "--input", "ci.builds", "--output", "agg.mine", *words
    )
    assert made[:2] == (0, "workflows/my-builds_1\n")
    assert "`eventmill workflow test my-builds_1` runs its cases" in made[2]
    found = read_workflow("workflows/my-builds_1")
    assert found.timetable == timetable
    assert (str(found.output.table), found.output.message) == ("local.agg.mine", "agg.MyBuilds1")
    code, out, _ = call(capsys, "test")
    assert code == 0
    (row,) = lines(out)
    assert (row["workflow"], row["case"], row["outcome"]) == ("my-builds_1", "example", "passed")


def test_the_example_goes_by_the_partition_column_where_the_store_has_the_input(project, capsys):
    with LocalStore.open("data") as store:
        store.apply(builds_spec())
    words = ("--input", "ci.builds", "--output", "agg.mine", "--owner", 'the "ci" team')
    assert call(capsys, "new", "mine", *words, "--store", "data")[0] == 0
    assert "WHERE `ended_at` >= @slot_start" in Path("workflows/mine/query.sql").read_text()
    assert read_workflow("workflows/mine").owner == 'the "ci" team'
    assert call(capsys, "test", "mine")[0] == 0
    case = Path("workflows/mine/tests/example.toml")
    case.write_text(case.read_text().replace("row_count = 2", "row_count = 3"))
    code, out, _ = call(capsys, "test", "mine")
    assert code == 1
    assert "row_count  expected 3, got 2" in lines(out)[0]["told"]


def test_a_workflow_that_ships_is_copied_under_another_name(project, capsys):
    assert call(capsys, "new", "my-attempts", "--from", "cq_attempts")[0] == 0
    found = read_workflow("workflows/my-attempts")
    assert found.name == "my-attempts"
    assert str(found.output.table) == "local.aggregated.cq_attempts"
    assert not list(Path("workflows").rglob("__pycache__"))
    assert [path.name for path in Path("workflows").iterdir()] == ["my-attempts"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["Bad", "--input", "a.b", "--output", "a.c"], "'Bad' is no name of a workflow"),
        (["../up", "--input", "a.b", "--output", "a.c"], "is no name of a workflow"),
        (["mine", "--input", "a.b"], "give --input TABLE and --output TABLE"),
        (["mine", "--input", "b", "--output", "a.c"], "'b' is not a table name"),
        (["mine", "--input", "a.b", "--output", "local.a.b"], "it is the input too"),
        (["mine", "--input", "a.b", "--output", "a.c", "--every", "x"], "not a length of time"),
        (["mine", "--input", "a.b", "--output", "a.c", "--every", "1.5s"], "whole number"),
        (["mine", "--input", "a.b", "--output", "a.c", "--cron", "x"], "is not five fields"),
        (["mine", "--input", "a.b", "--output", "a.c", "--timezone", "UTC"], "is about --cron"),
        (
            ["mine", "--input", "a.b", "--output", "a.c", "--every", "1h", "--cron", "* * * * *"],
            "--every and --cron exclude each other",
        ),
        (["mine", "--from", "nothing"], "there is no workflow 'nothing'"),
        (["mine", "--from", "cq_attempts", "--owner", "x"], "leave --owner out"),
    ],
)
def test_what_cannot_be_made_is_refused_and_leaves_nothing(project, capsys, words, told):
    code, _, err = call(capsys, "new", *words)
    assert code == 2
    assert told in err
    assert not Path("workflows").exists() or list(Path("workflows").iterdir()) == []


def test_a_folder_that_is_there_is_left_alone(project, capsys):
    words = ("new", "mine", "--input", "ci.builds", "--output", "agg.mine")
    assert call(capsys, *words)[0] == 0
    Path("workflows/mine/query.sql").write_text("-- my work")
    code, _, err = call(capsys, *words)
    assert (code, Path("workflows/mine/query.sql").read_text()) == (2, "-- my work")
    assert "is there already" in err


# -- list -----------------------------------------------------------------------------------


def test_the_list_has_good_ones_and_broken_ones(project, capsys):
    make_workflow(project / "workflows", "good")
    make_workflow(project / "workflows", "broken", schedule='every = "x"')
    code, out, _ = call(capsys, "list")
    broken, good = lines(out)
    assert code == 0
    assert good == {
        "workflow": "good",
        "schedule": "every 1h",
        "inputs": ["local.ci.builds"],
        "output": "local.ci.builds_per_builder",
        "owner": "ci-team@example.com",
        "bodies": "sql",
        "from": "workflows/good",
        "error": None,
    }
    assert (broken["workflow"], broken["from"]) == ("broken", "workflows/broken")
    assert "schedule.every: 'x' is not a length of time" in broken["error"]
    code, out, _ = call(capsys, "list", "--shipped", "--format", "csv")
    assert re.search(r"^cq_attempts,every 1h,.*,eventmill,", out, re.MULTILINE)
    code, out, _ = call(capsys, "list", "--format", "table")
    assert "ci.builds" in out
    assert "local." not in out


def test_an_empty_project_is_told_how_to_begin(project, capsys):
    code, out, err = call(capsys, "list", "--workflows", "elsewhere")
    assert (code, out) == (0, "")
    assert "there are no workflows in elsewhere; `eventmill workflow new` makes one" in err


# -- test -----------------------------------------------------------------------------------

CASE = """\
slot_start = 2026-01-01T00:00:00Z
slot_end = 2026-01-01T01:00:00Z
columns = ["builder", "builds"]

[input."ci.builds"]
file = "rows.ndjson"

[[expect]]
builder = "linux"
builds = 2
"""


def with_case(project, name="good", case=CASE, **changes):
    folder = make_workflow(project / "workflows", name, **changes)
    (folder / "tests").mkdir()
    (folder / "tests" / "rows.toml").write_text(case)
    write_rows(folder / "tests" / "rows.ndjson")
    return folder


def test_all_cases_run_and_one_that_fails_is_the_exit_code(project, capsys):
    with_case(project, "good")
    assert call(capsys, "test")[0] == 0
    with_case(project, "bad", CASE.replace("builds = 2", "builds = 5"))
    code, out, _ = call(capsys, "test")
    assert code == 1
    assert [(row["workflow"], row["outcome"]) for row in lines(out)] == [
        ("bad", "failed"),
        ("good", "passed"),
    ]
    assert call(capsys, "test", "good")[0] == 0
    code, out, err = call(capsys, "test", "--format", "table")
    assert code == 1
    assert "bad, rows, sql:\n  rows: 1 with other values" in err
    assert "passed" in out


def test_no_case_at_all_is_an_error(project, capsys):
    code, out, err = call(capsys, "test")
    assert (code, out) == (1, "")
    assert "there is no case to run" in err
    make_workflow(project / "workflows", "bare")
    code, _, err = call(capsys, "test", "bare")
    assert code == 1
    assert "bare has no cases: write tests/CASE.toml" in err
    with_case(project)
    assert call(capsys, "test")[0] == 0  # another has some


def test_a_broken_workflow_fails_the_test_of_all(project, capsys):
    with_case(project)
    make_workflow(project / "workflows", "broken", schedule='every = "x"')
    code, out, err = call(capsys, "test")
    assert (code, len(lines(out))) == (1, 1)
    assert "schedule.every" in err
    assert call(capsys, "test", "good")[0] == 0


def test_the_body_can_be_chosen(project, capsys):
    with_case(project)
    assert call(capsys, "test", "--body", "sql")[0] == 0
    code, _, err = call(capsys, "test", "good", "--body", "beam")
    assert code == 2
    assert "has no beam body" in err


# -- try ------------------------------------------------------------------------------------


def test_rows_from_files_become_output_rows_and_touch_no_store(project, capsys):
    make_workflow(project / "workflows", "mine", **WITH_PROTO)
    write_rows(project / "rows.ndjson")
    code, out, err = call(capsys, "try", "mine", "--input", "ci.builds=rows.ndjson")
    assert (code, err) == (0, "")
    found = {row["builder"]: row for row in lines(out)}
    assert found["linux"]["builds"] == 2
    assert found["linux"]["slot_start"] == "1970-01-01T00:00:00.000000Z"
    assert found["linux"]["cpu_seconds"] == 2.5
    assert found["mac"]["cpu_seconds"] is None
    assert sorted(path.name for path in project.iterdir()) == ["rows.ndjson", "workflows"]


@pytest.mark.parametrize(
    ("words", "builders"),
    [
        (["--slot-start", "2026-01-01T01:00Z"], ["mac"]),
        (
            ["--slot-start", "2026-01-01T00:15Z", "--slot-end", "2026-01-01T02:00Z"],
            ["linux", "mac"],
        ),
        (["--slot-end", "2026-01-01T01:00:00Z"], ["linux"]),
        (["--slot-start", "2027-01-01"], []),
    ],
)
def test_the_slot_can_be_given(project, capsys, words, builders):
    make_workflow(project / "workflows", "mine", **WITH_PROTO)
    write_rows(project / "rows.ndjson")
    code, out, _ = call(capsys, "try", "mine", "--input", "ci.builds=rows.ndjson", *words)
    assert code == 0
    assert sorted(row["builder"] for row in lines(out)) == builders


def test_rows_are_taken_at_the_start_of_a_slot_that_is_given(project, capsys):
    sql = SQL.replace("ended_at", "_ingested_at")
    make_workflow(project / "workflows", "mine", sql=sql, **WITH_PROTO)
    write_rows(project / "rows.ndjson")
    words = ("try", "mine", "--input", "ci.builds=rows.ndjson")
    for more in ((), ("--slot-start", "2001-01-01")):
        _, out, _ = call(capsys, *words, *more)
        assert len(lines(out)) == 2


def test_rows_are_printed_in_the_order_of_the_body(project, capsys):
    make_workflow(project / "workflows", "mine", sql=f"{SQL}ORDER BY builder DESC", **WITH_PROTO)
    rows = [ROWS[0] | {"builder": f"b{number}"} for number in range(12)]
    write_rows(project / "rows.ndjson", rows)
    _, out, _ = call(capsys, "try", "mine", "--input", "ci.builds=rows.ndjson")
    names = [row["builder"] for row in lines(out)]
    assert names == sorted(names, reverse=True)
    assert len(names) == 12


def test_rows_that_do_not_fit_are_told_and_the_rest_is_run(project, capsys):
    make_workflow(project / "workflows", "mine", **WITH_PROTO)
    path = write_rows(project / "rows.ndjson")
    path.write_text(path.read_text() + '\n{"number": "x"}\nnonsense\n[1]\n{"nothing": 1}\n')
    code, out, err = call(capsys, "try", "mine", "--input", "ci.builds=rows.ndjson")
    assert code == 3
    assert len(lines(out)) == 2
    told = err.splitlines()
    assert len(told) == 4
    assert told[0] == "rows.ndjson line 5: number: 'x' (str) is not an integer"
    assert told[1].startswith("rows.ndjson line 6: not JSON: ")
    assert told[2] == "rows.ndjson line 7: it is not a JSON object"
    assert told[3].startswith("rows.ndjson line 8: nothing: ci.Build has no field 'nothing'")


def test_columns_are_inferred_without_a_proto_and_said(project, capsys):
    make_workflow(project / "workflows", "mine")
    write_rows(project / "rows.ndjson")
    code, out, err = call(capsys, "try", "mine", "--input", "ci.builds=rows.ndjson")
    assert (code, len(lines(out))) == (0, 2)
    assert "note: the columns of local.ci.builds are inferred from its rows: number INTEGER" in err
    code, _, err = call(capsys, "try", "mine")
    assert code == 2
    assert "nothing says which columns the input local.ci.builds has" in err


def test_files_of_one_table_are_read_one_after_the_other(project, capsys):
    make_workflow(project / "workflows", "mine", **WITH_PROTO)
    first = write_rows(project / "a.ndjson", ROWS[:1]).name
    second = write_rows(project / "b.ndjson", ROWS[1:2]).name
    words = ("--input", f"ci.builds={first}", "--input", f"ci.builds={second}")
    _, out, _ = call(capsys, "try", "mine", *words)
    assert lines(out)[0]["builds"] == 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--input", "ci.builds"], "write TABLE=FILE"),
        (["--input", "ci.builds=none.ndjson"], "none.ndjson cannot be read"),
        (["--input", "ci.tests=rows.ndjson"], "local.ci.tests is no input of the workflow mine"),
        (["--slot-start", "2026-01-01T00:15Z"], "no slot of mine (every 1h) begins then"),
        (["--slot-start", "soon"], "is no moment"),
        (["--slot-start", "2026-01-01T00:00:00.5Z"], "whole seconds"),
        (
            ["--slot-start", "2026-01-02", "--slot-end", "2026-01-01"],
            "--slot-end does not come after",
        ),
        (["--body", "beam"], "has no beam body"),
    ],
)
def test_a_trial_that_makes_no_sense_is_refused(project, capsys, words, told):
    make_workflow(project / "workflows", "mine", **WITH_PROTO)
    write_rows(project / "rows.ndjson")
    code, out, err = call(capsys, "try", "mine", *words)
    assert (code, out) == (2, "")
    assert told in err


def test_output_that_does_not_fit_its_proto_is_an_error(project, capsys):
    proto = PROTO.replace("int64 builds", "string builds")
    make_workflow(project / "workflows", "mine", proto=proto, **WITH_PROTO)
    write_rows(project / "rows.ndjson")
    code, out, err = call(capsys, "try", "mine", "--input", "ci.builds=rows.ndjson")
    assert (code, out) == (1, "")
    assert "builds" in err


def test_a_beam_body_gets_the_rows_and_its_output_is_checked(project, capsys, monkeypatch):
    asked = []

    def run_beam_on_rows(definition, inputs, slot, *, options, **_):
        asked.append((inputs["local.ci.builds"].num_rows, slot, options.python))
        rows = pa.table({"builder": ["beam"], "builds": [inputs["local.ci.builds"].num_rows]})
        return beam.BeamRows(rows, job_name="job")

    monkeypatch.setattr(beam, "run_beam_on_rows", run_beam_on_rows)
    monkeypatch.setenv("EVENTMILL_WORKFLOW_BEAM_PYTHON", "python-with-beam")
    files = {"pipeline.py": "def build(pipeline, inputs, slot): ...\n", **WITH_PROTO["files"]}
    make_workflow(project / "workflows", "mine", **{**WITH_PROTO, "files": files})
    write_rows(project / "rows.ndjson")
    words = ("try", "mine", "--input", "ci.builds=rows.ndjson", "--body", "beam")
    code, out, _ = call(capsys, *words)
    assert code == 0
    assert lines(out)[0] == {
        "slot_start": None,
        "builder": "beam",
        "builds": 3,
        "cpu_seconds": None,
    }
    assert asked == [(3, (0, 253_402_300_799), "python-with-beam")]
