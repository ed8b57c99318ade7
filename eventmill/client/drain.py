"""Sending what ended processes have left in the spool of one table, and dead letters again."""

from __future__ import annotations

import errno
import os
import random
import threading
from collections.abc import Callable

from eventmill.base.clock import SYSTEM_CLOCK, Clock
from eventmill.base.errors import UsageError
from eventmill.client.delivery import FOR_PEOPLE, Delivery, Outcome
from eventmill.client.encode import EventEncoder
from eventmill.client.retry import Retry
from eventmill.client.spool.dead import dead_letters_in
from eventmill.client.spool.owner import OwnerFolder, segment_numbers
from eventmill.client.spool.part import Taken
from eventmill.client.spool.place import spool_place
from eventmill.client.spool.spool import Spool
from eventmill.client.tally import RareLog, Tally
from eventmill.schema.table import TableId
from eventmill.wire.batch import BATCH_EVENTS_MAX
from eventmill.wire.sink import Sink

BATCH_BYTES = 1 << 20
REQUEST_TIMEOUT_SECONDS = 30.0
RETRY_CAP_SECONDS = 5.0
"""Shorter than a batch uploader's: somebody is watching."""
_IN_THE_WAY = (errno.EEXIST, errno.ENOTEMPTY)


class Drain:
    """Sends, in the caller's thread, what ended processes have left of one table.

    What a living process has is not touched. Stopped at any moment, by a power cut as well, it
    leaves every event that has no verdict in the spool; some of the others may be sent again
    under the same insert IDs.
    """

    def __init__(
        self,
        sink: Sink,
        table: TableId,
        spool_dir: str,
        *,
        clock: Clock = SYSTEM_CLOCK,
        rng: random.Random | None = None,
    ) -> None:
        """Prepare; nothing is locked or sent yet.

        Args:
            sink: where events go.
            table: whose events.
            spool_dir: as the uploaders have it, which left them.
            clock: measures time.
            rng: chance in the pauses; None: a new source.

        Raises:
            UsageError: there is no spool on this system.
        """
        place = spool_place(sink, table, spool_dir, "process", None)
        self._clock = clock
        self._spool = Spool(threading.RLock(), clock, place)
        self._dead = place.dead_letters()
        self._delivery = Delivery(
            sink,
            EventEncoder(table),
            RareLog(clock),
            Retry(rng or random.Random(), cap_seconds=RETRY_CAP_SECONDS),  # noqa: S311 - no secret
            clock,
            table=table,
            request_timeout_seconds=REQUEST_TIMEOUT_SECONDS,
            waits_for_people=True,
        )
        self.tally = Tally()
        """What became of events."""
        self.found_bytes = 0
        """What ended processes had left, as far as it was found."""
        self.undelivered_why = ""
        """Why the sink would not take events, which are dead letters now."""

    @property
    def left_bytes(self) -> int:
        """How much of ``found_bytes`` is not being sent yet."""
        return self._spool.unread_bytes

    @property
    def damaged_count(self) -> int:
        """Events that fail their checksum and were kept aside."""
        return self._spool.dropped["damaged"]

    @property
    def why_waiting(self) -> str:
        """Why the latest attempt has failed; empty when it did not."""
        return str(self._delivery.last_error or "")

    def run(self, timeout_seconds: float, on_step: Callable[[], None]) -> bool:
        """Send until nothing is left that could be taken over, or time is over; once.

        Promise: on return, or after an exception, nothing is locked any more.

        Args:
            timeout_seconds: an attempt that has begun by then is waited for.
            on_step: called after each batch and each attempt that failed.

        Returns:
            Whether something became of all that was found. False: time was over, or somebody
            has to do something first, as ``why_waiting`` says: make the table, allow the key.

        Raises:
            OSError: a dead letter could not be written; its events are left.
        """
        deadline = self._clock.monotonic() + timeout_seconds

        def pause(seconds: float) -> bool:
            on_step()
            if self._waits_for_somebody():
                return False
            remaining = deadline - self._clock.monotonic()
            self._clock.sleep(max(0.0, min(seconds, remaining)))
            return seconds < remaining

        try:
            while found := self._spool.adopt():
                self.found_bytes += found
                while self._clock.monotonic() < deadline:
                    taken = self._spool.take(bytes_max=BATCH_BYTES, count_max=BATCH_EVENTS_MAX)
                    if taken is None:
                        break
                    outcome = self._delivery.deliver(taken, pause)
                    if outcome is None:
                        return False
                    self._settle(taken, outcome)
                    on_step()
                else:
                    return False
            return True
        finally:
            self._spool.close()

    def _waits_for_somebody(self) -> bool:
        """Return whether more attempts are of no use before somebody has mended something."""
        error = self._delivery.last_error
        return error is not None and isinstance(error.__cause__, FOR_PEOPLE)

    def _settle(self, taken: Taken, outcome: Outcome) -> None:
        for verdict in outcome.verdicts:
            self.tally.add(verdict)
        self.tally.rejected += outcome.refused_count
        if outcome.undelivered and self._dead is not None:
            self.undelivered_why = str(outcome.error)
            events = [
                (event.insert_id.encode(), event.payload, event.is_json)
                for event in outcome.undelivered
            ]
            # Those that are JSON have none.
            fingerprint = max(event.fingerprint for event in outcome.undelivered)
            self._dead.keep(events, fingerprint, self.undelivered_why, self._clock.now())
            self.tally.undelivered[type(outcome.error).__name__] += len(events)
        self._spool.settle(taken)


def bring_back(folder: str) -> int:
    """Let all dead letters of the table at ``folder`` wait to be sent, as an ended process's.

    Whoever uses the spool next sends them, not only a ``Drain``. Stopped at any moment, each is
    still in the one place or the other.

    Returns:
        How many segments were moved; not those that somebody else moves at the same time.

    Raises:
        OSError: there is no room for a folder.
        UnavailableError: this process may not open one more file.
        UsageError: a folder cannot be made.
    """
    moved = 0
    for path in dead_letters_in(folder):
        # The segment's checksums begin with this name, as an owner folder's do with its own.
        name = os.path.basename(path).rpartition(".")[0]
        # There already: left by a call that was broken off.
        owner = OwnerFolder.adopt(os.path.join(folder, name)) or _made(folder, name)
        if owner is None:
            continue
        try:
            if not segment_numbers(owner.path):
                owner.move_in(path)
                moved += 1
        except FileNotFoundError:
            if segment_numbers(owner.path):  # it is here, and something else is missing
                raise
            owner.remove()
        finally:
            owner.release()
    return moved


def _made(folder: str, name: str) -> OwnerFolder | None:
    """Return a new owner folder; None when there is one that somebody else holds."""
    try:
        return OwnerFolder.create(folder, name)
    except UsageError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in _IN_THE_WAY:
            return None
        raise
