"""The rules evaluated all the time, in a thread beside the scheduler."""

from __future__ import annotations

import logging
import threading

from eventmill.base.errors import TransientError
from eventmill.base.service import Service
from eventmill.schedule.alert_book import AlertChange
from eventmill.schedule.alert_state import Notice
from eventmill.schedule.alerts import AlertEngine

_logger = logging.getLogger("eventmill.alerts")


class AlertWatch(Service):
    """Evaluates the rules every some seconds, and tells of what has changed.

    A channel that is slow delays the next evaluation by at most its time limit; what is to be told
    waits on disk meanwhile.
    """

    def __init__(self, engine: AlertEngine, every_seconds: float) -> None:
        """Prepare; the first evaluation is at ``start``.

        Args:
            engine: evaluates and tells; used by this thread alone from now on.
            every_seconds: from the begin of one evaluation to that of the next.
        """
        super().__init__("eventmill-alerts")
        self._engine = engine
        self._every_seconds = every_seconds
        self.rounds = 0
        """Evaluations that have ended."""

    def run(self, stopping: threading.Event) -> None:
        """Evaluate and tell until ``stopping`` is set."""
        while not stopping.is_set():
            try:
                for change in self._engine.evaluate():
                    _log(change)
                self._engine.tell()
            except TransientError as error:
                _logger.warning("alerts are evaluated again soon: %s", error)
            self.rounds += 1
            stopping.wait(self._every_seconds)


def _log(change: AlertChange) -> None:
    """Write a change into the server's log, which somebody reads even where no channel is."""
    finding = change.alert.finding
    level = logging.INFO if change.notice is Notice.RESOLVED else logging.WARNING
    _logger.log(level, "alert %s: %s: %s", change.notice.value, finding.rule, finding.summary)
