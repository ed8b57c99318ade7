"""The demo's workflows: attempts of a commit queue, and one with a planted fault, its alert told.

Everything is done by the commands that a person would give, beside the running server.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from eventmill.base.clock import utc_datetime
from eventmill.base.errors import UnavailableError
from eventmill.cli.demo.place import alert_folder, demo_environment, workflow_folder
from eventmill.workflow.shipped.cq_sample import Row, sample_rows

ATTEMPTS = "cq_attempts"
FAULTY = "cq_failed_share"
HOURS = 3
SAMPLE_ATTEMPTS = 600
SAMPLE_SEED = 2
WRONG, RIGHT = "COUNTIF(failed) / COUNT(*)", "SAFE_DIVIDE(COUNTIF(failed), COUNT(*))"
"""The planted fault, and what mends it."""
FIRING_EXIT = 4

_HOUR = 3_600
_COMMAND_SECONDS_MAX = 60.0
_PLANTED = os.path.join(os.path.dirname(os.path.abspath(__file__)), "workflows", FAULTY)


@dataclass(frozen=True, slots=True)
class AlertStory:
    """What was seen of the workflow with the planted fault."""

    error: str
    """Why its run failed."""
    firing: str
    """What the alert said then."""
    is_over: bool
    """Whether the alert was gone once the fault was mended and the slot run again."""


class DemoWorkflows:
    """Runs the demo's workflows beside its server; for one thread."""

    def __init__(self, data: str, now: float) -> None:
        """Prepare.

        Args:
            data: the server's data folder; the workflows get a folder in it.
            now: seconds since 1970; the attempts start in the hours before.
        """
        self._data = data
        self._folder = workflow_folder(data)
        # Commands take no folder that is not there: one that is named is meant.
        os.makedirs(alert_folder(data), exist_ok=True)
        self._end = int(now) // _HOUR * _HOUR
        self._start = self._end - HOURS * _HOUR

    def events(self) -> Iterator[Row]:
        """Yield the raw events of the attempts, out of order."""
        a_day = SAMPLE_ATTEMPTS * 24 / HOURS
        return sample_rows(
            SAMPLE_ATTEMPTS, SAMPLE_SEED, start_seconds=self._start, attempts_a_day=a_day
        )

    def aggregate(self) -> int:
        """Take up the workflow that ships, run its hours, and return the rows that they made."""
        self._command("workflow", "new", ATTEMPTS, "--from", ATTEMPTS)
        told = self._rows(
            "workflow", "backfill", ATTEMPTS, "--from", _text(self._start), "--to", _text(self._end)
        )
        return int(told[0]["output_rows"])

    def alert(self) -> AlertStory:
        """Let a workflow fail, look at its alert, mend it, and look again."""
        home = os.path.join(self._folder, FAULTY)
        shutil.copytree(_PLANTED, home)
        empty_hour = _text(self._start - _HOUR)
        run = ("workflow", "run", FAULTY, "--slot", empty_hour)
        failed = self._rows(*run, exit_codes=(1,))
        firing = self._firing()
        path = os.path.join(home, "query.sql")
        with open(path, encoding="utf-8") as file:
            sql = file.read()
        with open(path, "w", encoding="utf-8") as file:
            file.write(sql.replace(WRONG, RIGHT))
        self._rows(*run)
        return AlertStory(
            error=str(failed[0]["error"]),
            firing=str(firing[0]["summary"]) if firing else "",
            is_over=not self._firing(),
        )

    def _firing(self) -> list[Mapping[str, Any]]:
        rows = self._rows("alert", "check", "--format", "ndjson", exit_codes=(0, FIRING_EXIT))
        return [row for row in rows if FAULTY in str(row["subject"])]

    def _rows(self, *words: str, exit_codes: tuple[int, ...] = (0,)) -> list[Mapping[str, Any]]:
        printed = self._command(*words, exit_codes=exit_codes)
        return [orjson.loads(line) for line in printed.splitlines() if line.strip()]

    def _command(self, *words: str, exit_codes: tuple[int, ...] = (0,)) -> bytes:
        """Run ``eventmill WORDS`` on the demo's store; return what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "eventmill", *words, "--store", self._data],
            check=False,
            capture_output=True,
            env=demo_environment(self._data),
            timeout=_COMMAND_SECONDS_MAX,
        )
        if done.returncode not in exit_codes:
            told = done.stderr.decode(errors="replace").strip()
            raise UnavailableError(
                f"`eventmill {' '.join(words)}` ended with {done.returncode}: {told}"
            )
        return done.stdout


def _text(seconds: int) -> str:
    return f"{utc_datetime(seconds):%Y-%m-%dT%H:%MZ}"
