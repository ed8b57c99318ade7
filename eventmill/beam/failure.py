"""The one sentence that a failed pipeline deserves: what was raised, where, and what caused it."""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Iterator

_STEP = re.compile(r" ?\[while running '(?P<step>.*?)(?:-ptransform-\d+)?'\]")
_TRACEBACK_END = re.compile(
    r"^(?P<told>[A-Za-z_][\w.]*(?:Error|Exception|Exit|Interrupt|Warning)\b.*)", re.MULTILINE
)


def describe_failure(error: BaseException, folder: str) -> str:
    """Return what a person needs to know of ``error``.

    Args:
        error: as the runner raised it.
        folder: of ``pipeline.py``: the innermost place below it is named.
    """
    chain = list(_chain(error))
    steps = [found["step"] for one in chain for found in _STEP.finditer(str(one))]
    # A runner raises the error of a step again, with the step's name in its text.
    raised = next((one for one in chain if not _STEP.search(str(one))), chain[-1])
    told = [_told(raised)]
    if chain[-1] is not raised:
        told.append(f"caused by {_told(chain[-1])}")
    if place := _place(chain, folder):
        told.append(place)
    if steps:
        told.append(f"in the step {steps[-1]!r}")
    return "; ".join(told)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield ``error`` and what caused it, innermost last."""
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        found = found.__cause__ or (None if found.__suppress_context__ else found.__context__)


def _told(error: BaseException) -> str:
    text = str(error)
    if "Traceback (most recent call last)" in text:
        # A worker of another process: of its error there is only the traceback's text.
        ends = [found["told"] for found in _TRACEBACK_END.finditer(text)]
        if ends:
            return _STEP.sub("", ends[-1]).strip()
    text = text.strip().partition("\n\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _place(chain: list[BaseException], folder: str) -> str:
    inside = os.path.join(folder, "")
    for error in reversed(chain):
        for frame in reversed(traceback.extract_tb(error.__traceback__)):
            if frame.filename.startswith(inside):
                return f"at {os.path.relpath(frame.filename, folder)}:{frame.lineno}, {frame.name}"
    return ""
