"""What the surface does by itself: drop tables whose time is over, forget what is old."""

from __future__ import annotations

import logging
import threading

from eventmill.base.errors import EventmillError
from eventmill.base.service import Service
from eventmill.server.bigquery.job_book import JobBook
from eventmill.server.bigquery.results import Results
from eventmill.server.bigquery.rooms import Rooms
from eventmill.server.bigquery.uploads import Uploads

ROUND_SECONDS = 30.0
"""Pause between two rounds: for so long, at most, is an expired table seen by other ways in. By
the surface itself it is gone at its time."""

_logger = logging.getLogger(__name__)


class SurfaceUpkeep(Service):
    """Works in rounds, apart from every request."""

    def __init__(self, rooms: Rooms, book: JobBook, results: Results, uploads: Uploads) -> None:
        """Prepare; all of them stay the caller's, and must outlive the service."""
        super().__init__("eventmill-bigquery")
        self._rooms = rooms
        self._book = book
        self._results = results
        self._uploads = uploads

    def run(self, stopping: threading.Event) -> None:
        """Work until stopped."""
        while not stopping.is_set():
            try:
                self.round()
            except EventmillError as error:
                _logger.warning("what is old could not be forgotten: %s", error)
            stopping.wait(ROUND_SECONDS)

    def round(self) -> None:
        """Drop and forget what is due."""
        self._rooms.drop_expired()
        unfinished = self._book.unfinished()
        for job in self._book.prune(self._rooms.now_ms()):
            self._results.forget(job.key)
        keys = frozenset(job.key for job in unfinished)
        self._results.prune(self._rooms.clock.now(), spared=keys)
        waiting = (str(job.said.get("upload") or "") for job in unfinished)
        self._uploads.prune(spared=frozenset(waiting))
