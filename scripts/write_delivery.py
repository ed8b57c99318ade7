"""Writes ``docs/delivery.md`` from what the fault tests have shown: one line for each cell.

``write_delivery.py`` reads the results that a run of ``tests/faults`` has left in
``build/delivery``; ``--check`` only says whether the page is as they say. A cell without a result,
and one whose runs differ, is an error.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "faults"))

from delivery_page import PAGE, RESULTS, WITHIN_SECONDS, Line, proof_of  # noqa: E402

MODES = {
    "memory": "events wait in memory",
    "process": "events wait in files; the default",
    "host": "and the files are synced all the time",
}
SECTIONS = (
    "The end of a process",
    "Forks",
    "Server and network",
    "Disk and spool",
    "Power cut",
)


def page(lines: Iterable[Line]) -> str:
    """Return the page for these lines, in the order of sections and, within them, as given."""
    given = list(lines)
    parts = [_HEAD, _short(given)]
    for section in SECTIONS:
        own = [line for line in given if line.section == section]
        if own:
            parts.append(f"## {section}")
            parts.append("\n".join([_TABLE_HEAD, *(line.as_row() for line in own)]))
    return "\n\n".join(parts) + "\n"


_HEAD = f"""\
# What becomes of a staged event

Made by `scripts/write_delivery.py` from what the tests in `tests/faults` have shown. Each line is
a cell that a test runs: with real processes and a real server, or with a disk or a clock of its
own, and each test proves that it has reached what it is about. A run whose result differs from
its line fails, and so does a line whose test is gone.

- **lost**: events for which `stage` had returned True and that never came to the store.
- **doubled**: events that are in the store more than once. An event that is sent again keeps its
  insert ID, and the store knows those of its deduplication window, 24 h. One that is sent again
  later than that is stored again.
- **counted**: events that are not delivered by a rule that you chose, or because their bytes are
  gone. Each is in `stats().dropped` or `stats().undelivered`; the tests compare number by number.
- **delayed**: the next process that stages an event for the same table and spool takes over what
  it finds there, at once, and looks again every 30 s. In the tests everything has arrived within
  {WITHIN_SECONDS:g} s of that, or of the end of the fault."""

_TABLE_HEAD = """\
| what happens | durability | lost | doubled | counted | delayed | test |
|---|---|---|---|---|---|---|"""


def _short(lines: list[Line]) -> str:
    rows = [
        "## In short",
        "",
        "| durability | | lost | doubled | counted | delayed |",
        "|---|---|---|---|---|---|",
    ]
    for mode, means in MODES.items():
        own = [line for line in lines if line.mode == mode]
        if own:
            lost = [f"{line.lost}: {line.says}" for line in own if line.lost != "0"]
            counted = sorted({line.counted for line in own} - {"none"})
            doubled = sorted({line.doubled for line in own})
            delayed = sorted({line.delayed for line in own})
            rows.append(
                f"| `{mode}` | {means} | {'; '.join(lost) or '0'} | {', '.join(doubled)}"
                f" | {'; '.join(counted) or 'none'} | {'; '.join(delayed)} |"
            )
    return "\n".join(rows)


def collected() -> list[str]:
    """Return the node IDs of all runs of all cells that the suite has, in its order."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider",
         "-m", "delivery", "tests/faults"],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = [line for line in done.stdout.splitlines() if "::" in line]
    if done.returncode or not found:
        raise SystemExit(f"error: pytest collects no cells:\n{done.stdout}{done.stderr}")
    return found


def lines_of(tests: Iterable[str], results: Mapping[str, Line]) -> list[Line]:
    """Return the line of each cell, given the result of each run.

    Raises:
        SystemExit: a run has no result, or differs from another one of its cell.
    """
    found: dict[str, Line] = {}
    for test in tests:
        if test not in results:
            raise SystemExit(f"error: {test} has left no result: run `pytest tests/faults` first")
        proof = proof_of(test)
        line = found.setdefault(proof, results[test])
        if line != results[test]:
            raise SystemExit(f"error: the runs of {proof} differ:\n{line}\n{results[test]}")
    return list(found.values())


def results_in(folder: Path) -> dict[str, Line]:
    """Return the line that each test has left in ``folder``, by its node ID."""
    documents = [json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("*.json"))]
    return {document["test"]: Line(**document["line"]) for document in documents}


def main(arguments: list[str]) -> int:
    """Write the page, or with ``--check`` compare it; return the exit code."""
    text = page(lines_of(collected(), results_in(RESULTS)))
    if PAGE.exists() and PAGE.read_text("utf-8") == text:
        return 0
    if "--check" in arguments:
        print("error: docs/delivery.md differs; run `python scripts/write_delivery.py`")
        return 1
    PAGE.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
