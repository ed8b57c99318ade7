"""Waiting until something has become of all that was staged before."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from eventmill.base.clock import Clock
from eventmill.client.sending import Sending
from eventmill.client.settling import Watch
from eventmill.client.spool.spool import Spool

LOCK_SECONDS_MAX = 0.25
"""Whoever holds the lock for longer than that has a disk that hangs."""


class Flush:
    """Hurries the sending from ``begin`` to ``end``, and says what is left.

    It never waits for events itself, so that threads and event loops use the same one.
    """

    def __init__(self, spool: Spool, sending: Sending) -> None:
        self._spool = spool
        self._sending = sending
        self._count = spool.staged_count
        self._watch: Watch | None = None

    def begin(self, tell: Callable[[], None], lock_seconds_max: float | None) -> bool:
        """Begin, and have ``tell`` called once nothing is left: from any thread, or at once.

        Args:
            tell: called with the uploader's lock held; must neither raise nor block.
            lock_seconds_max: wait for the lock at most this long; None: no limit.

        Returns:
            Whether it has begun; if not, the lock could not be had in time.
        """
        limit = -1 if lock_seconds_max is None else lock_seconds_max
        if not self._spool.lock.acquire(timeout=limit):
            return False
        try:
            self._count = self._spool.staged_count
            self._watch = Watch(lambda: not self._spool.left_of_first(self._count), tell)
            self._sending.hurry(self)
            self._sending.settled.add(self._watch)
        finally:
            self._spool.lock.release()
        return True

    def wait(self, told: threading.Event, timeout_seconds: float | None) -> None:
        """Wait until ``told``, which ``tell`` sets, but at most this long; or for less."""
        if not self._sending.settled.is_own():
            told.wait(timeout_seconds)
            return
        # The function of a signal flushes in the middle of something else that has the lock.
        with self._spool.lock:
            if not told.is_set():
                self._sending.settled.wait(timeout_seconds)

    def left(self, lock_seconds_max: float = LOCK_SECONDS_MAX) -> int:
        """Return how many of the events staged before ``begin`` are left.

        While a disk hangs under a thread with the lock, that is what can be seen without the lock,
        and may be off by the batches on their way.
        """
        is_held = self._spool.lock.acquire(timeout=lock_seconds_max)
        try:
            return self._spool.left_of_first(self._count)
        finally:
            if is_held:
                self._spool.lock.release()

    def end(self) -> None:
        """Hurry no more, and tell no more; needs no lock, and a second call does nothing."""
        if self._watch is not None:
            self._sending.hurry_no_more(self)
            self._sending.settled.remove(self._watch)
            self._watch = None


def wait_in_thread(flushes: Sequence[Flush], timeout_seconds: float | None, clock: Clock) -> int:
    """Wait until nothing is left or the time has passed; return how many events are left."""
    deadline = None if timeout_seconds is None else clock.monotonic() + timeout_seconds

    def remaining() -> float | None:
        return None if deadline is None else max(0.0, deadline - clock.monotonic())

    waits = [(flush, threading.Event()) for flush in flushes]
    try:
        begun = [flush.begin(settled.set, remaining()) for flush, settled in waits]
        for (flush, settled), has_begun in zip(waits, begun, strict=True):
            while has_begun and not settled.is_set() and remaining() != 0.0:
                flush.wait(settled, remaining())
        return sum(0 if settled.is_set() else flush.left() for flush, settled in waits)
    finally:
        for flush in flushes:
            flush.end()
