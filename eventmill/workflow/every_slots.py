"""Slots of a fixed length, counted from a moment that every machine knows."""

from __future__ import annotations

from collections.abc import Iterator
from math import floor

from eventmill.base.errors import UsageError
from eventmill.base.quantity import format_seconds
from eventmill.workflow.timetable import EARLIEST_SECONDS, LATEST_SECONDS, Slot

DAY_SECONDS = 86_400
WEEK_SECONDS = 7 * DAY_SECONDS
FIRST_MONDAY_SECONDS = 4 * DAY_SECONDS
"""1970-01-05T00:00:00Z: weeks begin on Mondays, and 1970 began on a Thursday."""
LENGTH_SECONDS_MAX = 366 * DAY_SECONDS


class EverySlots:
    """Slots of one length, without a gap: hours on the hour, days at midnight UTC, weeks on Monday.

    Other lengths are counted from 1970-01-01T00:00:00Z.
    """

    def __init__(self, length_seconds: int, *, offset_seconds: int = 0) -> None:
        """Take the length, and by how much each slot begins later than it would.

        Raises:
            UsageError: the length is not 1 second to 366 days, or the offset not within it.
        """
        if not 1 <= length_seconds <= LENGTH_SECONDS_MAX:
            raise UsageError(
                f"slots of {format_seconds(length_seconds)}: a slot has 1 second to 366 days"
            )
        if not 0 <= offset_seconds < length_seconds:
            raise UsageError(
                f"an offset of {format_seconds(offset_seconds)}: it is at least 0s and less than"
                f" the slot's length, {format_seconds(length_seconds)}"
            )
        self.length_seconds = length_seconds
        self.offset_seconds = offset_seconds
        origin = FIRST_MONDAY_SECONDS if length_seconds % WEEK_SECONDS == 0 else 0
        self.anchor_seconds = (origin + offset_seconds) % length_seconds
        """Start of the first slot that does not begin before 1970."""

    def __repr__(self) -> str:
        return f"<EverySlots [{self.text}]>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EverySlots) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def _key(self) -> tuple[int, int]:
        return self.length_seconds, self.offset_seconds

    @property
    def text(self) -> str:
        """How a person reads it, such as ``every 1h``."""
        told = f"every {format_seconds(self.length_seconds)}"
        return f"{told} offset {format_seconds(self.offset_seconds)}" if self._key[1] else told

    def slot_at(self, seconds: float) -> Slot:
        """Return the slot that ``seconds`` since 1970 lie in; the ends of time are cut off."""
        whole = floor(min(max(seconds, EARLIEST_SECONDS), LATEST_SECONDS - 1))
        start = whole - (whole - self.anchor_seconds) % self.length_seconds
        return max(start, EARLIEST_SECONDS), min(start + self.length_seconds, LATEST_SECONDS)

    def slots(self, from_seconds: float, to_seconds: float) -> Iterator[Slot]:
        """Yield every slot that starts in [from, to), ascending."""
        slot = self.slot_at(from_seconds)
        if slot[0] < from_seconds:
            slot = self._after(slot)
        while slot[0] < min(to_seconds, LATEST_SECONDS):
            yield slot
            slot = self._after(slot)

    def _after(self, slot: Slot) -> Slot:
        return slot[1], min(slot[1] + self.length_seconds, LATEST_SECONDS)
