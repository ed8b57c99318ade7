"""The plugin of pytest: cases are items, failures are told without a traceback."""

from __future__ import annotations

import tomllib
from importlib import import_module
from pathlib import Path

import pytest
from workflow_world import make_workflow

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.slow

PLUGIN = "eventmill.testing.workflow_cases"
CASE = """\
slot_start = 2026-01-01T00:00:00Z
slot_end = 2026-01-01T01:00:00Z

[[input."ci.builds"]]
builder = "linux"
cpu_seconds = 0.5
ended_at = 2026-01-01T00:10:00Z

[[expect]]
slot_start = 2026-01-01T00:00:00Z
builder = "linux"
builds = 1
cpu_seconds = 0.5
"""


@pytest.fixture
def project(pytester):
    """Return a project with a workflow, a test of its own, and a TOML file of another kind."""
    files = {
        "tests/good.toml": CASE,
        "tests/wrong.toml": CASE.replace("builds = 1", "builds = 2"),
    }
    make_workflow(pytester.path / "workflows", files=files)
    pytester.makefile(".toml", other="name = 'x'")
    pytester.makepyfile(test_own="def test_own(): pass")
    return pytester


def run(pytester, *words):
    return pytester.runpytest_inprocess("-p", PLUGIN, "-p", "no:cacheprovider", *words)


def test_cases_are_collected_beside_other_tests(project):
    result = run(project, "-v")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(
        [
            "test_own.py::test_own PASSED*",
            "workflows/per-builder/workflow.toml::good[[]sql[]] PASSED*",
            "workflows/per-builder/workflow.toml::wrong[[]sql[]] FAILED*",
            "*workflows/per-builder/tests/wrong.toml",
            "expect[[]0[]] came with other values:",
            "  builds  expected 2, got 1",
        ]
    )
    assert "Traceback" not in result.stdout.str()
    assert "case_run.py" not in result.stdout.str()


def test_one_case_can_be_named(project):
    result = run(project, "workflows/per-builder/workflow.toml::good[sql]")
    result.assert_outcomes(passed=1)


def test_a_broken_workflow_is_an_error_and_hides_no_other(project):
    make_workflow(project.path / "workflows", "broken", schedule='every = "never"')
    result = run(project, "--continue-on-collection-errors")
    result.assert_outcomes(passed=2, failed=1, errors=1)
    result.stdout.fnmatch_lines(["*broken/workflow.toml: schedule.every: 'never' is not a length*"])


def test_bodies_can_be_chosen(project):
    beam = {"pipeline.py": "def build(pipeline, inputs, slot): ...\n", "tests/good.toml": CASE}
    make_workflow(project.path / "both", "two-bodies", files=beam)
    result = run(project, "both", "--collect-only", "-q")
    result.stdout.fnmatch_lines(["*::good[[]sql[]]", "*::good[[]beam[]]"])
    result = run(project, "both", "--workflow-body", "sql")
    result.assert_outcomes(passed=1)


def test_a_project_without_workflows_is_left_alone(pytester):
    pytester.makepyfile(test_own="def test_own(): pass")
    run(pytester).assert_outcomes(passed=1)


def test_the_plugin_is_named_to_pytest():
    root = Path(__file__).resolve().parents[3]
    content = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))
    named = content["project"]["entry-points"]["pytest11"]
    assert named == {PLUGIN: PLUGIN}
    assert callable(import_module(named[PLUGIN]).pytest_collect_file)
