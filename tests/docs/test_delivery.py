"""``docs/delivery.md`` names cells that the suite runs, all of them, and nothing else.

That each of them has the result that its line says, the cell's own test asserts.
"""

from __future__ import annotations

import importlib.util
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from delivery_page import PAGE, Line, lines_in, proof_of

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def writer():
    spec = importlib.util.spec_from_file_location(
        "write_delivery", ROOT / "scripts" / "write_delivery.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_every_line_of_the_page_is_a_cell_of_the_suite_and_every_cell_has_a_line(writer):
    in_suite = {proof_of(test.rpartition("::")[2]) for test in writer.collected()}
    assert {line.proof for line in lines_in(PAGE.read_text("utf-8"))} == in_suite


def test_the_page_is_as_its_lines_say(writer):
    text = PAGE.read_text("utf-8")
    lines = lines_in(text)
    assert len(lines) > 40
    assert writer.page(lines) == text
    assert max(Counter(lines).values()) == 1
    assert {line.doubled for line in lines} == {"0"}
    assert {line.lost for line in lines if line.mode == "host"} == {"0"}


# -- the writer ---------------------------------------------------------------------------------

LINE = Line("Forks", "a fork", "process", "0", "0", "none", "no", "test_a[x]")


def test_the_runs_of_a_cell_are_one_line(writer):
    tests = ["f.py::test_a[x-seed0]", "f.py::test_a[x-seed1]"]
    assert writer.lines_of(tests, dict.fromkeys(tests, LINE)) == [LINE]
    assert proof_of("test_a[seed3]") == "test_a"
    assert proof_of("test_a[x]") == "test_a[x]"


def test_a_cell_that_left_no_result_is_an_error(writer):
    with pytest.raises(SystemExit, match=r"test_b has left no result"):
        writer.lines_of(["f.py::test_b"], {"f.py::test_a": LINE})


def test_runs_of_one_cell_that_differ_are_an_error(writer):
    tests = ["f.py::test_a[x-seed0]", "f.py::test_a[x-seed1]"]
    results = {tests[0]: LINE, tests[1]: replace(LINE, lost="1")}
    with pytest.raises(SystemExit, match="differ"):
        writer.lines_of(tests, results)


def test_results_of_tests_that_are_gone_count_for_nothing(writer):
    results = {"f.py::test_gone": replace(LINE, proof="test_gone"), "f.py::test_a[x]": LINE}
    assert writer.lines_of(["f.py::test_a[x]"], results) == [LINE]
