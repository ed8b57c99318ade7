"""Bringing staged events to stable storage, many at one ``fdatasync``."""

from __future__ import annotations

import logging
import threading

from eventmill.base.clock import Clock
from eventmill.base.errors import UnavailableError
from eventmill.base.service import Service
from eventmill.client.spool.spool import Spool
from eventmill.client.tally import RareLog

SYNC_INTERVAL_SECONDS = 0.05
"""What a power cut can take from a spool of durability ``host``, in time."""


class Syncing(Service):
    """Syncs a spool for whoever waits and, once started, all the time."""

    def __init__(self, spool: Spool, clock: Clock, log: RareLog) -> None:
        super().__init__("eventmill-uploader-sync")
        self._spool = spool
        self._clock = clock
        self._log = log
        self._turn = threading.Lock()

    def run(self, stopping: threading.Event) -> None:
        """Sync every ``SYNC_INTERVAL_SECONDS`` what was staged since."""
        while not stopping.wait(SYNC_INTERVAL_SECONDS):
            if self._spool.synced_count < self._spool.staged_count:
                try:
                    self._spool.sync()
                except OSError as error:
                    self._log.tell(
                        logging.ERROR, "sync", f"the spool cannot be synced: {error}; trying on"
                    )

    def wait_until_synced(self, count: int, timeout_seconds: float | None) -> None:
        """Return when the first ``count`` events survive a power cut.

        Raises:
            UnavailableError: the disk failed, or the time has passed.
        """
        # Whoever gets the turn syncs for all that wait behind it.
        if not self._turn.acquire(timeout=-1 if timeout_seconds is None else timeout_seconds):
            raise UnavailableError(f"the spool was not synced within {timeout_seconds:g} s")
        try:
            if self._spool.synced_count < count:
                self._spool.sync()
        except OSError as error:
            raise UnavailableError(f"the spool cannot be synced: {error}") from error
        finally:
            self._turn.release()
