"""Rows that a pipeline could not take: read after the job, and kept in a file for a person."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from eventmill.base.clock import utc_datetime
from eventmill.workflow.beam.job import DEAD_PREFIX
from eventmill.workflow.beam.rows import DEAD_LETTERS_MAX, DeadLetter

if TYPE_CHECKING:
    from eventmill.workflow.beam.job import BeamJob
    from eventmill.workflow.beam.rows import BeamRows


def read_dead_letters(folder: str) -> tuple[DeadLetter, ...]:
    """Return the dead letters that a job has put into its folder, the first of them."""
    return tuple(islice(_read(folder), DEAD_LETTERS_MAX))


def _read(folder: str) -> Iterator[DeadLetter]:
    for path in sorted(Path(folder).glob(f"{DEAD_PREFIX}*")):
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                document: Mapping[str, str] = json.loads(line)
                yield DeadLetter(**document)


def keep_dead_letters(folder: str | None, job: BeamJob, outcome: BeamRows) -> str | None:
    """Write the dead letters of a slot to ``FOLDER/WORKFLOW/START.ndjson``; return its path.

    The file is always that of the slot's last run: one that had none takes it away.

    Args:
        folder: None: they are not kept.
        job: whose they are.
        outcome: what it gave.
    """
    if folder is None:
        return None
    place = Path(folder, job.workflow)
    path = place / f"{utc_datetime(job.start_seconds):%Y%m%dT%H%M%SZ}.ndjson"
    if not outcome.dead_letters:
        path.unlink(missing_ok=True)
        return None
    place.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}")
    unfinished.write_text(
        "".join(f"{json.dumps(asdict(letter))}\n" for letter in outcome.dead_letters), "utf-8"
    )
    unfinished.replace(path)
    return str(path)
