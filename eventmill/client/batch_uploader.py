"""``BatchUploader``: takes events in microseconds and sends them in the background."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

from google.protobuf.message import Message

from eventmill.base.clock import SYSTEM_CLOCK, Clock
from eventmill.base.errors import EventmillError, UnavailableError, UsageError
from eventmill.client import live
from eventmill.client.callback import call_back
from eventmill.client.closing import Closing
from eventmill.client.delivery import Delivery, Outcome, UndeliveredEvent
from eventmill.client.encode import Event, EventEncoder, as_insert_id
from eventmill.client.flush import LOCK_SECONDS_MAX, Flush, wait_in_thread
from eventmill.client.retry import RETRY_BASE_SECONDS, RETRY_CAP_SECONDS, Retry
from eventmill.client.room import OnDrop, OnFull, Room, WhenFull
from eventmill.client.sending import Sending
from eventmill.client.spool.part import SpoolFullError
from eventmill.client.spool.place import spool_place
from eventmill.client.spool.record import ENCODED, ROW, encode_record
from eventmill.client.spool.spool import Spool
from eventmill.client.staging import encode_row_or_keep
from eventmill.client.syncing import Syncing, in_memory
from eventmill.client.tally import RareLog, Tally, UploaderStats
from eventmill.schema.table import TableId
from eventmill.wire.batch import BATCH_BYTES_MAX
from eventmill.wire.insert_id import InsertIdSource
from eventmill.wire.sink import Sink

BATCH_BYTES = 1 << 20
FLUSH_INTERVAL_SECONDS = 0.2
BLOCK_TIMEOUT_SECONDS = 5.0
CLOSE_TIMEOUT_SECONDS = 5.0
REQUEST_TIMEOUT_SECONDS = 30.0
IN_FLIGHT_MAX = 4

OnUndelivered: TypeAlias = Callable[[Sequence[UndeliveredEvent], EventmillError], None]


class BatchUploader:
    """Sends events of one table in batches. Safe from any thread, and after a fork.

    Events wait in a spool: files that outlive the process, unless ``durability`` is ``memory``.
    What is promised, by what can happen:

    ====================  =====================================================================
    the server is down    events wait, in order, and are sent again with the same insert IDs
    the spool is full     as ``on_full`` says; each event that is dropped is counted and told
    the sink refuses      one event: it is in quarantine, counted; a batch: a dead letter
    ``close``, exit       sent within ``close``'s time limit; what is left waits in the spool
    kill -9, ``_exit``    what was staged waits in the spool for the next process that uses it
    power cut             ``host``: nothing that was synced is lost; ``process``: the last
                          seconds may be, as the operating system had not written them
    fork                  the parent's events are the parent's; a child begins empty
    ====================  =====================================================================

    With ``memory``, what is left at ``close`` goes to ``on_undelivered``, and what waits when the
    process dies is lost. No thread and no file exists before the first ``stage``. The sink stays
    the caller's, who closes it after the uploader.
    """

    def __init__(
        self,
        sink: Sink,
        table: str | TableId,
        *,
        spool_dir: str | None = None,
        durability: Literal["memory", "process", "host"] | None = None,
        spool_bytes_max: int | None = None,
        on_full: OnFull = "block",
        block_timeout_seconds: float | None = BLOCK_TIMEOUT_SECONDS,
        on_drop: OnDrop | None = None,
        on_undelivered: OnUndelivered | None = None,
        batch_bytes: int = BATCH_BYTES,
        flush_interval_seconds: float = FLUSH_INTERVAL_SECONDS,
        in_flight_max: int = IN_FLIGHT_MAX,
        request_timeout_seconds: float = REQUEST_TIMEOUT_SECONDS,
        retry_base_seconds: float = RETRY_BASE_SECONDS,
        retry_cap_seconds: float = RETRY_CAP_SECONDS,
        close_at_exit: bool = True,
        insert_ids: InsertIdSource | None = None,
        clock: Clock = SYSTEM_CLOCK,
        rng: random.Random | None = None,
    ) -> None:
        """Prepare to take events; nothing is sent or written, and no thread runs, yet.

        Args:
            sink: where events go.
            table: ``project.dataset.table`` or ``dataset.table``.
            spool_dir: folder of the spool, which processes of one application share; None: for a
                sink with an address one below the user's state folder, named by the address and
                the program; for any other sink memory.
            durability: ``memory``; ``process``: staged events survive the process; ``host``: and,
                once synced, a power cut. None: ``process`` where there is a folder.
            spool_bytes_max: limit of the spool, at least two segments; None: 1 GiB on disk, 64
                MiB in memory.
            on_full: what ``stage`` does with a full spool: wait for room, raise BackPressureError
                at once, drop the new event, or drop the oldest waiting segment.
            block_timeout_seconds: how long ``stage`` waits for room; None: until there is some.
            on_drop: told each drop as (reason, count), from the thread that dropped; see
                ``UploaderStats.dropped``. None: an error is logged, one line a minute for a cause.
            on_undelivered: called from a background thread (in memory, from ``close`` as well)
                with events that the sink will not take, and why. Without a spool nobody else has
                them any more; with one they are kept as dead letters whatever it does.
            batch_bytes: a batch is sent when it has this size, 1 to 9,000,000.
            flush_interval_seconds: or when its oldest event is this old.
            in_flight_max: batches sent at the same time, each by a thread of its own.
            request_timeout_seconds: for one attempt at one batch.
            retry_base_seconds: bound of the pause before the first retry; doubles with each.
            retry_cap_seconds: bound that the doubling never passes.
            close_at_exit: when the program ends without ``close``, call it; False: the caller
                does, who may stage events until then.
            insert_ids: makes the IDs of events that come without; None: a new source.
            clock: measures time.
            rng: chance in the pauses; None: a new source.

        Raises:
            UsageError: an argument makes no sense.
        """
        if not 1 <= batch_bytes <= BATCH_BYTES_MAX:
            raise UsageError(f"batch_bytes {batch_bytes!r} must be from 1 to {BATCH_BYTES_MAX:,}")
        if flush_interval_seconds < 0 or not request_timeout_seconds > 0 or in_flight_max < 1:
            raise UsageError(
                "flush_interval_seconds must not be negative, timeouts above 0, and"
                " in_flight_max at least 1"
            )
        self.table = TableId.parse(table) if isinstance(table, str) else table
        self._place = spool_place(sink, self.table, spool_dir, durability, spool_bytes_max)
        self._when_full = WhenFull(on_full, block_timeout_seconds, on_drop)
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
            clock,
            table=self.table,
            request_timeout_seconds=request_timeout_seconds,
            waits_for_people=self._place.folder is not None,
        )
        self._batch_bytes = batch_bytes
        self._flush_interval_seconds = flush_interval_seconds
        self._in_flight_max = in_flight_max
        self.close_at_exit = close_at_exit
        self._is_closed = False
        self._begin_empty()
        live.add(self)

    def __enter__(self) -> BatchUploader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<BatchUploader {self.table} [{self.stats().left} events left]>"

    @property
    def spool_folder(self) -> str | None:
        """Folder of this table's spool; None: events wait in memory."""
        return self._place.folder

    def stage(self, message: Event, insert_id: str | None = None) -> bool:
        """Take one event to be sent soon.

        Promise: encoded before return, so the caller may change or drop the message, and in the
        spool; it does not wait for the network. A dict is judged later when the table's schema is
        not known yet, or when it has a field that the known schema lacks, as the table may have
        grown.

        Args:
            message: a protobuf message of the table's type, or a dict of its columns.
            insert_id: the event's identity, 1 to 128 characters; None: a new one.

        Returns:
            Whether it was taken; False only with a full spool and an ``on_full`` that drops.

        Raises:
            EventProblem: the event does not fit its table, or is too large; names the field.
            BackPressureError: the spool is full or, where ``stage`` waits for room, stayed so for
                ``block_timeout_seconds``.
            UnavailableError: too many files are open to make the spool's folder.
            UsageError: it is no event of this table, the spool's folder cannot be made, or the
                uploader is closed.
        """
        if isinstance(message, Message):
            kind, event = ENCODED, self._encoder.encode_message(message)
            fingerprint = self._encoder.message_fingerprint
        else:
            is_row, event, fingerprint = encode_row_or_keep(self._encoder, message)
            kind = ROW if is_row else ENCODED
        identity = self._insert_ids.next() if insert_id is None else as_insert_id(insert_id)
        salt = self._spool.salt
        record = encode_record(kind, identity, event, self._clock.now(), salt)
        with self._lock:
            if self._is_closed:
                raise UsageError("this BatchUploader is closed")
            spool = self._spool
            try:
                spool.append(record, fingerprint)
            except SpoolFullError as error:
                full = error
            else:
                if spool.unread_bytes >= self._sending.wake_at_bytes:
                    self._sending.staged()
                return True
        return self._room.take_in(record, fingerprint, full)

    def stage_and_wait(
        self, message: Event, insert_id: str | None = None, timeout_seconds: float | None = None
    ) -> bool:
        """Take one event, and wait until it is synced: it then survives a power cut.

        Callers that wait at the same time share one sync.

        Returns:
            As ``stage``.

        Raises:
            UnavailableError: the disk failed, or ``timeout_seconds`` (None: no limit) passed; the
                event is staged all the same.
            UsageError: the spool is in memory. And what ``stage`` raises.
        """
        if self._place.folder is None:
            raise in_memory()
        if not self.stage(message, insert_id):
            return False
        self._syncing.wait_until_synced(self._spool.staged_count, timeout_seconds)
        return True

    def flush(self, timeout_seconds: float | None = None) -> int:
        """Send what was staged before the call, and wait until something has become of it.

        Args:
            timeout_seconds: wait at most this long; None: until all of it is settled.

        Returns:
            How many of those events are left; 0 when each one is acked, rejected or undelivered.
        """
        return wait_in_thread([self.new_flush()], timeout_seconds, self._clock)

    def close(self, timeout_seconds: float = CLOSE_TIMEOUT_SECONDS) -> int:
        """Send what is left, and end.

        Promise: returns within ``timeout_seconds``, whatever the sink or the disk does. Events
        that could not be sent by then wait in the spool for the next process that uses it; without
        a spool they are handed to ``on_undelivered`` and counted. A second call does nothing.

        Returns:
            How many events were left.
        """
        deadline = self._clock.monotonic() + timeout_seconds
        closing = self.begin_close()
        if closing is None:
            return 0
        try:
            self.flush(timeout_seconds)
        except BaseException:  # Ctrl-C: what is left waits, or is handed back, all the same
            closing.end(0.0)
            raise
        return closing.end(max(0.0, deadline - self._clock.monotonic()))

    def stats(self) -> UploaderStats:
        """Return the counts of this moment.

        It waits for nothing: while the disk hangs, some are those of a moment before.
        """
        is_held = self._lock.acquire(timeout=LOCK_SECONDS_MAX)
        try:
            spool, tally = self._spool, self._tally
            is_open = is_held and not self._is_closed
            since = spool.oldest_staged_at() if is_open else None
            attempts = self._delivery.attempts()
            is_kept = not self._is_closed or self._place.folder is not None
            return UploaderStats(
                staged=spool.staged_count,
                staged_bytes=spool.bytes - spool.unstaged_bytes,
                adopted=spool.adopted_count,
                sent=self._delivery.sent_count,
                accepted=tally.accepted,
                duplicates=tally.duplicates,
                rejected=tally.rejected,
                retried=self._delivery.retried,
                batches=tally.batches,
                in_flight=self._sending.in_flight_count,
                dropped={**tally.dropped, **spool.dropped},
                undelivered=dict(tally.undelivered),
                left=spool.left_of_first(spool.staged_count) if is_kept else 0,
                spooled_bytes=spool.bytes,
                oldest_age_seconds=0.0 if since is None else max(0.0, self._clock.now() - since),
                send_seconds=attempts.seconds,
                send_latency=attempts,
            )
        finally:
            if is_held:
                self._lock.release()

    # -- for those that wait without a thread -------------------------------------------------

    def new_flush(self) -> Flush:
        """Return a wait for what is staged, which has not begun.

        For event loops, and for whoever waits for several uploaders; anybody else calls ``flush``.
        """
        return Flush(self._spool, self._sending)

    def begin_close(self) -> Closing | None:
        """Take no more events; return how to end, or None when somebody else sees to that."""
        is_held = self._lock.acquire(timeout=LOCK_SECONDS_MAX)
        try:
            if self._is_closed:
                return None
            self._is_closed = self._sending.is_closed = True
            if is_held:
                self._sending.settled.notify_all()  # who waits for room must not wait on
        finally:
            if is_held:
                self._lock.release()
        return Closing(
            self._place,
            self._spool,
            self._sending,
            self._syncing,
            self._log,
            self._clock,
            hand_back_left=self._hand_back_left,
            on_end=lambda: live.retire(self),
        )

    def begin_sync_wait(self, tell: Callable[[OSError | None], None]) -> Callable[[], None]:
        """Have ``tell`` called once what is staged survives a power cut, or does not.

        Args:
            tell: given the disk's error or None; must neither raise nor block.

        Returns:
            What to call when it is no longer to be told.
        """
        syncing = self._syncing
        wait = syncing.begin_wait(self._spool.staged_count, tell)
        return lambda: syncing.end_wait(wait)

    # -- inside -------------------------------------------------------------------------------

    def _begin_empty(self) -> None:
        """Make everything that a forked child must not share with its parent."""
        # A signal's function, or ``__del__``, may stage in the middle of ``stage``.
        self._lock = threading.RLock()
        self._tally = Tally()
        self._delivery.begin_empty()
        place = self._place.renewed()
        self._spool = Spool(self._lock, self._clock, place)
        self._dead = place.dead_letters()
        self._sending = Sending(
            f"eventmill-uploader-{self.table}",
            self._lock,
            self._spool,
            self._delivery,
            self._tally,
            self._clock,
            batch_bytes=self._batch_bytes,
            flush_interval_seconds=self._flush_interval_seconds,
            in_flight_max=self._in_flight_max,
            on_undelivered=self._keep_undelivered,
        )
        self._room = Room(
            str(self.table), self._spool, self._sending, self._tally, self._when_full, self._log
        )
        self._sending.on_look = self._room.tell
        self._syncing = Syncing(self._spool, self._log, is_steady=place.is_synced)
        if place.is_synced:
            self._sending.on_start = self._syncing.start

    def begin_in_child(self) -> None:
        """Forget what is the parent's; called in a forked child, where no other thread is."""
        self._spool.abandon()
        self._begin_empty()

    def _keep_undelivered(self, outcome: Outcome) -> None:
        """Keep what the sink will not take, on disk where there is a spool, and tell."""
        events, cause = outcome.undelivered, outcome.error
        kept = ""
        if self._dead is not None:
            kept = "; kept in " + self._dead.keep(
                [(event.insert_id.encode(), event.payload, event.is_json) for event in events],
                max(event.fingerprint for event in events),  # those that are JSON have none
                str(cause),
                self._clock.now(),
            )
        if self._on_undelivered is not None:
            call_back("on_undelivered", self._on_undelivered, events, cause)
            return
        lost = "are not taken" if kept else "are lost (on_undelivered would get them)"
        self._log.tell(
            logging.ERROR,
            type(cause).__name__,
            f"{self.table}: {len(events)} events {lost}: {cause}{kept}",
        )

    def _hand_back_left(self) -> None:
        left = [
            UndeliveredEvent(insert_id.decode(), payload, is_row, "" if is_row else fingerprint)
            for insert_id, payload, is_row, fingerprint in self._spool.left()
        ]
        cause = UnavailableError(f"closed with {len(left)} events not sent")
        cause.__cause__ = self._delivery.last_error
        with self._lock:
            self._tally.undelivered[type(cause).__name__] += len(left)
        self._keep_undelivered(Outcome(undelivered=left, error=cause))
