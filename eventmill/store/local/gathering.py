"""One answer for work that is done in parts, each in its own time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from eventmill.base.errors import EventmillError

Finish = Callable[[Sequence[int], EventmillError | None], None]
"""Told the places of duplicates, or the error. Called once; must neither raise nor block."""


class Gathering:
    """Calls ``finish`` once, when every part that was begun is done. Safe from any thread."""

    def __init__(self, finish: Finish) -> None:
        self._finish = finish
        self._waiting = 1  # the caller itself, until it says that all are begun
        self._duplicates: Sequence[int] = ()
        self._error: EventmillError | None = None
        self._lock = threading.Lock()

    def part(self) -> Finish:
        """Count one more part; return what to call when it is done."""
        with self._lock:
            self._waiting += 1
        return self._one_done

    def all_begun(self) -> None:
        """Say that no further part will be counted."""
        self._one_done((), None)

    def _one_done(self, duplicates: Sequence[int], error: EventmillError | None) -> None:
        with self._lock:
            self._waiting -= 1
            self._error = self._error or error
            self._duplicates = self._duplicates or duplicates
            if self._waiting:
                return
        self._finish(self._duplicates, self._error)
