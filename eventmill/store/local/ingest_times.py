"""When events of one table came in: each time later than the one before, whatever clocks do."""

from __future__ import annotations

import threading

from eventmill.base.clock import Clock


class IngestTimes:
    """Gives the times of ingestion of one table, in microseconds since 1970.

    Promise: each is greater than every one given or told of before. So rows that came after a look
    at the table are those with ``_ingested_at`` above the newest of that look, also when the wall
    clock was set back in between. Safe from any thread.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last_us = 0
        self._lock = threading.Lock()

    def know(self, at_us: int) -> None:
        """Take note of a time that was given earlier, such as by a process that has ended."""
        with self._lock:
            self._last_us = max(self._last_us, at_us)

    def next_us(self, count: int = 1) -> int:
        """Return a time: now, or a microsecond after the last where that is later.

        With ``count`` it is the first of so many, a microsecond apart.
        """
        with self._lock:
            first_us = max(self._last_us + 1, int(self._clock.now() * 1e6))
            self._last_us = first_us + count - 1
            return first_us
