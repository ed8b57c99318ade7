"""The end of a batch uploader, once it takes no more events."""

from __future__ import annotations

import logging
from collections.abc import Callable

from eventmill.base.clock import Clock
from eventmill.client.flush import LOCK_SECONDS_MAX, Flush
from eventmill.client.sending import Sending
from eventmill.client.spool.place import SpoolPlace
from eventmill.client.spool.spool import Spool
from eventmill.client.syncing import Syncing
from eventmill.client.tally import RareLog


class Closing:
    """Ends what runs in the background; what is to be sent before, its caller waits for."""

    def __init__(
        self,
        place: SpoolPlace,
        spool: Spool,
        sending: Sending,
        syncing: Syncing,
        log: RareLog,
        clock: Clock,
        *,
        hand_back_left: Callable[[], None],
        on_end: Callable[[], None],
    ) -> None:
        """Prepare.

        Args:
            place: of the spool.
            spool: is closed.
            sending: is stopped.
            syncing: is stopped.
            log: tells what is left.
            clock: measures waits.
            hand_back_left: called when events are left in memory, which nobody sends any more.
            on_end: called at the end.
        """
        self._place = place
        self._spool = spool
        self._sending = sending
        self._syncing = syncing
        self._log = log
        self._clock = clock
        self._hand_back_left = hand_back_left
        self._on_end = on_end

    def end(self, timeout_seconds: float) -> int:
        """Stop every thread, close the spool, and return how many events are left.

        Threads that have not ended in time, as their sink or their disk hangs, are left to
        themselves, and let go of what they use when they come back.
        """
        deadline = self._clock.monotonic() + timeout_seconds
        self._sending.stop(max(0.0, timeout_seconds))
        self._syncing.stop(max(0.0, deadline - self._clock.monotonic()))
        left = Flush(self._spool, self._sending).left()
        if left and self._place.folder is None:
            self._hand_back_left()
        elif left:
            self._log.tell(
                logging.WARNING,
                "left",
                f"{self._place.about['table']}: {left} events were not sent before close; they"
                f" wait in {self._place.folder}",
            )
        if not self._spool.close(LOCK_SECONDS_MAX):
            self._log.tell(
                logging.ERROR,
                "hangs",
                f"the disk of {self._place.folder} hangs: the spool stays locked until this"
                " process ends",
            )
        self._syncing.stop(0.0)  # who came for it meanwhile has been told that it is closed
        self._on_end()
        return left
