"""What a Beam body gave: its rows, and an account of every row that is not among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

DEAD_LETTERS_MAX = 1_000
"""Dead letters that are kept of one run; all are counted."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One row that a step of a pipeline could not take."""

    step: str
    """Name of the step, as ``pipeline.py`` gave it."""
    reason: str
    """Class of the error, such as ``ValueError``."""
    message: str
    row: str
    """The row as JSON."""


@dataclass(frozen=True, slots=True)
class BeamRows:
    """The outcome of a Beam body whose job ended with the state DONE."""

    rows: pa.Table
    """The output, with the columns of the output table."""
    job_name: str
    counters: Mapping[str, int] = field(default_factory=dict)
    """``rows_read``, ``rows_skipped``, ``rows_dropped``, ``rows_dead``, ``rows_written``, and
    those of the pipeline's own."""
    dead_letters: Sequence[DeadLetter] = ()
    """At most ``DEAD_LETTERS_MAX``; ``rows_dead`` counts all."""

    @property
    def input_rows(self) -> int:
        """Rows that the pipeline read."""
        return self.counters.get("rows_read", 0)
