"""The background half of one batch uploader: when to send, on which thread, who waits for it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from eventmill.base.clock import Clock
from eventmill.base.service import Service
from eventmill.client.delivery import Delivery, Outcome
from eventmill.client.settling import Settled
from eventmill.client.spool.part import Taken
from eventmill.client.spool.spool import Spool
from eventmill.client.tally import Tally
from eventmill.wire.batch import BATCH_EVENTS_MAX

_logger = logging.getLogger("eventmill.client")

HURRIED_PAUSE_SECONDS_MAX = 0.5
"""Longest pause between two attempts while ``flush`` or ``close`` waits: they have little time."""
ADOPT_INTERVAL_SECONDS = 30.0
"""How often is looked for what processes that have ended left behind."""
WAKE_SECONDS_MAX = 0.25
"""Whoever holds the lock for longer than that has a disk that hangs, and nobody sends."""
_NEVER = float("inf")


class Sending:
    """Threads that take from a spool and deliver. Made anew in a forked child."""

    def __init__(
        self,
        name: str,
        lock: threading.RLock,
        spool: Spool,
        delivery: Delivery,
        tally: Tally,
        clock: Clock,
        *,
        batch_bytes: int,
        flush_interval_seconds: float,
        in_flight_max: int,
        on_undelivered: Callable[[Outcome], None],
    ) -> None:
        """Prepare; no thread exists before ``staged`` or ``start``.

        Args:
            name: of the threads.
            lock: the spool's, which guards everything here as well.
            spool: what is to be sent.
            delivery: how.
            tally: what became of it.
            clock: measures waits.
            batch_bytes: so much is sent at once, without waiting for more.
            flush_interval_seconds: and less when its oldest event is this old.
            in_flight_max: batches sent at the same time.
            on_undelivered: told what the sink would not take, without the lock.
        """
        self._name = name
        self._lock = lock
        self._spool = spool
        self._delivery = delivery
        self._tally = tally
        self.clock = clock
        self._batch_bytes = batch_bytes
        self._flush_interval_seconds = flush_interval_seconds
        self._in_flight_max = in_flight_max
        self._on_undelivered = on_undelivered
        self._turn = threading.Lock()
        """Held by the thread that waits for events and takes them; before ``lock``."""
        self._work = threading.Condition(lock)
        self._hurried = threading.Condition(lock)
        """Waited on between two attempts: what is staged meanwhile wakes another thread."""
        self.settled = Settled(lock)
        """Notified when something has become of events."""
        self._workers: list[_Worker] = []
        self._has_begun = False
        """Whether ``on_start`` was called."""
        self._has_told = False
        """Whether it was told that not even one thread can be started."""
        self._hurry: set[object] = set()
        """Who waits for events to be sent."""
        self._unread_since = 0.0
        self._adopted_at = -_NEVER
        self.wake_at_bytes: float = 1
        """``staged`` is to be called when so many bytes wait."""
        self.in_flight_count = 0
        self.is_closed = False
        """Whether no event is taken any more."""
        self.on_start: Callable[[], None] = _do_nothing
        """Called when the first thread starts, with the lock held."""
        self.on_look: Callable[[], None] = _do_nothing
        """Called each time a thread has looked for work, without the lock."""

    # -- called with the lock held ------------------------------------------------------------

    def staged(self) -> None:
        """See to what waits: start a thread, or wake one; the caller holds the lock."""
        if self.wake_at_bytes <= 1:
            self._unread_since = self.clock.monotonic()
        self._start_first_worker()
        if self._spool.unread_bytes < self._batch_bytes:
            self._work.notify()
        self._share()

    def _share(self) -> None:
        """Put one more thread to work when a whole batch waits; the caller holds the lock."""
        if self._spool.unread_bytes >= self._batch_bytes:
            if len(self._workers) > self.in_flight_count:
                self._work.notify()
            elif len(self._workers) < self._in_flight_max and self._delivery.last_error is None:
                # While sending fails, a second thread would only hold a second batch in memory.
                self._start_worker()
        self._set_wake()

    def hurry(self, who: object) -> None:
        """Note that somebody waits; the caller holds the lock."""
        self._hurry.add(who)
        if self._spool.unread_bytes:
            self._start_first_worker()  # whoever staged may have been broken off before that
        self._work.notify_all()
        self._hurried.notify_all()

    def _start_first_worker(self) -> None:
        if not any(worker.running for worker in self._workers):  # or a start was broken off
            self._start_worker()

    def _start_worker(self) -> None:
        worker = _Worker(self, f"{self._name}-{len(self._workers) + 1}")
        # Before its start, which a signal can break off when the thread is running already.
        self._workers.append(worker)
        try:
            if not self._has_begun:
                self.on_start()
                self._has_begun = True
            worker.start()
        except RuntimeError as error:  # too many threads, or the interpreter is ending
            if "new thread" not in str(error):
                # The start was broken off by a signal's function, and the thread may run.
                raise (error.__context__ or error) from None
            self._workers.remove(worker)
            if not self._workers and not self._has_told:
                self._has_told = True
                _logger.error("%s: staged events wait: %s", self._name, error)

    def _set_wake(self) -> None:
        """Say from how many waiting bytes on a staging thread has something to do here."""
        if not self._spool.unread_bytes or not self._workers:
            self.wake_at_bytes = 1
        elif self._spool.unread_bytes < self._batch_bytes:
            # The first event has begun the interval; next of interest is a whole batch.
            self.wake_at_bytes = self._batch_bytes
        else:
            self.wake_at_bytes = _NEVER  # whoever takes it looks at what is left

    # -- called without it --------------------------------------------------------------------

    def hurry_no_more(self, who: object) -> None:
        """Note that somebody no longer waits."""
        self._hurry.discard(who)

    def start(self) -> None:
        """Start sending even if nothing is staged: what others left is looked for."""
        with self._lock:
            if not self._workers:
                self._start_worker()

    def stop(self, timeout_seconds: float) -> None:
        """Ask all threads to end, and wait for them at most this long."""
        if self.settled.is_own():  # a signal's function has interrupted whoever has the lock,
            timeout_seconds = 0.0  # and without that they do not end
        deadline = self.clock.monotonic() + timeout_seconds
        workers = list(self._workers)
        for worker in workers:
            worker.ask_to_end()
        self.wake_all()
        for worker in workers:
            worker.wait(max(0.0, deadline - self.clock.monotonic()))

    def wake_all(self) -> None:
        """Let every thread look again, unless the disk hangs under one that has the lock."""
        if self._lock.acquire(timeout=WAKE_SECONDS_MAX):
            try:
                self._work.notify_all()
                self._hurried.notify_all()
            finally:
                self._lock.release()

    def next(self, stopping: threading.Event) -> Taken | None:
        """Wait until events are due; None when the thread is to end."""
        while not stopping.is_set():
            self.on_look()
            # One thread waits and takes, and the others queue for its place: if all of them saw
            # the same batch due, one would take it and the rest crumbs of the next.
            with self._turn:
                self._adopt_when_due()
                with self._lock:
                    if not self._wait_until_due(stopping):
                        continue
                taken = self._spool.take(bytes_max=self._batch_bytes, count_max=BATCH_EVENTS_MAX)
                with self._lock:
                    self._unread_since = self.clock.monotonic()
                    if taken is not None:
                        self.in_flight_count += 1
                        self._share()
                        return taken
                    self._set_wake()
                    self.settled.notify_all()  # what could not be read counts as dropped
        return None

    def _wait_until_due(self, stopping: threading.Event) -> bool:
        """Wait until events are due (True) or something else is to be looked at (False)."""
        if stopping.is_set():
            return False
        waiting = self._spool.unread_bytes
        if waiting:
            due = self._unread_since + self._flush_interval_seconds - self.clock.monotonic()
            if due <= 0 or self._hurry or waiting >= self._batch_bytes:
                return True
        else:
            due = ADOPT_INTERVAL_SECONDS
        self._set_wake()
        self._work.wait(due)
        return False

    def send(self, taken: Taken, stopping: threading.Event) -> bool:
        """Deliver, count what became of each event, and settle; False when it was given up."""
        outcome = self._delivery.deliver(taken, lambda seconds: self._pause(seconds, stopping))
        if outcome is None:
            return False  # stopped: what is left stays in the spool
        if outcome.undelivered:
            self._on_undelivered(outcome)
        with self._lock:
            for verdict in outcome.verdicts:
                self._tally.add(verdict)
            self._tally.rejected += outcome.refused_count
            if outcome.undelivered:
                name = type(outcome.error).__name__
                self._tally.undelivered[name] += len(outcome.undelivered)
            self._tally.batches += 1
        self._spool.settle(taken)
        with self._lock:
            self.in_flight_count -= 1
            self.settled.notify_all()
        return True

    def _adopt_when_due(self) -> None:
        now = self.clock.monotonic()
        with self._lock:
            if now - self._adopted_at < ADOPT_INTERVAL_SECONDS:
                return
            self._adopted_at = now
        self._spool.adopt()

    def _pause(self, seconds: float, stopping: threading.Event) -> bool:
        """Wait between two attempts, shorter while somebody waits; tell whether to go on."""
        begun_at = self.clock.monotonic()
        with self._lock:
            while not stopping.is_set():
                limit = min(seconds, HURRIED_PAUSE_SECONDS_MAX) if self._hurry else seconds
                remaining = begun_at + limit - self.clock.monotonic()
                if remaining <= 0:
                    break
                self._hurried.wait(remaining)
        return not stopping.is_set()


class _Worker(Service):
    """One sending thread."""

    def __init__(self, sending: Sending, name: str) -> None:
        super().__init__(name)
        self._sending = sending
        self._taken: Taken | None = None

    def run(self, stopping: threading.Event) -> None:
        while True:
            # After a run that failed, what it had taken is sent first.
            self._taken = self._taken or self._sending.next(stopping)
            if self._taken is None or not self._sending.send(self._taken, stopping):
                return
            self._taken = None

    def wake(self) -> None:
        self._sending.wake_all()


def _do_nothing() -> None:
    pass
