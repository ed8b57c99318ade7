"""Cases: rows in, rows expected, and what is said when they differ or make no sense."""

from __future__ import annotations

import json
import re

import pyarrow as pa
import pytest
from workflow_world import PROTO, SQL, make_workflow

from eventmill.workflow import beam
from eventmill.workflow.case_run import run_cases
from eventmill.workflow.reading import SHIPPED_FOLDER, find_workflow, list_workflows, read_workflow

CASE = """\
slot_start = 2026-01-01T00:00:00Z
slot_end = 2026-01-01T01:00:00Z

[[input."ci.builds"]]
number = 1
builder = "linux"
ended_at = 2026-01-01T00:10:00Z
cpu_seconds = 0.1

[[input."ci.builds"]]
number = 2
builder = "linux"
ended_at = 2026-01-01T00:59:59Z
cpu_seconds = 0.2

[[input."ci.builds"]]
number = 3
builder = "mac"
ended_at = 2026-01-01T01:00:00Z
cpu_seconds = 7.0

[[expect]]
slot_start = 2026-01-01T00:00:00Z
builder = "linux"
builds = 2
cpu_seconds = 0.3
"""
BUILDS_PROTO = """\
syntax = "proto3";
package ci;
import "google/protobuf/timestamp.proto";
message Build {
  int64 number = 1;
  string builder = 2;
  google.protobuf.Timestamp ended_at = 4;
  optional double cpu_seconds = 5;
}
"""
WITH_PROTO = {"input_keys": 'proto = "builds.proto"', "files": {"builds.proto": BUILDS_PROTO}}


def outcomes(tmp_path, case=CASE, *, body=None, files=None, **changes):
    changes = dict(changes)
    every = {**changes.pop("files", {}), **(files or {})}
    if case is not None:
        every["tests/example.toml"] = case
    definition = read_workflow(str(make_workflow(tmp_path, files=every, **changes)))
    return list(run_cases(definition, body=body))


def told(tmp_path, case=CASE, **changes):
    (one,) = outcomes(tmp_path, case, **changes)
    assert one.passed is (one.told == "")
    return one.told


def test_a_case_passes_with_inferred_columns_and_says_so(tmp_path):
    (one,) = outcomes(tmp_path)
    assert (one.passed, one.told) == (True, "")
    assert (one.workflow, one.case, one.body) == ("per-builder", "example", "sql")
    assert one.seconds > 0
    (note,) = one.notes
    assert note == (
        "the columns of local.ci.builds are inferred from its rows: number INTEGER, builder STRING,"
        " ended_at TIMESTAMP, cpu_seconds FLOAT"
    )


def test_the_inputs_proto_judges_the_rows(tmp_path):
    (one,) = outcomes(tmp_path, **WITH_PROTO)
    assert (one.passed, one.notes) == (True, ())
    wrong = CASE.replace("number = 2", 'number = "two"').replace("number = 3", "numbr = 3")
    place = 'example.toml input."ci.builds"'
    unknown = "ci.Build has no field 'numbr' (did you mean number?)"
    assert told(tmp_path, wrong, **WITH_PROTO).splitlines() == [
        "2 rows do not fit their input table:",
        f"{place}[1]: number: 'two' (str) is not an integer",
        f"{place}[2]: numbr: {unknown}",
    ]


def test_rows_that_differ_are_told(tmp_path):
    wrong = CASE.replace("builds = 2", "builds = 3").replace("= 0.3", "= 0.31")
    assert told(tmp_path, wrong).splitlines() == [
        "rows: 1 with other values",
        "expect[0] came with other values:",
        "  builds       expected 3, got 2",
        "  cpu_seconds  expected 0.31, got 0.30000000000000004",
        '  the same: slot_start="2026-01-01T00:00:00.000000Z", builder="linux"',
    ]
    more = CASE + '\n[[expect]]\nbuilder = "bsd"\n'
    assert told(tmp_path, more).splitlines() == [
        "rows: 1 missing",
        'expect[1] is missing: slot_start=NULL, builder="bsd", builds=NULL, cpu_seconds=NULL',
    ]


def test_what_is_left_out_is_null_and_not_zero(tmp_path):
    without = CASE.replace("cpu_seconds = 0.3\n", "")
    assert "cpu_seconds  expected NULL, got 0.3" in told(tmp_path, without)
    zero = CASE.replace("builds = 2\n", "")
    assert "builds  expected NULL, got 2" in told(tmp_path, zero)
    nulls = SQL.replace("COUNT(*) AS builds", "CAST(NULL AS INT64) AS builds")
    assert told(tmp_path, zero, sql=nulls) == ""
    assert "expected 0, got NULL" in told(tmp_path, CASE.replace("= 2\nc", "= 0\nc"), sql=nulls)


def test_floats_and_columns_can_be_narrowed(tmp_path):
    near = CASE.replace("= 0.3\n", "= 0.31\n")
    assert told(tmp_path, "float_tolerance = 0.1\n" + near) == ""
    assert told(tmp_path, 'columns = ["builder", "builds"]\n' + near) == ""
    assert "0.31" in told(tmp_path, near)


def test_an_expected_error_must_come(tmp_path):
    start = CASE[: CASE.index("[[expect]]")]
    failing = SQL.replace("COUNT(*)", "[1][OFFSET(COUNT(*))]")
    assert told(tmp_path, 'expect_error = "out of bounds"\n' + start, sql=failing) == ""
    assert "the body failed, but not with 'other'" in told(
        tmp_path, 'expect_error = "other"\n' + start, sql=failing
    )
    assert "should fail with 'out of bounds', and gave 1 rows" in told(
        tmp_path, 'expect_error = "out of bounds"\n' + start
    )
    assert "the body failed: " in told(tmp_path, CASE, sql=failing)


def test_no_rows_can_be_expected(tmp_path):
    none = CASE[: CASE.index("[[expect]]")].replace("00:10:00Z", "05:10:00Z")
    none = none.replace("00:59:59Z", "05:59:59Z")
    assert told(tmp_path, "expect = []\n" + none) == ""
    assert "rows: 1 not expected" in told(tmp_path, "expect = []\n" + CASE[: CASE.index("[[exp")])


def test_rows_may_stand_in_files_beside(tmp_path):
    rows = [
        {"number": 1, "builder": "linux", "ended_at": "2026-01-01T00:10:00Z", "cpu_seconds": 1},
        {"number": 2, "builder": "linux", "ended_at": "2026-01-01T00:20:00Z", "cpu_seconds": 0.5},
    ]
    expected = {"slot_start": "2026-01-01T00:00:00Z", "builder": "linux", "builds": 2,
                "cpu_seconds": 1.5}  # fmt: skip
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    slot = CASE[: CASE.index("[[input")]
    folder = {
        "tests/inside/case.toml": slot,
        "tests/inside/ci.builds.ndjson": lines,
        "tests/inside/expect.ndjson": json.dumps(expected) + "\n\n",
        "tests/named.toml": slot
        + '[input."ci.builds"]\nfile = "inside/ci.builds.ndjson"\n'
        + '[expect]\nfile = "inside/expect.ndjson"\n',
        "tests/notes.md": "no case",
    }
    found = outcomes(tmp_path, None, files=folder)
    assert [(one.case, one.told) for one in found] == [("inside", ""), ("named", "")]
    folder["tests/inside/ci.builds.ndjson"] = lines + '{"number": }\n[1]\n'
    found = outcomes(tmp_path, None, files=folder)
    assert all("ci.builds.ndjson line 3: not JSON" in one.told for one in found)
    assert all("ci.builds.ndjson line 4: it is not a JSON object" in one.told for one in found)


BROKEN = [
    ("[[expect]]", "[[expct]]", "expect: it is missing: add"),
    ("slot_start = 2026-01-01T00:00:00Z\n\n", "\n", ""),
    ("slot_start = 2026-01-01T00:00:00Z\nslot_end", "slot_end", "slot_start: it is missing"),
    ("slot_end = 2026-01-01T01", "slot_end = 2026-01-01T00", "slot_end: it does not come after"),
    ("slot_end = 2026-01-01T01:00:00Z", "slot_end = 2026-01-01T01:00:00.5Z", "whole seconds"),
    ("slot_start = 2026-01-01T00:00:00Z\nslot_end", "slotstart = 1\nslot_end", "slot_start: it is"),
    ('"ci.builds"', '"builds"', r'input."builds": .*is not a table name'),
    ('"ci.builds"', '"ci.tests"', "local.ci.tests is no input of per-builder; its inputs are"),
    (
        "builds = 2",
        'builds = "two"',
        r"1 expected rows do not fit .*\n.*expect\[0\]: builds: 'two'",
    ),
    (
        "builds = 2",
        "number = 2",
        r"expect\[0\]: the output has no column 'number'; it has slot_start",
    ),
    ("slot_end =", 'columns = ["nothing"]\nslot_end =', "columns: the output has no column 'noth"),
    ("slot_end =", "columns = [1]\nslot_end =", "columns: a whole number is given: write texts"),
    ("slot_end =", 'expect_error = "x"\nslot_end =', "expect_error: a body that fails has no row"),
    ("slot_end =", "speed = 3\nslot_end =", "speed: no such key"),
    ("number = 1", 'number = "one"', "column number has values of STRING and of INTEGER"),
    ("number = 1", "number = [1]", "column number has values of a list and of one value"),
    ("[[input", "[[[input", "is not TOML"),
]


@pytest.mark.parametrize(("old", "new", "words"), [b for b in BROKEN if b[2]])
def test_a_case_that_makes_no_sense_fails_and_says_why(tmp_path, old, new, words):
    assert old in CASE
    assert re.search(words, told(tmp_path, CASE.replace(old, new)))


def test_an_input_of_which_nothing_says_the_columns_is_told(tmp_path):
    start = CASE[: CASE.index("[[input")]
    assert "nothing says which columns the input local.ci.builds has" in told(
        tmp_path, "expect = []\n" + start
    )
    assert told(tmp_path, "expect = []\n" + start, **WITH_PROTO) == ""


def test_a_column_that_no_row_has_is_told_with_what_was_inferred(tmp_path):
    without = re.sub(r"cpu_seconds = (0.1|0.2|7.0)\n", "", CASE)
    found = told(tmp_path, without)
    assert "cpu_seconds" in found
    assert "the columns of local.ci.builds are inferred from its rows: number INTEGER" in found


def test_output_that_does_not_fit_its_proto_fails(tmp_path):
    assert "the body failed: " in told(tmp_path, sql=SQL.replace("COUNT(*)", "'many'"))
    proto = PROTO.replace("int64 builds = 3;", "")
    case = CASE.replace("builds = 2\n", "")
    assert "builds" in told(tmp_path, case, proto=proto)


def test_an_input_by_ingestion_has_its_rows_in_the_slot(tmp_path):
    sql = SQL.replace("ended_at >=", "_ingested_at >=").replace("ended_at <", "_ingested_at <")
    three = CASE + '\n[[expect]]\nslot_start = 2026-01-01T00:00:00Z\nbuilder = "mac"\nbuilds = 1\n'
    assert told(tmp_path, three + "cpu_seconds = 7.0\n", sql=sql) == ""


def test_json_is_compared_by_what_it_says(tmp_path):
    proto = PROTO.replace(
        "string builder = 2;", 'string builder = 2 [(bqschema.options).bq_type = "JSON"];'
    )
    options = """extend google.protobuf.FieldOptions { optional FieldOptions options = 74700; }
message FieldOptions { string bq_type = 1; }
"""
    files = {"bqschema.proto": 'syntax = "proto3";\npackage bqschema;\n'
             'import "google/protobuf/descriptor.proto";\n' + options}  # fmt: skip
    proto = proto.replace("import", 'import "bqschema.proto";\nimport', 1)
    sql = SQL.replace(" builder,", " '{\"a\": [1, 2]}' AS builder,")
    case = CASE.replace("[[expect]]", "[[expect]] # x").split("# x")
    case = case[0] + case[1].replace('builder = "linux"', """builder = '{"a":[1,2]}'""")
    assert told(tmp_path, case, proto=proto, sql=sql, files=files) == ""
    assert "builder" in told(
        tmp_path, case.replace("[1,2]", "[1,3]"), proto=proto, sql=sql, files=files
    )


@pytest.fixture
def beam_inputs(monkeypatch):
    seen = []

    def run_beam_on_rows(definition, inputs, slot, **_):
        seen.append(inputs)
        start = pa.array([slot[0] * 1_000_000], pa.timestamp("us", "UTC"))
        rows = pa.table({"slot_start": start, "builder": ["linux"], "builds": [2],
                         "cpu_seconds": [0.3]})  # fmt: skip
        return beam.BeamRows(rows, job_name="job")

    monkeypatch.setattr(beam, "run_beam_on_rows", run_beam_on_rows)
    return seen


def test_each_body_that_a_workflow_has_is_run(tmp_path, beam_inputs):
    files = {"pipeline.py": "def build(pipeline, inputs, slot): ...\n"}
    found = outcomes(tmp_path, files=files)
    assert [(one.body, one.told) for one in found] == [("sql", ""), ("beam", "")]
    (inputs,) = beam_inputs
    assert inputs["local.ci.builds"].column_names[-2:] == ["_insert_id", "_ingested_at"]
    assert inputs["local.ci.builds"]["number"].to_pylist() == [1, 2, 3]
    assert [one.body for one in outcomes(tmp_path, files=files, body="sql")] == ["sql"]


def test_the_cases_that_ship_pass_in_sql():
    ran = 0
    for definition in list_workflows([SHIPPED_FOLDER]).definitions:
        for one in run_cases(find_workflow(definition.name, [SHIPPED_FOLDER]), body="sql"):
            assert one.told == "", (one.workflow, one.case)
            ran += 1
    assert ran
