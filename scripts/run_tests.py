"""Runs the checks of the project, one step after another, and says at the end what became of each.

``run_tests.py all`` is what CI runs; ``fast`` leaves out the slow tests. Every step runs even when
one before it failed, pytest last, so that its closing line is the last one printed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NO_TESTS_COLLECTED = 5
EXTERNAL = "external"
BEAM_PYTHON = ROOT / ".venv-beam" / "bin" / "python"
BEAM_TESTS = (
    "tests/beam",
    "tests/unit/client",
    "tests/unit/wire",
    # What reads descriptors, of which protobuf 6 and 7 know different things.
    "tests/unit/schema/test_check.py",
    "tests/unit/schema/test_compile.py",
    "tests/unit/schema/test_diff.py",
    "tests/unit/schema/test_mapping.py",
)


@dataclass(frozen=True)
class Step:
    """One check: its name and its command."""

    name: str
    command: list[str]


@dataclass(frozen=True)
class TestCounts:
    """What pytest's report says of a run."""

    __test__ = False  # no test, whatever pytest makes of its name

    passed: int
    failed: int
    skipped: tuple[str, ...]
    """Reason of each skipped test that is not marked ``external``."""


def steps() -> list[Step]:
    """Return the steps before pytest."""
    python = [sys.executable, "-m"]
    lint_imports = str(Path(sys.executable).parent / "lint-imports")
    return [
        Step("lint", [*python, "ruff", "check", "."]),
        Step("format", [*python, "ruff", "format", "--check", "."]),
        Step("floors", [lint_imports]),
        Step("types", [*python, "mypy"]),
    ]


def pytest_commands(level: str, folder: str) -> list[list[str]]:
    """Return the commands that run the tests of ``level``, each with the report it writes last.

    The fast tests run side by side. The slow ones measure times, kill processes and load the
    machine, and so have it alone, one after the other.
    """
    command = [sys.executable, "-m", "pytest", "-q"]
    side_by_side = [*command, "-n", "auto", "-m", "not slow"]
    reports = [f"--junitxml={os.path.join(folder, name)}" for name in ("fast.xml", "slow.xml")]
    if level == "fast":
        own = ["tests/unit", "tests/test_tidy.py", "tests/test_public_surface.py"]
        return [[*side_by_side, *own, reports[0]]]
    return [[*side_by_side, reports[0]], [*command, "-m", "slow", reports[1]]]


def beam_command(report: str) -> list[str]:
    """Return the command that runs, in the environment of Beam, whatever has to be tested there.

    That environment has protobuf 6: the sending library supports it as well as 7.
    """
    command = [str(BEAM_PYTHON), "-m", "pytest", "-q", f"--junitxml={report}", "-n", "auto"]
    return [*command, "-m", "not slow", *BEAM_TESTS]


def read_counts(report: str) -> TestCounts:
    """Read pytest's JUnit report; a missing one is a run without tests."""
    try:
        cases = ET.parse(report).getroot().iter("testcase")  # noqa: S314 - pytest's own file
    except (FileNotFoundError, ET.ParseError):
        return TestCounts(0, 0, ())
    passed = failed = 0
    skipped = []
    for case in cases:
        found = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        elif found is None or found.get("type") == "pytest.xfail":
            passed += 1
        elif EXTERNAL not in (found.get("message") or ""):
            skipped.append(f"{case.get('name')}: {found.get('message')}")
    return TestCounts(passed, failed, tuple(skipped))


def faults(pytest_code: int, counts: TestCounts) -> list[str]:
    """Return why a run of pytest is not good; empty when it is.

    Args:
        pytest_code: its exit code.
        counts: what its report says.
    """
    found = []
    if pytest_code == NO_TESTS_COLLECTED:
        found.append("pytest collected no tests")
    elif pytest_code:
        found.append(f"pytest ended with {pytest_code}")
    if not counts.passed:
        found.append("no test passed")
    if counts.failed and not pytest_code:
        found.append(f"pytest ended well, and its report has {counts.failed} failures")
    if counts.skipped:
        found.append(f"{len(counts.skipped)} tests were skipped: {'; '.join(counts.skipped[:5])}")
    return found


def run_step(step: Step) -> tuple[int, float]:
    """Run one step; return its exit code and how long it took."""
    print(f"== {step.name}: {' '.join(step.command)}", flush=True)
    began = time.monotonic()
    code = subprocess.run(step.command, cwd=ROOT, check=False).returncode
    spent = time.monotonic() - began
    print(
        f"== {step.name}: {'ok' if not code else f'FAILED ({code})'} in {spent:.1f} s", flush=True
    )
    return code, spent


def main(arguments: list[str]) -> int:
    """Run the level that ``arguments`` name; return the exit code."""
    level = arguments[0] if arguments else "all"
    if level not in ("all", "fast"):
        print(f"error: {level!r} is no level; write all or fast", file=sys.stderr)
        return 2
    failed = [step.name for step in steps() if run_step(step)[0]]
    found = [f"{name} failed" for name in failed]
    if level == "all":
        found += run_beam()
    with tempfile.TemporaryDirectory() as folder:
        for command in pytest_commands(level, folder):
            # What pytest prints is held back by one line, so that its closing line stands last.
            code, closing = run_pytest(command)
            found += faults(code, read_counts(command[-1].partition("=")[2]))
    for fault in found:
        print(f"== NOT GOOD: {fault}")
    print("== all is well" if not found else f"== {len(found)} faults")
    print(closing, flush=True)
    return 1 if found else 0


def run_beam() -> list[str]:
    """Run the tests in the environment of Beam; return what went wrong."""
    if not BEAM_PYTHON.exists():
        return [f"beam: there is no {BEAM_PYTHON}; `make test` makes it"]
    with tempfile.TemporaryDirectory() as folder:
        report = os.path.join(folder, "report.xml")
        code, _ = run_step(Step("beam", beam_command(report)))
        return [f"beam: {fault}" for fault in faults(code, read_counts(report))]


def run_pytest(command: list[str]) -> tuple[int, str]:
    """Run pytest, passing its lines on but the last; return its exit code and that line."""
    print(f"== tests: {' '.join(command)}", flush=True)
    closing = ""
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        for line in child.stdout or ():
            if closing:
                print(closing, flush=True)
            closing = line.rstrip("\n")
        code = child.wait()
    return code, closing


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
