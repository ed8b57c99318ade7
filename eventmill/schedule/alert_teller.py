"""Hands notices to their channels, each channel in a thread of its own.

A channel that hangs keeps no other channel from being told, and the rules from being evaluated for
a bounded time.
"""

from __future__ import annotations

import logging
import random
import threading

from eventmill.base.clock import SYSTEM_CLOCK, Clock, backoff_seconds
from eventmill.base.errors import EventmillError
from eventmill.base.quantity import format_seconds
from eventmill.schedule.alert_channels import ChannelError, one_line
from eventmill.schedule.alert_files import AlertFiles
from eventmill.schedule.alert_message import Message
from eventmill.schedule.alert_queue import PAUSE_SECONDS_MAX, UNROUTED, AlertQueue, QueuedNotice

ROUND_SECONDS = 5.0
"""How long a round waits for channels; what hangs goes on beside the next one."""
LAST_ROUND_SECONDS = 35.0
"""How long the only round of a program waits: as long as a channel may take, and a little."""
GIVE_UP_SECONDS = 86_400.0
"""How long a notice is tried: older, it would tell of another day."""
_TRIES_MIN = 3
_RETRY_BASE_SECONDS = 5.0

_logger = logging.getLogger("eventmill.alerts")


class AlertTeller:
    """Tells what is queued. For one caller at a time."""

    def __init__(self, queue: AlertQueue, clock: Clock, rng: random.Random) -> None:
        """Prepare; nobody is told yet.

        Args:
            queue: what there is to tell.
            clock: time.
            rng: chance, for the pauses between tries of a channel.
        """
        self._queue = queue
        self._clock = clock
        self._rng = rng
        self._busy: dict[str, threading.Thread] = {}
        self._missed = 0
        self._missed_lock = threading.Lock()

    def tell(self, files: AlertFiles, round_seconds: float = ROUND_SECONDS) -> int:
        """Hand over every notice that is due; return how many were not taken.

        One that is not taken is tried again for a day, with growing pauses. A channel that has
        failed is left alone for the rest of the round.
        """
        self._missed = 0
        self._queue.route_waiting(files.route)
        ends_at = SYSTEM_CLOCK.monotonic() + round_seconds
        self._forget_ended()
        for name in self._queue.due_channels(self._clock.now()):
            if name == UNROUTED or name in self._busy:
                continue
            self._busy[name] = threading.Thread(
                target=self._tell_channel,
                args=(name, files, ends_at),
                name=f"eventmill-alert-{name}",
                daemon=True,
            )
            self._busy[name].start()
        for thread in self._busy.values():
            thread.join(max(0.0, ends_at - SYSTEM_CLOCK.monotonic()))
        self._forget_ended()
        return self._missed + len(self._busy)

    def _forget_ended(self) -> None:
        self._busy = {name: each for name, each in self._busy.items() if each.is_alive()}

    def _tell_channel(self, name: str, files: AlertFiles, ends_at: float) -> None:
        try:
            while SYSTEM_CLOCK.monotonic() < ends_at:
                notice = self._queue.take(name, self._clock.now())
                if notice is None or not self._tell_one(notice, files):
                    return
        except EventmillError as error:  # the lease ends, and the notice is told again
            _logger.warning("channel %s: what became of a notice is not noted: %s", name, error)

    def _tell_one(self, queued: QueuedNotice, files: AlertFiles) -> bool:
        """Tell one notice; return whether the channel can be told more in this round."""
        channel = files.channels.get(queued.channel)
        try:
            if channel is None:
                raise ChannelError(f"there is no channel {queued.channel} that can be used")
            channel.tell(Message(queued.notice, queued.finding, queued.since, queued.queued_at))
        except ChannelError as error:
            self._put_off(queued, str(error))
            return error.is_of_message
        except Exception as error:
            # A fault of ours, and about this message alone: it must not silence the channel.
            _logger.exception("channel %s", queued.channel)
            self._put_off(queued, f"unexpectedly, {type(error).__name__}")
            return True
        self._queue.settle(queued.id)
        return True

    def _put_off(self, queued: QueuedNotice, error: str) -> None:
        with self._missed_lock:
            self._missed += 1
        now = self._clock.now()
        error = one_line(error)
        if now - queued.queued_at >= GIVE_UP_SECONDS and queued.attempts >= _TRIES_MIN:
            _logger.error(
                "alert given up: %s was not told within %s that %s: %s", queued.channel,
                format_seconds(GIVE_UP_SECONDS), one_line(queued.finding.summary), error,
            )  # fmt: skip
            self._queue.settle(queued.id)
            return
        pause = backoff_seconds(
            queued.attempts,
            self._rng,
            base_seconds=_RETRY_BASE_SECONDS,
            cap_seconds=PAUSE_SECONDS_MAX,
        )
        _logger.warning("channel %s: %s; it is tried again", queued.channel, error)
        self._queue.put_off(queued.id, now + pause, error)
