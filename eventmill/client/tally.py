"""What became of staged events, counted; and the log line that says so, at most once a minute."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

from eventmill.base.clock import Clock
from eventmill.base.metrics import BUCKETS_SECONDS
from eventmill.wire.verdict import Verdict

DROP_REASONS = ("oldest", "newest", "timeout", "disk", "damaged")
"""Why an event was dropped; see ``UploaderStats.dropped``."""
LOG_INTERVAL_SECONDS = 60.0
"""Between two lines of the same cause: a server that is down for a night is one story."""

_logger = logging.getLogger("eventmill.client")


@dataclass(frozen=True, slots=True)
class LatencyCounts:
    """Attempts by how long they took, whatever their end."""

    counts: tuple[int, ...]
    """In each bucket, not cumulated: up to each of ``bounds``, and above the last."""
    seconds: float
    """Their sum."""
    bounds: ClassVar[tuple[float, ...]] = BUCKETS_SECONDS
    """Upper bounds of the buckets in seconds, themselves included."""

    @property
    def count(self) -> int:
        """Attempts."""
        return sum(self.counts)


@dataclass(frozen=True, slots=True)
class UploaderStats:
    """A batch uploader at one moment. When nothing is being staged or sent::

    staged + adopted = accepted + duplicates + rejected + undelivered
                       + dropped["oldest"] + dropped["damaged"] + left
    """

    staged: int
    """Events that ``stage`` took."""
    staged_bytes: int
    """Bytes of those as they are spooled: event, insert ID and frame."""
    adopted: int
    """Events taken over from processes that had ended."""
    sent: int
    """Events put to the sink; one that is put again counts again."""
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
    send_latency: LatencyCounts
    """How long each of those took."""

    @property
    def acked(self) -> int:
        """Events that the sink has given a verdict on."""
        return self.accepted + self.duplicates + self.rejected

    @property
    def quarantined(self) -> int:
        """Events that are in the sink's quarantine: the rejected ones."""
        return self.rejected

    def of_ended(self) -> UploaderStats:
        """Return what stays true of an uploader that is gone: the counts, not the levels."""
        return replace(self, in_flight=0, left=0, spooled_bytes=0, oldest_age_seconds=0.0)

    @classmethod
    def sum_of(cls, each: Sequence[UploaderStats]) -> UploaderStats:
        """Return several uploaders as if they were one; ``each`` must not be empty."""
        totals: dict[str, Any] = {}
        for name in (field.name for field in fields(cls)):
            values = [getattr(stats, name) for stats in each]
            if isinstance(values[0], Mapping):
                totals[name] = dict(sum(map(Counter, values), Counter()))
            elif name == "oldest_age_seconds":
                totals[name] = max(values)
            elif isinstance(values[0], LatencyCounts):
                totals[name] = LatencyCounts(
                    tuple(map(sum, zip(*(value.counts for value in values), strict=True))),
                    sum(value.seconds for value in values),
                )
            else:
                totals[name] = sum(values)
        return cls(**totals)


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
