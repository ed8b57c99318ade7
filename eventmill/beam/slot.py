"""The slot of a run, as ``build`` in ``pipeline.py`` sees it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from eventmill.base.clock import utc_datetime


@dataclass(frozen=True, slots=True)
class BeamSlot:
    """[start, end): both are aware UTC datetimes."""

    start: datetime
    end: datetime

    @classmethod
    def of_seconds(cls, start_seconds: int, end_seconds: int) -> BeamSlot:
        """Return the slot between two moments given in seconds since 1970."""
        return cls(utc_datetime(start_seconds), utc_datetime(end_seconds))

    @property
    def start_usec(self) -> int:
        """Its start in microseconds since 1970."""
        return int(self.start.timestamp()) * 1_000_000

    @property
    def end_usec(self) -> int:
        """Its end in microseconds since 1970, not part of it."""
        return int(self.end.timestamp()) * 1_000_000
