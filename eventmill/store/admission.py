"""The judgement of a batch before it may enter the log: which events are good, and why not.

Pure, and run in the caller's thread, so that it overlaps with the committer's sync.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise

from eventmill.schema.check import EventCheck
from eventmill.schema.message_type import MessageType
from eventmill.schema.problem import EventProblem, Reason
from eventmill.schema.table import TableSpec
from eventmill.wire.batch import EVENT_BYTES_MAX, INSERT_ID_CHARACTERS_MAX, Batch
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
        self._check = EventCheck(MessageType.load(spec.descriptor_set, spec.message))
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


def _size_problems(batch: Batch) -> list[tuple[int, EventProblem]]:
    return [
        (
            index,
            EventProblem(
                Reason.EVENT_TOO_LARGE,
                "",
                f"the event has {end - start:,} bytes; the limit is {EVENT_BYTES_MAX:,}",
            ),
        )
        for index, (start, end) in enumerate(pairwise(batch.event_offsets))
        if end - start > EVENT_BYTES_MAX
    ]


def _insert_ids_fit(batch: Batch) -> bool:
    """Return whether all insert IDs are plain and of a good length; False: look at each."""
    offsets = batch.id_offsets
    if batch.count == 1:
        fits = 0 < offsets[1] <= INSERT_ID_CHARACTERS_MAX
    else:
        sizes = [end - start for start, end in pairwise(offsets)]
        fits = min(sizes) > 0 and max(sizes) <= INSERT_ID_CHARACTERS_MAX
    return fits and batch.id_region.isascii()


def _insert_id_problems(batch: Batch) -> list[tuple[int, EventProblem]]:
    return [
        (index, EventProblem(Reason.BAD_INSERT_ID, "", fault))
        for index, raw in enumerate(batch.insert_ids)
        if (fault := _insert_id_fault(raw))
    ]


def _insert_id_fault(raw: bytes) -> str:
    if not raw:
        return "the insert ID is empty"
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return "the insert ID is not UTF-8"
    if len(text) > INSERT_ID_CHARACTERS_MAX:
        return f"the insert ID has {len(text)} characters; the limit is {INSERT_ID_CHARACTERS_MAX}"
    return ""
