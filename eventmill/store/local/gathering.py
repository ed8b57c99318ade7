"""One answer for work that is done in parts, each in its own time."""

from __future__ import annotations

import threading
from collections.abc import Callable

from eventmill.base.errors import EventmillError

Done = Callable[[EventmillError | None], None]
"""Told that something is synced, or the error. Called once; must neither raise nor block."""


class Gathering:
    """Calls ``done`` once, when every part that was begun is done. Safe from any thread."""

    def __init__(self, done: Done) -> None:
        self._done = done
        self._waiting = 1  # the caller itself, until it says that all are begun
        self._error: EventmillError | None = None
        self._lock = threading.Lock()

    def part(self) -> Done:
        """Count one more part; return what to call when it is done."""
        with self._lock:
            self._waiting += 1
        return self._one_done

    def all_begun(self) -> None:
        """Say that no further part will be counted."""
        self._one_done(None)

    def _one_done(self, error: EventmillError | None) -> None:
        with self._lock:
            self._waiting -= 1
            self._error = self._error or error
            if self._waiting:
                return
        self._done(self._error)
