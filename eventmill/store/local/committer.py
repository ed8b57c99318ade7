"""The committer of one table: puts batches in order, drops duplicates, syncs, answers.

One thread a table. Whatever waits when it looks is one group: one write, one fdatasync, one answer
each. The judgement of the events (``admission``) was made in the callers' threads, so it overlaps
with the sync of the group before.

Duplicates are decided here and not in the callers, because only here is it known what is synced: a
batch that repeats another which is still waiting is answered together with it or after it, never
before, so *duplicate* always means stored.
"""

from __future__ import annotations

import logging
import threading
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import accumulate

from eventmill.base.clock import Clock
from eventmill.base.errors import BackPressureError, EventmillError, UnavailableError
from eventmill.store.local.dedup import DedupWindow, hash_ids
from eventmill.store.local.frame import encode_head
from eventmill.store.local.ingest_times import IngestTimes
from eventmill.store.local.log import TableLog
from eventmill.wire.batch import encode_payload, events_of, insert_ids_of
from eventmill.wire.sink import Answer
from eventmill.wire.verdict import Verdict, stored_verdict

_logger = logging.getLogger("eventmill.store")

GROUP_BYTES_MAX = 16_000_000
"""Payload bytes of one group. Larger groups gain nothing (the sync is then bound by bandwidth) and
make every waiting caller wait longer."""
WAITING_BYTES_MAX = 64_000_000
"""Payload bytes that may wait for the committer; beyond it callers are asked to pause."""


@dataclass(slots=True)
class Submission:
    """One batch on its way into the log."""

    payload: bytes
    count: int
    """Its events."""
    keys: Sequence[bytes]
    """16-byte hashes of the insert IDs, in order."""
    checksum: int
    """crc32 of the payload, made by the caller: over a long payload Python lets other threads
    run, and the committer would have to win its turn back."""
    version: int
    """Version of the definition that the events were judged by, written into their frame."""
    answer: Answer
    """Called once, from the committer's thread."""


class TableCommitter:
    """Owns a table's log and deduplication window."""

    def __init__(
        self,
        name: str,
        log: TableLog,
        window: DedupWindow,
        clock: Clock,
        *,
        restore: Callable[[IngestTimes], None],
        seed: int,
        seal_after_seconds: float,
    ) -> None:
        """Recover the log, then call ``restore`` for what the lake knows, then start the thread.

        Raises:
            TransientError: the log cannot be read now.
        """
        self._log = log
        self._window = window
        self._clock = clock
        self.times = IngestTimes(clock)
        """Gives each frame its time; others who add rows to the table take theirs here too."""
        self._restore = restore
        self._seed = seed
        self._seal_after_seconds = seal_after_seconds
        self._sequence = 0
        self._opened_at: float | None = None
        self._waiting: list[Submission] = []
        self._waiting_bytes = 0
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._closing = False
        self._started = (clock.now(), clock.monotonic())
        self._seal_wanted: list[Future[bool]] = []
        self.groups = 0
        """Groups committed since the start; with the rows, a test sees that grouping happened."""
        self._recover()
        self._thread = threading.Thread(target=self._run, name=f"commit {name}", daemon=True)
        self._thread.start()

    @property
    def open_rows(self) -> int:
        """Rows in the open segment."""
        return self._log.open_rows

    @property
    def open_bytes(self) -> int:
        """Bytes in the open segment."""
        return self._log.open_bytes

    def submit(self, submission: Submission) -> None:
        """Queue a batch; its ``answer`` is called when it is synced or refused.

        Raises:
            BackPressureError: too much is waiting already.
            UnavailableError: the store is closing.
        """
        size = len(submission.payload)
        with self._lock:
            if self._closing:
                raise UnavailableError("the store is closing")
            if self._waiting_bytes + size > WAITING_BYTES_MAX and self._waiting:
                raise BackPressureError(
                    f"{self._waiting_bytes:,} bytes wait to be synced", retry_after_seconds=0.1
                )
            self._waiting.append(submission)
            self._waiting_bytes += size
            if len(self._waiting) == 1:
                self._wake.notify()

    def seal(self) -> Future[bool]:
        """Ask for the open segment to be sealed; the future says whether there was one."""
        future: Future[bool] = Future()
        with self._wake:
            if self._closing:
                future.set_result(False)
                return future
            self._seal_wanted.append(future)
            self._wake.notify()
        return future

    def close(self) -> None:
        """Commit what waits, seal the open segment, and end the thread."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            group, seals, closing = self._next()
            if group:
                self._commit(group)
            if seals or closing or self._is_old():
                self._seal(seals)
            if closing and not group:
                self._log.abandon()
                return

    def _next(self) -> tuple[list[Submission], list[Future[bool]], bool]:
        with self._wake:
            if not self._waiting and not self._seal_wanted and not self._closing:
                self._wake.wait(timeout=self._seconds_to_seal())
            group, self._waiting = self._waiting, []
            if self._waiting_bytes > GROUP_BYTES_MAX:
                fits = _first_places(group)
                group, self._waiting = group[:fits], group[fits:]
            self._waiting_bytes = sum(len(submission.payload) for submission in self._waiting)
            seals, self._seal_wanted = self._seal_wanted, []
            return group, seals, self._closing and not self._waiting

    def _seconds_to_seal(self) -> float | None:
        if self._opened_at is None:
            return None
        age = self._clock.monotonic() - self._opened_at
        return max(0.01, self._seal_after_seconds - age)

    def _is_old(self) -> bool:
        if self._opened_at is None:
            return False
        return self._clock.monotonic() - self._opened_at >= self._seal_after_seconds

    def _seal(self, wanted: Sequence[Future[bool]]) -> None:
        try:
            sealed = self._log.seal()
        except Exception as error:
            # The rows are synced in the open segment; only the hand-over to compaction waits.
            _logger.warning("sealing is put off: %s", error, exc_info=True)
            self._opened_at = self._clock.monotonic()
            for future in wanted:
                future.set_exception(error)
            return
        self._opened_at = None
        for future in wanted:
            future.set_result(sealed)

    def _commit(self, group: Sequence[Submission]) -> None:
        now = self._clock.now()
        try:
            if self._log.is_broken:
                self._recover()
            self._window.expire(self._not_ahead(now))
            repeated = self._write(group, now)
        except BaseException as error:
            # Whoever waits must hear of it, whatever it is; the thread lives on.
            if not isinstance(error, EventmillError):
                _logger.exception("committing failed")
                error = UnavailableError(f"committing failed: {error!r}")
            for submission in group:
                _tell(submission.answer, None, error)
            return
        for submission, duplicates in zip(group, repeated, strict=True):
            _tell(submission.answer, stored_verdict(submission.count, duplicates), None)

    def _not_ahead(self, now: float) -> float:
        """Return ``now``, or the time by what has passed since the start where that is earlier.

        A wall clock that is set ahead must not empty the window: what was stored a minute ago is
        repeated by its sender all the same.
        """
        wall, monotonic = self._started
        return min(now, wall + self._clock.monotonic() - monotonic)

    def _write(self, group: Sequence[Submission], now: float) -> Sequence[Sequence[int]]:
        """Store what is new in ``group``; return the places of each batch's duplicates."""
        parts: list[bytes] = []
        rows = 0
        sequence = self._sequence
        received_us = self.times.next_us(len(group))
        repeated = self._window.admit([submission.keys for submission in group], now)
        try:
            for submission, duplicates in zip(group, repeated, strict=True):
                payload, count, checksum = submission.payload, submission.count, submission.checksum
                if duplicates:
                    count -= len(duplicates)
                    if not count:
                        continue
                    payload = _without(payload, duplicates)
                    checksum = zlib.crc32(payload)
                sequence += 1
                parts.append(
                    encode_head(payload, sequence, received_us, submission.version, count, checksum)
                )
                parts.append(payload)
                received_us += 1
                rows += count
            if parts:
                self._log.append(parts, rows)
        except BaseException:
            self._window.forget()
            raise
        self._sequence = sequence
        self.groups += 1
        if self._opened_at is None and rows:
            self._opened_at = self._clock.monotonic()
        return repeated

    def _recover(self) -> None:
        self._log.abandon()
        for frame in self._log.recover():
            self._sequence = max(self._sequence, frame.sequence)
            self.times.know(frame.received_us)
            if self._window.window_seconds:
                keys = hash_ids(insert_ids_of(frame.payload), self._seed)
                self._window.restore(keys, frame.received_us / 1e6, self._clock.now())
        self._restore(self.times)
        self._opened_at = None


def _first_places(waiting: Sequence[Submission]) -> int:
    """Return how many of those that wait make one group, at least one."""
    sizes = accumulate(len(submission.payload) for submission in waiting)
    return 1 + sum(1 for size in sizes if size < GROUP_BYTES_MAX)


def _tell(answer: Answer, verdict: Verdict | None, error: EventmillError | None) -> None:
    try:
        answer(verdict, error)
    except Exception:
        # The batch is synced or refused whatever its caller makes of it; others are waiting.
        _logger.exception("an answer could not be given")


def _without(payload: bytes, gone: Sequence[int]) -> bytes:
    """Return a payload less the events at the places ``gone``."""
    ids, events = insert_ids_of(payload), events_of(payload)
    kept = sorted(set(range(len(ids))).difference(gone))
    return encode_payload([ids[i] for i in kept], [events[i] for i in kept])
