"""Time and chance as arguments: the clock port and the arithmetic of waiting.

Nothing above this floor calls ``time.time`` or ``random`` on its own, so that a test can run an
hour of retries in a millisecond, and run the same hour again.
"""

from __future__ import annotations

import math
import random
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What the program may know of time."""

    def now(self) -> float:
        """Return the wall clock in seconds since 1970-01-01 UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds from a clock that never goes back; only differences mean anything."""
        ...

    def sleep(self, seconds: float) -> None:
        """Block the calling thread for ``seconds``."""
        ...


class SystemClock:
    """The machine's own clock."""

    # Python's own functions, not methods that call them: every batch reads the clock twice.
    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)
    sleep = staticmethod(time.sleep)


SYSTEM_CLOCK = SystemClock()


def utc_datetime(seconds: float) -> datetime:
    """Return ``seconds`` since 1970 as an aware UTC datetime."""
    return datetime.fromtimestamp(seconds, tz=UTC)


def seconds_of(microseconds: int) -> float:
    """Return microseconds as seconds, never later than they are.

    A double of today's seconds holds microseconds, one of the year 9999 does not: rounded up, its
    last microsecond would be no date any more.
    """
    seconds = microseconds / 1e6
    return seconds if seconds * 1e6 <= microseconds else math.nextafter(seconds, -math.inf)


def backoff_seconds(
    attempt: int,
    rng: random.Random,
    *,
    base_seconds: float = 0.1,
    cap_seconds: float = 30.0,
) -> float:
    """Draw the pause before retry number ``attempt`` with full jitter.

    Full jitter (uniform over zero to the exponential bound) spreads the retries of many clients
    that failed at the same moment; equal or no jitter would bring them back together.

    Args:
        attempt: 0 for the first retry.
        rng: source of chance, given so that tests can repeat it.
        base_seconds: bound of the first pause.
        cap_seconds: bound that the doubling never passes.
    """
    bound = min(cap_seconds, base_seconds * 2.0 ** min(attempt, 60))
    return rng.uniform(0.0, bound)
