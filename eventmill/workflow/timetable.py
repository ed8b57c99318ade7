"""Which slots a workflow has: half-open intervals that follow each other without a gap."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

Slot = tuple[int, int]
"""[start, end) in whole seconds since 1970."""


class Timetable(Protocol):
    """The slots of one schedule. Pure: depends on nothing but its own definition."""

    @property
    def text(self) -> str:
        """How a person reads it, such as ``every 1 h`` or ``cron 30 2 * * * Europe/Berlin``."""
        ...

    def slot_at(self, seconds: float) -> Slot:
        """Return the slot that ``seconds`` since 1970 lie in."""
        ...

    def slots(self, from_seconds: float, to_seconds: float) -> Iterator[Slot]:
        """Yield every slot that starts in [from, to), ascending."""
        ...
