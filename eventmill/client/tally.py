"""What became of staged events, counted; and the log line that says so, at most once a minute."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from eventmill.base.clock import Clock
from eventmill.wire.verdict import Verdict

LOG_INTERVAL_SECONDS = 60.0
"""Between two lines of the same cause: a server that is down for a night is one story."""

_logger = logging.getLogger("eventmill.client")


@dataclass(frozen=True, slots=True)
class UploaderStats:
    """A batch uploader at one moment. When nothing is being staged or sent::

    staged + adopted = accepted + duplicates + rejected + undelivered
                       + dropped["oldest"] + dropped["damaged"] + left
    """

    staged: int
    """Events that ``stage`` took."""
    adopted: int
    """Events taken over from processes that had ended."""
    accepted: int
    duplicates: int
    rejected: int
    """Events that the sink refused one by one; they are in its quarantine."""
    retried: int
    """Attempts that were made again, of batches."""
    batches: int
    """Batches that something has become of."""
    in_flight: int
    """Batches that are being sent."""
    dropped: Mapping[str, int]
    """By reason: ``oldest`` of a full spool, ``damaged`` on disk; and, never staged, ``newest``
    of a full spool, ``timeout`` of a blocked stage, ``disk`` that has no space left."""
    undelivered: Mapping[str, int]
    """By the name of the error: events handed to ``on_undelivered`` or kept as dead letters."""
    left: int
    """Events staged here that nothing has become of yet."""
    spooled_bytes: int
    """What the spool takes on disk or, without one, in memory; adopted segments included."""
    oldest_age_seconds: float
    """Age of the oldest event left; 0.0 when none is."""
    send_seconds: float
    """Time that all attempts to put took together."""

    @property
    def acked(self) -> int:
        """Events that the sink has given a verdict on."""
        return self.accepted + self.duplicates + self.rejected


class Tally:
    """Counts for one batch uploader; its caller holds the lock."""

    def __init__(self) -> None:
        self.accepted = 0
        self.duplicates = 0
        self.rejected = 0
        self.batches = 0
        self.dropped: Counter[str] = Counter()
        self.undelivered: Counter[str] = Counter()

    def add(self, verdict: Verdict) -> None:
        """Count the events of one verdict."""
        self.accepted += verdict.accepted
        self.duplicates += verdict.duplicates
        self.rejected += len(verdict.rejected)


class RareLog:
    """Logs each cause at most once a minute, with how often it was held back."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last: dict[str, float] = {}
        self._held_back: Counter[str] = Counter()

    def tell(self, level: int, cause: str, message: str) -> None:
        """Log ``message``, unless ``cause`` was told within the last minute."""
        now = self._clock.monotonic()
        last = self._last.get(cause)
        if last is not None and now - last < LOG_INTERVAL_SECONDS:
            self._held_back[cause] += 1
            return
        self._last[cause] = now
        more = self._held_back.pop(cause, 0)
        _logger.log(level, "%s%s", message, f" ({more} more like it)" if more else "")
