"""The test runner's own judgement: what it must not call good."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def runner():
    spec = importlib.util.spec_from_file_location("run_tests", ROOT / "scripts" / "run_tests.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["run_tests"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["run_tests"]


def test_a_run_in_which_all_went_well_is_good(runner):
    assert runner.faults(0, runner.TestCounts(3, 0, ())) == []


@pytest.mark.parametrize(
    ("code", "counts", "told"),
    [
        (1, (3, 1, ()), "pytest ended with 1"),
        (5, (0, 0, ()), "collected no tests"),
        (0, (0, 0, ()), "no test passed"),
        (0, (3, 1, ()), "1 failures"),
        (0, (3, 0, ("test_a: no server",)), "1 tests were skipped: test_a: no server"),
        (-9, (0, 0, ()), "pytest ended with -9"),
    ],
)
def test_everything_else_is_not(runner, code, counts, told):
    assert any(told in fault for fault in runner.faults(code, runner.TestCounts(*counts)))


def test_each_test_is_in_one_part_of_the_whole_run(runner):
    fast, slow = runner.pytest_commands("all", "reports")
    assert fast[fast.index("-m", 3) + 1] == "not slow"
    assert slow[slow.index("-m", 3) + 1] == "slow"
    assert not [word for word in fast + slow if word.startswith("tests")]
    assert fast[-1] != slow[-1]


@pytest.mark.parametrize("bad", ["lint", "fast", "slow"])
def test_one_bad_part_makes_the_whole_run_bad(runner, monkeypatch, capsys, bad):
    good, ill = "<a><testcase/></a>", "<a><testcase><failure/></testcase></a>"

    def part(name):
        text = ill if name == bad else good
        program = f"import sys; open(sys.argv[1][11:], 'w').write('{text}'); print('{name}')"
        return [sys.executable, "-c", program]

    def commands(level, folder):
        return [[*part(name), f"--junitxml={folder}/{name}.xml"] for name in ("fast", "slow")]

    monkeypatch.setattr(runner, "pytest_commands", commands)
    step = runner.Step("lint", [sys.executable, "-c", f"raise SystemExit({bad == 'lint'})"])
    monkeypatch.setattr(runner, "steps", lambda: [step])
    monkeypatch.setattr(runner, "run_beam", list)
    assert runner.main(["all"]) == 1
    assert "== NOT GOOD: " in capsys.readouterr().out


def test_the_report_is_counted(runner, tmp_path):
    report = tmp_path / "report.xml"
    report.write_text(
        "<testsuites><testsuite>"
        '<testcase name="a"/><testcase name="b"><failure/></testcase>'
        '<testcase name="c"><error/></testcase>'
        '<testcase name="d"><skipped type="pytest.skip" message="no server"/></testcase>'
        '<testcase name="e"><skipped type="pytest.skip" message="external: no key"/></testcase>'
        '<testcase name="f"><skipped type="pytest.xfail" message="known"/></testcase>'
        "</testsuite></testsuites>"
    )
    assert runner.read_counts(str(report)) == runner.TestCounts(2, 2, ("d: no server",))


def test_a_missing_report_is_a_run_without_tests(runner, tmp_path):
    assert runner.read_counts(str(tmp_path / "none.xml")) == runner.TestCounts(0, 0, ())


def test_the_closing_line_of_pytest_is_held_back(runner, capsys):
    script = "print('one'); print('two'); print('3 passed'); raise SystemExit(1)"
    code, closing = runner.run_pytest([sys.executable, "-c", script])
    assert (code, closing) == (1, "3 passed")
    assert capsys.readouterr().out.splitlines()[1:] == ["one", "two"]


@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("import sys; open(sys.argv[3][11:], 'w').write('<a><testcase/></a>')", []),
        ("import sys; open(sys.argv[3][11:], 'w').write('<a></a>')", ["beam: no test passed"]),
        ("raise SystemExit(5)", ["beam: pytest collected no tests", "beam: no test passed"]),
    ],
)
def test_the_tests_in_the_environment_of_beam_are_counted(runner, monkeypatch, program, told):
    command = runner.beam_command
    monkeypatch.setattr(runner, "BEAM_PYTHON", Path(sys.executable))
    assert command("r.xml")[:5] == [sys.executable, "-m", "pytest", "-q", "--junitxml=r.xml"]
    assert all((ROOT / path).exists() for path in runner.BEAM_TESTS)
    monkeypatch.setattr(
        runner, "beam_command", lambda report: [sys.executable, "-c", program, *command(report)[2:]]
    )
    assert runner.run_beam() == told


def test_a_missing_environment_of_beam_is_told(runner, monkeypatch):
    monkeypatch.setattr(runner, "BEAM_PYTHON", Path("/nowhere/python"))
    assert runner.run_beam() == ["beam: there is no /nowhere/python; `make test` makes it"]


def test_a_level_that_does_not_exist_is_a_usage_error(runner):
    assert runner.main(["some"]) == 2
