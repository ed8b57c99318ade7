"""Which slots a workflow has: half-open intervals that follow each other without a gap.

``every_slots`` and ``cron_slots`` have the two kinds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

Slot = tuple[int, int]
"""[start, end) in whole seconds since 1970."""

EARLIEST_SECONDS = -62_135_596_800 + 365 * 86_400
"""0002-01-01T00:00:00Z: no slot begins before it. A year is left to the first TIMESTAMP, so that
no time zone and no margin falls off the calendar."""
LATEST_SECONDS = 253_402_300_800 - 366 * 86_400
"""9998-12-31T00:00:00Z: no slot ends after it, for the same reason."""


class Timetable(Protocol):
    """The slots of one schedule. Pure: depends on nothing but its own definition."""

    @property
    def text(self) -> str:
        """How a person reads it, such as ``every 1h`` or ``cron 30 2 * * * Europe/Berlin``."""
        ...

    def slot_at(self, seconds: float) -> Slot:
        """Return the slot that ``seconds`` since 1970 lie in."""
        ...

    def slots(self, from_seconds: float, to_seconds: float) -> Iterator[Slot]:
        """Yield every slot that starts in [from, to), ascending."""
        ...
