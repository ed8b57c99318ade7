"""Who waits until something has become of events: threads, and calls that hold no thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class Watch:
    """One wait without a thread."""

    is_over: Callable[[], bool]
    """Asked each time something has become of events, with the lock held."""
    tell: Callable[[], None]
    """Called once when it is over, with the lock held; must neither raise nor block."""


class Settled:
    """The condition *something has become of events*.

    Every method but ``is_own`` and ``remove`` wants its lock to be held.
    """

    def __init__(self, lock: threading.RLock) -> None:
        self._lock = lock
        self._condition = threading.Condition(lock)
        self._watches: list[Watch] = []

    def is_own(self) -> bool:
        """Return whether this thread has the lock; ``wait`` gives back what it has of it."""
        is_own: bool = self._lock._is_owned()  # type: ignore[attr-defined]  # noqa: SLF001
        return is_own  # asked as Condition does: there is no public way

    def wait(self, timeout_seconds: float | None) -> None:
        """Wait for the next time, with the lock given back meanwhile."""
        self._condition.wait(timeout_seconds)

    def notify_all(self) -> None:
        """Wake every thread that waits, and tell those whose wait is over."""
        self._condition.notify_all()
        if self._watches:
            for watch in list(self._watches):
                if watch.is_over():
                    self.remove(watch)
                    watch.tell()

    def add(self, watch: Watch) -> None:
        """Tell ``watch`` when it is over: at once, or later."""
        if watch.is_over():
            watch.tell()
        else:
            self._watches.append(watch)

    def add_later(self, watch: Watch) -> None:
        """Tell ``watch`` when it is over, but not before something has become of events again."""
        self._watches.append(watch)

    def remove(self, watch: Watch) -> None:
        """Tell it no more; one that is over already is not missed."""
        with suppress(ValueError):
            self._watches.remove(watch)
