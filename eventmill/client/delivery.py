"""Bringing taken events to their sink, however long that takes: the sender's own judgement.

Owned by a ``BatchUploader`` and called by its background threads.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from eventmill.base.clock import Clock
from eventmill.base.errors import (
    AccessError,
    BatchError,
    CorruptStoreError,
    EventmillError,
    PermanentError,
    TableNotFoundError,
    TransientError,
    UnavailableError,
)
from eventmill.base.metrics import Histogram
from eventmill.client.callback import call_back
from eventmill.client.encode import EventEncoder
from eventmill.client.retry import Retry
from eventmill.client.spool.part import Taken
from eventmill.client.tally import LatencyCounts, RareLog
from eventmill.schema.problem import EventProblem
from eventmill.schema.table import TableId
from eventmill.wire.batch import Batch
from eventmill.wire.quarantined import QuarantinedEvent
from eventmill.wire.sink import NotJudgedError, QuarantiningSink, Sink
from eventmill.wire.split import cut
from eventmill.wire.verdict import Verdict

_T = TypeVar("_T")

FOR_PEOPLE = (TableNotFoundError, AccessError, CorruptStoreError, NotJudgedError)
"""Errors that say nothing of the events, and for which a delivery waits until somebody has done
something."""


@dataclass(frozen=True, slots=True)
class UndeliveredEvent:
    """One event that the sink will not take, or that could not be sent before the end."""

    insert_id: str
    """Keep it with the event: put again under the same ID, it cannot be stored twice."""
    payload: bytes
    """The encoded message; or JSON, of a dict whose table's schema never became known."""
    is_json: bool
    fingerprint: str = ""
    """Of the message type that encoded it; empty for JSON."""


@dataclass(slots=True)
class Outcome:
    """What became of taken events."""

    verdicts: list[Verdict] = field(default_factory=list)
    refused_count: int = 0
    """Events that the sender itself had to refuse, and the sink keeps in quarantine."""
    undelivered: list[UndeliveredEvent] = field(default_factory=list)
    error: EventmillError = field(default_factory=EventmillError)
    """Why they were not delivered; of no meaning when all were."""


attempt_observers: list[Callable[[TableId, float], None]] = []
"""Called with table and seconds after each attempt of each uploader to put a batch."""

Pause = Callable[[float], bool]
"""Waits so many seconds before the next attempt; answers False to give up."""


class Delivery:
    """Encodes what is still to be encoded, puts, and tries again while only time is wanting.

    Safe from several threads.
    """

    def __init__(
        self,
        sink: Sink,
        encoder: EventEncoder,
        log: RareLog,
        retry: Retry,
        clock: Clock,
        *,
        table: TableId,
        request_timeout_seconds: float,
        waits_for_people: bool,
    ) -> None:
        """Prepare.

        Args:
            sink: where events go.
            encoder: of the uploader.
            log: tells why events wait.
            retry: the pauses.
            clock: measures attempts.
            table: of all events.
            request_timeout_seconds: for one attempt at one batch.
            waits_for_people: whether events wait while the table does not exist, the key is not
                allowed or the store is damaged, which somebody can mend; else they are
                undelivered.
        """
        self._sink = sink
        self._encoder = encoder
        self._log = log
        self._retry = retry
        self._table = table
        self._request_timeout_seconds = request_timeout_seconds
        self._waits_for_people = waits_for_people
        self._clock = clock
        self.begin_empty()

    def begin_empty(self) -> None:
        """Count from 0: at the start, and in a forked child."""
        self._lock = threading.RLock()
        self.retried = 0
        """Attempts that were made again."""
        self.sent_count = 0
        """Events that were put, each as often as it was."""
        self._attempts = Histogram()
        self.last_error: EventmillError | None = None
        """Why the latest attempt failed; None when it did not."""

    def attempts(self) -> LatencyCounts:
        """Return how long the attempts to put have taken."""
        with self._lock:
            return LatencyCounts(tuple(self._attempts.counts), self._attempts.total)

    def deliver(self, taken: Taken, pause: Pause) -> Outcome | None:
        """Bring ``taken`` to the sink.

        Returns:
            What became of each event; None when ``pause`` said to give up, and then any of them
            may be stored.
        """
        outcome = Outcome()
        try:
            try:
                ids, events, fingerprint = self._encoded(taken, outcome, pause)
            except PermanentError as error:
                outcome.error = error
                outcome.undelivered = undelivered_of(taken)
                return outcome
            for part in cut(ids, events):
                places = slice(part.start, part.stop)
                self._put(fingerprint, ids[places], events[places], outcome, pause)
        except TransientError:  # the one that ``pause`` said to leave at
            return None
        return outcome

    def _put(
        self,
        fingerprint: str,
        ids: Sequence[bytes],
        events: Sequence[bytes],
        outcome: Outcome,
        pause: Pause,
    ) -> None:
        batch = Batch.build(self._table, fingerprint, ids, events)
        try:
            verdict = self._until_told(lambda: self._attempt(batch), pause)
        except PermanentError as error:
            if isinstance(error, BatchError) and len(events) > 1:
                # Too large for somebody on the way, or one event that spoils the rest.
                middle = len(events) // 2
                self._put(fingerprint, ids[:middle], events[:middle], outcome, pause)
                self._put(fingerprint, ids[middle:], events[middle:], outcome, pause)
                return
            outcome.error = error
            outcome.undelivered.extend(
                UndeliveredEvent(insert_id.decode(), event, False, fingerprint)
                for insert_id, event in zip(ids, events, strict=True)
            )
        else:
            self._note(verdict, batch, outcome, pause)

    def _note(self, verdict: Verdict, batch: Batch, outcome: Outcome, pause: Pause) -> None:
        """Take a verdict; what it rejects and the sink does not keep is undelivered."""
        rejected = verdict.rejected
        if not rejected or self._until_told(lambda: self._sink.features.quarantines, pause):
            outcome.verdicts.append(verdict)
            return
        outcome.verdicts.append(Verdict(verdict.count - len(rejected), verdict.duplicate_indexes))
        outcome.error = PermanentError(f"an event does not fit: {rejected[0].message}")
        ids, events = batch.insert_ids, batch.events
        outcome.undelivered.extend(
            UndeliveredEvent(ids[place].decode(), events[place], False, batch.fingerprint)
            for place in (each.index for each in rejected)
        )

    def _attempt(self, batch: Batch) -> Verdict:
        began = self._clock.monotonic()
        try:
            return self._sink.put(batch, timeout_seconds=self._request_timeout_seconds)
        finally:
            seconds = self._clock.monotonic() - began
            with self._lock:
                self.sent_count += batch.count
                self._attempts.observe(seconds)
            for observe in attempt_observers:
                call_back("an observer of attempts", observe, self._table, seconds)

    def _encoded(
        self, taken: Taken, outcome: Outcome, pause: Pause
    ) -> tuple[list[bytes], list[bytes], str]:
        """Return IDs, events and fingerprint; rows that do not fit go to quarantine."""
        # A row waits here because the schema was unknown, or may be out of date.
        if taken.rows or self._encoder.table is None:
            self._until_known(pause)
        self._encoder.check_own(taken.fingerprint)
        if not taken.rows:
            return taken.ids, taken.payloads, taken.fingerprint
        events: list[bytes] = list(taken.payloads)
        refused: dict[int, QuarantinedEvent] = {}
        for place in taken.rows:
            try:
                events[place] = self._encoder.encode_row(json.loads(taken.payloads[place]))
            except EventProblem as problem:
                refused[place] = QuarantinedEvent(
                    table=self._table,
                    insert_id=taken.ids[place].decode(),
                    payload=taken.payloads[place],
                    is_json=True,
                    reason=problem.reason,
                    field=problem.field,
                    message=problem.message,
                    client="",
                    fingerprint=self._encoder.row_fingerprint,
                )
        kept = range(len(events))
        if refused:
            self._quarantine(list(refused.values()), outcome, pause)
            kept = [place for place in kept if place not in refused]  # type: ignore[assignment]
        fingerprint = taken.fingerprint or self._encoder.row_fingerprint
        return [taken.ids[place] for place in kept], [events[place] for place in kept], fingerprint

    def _until_known(self, pause: Pause) -> None:
        wait = self._waiting(pause)
        self._while_people_mend(
            lambda: self._retry.learn(self._encoder, self._sink, self._table, wait), wait
        )
        self.last_error = None

    def _quarantine(
        self, refused: Sequence[QuarantinedEvent], outcome: Outcome, pause: Pause
    ) -> None:
        sink = self._sink
        error = PermanentError(f"an event does not fit: {refused[0].message}")
        if isinstance(sink, QuarantiningSink):
            try:
                self._until_told(lambda: sink.quarantine(refused), pause)
            except PermanentError as refusal:  # of these events; their neighbours go on
                error = refusal
            else:
                outcome.refused_count += len(refused)
                return
        outcome.error = error
        outcome.undelivered.extend(
            UndeliveredEvent(event.insert_id, event.payload, True) for event in refused
        )

    def _until_told(self, call: Callable[[], _T], pause: Pause) -> _T:
        """Call until the answer is a value or a PermanentError, or ``pause`` says to give up."""
        wait = self._waiting(pause)
        answer = self._while_people_mend(lambda: self._retry.until_told(call, wait), wait)
        self.last_error = None
        return answer

    def _while_people_mend(
        self, call: Callable[[], _T], wait: Callable[[float, TransientError], bool]
    ) -> _T:
        """Call again, in slow steps, while the answer is one that somebody can change."""
        while True:
            try:
                return call()
            except FOR_PEOPLE as error:
                if not self._waits_for_people and not isinstance(error, NotJudgedError):
                    raise
                told = UnavailableError(str(error))
                told.__cause__ = error
                if not wait(self._retry.cap_seconds, told):
                    raise told from error

    def _waiting(self, pause: Pause) -> Callable[[float, TransientError], bool]:
        """Return ``pause`` with a word to whoever watches."""

        def wait(seconds: float, error: TransientError) -> bool:
            self.last_error = error
            self._log.tell(
                logging.WARNING,
                f"retry {type(error).__name__}",
                f"{self._table}: {error}; events wait and are sent again",
            )
            if not pause(seconds):
                return False
            with self._lock:
                self.retried += 1
            return True

        return wait


def undelivered_of(taken: Taken) -> list[UndeliveredEvent]:
    """Return taken events in the form in which they are handed back."""
    rows = set(taken.rows)
    return [
        UndeliveredEvent(
            insert_id.decode(), payload, place in rows, "" if place in rows else taken.fingerprint
        )
        for place, (insert_id, payload) in enumerate(zip(taken.ids, taken.payloads, strict=True))
    ]
