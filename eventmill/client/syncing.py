"""Bringing staged events to stable storage, many at one ``fdatasync``."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from eventmill.base.errors import UnavailableError, UsageError
from eventmill.base.service import Service
from eventmill.client.spool.spool import Spool
from eventmill.client.tally import RareLog

SYNC_INTERVAL_SECONDS = 0.05
"""What a power cut can take from a spool of durability ``host``, in time."""


@dataclass(slots=True, eq=False)
class SyncWait:
    """One wait for the disk; it holds no thread."""

    count: int
    """So many events are to be synced."""
    tell: Callable[[OSError | None], None]
    """Called once, with None when they are; from any thread, must neither raise nor block."""


class Syncing(Service):
    """Syncs a spool whenever somebody waits for it and, when it is steady, all the time.

    A disk that hangs holds this thread, and nobody else: who waits has a time limit.
    """

    def __init__(self, spool: Spool, log: RareLog, *, is_steady: bool) -> None:
        """Prepare; no thread exists before ``start``, or before somebody waits.

        Args:
            spool: what is to be synced.
            log: tells that the disk fails while nobody waits.
            is_steady: sync every ``SYNC_INTERVAL_SECONDS`` what was staged since.
        """
        super().__init__("eventmill-uploader-sync")
        self._spool = spool
        self._log = log
        self._is_steady = is_steady
        self._guard = threading.RLock()
        self._waits: list[SyncWait] = []
        self._wanted = threading.Event()

    def run(self, stopping: threading.Event) -> None:
        """Sync whatever is to be synced; once more at the end, so that nobody waits in vain."""
        while not stopping.is_set():
            # Whoever comes during a sync waits for the next one, together with others.
            self._wanted.wait(SYNC_INTERVAL_SECONDS if self._is_steady else None)
            self._wanted.clear()
            self._sync()
            if self._spool.is_closed:
                return
        self._sync()

    def wake(self) -> None:
        """Let ``run`` look again."""
        self._wanted.set()

    def wait_until_synced(self, count: int, timeout_seconds: float | None) -> None:
        """Return when the first ``count`` events survive a power cut.

        Raises:
            UnavailableError: the disk failed, or the time has passed.
        """
        told = threading.Event()
        errors: list[OSError] = []

        def tell(error: OSError | None) -> None:
            if error is not None:
                errors.append(error)
            told.set()

        wait = self.begin_wait(count, tell)
        if not told.wait(timeout_seconds):
            self.end_wait(wait)
            raise sync_timeout(timeout_seconds)
        if errors:
            raise sync_failure(errors[0])

    def begin_wait(self, count: int, tell: Callable[[OSError | None], None]) -> SyncWait:
        """Have ``tell`` called once the first ``count`` events survive a power cut, or do not."""
        wait = SyncWait(count, tell)
        with self._guard:
            self._waits.append(wait)
        self.start()
        self._wanted.set()
        return wait

    def end_wait(self, wait: SyncWait) -> None:
        """Tell it no more; one that was told is not missed."""
        with self._guard:
            if wait in self._waits:
                self._waits.remove(wait)

    def _sync(self) -> None:
        with self._guard:
            is_awaited = bool(self._waits)
        is_behind = self._is_steady and self._spool.synced_count < self._spool.staged_count
        if not is_awaited and not is_behind:
            return
        try:
            self._spool.sync()
        except OSError as error:
            self._log.tell(logging.ERROR, "sync", f"the spool cannot be synced: {error}; trying on")
            self._tell_all(error)
        else:
            self._tell_synced()

    def _tell_synced(self) -> None:
        with self._guard:
            done = [wait for wait in self._waits if wait.count <= self._spool.synced_count]
            for wait in done:
                self._waits.remove(wait)
            if self._waits:
                self._wanted.set()
        for wait in done:
            wait.tell(None)

    def _tell_all(self, error: OSError) -> None:
        with self._guard:
            waits, self._waits = self._waits, []
        for wait in waits:
            wait.tell(error)


def in_memory() -> UsageError:
    """Return what a caller is told whose events are never synced."""
    return UsageError("the spool is in memory: there is nothing to wait for")


def sync_failure(error: OSError) -> UnavailableError:
    """Return what a caller is told whose events were not synced."""
    failure = UnavailableError(f"the spool cannot be synced: {error}")
    failure.__cause__ = error
    return failure


def sync_timeout(timeout_seconds: float | None) -> UnavailableError:
    """Return what a caller is told whose events were not synced in time."""
    return UnavailableError(f"the spool was not synced within {timeout_seconds:g} s")
