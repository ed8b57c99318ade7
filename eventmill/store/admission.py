"""The judgement of a batch before it may enter the log: which events are good, and why not.

Pure, and run in the caller's thread, so that it overlaps with the committer's sync.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from eventmill.schema.check import EventCheck
from eventmill.schema.problem import EventProblem
from eventmill.schema.reading_type import reading_type
from eventmill.schema.table import TableSpec
from eventmill.wire.batch import EVENT_BYTES_MAX, INSERT_ID_CHARACTERS_MAX, Batch
from eventmill.wire.event_limits import event_size_problem, insert_id_problem
from eventmill.wire.verdict import Rejection


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a batch with bad events comes to before anything is stored."""

    kept: Batch | None
    """The good events; None when none is."""
    kept_indexes: Sequence[int]
    """Place of each kept event in the batch that was judged, ascending."""
    rejected: tuple[Rejection, ...]
    """Ascending by index."""


class Admission:
    """Judges batches of one table by one definition. Safe from any thread."""

    def __init__(self, spec: TableSpec, fingerprints: Collection[str]) -> None:
        """Judge by ``spec``; ``fingerprints`` are of all definitions that the table has had."""
        self._check = EventCheck(reading_type(spec))
        self._fingerprints = frozenset(fingerprints)

    def judge(self, batch: Batch) -> Judgement | None:
        """Return which events of ``batch`` may be stored; None: all of them."""
        # An event encoded by a definition that this table never had may carry fields that would
        # be dropped on the way to the lake; with a known one there is nothing to look for.
        known = batch.fingerprint in self._fingerprints
        found = self._check.problems(batch.events, known_schema=known)
        if not found and len(batch.payload) <= EVENT_BYTES_MAX and _insert_ids_fit(batch):
            return None
        problems = dict(found)
        problems.update(_size_problems(batch))
        problems.update(_insert_id_problems(batch))
        if not problems:
            return None
        rejected = tuple(
            Rejection.of(index, batch.insert_id(index), problems[index])
            for index in sorted(problems)
        )
        kept = [index for index in range(batch.count) if index not in problems]
        return Judgement(batch.select(kept) if kept else None, kept, rejected)


def _size_problems(batch: Batch) -> Iterator[tuple[int, EventProblem]]:
    for index, (start, end) in enumerate(pairwise(batch.event_offsets)):
        problem = event_size_problem(end - start)
        if problem is not None:
            yield index, problem


def _insert_ids_fit(batch: Batch) -> bool:
    """Return whether all insert IDs are plain and of a good length; False: look at each."""
    region = batch.id_region
    if batch.count == 1:
        return 0 < len(region) <= INSERT_ID_CHARACTERS_MAX and region.isascii()
    sizes = [end - start for start, end in pairwise(batch.id_offsets)]
    return min(sizes) > 0 and max(sizes) <= INSERT_ID_CHARACTERS_MAX and region.isascii()


def _insert_id_problems(batch: Batch) -> Iterator[tuple[int, EventProblem]]:
    for index, raw in enumerate(batch.insert_ids):
        problem = insert_id_problem(raw)
        if problem is not None:
            yield index, problem
