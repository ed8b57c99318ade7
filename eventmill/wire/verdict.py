"""What became of a batch, event by event."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from eventmill.schema.problem import EventProblem, Reason


@dataclass(frozen=True, slots=True)
class Rejection:
    """One event that was not stored as a row, and why."""

    index: int
    """Place in the batch, from 0."""
    insert_id: str
    reason: Reason
    field: str
    """Path of the field; empty when it is the event as a whole."""
    message: str

    @classmethod
    def of(cls, index: int, insert_id: str, problem: EventProblem) -> Rejection:
        """Give ``problem`` its place in a batch."""
        return cls(index, insert_id, problem.reason, problem.field, problem.message)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer of a sink to one batch.

    Every event of the batch is exactly one of accepted, duplicate, rejected; the three counts
    add up to ``count``. A verdict is only given when it holds for good: what it calls accepted
    or duplicate is stored, as durably as the sink's features say, and what it calls rejected is
    in quarantine where the features say so.
    """

    count: int
    """Events in the batch."""
    duplicate_indexes: tuple[int, ...] = ()
    """Places of events whose insert ID had been stored before, ascending."""
    rejected: tuple[Rejection, ...] = ()
    """Ascending by index."""

    @property
    def accepted(self) -> int:
        """Events stored by this call."""
        return self.count - len(self.duplicate_indexes) - len(self.rejected)

    @property
    def duplicates(self) -> int:
        """Events that an earlier call, or an earlier place in this batch, had stored."""
        return len(self.duplicate_indexes)

    @property
    def ok(self) -> bool:
        """Whether no event was rejected."""
        return not self.rejected

    def placed(
        self, count: int, indexes: Sequence[int], own_rejections: Iterable[Rejection] = ()
    ) -> Verdict:
        """Return the verdict of a longer list, of whose events these are a part.

        Args:
            count: events in the longer list.
            indexes: place there of each event of this verdict, ascending.
            own_rejections: of those events of the longer list that are not in this verdict, by
                their place there, in any order.
        """
        rejected = [replace(r, index=indexes[r.index]) for r in self.rejected]
        rejected.extend(own_rejections)
        rejected.sort(key=lambda rejection: rejection.index)
        duplicates = tuple([indexes[index] for index in self.duplicate_indexes])
        return Verdict(count, duplicates, tuple(rejected))


def stored_verdict(count: int, duplicates: Sequence[int]) -> Verdict:
    """Return the verdict of a batch with no rejected event; the commonest is not made anew."""
    return Verdict(count, tuple(duplicates)) if duplicates else _all_accepted(count)


@lru_cache(maxsize=1024)
def _all_accepted(count: int) -> Verdict:
    return Verdict(count)


def join_verdicts(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the verdict of batches that were cut, in order, from one longer list."""
    count = 0
    duplicates: list[int] = []
    rejected: list[Rejection] = []
    for verdict in verdicts:
        start, count = count, count + verdict.count
        placed = verdict.placed(count, range(start, count))
        duplicates.extend(placed.duplicate_indexes)
        rejected.extend(placed.rejected)
    return Verdict(count, tuple(duplicates), tuple(rejected))
