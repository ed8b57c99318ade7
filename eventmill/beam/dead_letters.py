"""Rows that a step cannot take leave by a second way out, and the job goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import apache_beam as beam

from eventmill.beam.counters import Counters
from eventmill.beam.rows import json_text

Row = Any
"""A dict or a NamedTuple."""


def with_dead_letters(fn: beam.DoFn | Callable[[Row], Row], *, step: str) -> WithDeadLetters:
    """Return a transform that gives ``good, dead``: what ``fn`` makes of rows, and the failures.

    A dead letter is a dict of texts: ``step``, ``reason`` (the class of the error), ``message``
    and ``row`` (as JSON). Each is counted as ``rows_dead``. A row of which ``fn`` has given a
    part before it raised is dead as a whole.

    Args:
        fn: a DoFn, or a function that returns one row.
        step: name of the step, in dead letters and in the job's graph.
    """
    return WithDeadLetters(fn, step)


class WithDeadLetters(beam.PTransform):
    """See ``with_dead_letters``."""

    def __init__(self, fn: beam.DoFn | Callable[[Row], Row], step: str) -> None:
        super().__init__(step)
        self._fn = fn
        self._step = step

    def expand(self, rows: beam.PCollection) -> tuple[beam.PCollection, beam.PCollection]:
        """Apply ``fn`` to ``rows``."""
        work = beam.ParDo(self._fn) if isinstance(self._fn, beam.DoFn) else beam.Map(self._fn)
        good, bad = rows | "Try" >> work.with_exception_handling()
        dead = bad | "Describe" >> beam.ParDo(_Describe(self._step))
        return good, dead


class _Describe(beam.DoFn):
    """Makes a dead letter of what Beam tells of a failure."""

    def __init__(self, step: str) -> None:
        self._step = step
        self._counters = Counters()

    def process(self, failure: Any) -> Iterator[dict[str, str]]:  # noqa: ANN401 - Beam's tuple
        """Describe one failure: the row, and (class, repr, lines of the traceback)."""
        row, (kind, _, traceback) = failure
        told = traceback[-1].strip() if traceback else ""
        self._counters.dead()
        yield {
            "step": self._step,
            "reason": kind.__name__,
            "message": told.partition(": ")[2] or told,
            "row": json_text(row),
        }
