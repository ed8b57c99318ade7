"""Bringing one staged batch to its sink, however long that takes: the sender's own judgement.

Owned by a ``BatchUploader`` and called by its one background thread.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from eventmill.base.errors import EventmillError, PermanentError, TransientError
from eventmill.client.encode import EventEncoder, Row, quarantined_row
from eventmill.client.retry import Retry
from eventmill.client.staging import StagedEvent
from eventmill.client.tally import RareLog
from eventmill.schema.problem import EventProblem
from eventmill.schema.table import TableId
from eventmill.wire.batch import Batch
from eventmill.wire.quarantined import QuarantinedEvent
from eventmill.wire.sink import QuarantiningSink, Sink
from eventmill.wire.split import cut
from eventmill.wire.verdict import Verdict

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class UndeliveredEvent:
    """One event that the sink will not take, or that could not be sent before the end."""

    insert_id: str
    """Keep it with the event: put again under the same ID, it cannot be stored twice."""
    payload: bytes
    """The encoded message; or JSON, of a dict whose table's schema never became known."""
    is_json: bool


@dataclass(slots=True)
class Outcome:
    """What became of one staged batch."""

    verdicts: list[Verdict] = field(default_factory=list)
    refused_count: int = 0
    """Events that the sender itself had to refuse, and the sink keeps in quarantine."""
    undelivered: list[UndeliveredEvent] = field(default_factory=list)
    error: EventmillError = field(default_factory=EventmillError)
    """Why they were not delivered; of no meaning when all were."""


class Delivery:
    """Encodes what is still to be encoded, puts, and tries again while only time is wanting."""

    def __init__(
        self,
        sink: Sink,
        encoder: EventEncoder,
        log: RareLog,
        retry: Retry,
        *,
        table: TableId,
        request_timeout_seconds: float,
    ) -> None:
        self._sink = sink
        self._encoder = encoder
        self._log = log
        self._retry = retry
        self._table = table
        self._request_timeout_seconds = request_timeout_seconds
        self.retried = 0
        """Attempts that had to be made again."""
        self.last_error: EventmillError | None = None
        """Why the latest attempt failed; None when it did not."""

    def deliver(
        self, staged: Sequence[StagedEvent], pause: Callable[[float], bool]
    ) -> Outcome | None:
        """Bring ``staged`` to the sink.

        Args:
            staged: events of one fingerprint, in order.
            pause: waits so many seconds before the next attempt; answers False to give up.

        Returns:
            What became of each event; None when ``pause`` said to give up, and then any of them
            may be stored.
        """
        outcome = Outcome()
        try:
            try:
                ids, events, fingerprint = self._encoded(staged, outcome, pause)
            except PermanentError as error:
                outcome.error = error
                outcome.undelivered = [undelivered_of(event) for event in staged]
                return outcome
            for part in cut(ids, events):
                self._put_part(
                    Batch.build(
                        self._table,
                        fingerprint,
                        ids[part.start : part.stop],
                        events[part.start : part.stop],
                    ),
                    outcome,
                    pause,
                )
        except TransientError:  # the one that ``pause`` said to leave at
            return None
        return outcome

    def _put_part(self, batch: Batch, outcome: Outcome, pause: Callable[[float], bool]) -> None:
        seconds = self._request_timeout_seconds
        try:
            outcome.verdicts.append(
                self._until_told(lambda: self._sink.put(batch, timeout_seconds=seconds), pause)
            )
        except PermanentError as error:
            outcome.error = error
            outcome.undelivered.extend(
                UndeliveredEvent(insert_id.decode(), event, False)
                for insert_id, event in zip(batch.insert_ids, batch.events, strict=True)
            )

    def _encoded(
        self, staged: Sequence[StagedEvent], outcome: Outcome, pause: Callable[[float], bool]
    ) -> tuple[list[bytes], list[bytes], str]:
        """Return IDs, events and fingerprint; dicts that do not fit go to quarantine."""
        has_rows = any(not isinstance(event.event, bytes) for event in staged)
        # A dict waits here because the schema was unknown, or may be out of date.
        if has_rows or self._encoder.table is None:
            self._until_known(pause)
        self._encoder.check_own(staged[0].fingerprint)
        ids: list[bytes] = []
        events: list[bytes] = []
        refused: list[tuple[StagedEvent, QuarantinedEvent]] = []
        for item in staged:
            try:
                event = item.event
                encoded = event if isinstance(event, bytes) else self._encoder.encode_row(event)
            except EventProblem as problem:
                kept = quarantined_row(
                    self._table, item.insert_id, row_of(item), problem, item.fingerprint
                )
                refused.append((item, kept))
            else:
                ids.append(item.insert_id)
                events.append(encoded)
        if refused:
            self._quarantine(refused, outcome, pause)
        fingerprint = staged[0].fingerprint or self._encoder.row_fingerprint
        return ids, events, fingerprint

    def _until_known(self, pause: Callable[[float], bool]) -> None:
        self._retry.learn(self._encoder, self._sink, self._table, self._waiting(pause))
        self.last_error = None

    def _quarantine(
        self,
        refused: Sequence[tuple[StagedEvent, QuarantinedEvent]],
        outcome: Outcome,
        pause: Callable[[float], bool],
    ) -> None:
        sink = self._sink
        if isinstance(sink, QuarantiningSink):
            events = [kept for _, kept in refused]
            self._until_told(lambda: sink.quarantine(events), pause)
            outcome.refused_count += len(refused)
            return
        outcome.error = PermanentError(f"an event does not fit: {refused[0][1].message}")
        outcome.undelivered.extend(undelivered_of(item) for item, _ in refused)

    def _until_told(self, call: Callable[[], _T], pause: Callable[[float], bool]) -> _T:
        """Call until the answer is a value or a PermanentError, or ``pause`` says to give up."""
        answer = self._retry.until_told(call, self._waiting(pause))
        self.last_error = None
        return answer

    def _waiting(self, pause: Callable[[float], bool]) -> Callable[[float, TransientError], bool]:
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
            self.retried += 1
            return True

        return wait


def row_of(staged: StagedEvent) -> Row:
    """Return the dict that was staged before its schema was known."""
    if not isinstance(staged.event, Mapping):
        raise TypeError("the event is encoded")
    return staged.event


def undelivered_of(staged: StagedEvent) -> UndeliveredEvent:
    """Return a staged event in the form in which it is handed back."""
    if isinstance(staged.event, bytes):
        return UndeliveredEvent(staged.insert_id.decode(), staged.event, False)
    payload = json.dumps(dict(staged.event), default=str, skipkeys=True).encode()
    return UndeliveredEvent(staged.insert_id.decode(), payload, True)
