"""``Uploader``: puts events in the caller's thread and tells what became of each."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar, cast

from google.protobuf.message import Message

from eventmill.base.clock import SYSTEM_CLOCK, Clock
from eventmill.base.errors import EventmillError, TransientError, UsageError
from eventmill.client.encode import (
    Event,
    EventEncoder,
    as_events,
    as_insert_id,
    quarantined_row,
)
from eventmill.client.retry import Retry
from eventmill.schema.problem import EventProblem
from eventmill.schema.table import TableId
from eventmill.wire.batch import Batch
from eventmill.wire.insert_id import InsertIdSource
from eventmill.wire.quarantined import QuarantinedEvent
from eventmill.wire.sink import Catalog, QuarantiningSink, RemoteSink, Sink
from eventmill.wire.split import cut
from eventmill.wire.verdict import Rejection, Verdict, join_verdicts

TIMEOUT_SECONDS = 30.0

_S = TypeVar("_S")


@dataclass(frozen=True, slots=True)
class PutProgress:
    """How far a ``put`` came that ended with an error; see ``progress_of``."""

    verdict: Verdict
    """Of the events judged before the error, which are the first ``verdict.count``."""
    insert_ids: tuple[str, ...]
    """Of all events that were to be put. Give them to the next ``put`` of the same events, and
    what the first one has stored is answered with *duplicate*."""


def progress_of(error: EventmillError) -> PutProgress | None:
    """Return how far the ``Uploader.put`` came that raised ``error``; None for other errors."""
    progress = error.progress
    return progress if isinstance(progress, PutProgress) else None


@dataclass(slots=True)
class _Prepared:
    """The events of one put, encoded where they can be."""

    insert_ids: list[bytes]
    events: list[bytes] = field(default_factory=list)
    indexes: list[int] = field(default_factory=list)
    fingerprints: list[str] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    refused: list[QuarantinedEvent] = field(default_factory=list)


class Uploader:
    """Puts events of one table into a sink. Safe from any thread.

    The sink stays the caller's, who closes it.
    """

    def __init__(
        self,
        sink: Sink,
        table: str | TableId,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
        insert_ids: InsertIdSource | None = None,
        encoder: EventEncoder | None = None,
        clock: Clock = SYSTEM_CLOCK,
        rng: random.Random | None = None,
    ) -> None:
        """Prepare to put; nothing is sent yet.

        Args:
            sink: where events go; one that can ``describe`` its tables, as servers and stores can.
            table: ``project.dataset.table`` or ``dataset.table``.
            timeout_seconds: for a ``put`` whose caller gives no limit, retries included.
            insert_ids: makes the IDs of events that come without; None: a new source.
            encoder: of an earlier uploader of this table into this sink, which then need not be
                asked again what the table is; None: a new one.
            clock: measures time and waits between retries.
            rng: chance in those waits; None: a new source.

        Raises:
            UsageError: the table's name or the limit makes no sense.
        """
        if not timeout_seconds > 0:
            raise UsageError(f"timeout_seconds {timeout_seconds!r} must be above 0")
        self.table = TableId.parse(table) if isinstance(table, str) else table
        self._sink = sink
        self._timeout_seconds = timeout_seconds
        self._insert_ids = insert_ids or InsertIdSource()
        self._clock = clock
        # The chance spreads retries and guards nothing.
        self._retry = Retry(rng or random.Random())  # noqa: S311
        self._encoder = encoder or EventEncoder(self.table)

    def __repr__(self) -> str:
        return f"<Uploader {self.table} into {self._sink!r}>"

    def put(
        self,
        messages: Event | Iterable[Event],
        *,
        timeout_seconds: float | None = None,
        insert_ids: str | Sequence[str] | None = None,
    ) -> Verdict:
        """Put events and wait for the verdict of all of them.

        Promise: on return each event is stored, was stored before, or is named in
        ``rejected`` and kept in quarantine where the sink can. Lost: never silently. Doubled:
        never within the sink's deduplication window, as every event keeps its insert ID over all
        retries. A dict that does not fit the table is rejected, its neighbours go on.

        Args:
            messages: one event or an iterable of events: protobuf messages of the table's type,
                or dicts of its columns. Any number; cut into batches as the limits ask. A
                datetime for a TIMESTAMP must have a time zone; one without is rejected, as
                nothing tells whether it is local time or UTC.
            timeout_seconds: for everything, retries included; None: the uploader's own limit.
            insert_ids: identity of each event, 1 to 128 characters; None: new ones are made, so
                that a later ``put`` of the same events stores them again.

        Returns:
            The verdict; indexes count within ``messages``.

        Raises:
            TransientError: the time was spent on retries; any of the events may have been stored.
                ``progress_of(error)`` has the insert IDs to put the same events again.
            PermanentError: the sink takes no such batch; events of earlier batches of this call
                are stored, as ``progress_of(error)`` says.
            UsageError: something in ``messages`` is no event of this table; nothing was sent.
        """
        deadline = self._clock.monotonic() + (
            self._timeout_seconds if timeout_seconds is None else timeout_seconds
        )
        events = as_events(messages)
        ids = self._ids(insert_ids, len(events))
        prepared = _Prepared(ids)
        verdicts: list[Verdict] = []
        try:
            if events:
                prepared = self._prepare_with_schema(events, ids, deadline)
            self._quarantine(prepared.refused, deadline)
            for batch in self._batches(prepared):
                verdicts.append(self._put_batch(batch, deadline))  # noqa: PERF401 - kept on error
        except EventmillError as error:
            judged = join_verdicts(verdicts)
            stop = prepared.indexes[judged.count] if judged.count < len(prepared.indexes) else 0
            error.progress = PutProgress(
                _whole_verdict(stop, prepared, judged), tuple(i.decode() for i in ids)
            )
            raise
        return _whole_verdict(len(events), prepared, join_verdicts(verdicts))

    def _ids(self, given: str | Sequence[str] | None, count: int) -> list[bytes]:
        if given is None:
            return [self._insert_ids.next() for _ in range(count)]
        ids = [as_insert_id(given)] if isinstance(given, str) else [as_insert_id(i) for i in given]
        if len(ids) != count:
            raise UsageError(f"{len(ids)} insert IDs for {count} events")
        return ids

    def _prepare_with_schema(
        self, events: Sequence[Event], ids: list[bytes], deadline: float
    ) -> _Prepared:
        encoder = self._encoder
        if encoder.table is None:
            self._learn(deadline)
        prepared = self._prepare(events, ids)
        if any(refused.is_json for refused in prepared.refused):
            # The table may have grown a column since it was asked for.
            before = encoder.row_fingerprint
            self._learn(deadline)
            if encoder.row_fingerprint != before:
                prepared = self._prepare(events, ids)
        return prepared

    def _learn(self, deadline: float) -> None:
        sink = self._sink
        if isinstance(sink, Catalog):
            table = self._retry.until_told(
                lambda: self._within(sink, deadline).describe(self.table),
                self._wait_until(deadline),
            )
            self._encoder.learn(table)

    def _prepare(self, events: Sequence[Event], ids: list[bytes]) -> _Prepared:
        prepared = _Prepared(ids)
        encoder = self._encoder
        for index, event in enumerate(events):
            try:
                if isinstance(event, Message):
                    encoded = encoder.encode_message(event)
                    fingerprint = encoder.message_fingerprint
                else:
                    encoded = encoder.encode_row(event)
                    fingerprint = encoder.row_fingerprint
            except EventProblem as problem:
                insert_id = ids[index]
                prepared.rejections.append(Rejection.of(index, insert_id.decode(), problem))
                prepared.refused.append(self._refused(event, insert_id, problem))
            else:
                prepared.events.append(encoded)
                prepared.indexes.append(index)
                prepared.fingerprints.append(fingerprint)
        return prepared

    def _refused(self, event: Event, insert_id: bytes, problem: EventProblem) -> QuarantinedEvent:
        if not isinstance(event, Message):
            fingerprint = self._encoder.row_fingerprint
            return quarantined_row(self.table, insert_id, event, problem, fingerprint)
        return QuarantinedEvent(
            table=self.table,
            insert_id=insert_id.decode(),
            payload=event.SerializePartialToString(),
            is_json=False,
            reason=problem.reason,
            field=problem.field,
            message=problem.message,
            client="",
            fingerprint=self._encoder.message_fingerprint,
        )

    def _quarantine(self, refused: Sequence[QuarantinedEvent], deadline: float) -> None:
        sink = self._sink
        if refused and isinstance(sink, QuarantiningSink):
            self._retry.until_told(
                lambda: self._within(sink, deadline).quarantine(refused),
                self._wait_until(deadline),
            )

    def _batches(self, prepared: _Prepared) -> Iterable[Batch]:
        ids = [prepared.insert_ids[index] for index in prepared.indexes]
        events, fingerprints = prepared.events, prepared.fingerprints
        start = 0
        for index in range(1, len(events) + 1):
            if index < len(events) and fingerprints[index] == fingerprints[start]:
                continue
            for part in cut(ids[start:index], events[start:index]):
                first, stop = start + part.start, start + part.stop
                yield Batch.build(
                    self.table, fingerprints[start], ids[first:stop], events[first:stop]
                )
            start = index

    def _put_batch(self, batch: Batch, deadline: float) -> Verdict:
        def attempt() -> Verdict:
            remaining = max(deadline - self._clock.monotonic(), 0.001)
            return self._sink.put(batch, timeout_seconds=remaining)

        return self._retry.until_told(attempt, self._wait_until(deadline))

    def _within(self, sink: _S, deadline: float) -> _S:
        """Return ``sink`` so that a call which has no limit of its own ends at ``deadline``."""
        if not isinstance(sink, RemoteSink):
            return sink
        return cast(_S, sink.limited_to(max(deadline - self._clock.monotonic(), 0.001)))

    def _wait_until(self, deadline: float) -> Callable[[float, TransientError], bool]:
        """Return what pauses between attempts, and gives up where none is left before
        ``deadline``."""

        def wait(seconds: float, _: TransientError) -> bool:
            if self._clock.monotonic() + seconds >= deadline:
                return False
            self._clock.sleep(seconds)
            return True

        return wait


def _whole_verdict(count: int, prepared: _Prepared, of_good: Verdict) -> Verdict:
    """Return the verdict of the first ``count`` events, given that of those among them which
    could be encoded."""
    own = [rejection for rejection in prepared.rejections if rejection.index < count]
    return of_good.placed(count, prepared.indexes, own)
