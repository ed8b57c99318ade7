"""``BatchUploader``: takes events in microseconds and sends them in the background."""

from __future__ import annotations

import atexit
import copy
import logging
import os
import random
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeAlias

from google.protobuf.message import Message

from eventmill.base.clock import SYSTEM_CLOCK, Clock
from eventmill.base.errors import (
    BackPressureError,
    EventmillError,
    UnavailableError,
    UsageError,
)
from eventmill.base.service import Service
from eventmill.client.delivery import Delivery, UndeliveredEvent, undelivered_of
from eventmill.client.encode import Event, EventEncoder, Row, as_events, as_insert_id
from eventmill.client.retry import RETRY_BASE_SECONDS, RETRY_CAP_SECONDS, Retry
from eventmill.client.staging import Offer, StagedEvent, Staging
from eventmill.client.tally import RareLog, Tally, UploaderStats
from eventmill.schema.problem import EventProblem, Reason
from eventmill.schema.table import TableId
from eventmill.wire.batch import BATCH_BYTES_MAX, EVENT_BYTES_MAX
from eventmill.wire.insert_id import InsertIdSource
from eventmill.wire.sink import Sink

BATCH_BYTES = 1 << 20
FLUSH_INTERVAL_SECONDS = 0.2
QUEUE_BYTES_MAX = 64 << 20
BLOCK_TIMEOUT_SECONDS = 5.0
CLOSE_TIMEOUT_SECONDS = 5.0
REQUEST_TIMEOUT_SECONDS = 30.0
HURRIED_PAUSE_SECONDS_MAX = 0.5
"""Longest pause between two attempts while ``flush`` or ``close`` waits: they have little time."""

OnFull: TypeAlias = Literal["block", "drop_newest", "drop_oldest"]
OnUndelivered: TypeAlias = Callable[[Sequence[UndeliveredEvent], EventmillError], None]


class BatchUploader:
    """Sends events of one table in batches. Safe from any thread, and after a fork.

    What is promised, by what can happen:

    ====================  =====================================================================
    the server is down    events wait, in order, and are sent again with the same insert IDs
    the queue is full     as ``on_full`` says; each event that is not taken is counted
    the sink refuses      one event: it is in quarantine, counted; a batch: ``on_undelivered``
    ``close``, exit       sent within ``close``'s time limit; what is left: ``on_undelivered``
    the process dies      what was staged and not yet acked is lost: at most the queue
    fork                  the parent's events are the parent's; a child begins empty
    ====================  =====================================================================

    No thread exists before the first ``stage``. The sink stays the caller's, who closes it after
    the uploader.
    """

    def __init__(
        self,
        sink: Sink,
        table: str | TableId,
        *,
        batch_bytes: int = BATCH_BYTES,
        flush_interval_seconds: float = FLUSH_INTERVAL_SECONDS,
        queue_bytes_max: int = QUEUE_BYTES_MAX,
        on_full: OnFull = "block",
        block_timeout_seconds: float | None = BLOCK_TIMEOUT_SECONDS,
        on_undelivered: OnUndelivered | None = None,
        request_timeout_seconds: float = REQUEST_TIMEOUT_SECONDS,
        retry_base_seconds: float = RETRY_BASE_SECONDS,
        retry_cap_seconds: float = RETRY_CAP_SECONDS,
        insert_ids: InsertIdSource | None = None,
        clock: Clock = SYSTEM_CLOCK,
        rng: random.Random | None = None,
    ) -> None:
        """Prepare to take events; nothing is sent, and no thread runs, yet.

        Args:
            sink: where events go.
            table: ``project.dataset.table`` or ``dataset.table``.
            batch_bytes: a batch is sent when it has this size, 1 to 9,000,000.
            flush_interval_seconds: or when its oldest event is this old.
            queue_bytes_max: memory of all events held, at least 2,000,000.
            on_full: what ``stage`` does with a full queue: wait for room, refuse the new event,
                or drop the oldest waiting ones.
            block_timeout_seconds: how long ``stage`` waits for room; None: until there is some.
            on_undelivered: called from the background thread (from ``close`` for what is left)
                with events that the sink will not take, and why. It should keep them: nobody
                else has them any more. None: an error is logged, one line a minute for a cause.
            request_timeout_seconds: for one attempt at one batch.
            retry_base_seconds: bound of the pause before the first retry; doubles with each.
            retry_cap_seconds: bound that the doubling never passes.
            insert_ids: makes the IDs of events that come without; None: a new source.
            clock: measures time.
            rng: chance in the pauses; None: a new source.

        Raises:
            UsageError: an argument makes no sense.
        """
        if not 1 <= batch_bytes <= BATCH_BYTES_MAX:
            raise UsageError(f"batch_bytes {batch_bytes!r} must be from 1 to {BATCH_BYTES_MAX:,}")
        if queue_bytes_max < 2 * EVENT_BYTES_MAX:
            raise UsageError(f"queue_bytes_max must be at least {2 * EVENT_BYTES_MAX:,}")
        if on_full not in ("block", "drop_newest", "drop_oldest"):
            raise UsageError(f"on_full {on_full!r}: write block, drop_newest or drop_oldest")
        if flush_interval_seconds < 0 or not request_timeout_seconds > 0:
            raise UsageError("flush_interval_seconds must not be negative, timeouts above 0")
        self.table = TableId.parse(table) if isinstance(table, str) else table
        self._flush_interval_seconds = flush_interval_seconds
        self._on_full = on_full
        self._block_timeout_seconds = block_timeout_seconds
        self._on_undelivered = on_undelivered
        self._insert_ids = insert_ids or InsertIdSource()
        self._clock = clock
        self._encoder = EventEncoder(self.table)
        self._log = RareLog(clock)
        self._delivery = Delivery(
            sink,
            self._encoder,
            self._log,
            Retry(
                rng or random.Random(),  # noqa: S311 - spreads retries, guards nothing
                base_seconds=retry_base_seconds,
                cap_seconds=retry_cap_seconds,
            ),
            table=self.table,
            request_timeout_seconds=request_timeout_seconds,
        )
        self._queue_bytes_max = queue_bytes_max
        self._batch_bytes = batch_bytes
        self._is_closed = False
        self._begin_empty()
        _live_uploaders.add(self)

    def __enter__(self) -> BatchUploader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<BatchUploader {self.table} [{self._staging.left_count} events left]>"

    def stage(self, message: Event, insert_id: str | None = None) -> bool:
        """Take one event to be sent soon.

        Promise: encoded before return, so the caller may change or drop the message; it does not
        wait for the network. A dict is judged later when the table's schema is not known yet, or
        when it has a field that the known schema lacks, as the table may have grown.

        Args:
            message: a protobuf message of the table's type, or a dict of its columns.
            insert_id: the event's identity, 1 to 128 characters; None: a new one.

        Returns:
            Whether it was taken; False only with ``on_full="drop_newest"`` and a full queue.

        Raises:
            EventProblem: the event does not fit its table, or is too large; names the field.
            BackPressureError: the queue stayed full for ``block_timeout_seconds``.
            UsageError: it is no event of this table, or the uploader is closed.
        """
        event: bytes | Row
        if isinstance(message, Message):
            event = self._encoder.encode_message(message)
            fingerprint, size = self._encoder.message_fingerprint, len(event)
        else:
            event, fingerprint, size = self._encode_row(message)
        identity = self._insert_ids.next() if insert_id is None else as_insert_id(insert_id)
        staged = StagedEvent(
            identity, event, size + len(identity), fingerprint, self._clock.monotonic()
        )
        with self._work:
            if self._is_closed:
                raise UsageError("this BatchUploader is closed")
            if self._staging.offer(staged) is Offer.FULL and not self._wait_for_room(staged):
                return False
            if self._staging.waiting_count == 1 or self._staging.has_full_batch:
                self._work.notify()
            if not self._sender.running:
                self._sender.start()
        return True

    def flush(self, timeout_seconds: float | None = None) -> int:
        """Send what was staged before the call, and wait until something has become of it.

        Args:
            timeout_seconds: wait at most this long; None: until all of it is settled.

        Returns:
            How many of those events are left; 0 when each one is acked, rejected or undelivered.
        """
        deadline = None if timeout_seconds is None else self._clock.monotonic() + timeout_seconds
        with self._work:
            staging, count = self._staging, self._staging.staged_count
            self._hurry += 1
            self._work.notify_all()
            try:
                while left := staging.left_of_first(count):
                    remaining = None if deadline is None else deadline - self._clock.monotonic()
                    if remaining is not None and remaining <= 0:
                        return left
                    self._settled.wait(remaining)
            finally:
                self._hurry -= 1
        return 0

    def close(self, timeout_seconds: float = CLOSE_TIMEOUT_SECONDS) -> int:
        """Send what is left, and end.

        Promise: returns within ``timeout_seconds``. Events that could not be sent by then are
        handed to ``on_undelivered`` and counted. A second call does nothing.

        Returns:
            How many events were left.
        """
        deadline = self._clock.monotonic() + timeout_seconds
        with self._work:
            if self._is_closed:
                return 0
            self._is_closed = True
            self._settled.notify_all()  # threads that wait for room must not wait on
        self.flush(timeout_seconds)
        self._sender.stop(max(0.0, deadline - self._clock.monotonic()))
        with self._work:
            left = self._staging.take_all()
            self._settled.notify_all()
        if left:
            cause = UnavailableError(f"closed with {len(left)} events not sent")
            cause.__cause__ = self._delivery.last_error
            self._hand_back(left, cause)
        return len(left)

    def stats(self) -> UploaderStats:
        """Return the counts of this moment."""
        with self._work:
            staging, tally = self._staging, self._tally
            since = staging.oldest_staged_at
            dropped = dict(tally.dropped)
            if staging.dropped_count:
                dropped["oldest"] = staging.dropped_count
            return UploaderStats(
                staged=staging.staged_count,
                accepted=tally.accepted,
                duplicates=tally.duplicates,
                rejected=tally.rejected,
                retried=self._delivery.retried,
                dropped=dropped,
                undelivered=dict(tally.undelivered),
                left=staging.left_count,
                held_bytes=staging.held_bytes,
                oldest_age_seconds=0.0 if since is None else self._clock.monotonic() - since,
            )

    def _begin_empty(self) -> None:
        """Make everything that a forked child must not share with its parent."""
        lock = threading.Lock()
        self._work = threading.Condition(lock)
        """The sender waits here for something to do."""
        self._settled = threading.Condition(lock)
        """``flush``, and ``stage`` with a full queue, wait here for events to be settled."""
        self._hurry = 0
        self._staging = Staging(
            held_bytes_max=self._queue_bytes_max,
            batch_bytes=self._batch_bytes,
            drop_oldest=self._on_full == "drop_oldest",
        )
        self._tally = Tally()
        self._delivery.retried = 0
        self._sender = _Sender(self)

    def _encode_row(self, row: object) -> tuple[bytes | Row, str, int]:
        if not isinstance(row, Mapping):
            as_events([row])  # type: ignore[list-item]  # raises, naming what it is
            raise AssertionError("as_events takes what stage does not")
        if self._encoder.table is not None:
            try:
                event = self._encoder.encode_row(row)
            except EventProblem as problem:
                if problem.reason is not Reason.UNKNOWN_FIELD:
                    raise
            else:
                return event, self._encoder.row_fingerprint, len(event)
        return copy.deepcopy(dict(row)), "", len(repr(row))

    def _wait_for_room(self, staged: StagedEvent) -> bool:
        """Deal with a full queue; the caller holds the lock."""
        if self._on_full != "block":
            self._tally.dropped["newest"] += 1
            self._log.tell(
                logging.ERROR, "full", f"{self.table}: the queue is full; new events are dropped"
            )
            return False
        limit = self._block_timeout_seconds
        deadline = None if limit is None else self._clock.monotonic() + limit
        while True:
            remaining = None if deadline is None else deadline - self._clock.monotonic()
            if remaining is not None and remaining <= 0:
                self._tally.dropped["timeout"] += 1
                raise BackPressureError(
                    f"the queue of {self.table} stayed full for {limit} s; the event was not taken"
                )
            self._settled.wait(remaining)
            if self._is_closed:
                raise UsageError("this BatchUploader is closed")
            if self._staging.offer(staged) is Offer.STAGED:
                return True

    def _next_batch(self, stopping: threading.Event) -> Sequence[StagedEvent]:
        """Wait for the next batch to be due; empty when the sender is to stop."""
        with self._work:
            while not stopping.is_set():
                staging = self._staging
                if staging.in_flight:  # of a run that failed
                    return staging.in_flight
                since = staging.waiting_since
                if since is None:
                    self._work.wait()
                    continue
                due = since + self._flush_interval_seconds - self._clock.monotonic()
                if due <= 0 or self._hurry or staging.has_full_batch:
                    return staging.take()
                self._work.wait(due)
        return ()

    def _send(self, batch: Sequence[StagedEvent], stopping: threading.Event) -> None:
        """Deliver one batch, count what became of it, and make its room free."""
        outcome = self._delivery.deliver(batch, lambda seconds: self._pause(seconds, stopping))
        if outcome is None:
            return  # stopped: ``close`` deals with what is left
        try:
            if outcome.undelivered:
                self._tell_undelivered(outcome.undelivered, outcome.error)
        finally:
            with self._work:
                if self._staging.in_flight:  # else ``close`` has counted them as left
                    for verdict in outcome.verdicts:
                        self._tally.add(verdict)
                    self._tally.rejected += outcome.refused_count
                    name = type(outcome.error).__name__
                    if outcome.undelivered:
                        self._tally.undelivered[name] += len(outcome.undelivered)
                    self._staging.settle()
                self._settled.notify_all()

    def _hand_back(self, left: Sequence[StagedEvent], cause: EventmillError) -> None:
        with self._work:
            self._tally.undelivered[type(cause).__name__] += len(left)
        self._tell_undelivered([undelivered_of(event) for event in left], cause)

    def _tell_undelivered(self, events: Sequence[UndeliveredEvent], cause: EventmillError) -> None:
        if self._on_undelivered is not None:
            self._on_undelivered(events, cause)
            return
        self._log.tell(
            logging.ERROR,
            type(cause).__name__,
            f"{self.table}: {len(events)} events are lost: {cause} (on_undelivered would get them)",
        )

    def _pause(self, seconds: float, stopping: threading.Event) -> bool:
        """Wait between two attempts, shorter while a flush waits; tell whether to go on."""
        begun_at = self._clock.monotonic()
        with self._work:
            while not stopping.is_set():
                limit = min(seconds, HURRIED_PAUSE_SECONDS_MAX) if self._hurry else seconds
                remaining = begun_at + limit - self._clock.monotonic()
                if remaining <= 0:
                    break
                self._work.wait(remaining)
        return not stopping.is_set()


class _Sender(Service):
    """The background thread of one uploader."""

    def __init__(self, uploader: BatchUploader) -> None:
        super().__init__(f"eventmill-uploader-{uploader.table}")
        self._uploader = uploader

    def run(self, stopping: threading.Event) -> None:
        uploader = self._uploader
        while batch := uploader._next_batch(stopping):  # noqa: SLF001 - two halves of one thing
            uploader._send(batch, stopping)  # noqa: SLF001
            if stopping.is_set():
                return

    def wake(self) -> None:
        with self._uploader._work:  # noqa: SLF001
            self._uploader._work.notify_all()  # noqa: SLF001


_live_uploaders: weakref.WeakSet[BatchUploader] = weakref.WeakSet()


def _begin_empty_in_child() -> None:
    for uploader in list(_live_uploaders):
        uploader._begin_empty()  # noqa: SLF001 - this module is the class's own


def _close_at_exit() -> None:
    for uploader in list(_live_uploaders):
        uploader.close()


atexit.register(_close_at_exit)
if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_begin_empty_in_child)
