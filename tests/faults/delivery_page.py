"""One line of ``docs/delivery.md``, made of what a run of a fault test has shown.

Read by the tests, which hold each run against the line, and by ``scripts/write_delivery.py``, which
writes the page. Nothing in a line differs from run to run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "delivery.md"
RESULTS = ROOT / "build" / "delivery"
"""One file for each run of a cell, so that tests may run in any order and in several processes."""

NEXT = "until the next process"
"""What this process had not sent, the next one sends that uses the spool."""
ITSELF = "no"
"""The same process sends it, as soon as it can."""
BACK = "until the server is back"
WITHIN_SECONDS = 10.0
"""Bound of every delay in the page: of taking over, or after the end of the fault."""
_CELLS = 7
_SEED = re.compile(r"(?:-?seed\d+)")


@dataclass(frozen=True, slots=True, order=True)
class Line:
    """One cell: what happens, and what becomes of events."""

    section: str
    says: str
    mode: str
    """Durability: ``memory``, ``process`` or ``host``."""
    lost: str
    doubled: str
    counted: str
    """What is not delivered by a stated rule, to the event."""
    delayed: str
    proof: str
    """Name of the test, without seeds."""

    def as_row(self) -> str:
        """Return the line as a row of a table in Markdown."""
        cells = (
            self.says, self.mode, self.lost, self.doubled, self.counted, self.delayed,
            f"`{self.proof}`",
        )  # fmt: skip
        return "| " + " | ".join(cells) + " |"


def proof_of(test_name: str) -> str:
    """Return the name of a test without its seed: ``test_x[a-seed3]`` is a run of ``test_x[a]``."""
    return _SEED.sub("", test_name).replace("[]", "")


def lines_in(page: str) -> list[Line]:
    """Return the lines of a page, in its order."""
    found = []
    section = ""
    for text in page.splitlines():
        if text.startswith("## "):
            section = text[3:]
        cells = [cell.strip() for cell in text.strip("|").split(" | ")]
        if text.startswith("| ") and len(cells) == _CELLS and cells[-1].startswith("`test_"):
            says, mode, lost, doubled, counted, delayed, proof = cells
            found.append(
                Line(section, says, mode, lost, doubled, counted, delayed, proof.strip("`"))
            )
    return found
