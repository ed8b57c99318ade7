"""What every test stands on, and the record of every run in ``build/test-results.ndjson``.

The record is one JSON object a test; the demo sends it into its table ``ops.test_results``.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from proto_compiler import LoadedCompiler

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
RESULTS = ROOT / "build" / "test-results.ndjson"


@pytest.fixture(autouse=True)
def _no_settings_from_outside(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Keep the machine's own settings, and those of whoever runs the tests, out of them."""
    for name in [name for name in os.environ if name.startswith("EVENTMILL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path_factory.getbasetemp()))


@pytest.fixture(autouse=True, scope="session")
def _loaded_compiler() -> Iterator[None]:
    """Spare every .proto of a test the start of a process (``test_compile`` has them)."""
    compiler = LoadedCompiler()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("eventmill.schema.compile._protoc", compiler.run)
        yield
    compiler.close()


class Recorder:
    """Gathers the outcome of each test, and writes all of them at the end of the run."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[str, Any]] = {}
        self._same = {
            "python": platform.python_version(),
            "platform": f"{platform.system()} {platform.machine()}",
            "commit": _commit(),
        }

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        file, _, name = nodeid.partition("::")
        self._rows[nodeid] = {
            "name": name,
            "file": file,
            "outcome": "passed",
            "duration_seconds": 0.0,
            "started_at": datetime.fromtimestamp(time.time(), UTC).isoformat(),
            **self._same,
        }

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        row = self._rows[report.nodeid]
        row["duration_seconds"] = round(row["duration_seconds"] + report.duration, 6)
        expected_to_fail = hasattr(report, "wasxfail")
        if report.failed:
            row["outcome"] = "failed"
        elif report.skipped:
            row["outcome"] = "xfailed" if expected_to_fail else "skipped"
        elif expected_to_fail and report.when == "call":
            row["outcome"] = "xpassed"

    def pytest_sessionfinish(self) -> None:
        if not self._rows:
            return
        RESULTS.parent.mkdir(exist_ok=True)
        unfinished = RESULTS.with_suffix(f".{os.getpid()}")
        rows = [*self._earlier(), *self._rows.values()]
        unfinished.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        unfinished.replace(RESULTS)

    def _earlier(self) -> list[dict[str, Any]]:
        """Return what the other part of a run at the same commit has written."""
        try:
            known = [json.loads(line) for line in RESULTS.read_text().splitlines()]
        except (OSError, ValueError):
            return []
        now = {(row["file"], row["name"]) for row in self._rows.values()}
        return [
            row
            for row in known
            if row["commit"] == self._same["commit"] and (row["file"], row["name"]) not in now
        ]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow what kills processes, loads the machine or plays a whole user."""
    for item in items:
        if item.path.is_relative_to(TESTS / "faults") or item.path.is_relative_to(
            TESTS / "acceptance"
        ):
            item.add_marker(pytest.mark.slow)


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # who hands tests out hears of all of them
        config.pluginmanager.register(Recorder())


def _commit() -> str | None:
    try:
        told = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
        )
    except OSError:  # no git on this machine
        return None
    return told.stdout.strip() or None
