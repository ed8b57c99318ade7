"""Work that comes round while a scheduler runs, each turn of it in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable

from eventmill.base.clock import Clock
from eventmill.base.service import Service


class Chore(Service):
    """One kind of such work. A turn that fails is logged, and made again after a pause."""

    def __init__(
        self,
        name: str,
        every_seconds: float,
        work: Callable[[], object],
        *,
        clock: Clock,
        share_max: float = 1.0,
    ) -> None:
        """Let ``work`` be called about every ``every_seconds``, for the first time at once.

        Args:
            name: of its thread.
            every_seconds: from the beginning of one turn to that of the next.
            work: one turn.
            clock: measures the turns.
            share_max: part of the time that turns may take; after a long one the next comes later.
        """
        super().__init__(name, restart_pause_seconds=every_seconds)
        self.due_at = clock.monotonic()
        """When the next turn is due, on the clock's monotonic scale."""
        self.turns = 0
        """Turns that have ended well."""
        self._every_seconds = every_seconds
        self._work = work
        self._clock = clock
        self._share_max = share_max

    def begin_when_due(self) -> None:
        """Begin a turn in the background if it is time for one and none is under way."""
        if self._clock.monotonic() >= self.due_at and not self.running:
            self.due_at = self._clock.monotonic() + self._every_seconds
            self.start()

    def run(self, stopping: threading.Event) -> None:
        """Make one turn."""
        began = self._clock.monotonic()
        self._work()
        self.turns += 1
        ended = self._clock.monotonic()
        self.due_at = began + max(self._every_seconds, (ended - began) / self._share_max)
