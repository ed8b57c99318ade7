"""The bounded room between ``stage`` and the sender: order, limits and counts. Pure.

No thread, clock or socket here: time comes as an argument, and the caller holds a lock around
each call. At all times::

    offered  = staged + refused
    staged   = settled + dropped + in flight + waiting
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import NamedTuple

from eventmill.wire.batch import BATCH_EVENTS_MAX
from eventmill.wire.split import EVENT_OVERHEAD_BYTES

HELD_OVERHEAD_BYTES = 160
"""What holding one event takes beside its bytes: three Python objects and a place in the queue
(measured with sys.getsizeof on CPython 3.11: 56 + 2 x 33 + 24, and 8 for the place)."""


class StagedEvent(NamedTuple):
    """One event that waits.

    A tuple: a frozen dataclass takes three times as long to make.
    """

    insert_id: bytes
    event: bytes | Mapping[str, object]
    """Encoded; or, when the schema was not known yet, the dict as it was staged."""
    size: int
    """Bytes of ID and event; estimated for a dict."""
    fingerprint: str
    staged_at: float

    @property
    def held_bytes(self) -> int:
        """What the event counts against the limit of the room."""
        return self.size + HELD_OVERHEAD_BYTES


class Offer(Enum):
    """What became of an event that was offered."""

    STAGED = "staged"
    FULL = "full"


class Staging:
    """Events in order, at most so many bytes of them, handed out one batch at a time."""

    def __init__(
        self,
        *,
        held_bytes_max: int,
        batch_bytes: int,
        batch_events_max: int = BATCH_EVENTS_MAX,
        drop_oldest: bool = False,
    ) -> None:
        """Make an empty room.

        Args:
            held_bytes_max: limit of all events held, those in flight included.
            batch_bytes: size that a batch does not pass, except by one event that is larger.
            batch_events_max: events in one batch.
            drop_oldest: whether a full room drops its oldest waiting events for a new one.
        """
        self._held_bytes_max = held_bytes_max
        self._batch_bytes = batch_bytes
        self._batch_events_max = batch_events_max
        self._drop_oldest = drop_oldest
        self._waiting: deque[StagedEvent] = deque()
        self._in_flight: list[StagedEvent] = []
        self._in_flight_first = 0
        self.waiting_bytes = 0
        """Bytes of the waiting events as a batch counts them."""
        self.held_bytes = 0
        self.staged_count = 0
        self.dropped_count = 0
        self.settled_count = 0

    @property
    def waiting_count(self) -> int:
        """Events that no batch has taken yet."""
        return len(self._waiting)

    @property
    def in_flight_count(self) -> int:
        """Events of the batch that is being sent."""
        return len(self._in_flight)

    @property
    def in_flight(self) -> Sequence[StagedEvent]:
        """The batch that is being sent; empty between two."""
        return tuple(self._in_flight)

    @property
    def left_count(self) -> int:
        """Events that nothing has become of yet."""
        return len(self._waiting) + len(self._in_flight)

    @property
    def has_full_batch(self) -> bool:
        """Whether waiting longer would not make the next batch larger."""
        return (
            self.waiting_bytes >= self._batch_bytes or len(self._waiting) >= self._batch_events_max
        )

    @property
    def oldest_staged_at(self) -> float | None:
        """When the oldest event left was staged; None when none is left."""
        if self._in_flight:
            return self._in_flight[0].staged_at
        return self.waiting_since

    @property
    def waiting_since(self) -> float | None:
        """When the oldest waiting event was staged; None when none waits."""
        return self._waiting[0].staged_at if self._waiting else None

    def offer(self, event: StagedEvent) -> Offer:
        """Take ``event`` as the newest, if there is room or room can be made."""
        held = event.held_bytes
        if self.held_bytes + held > self._held_bytes_max and not self._may_make_room(held):
            return Offer.FULL
        while self.held_bytes + held > self._held_bytes_max:
            dropped = self._waiting.popleft()
            self._release((dropped,))
            self.waiting_bytes -= dropped.size + EVENT_OVERHEAD_BYTES
            self.dropped_count += 1
        self._waiting.append(event)
        self.held_bytes += held
        self.waiting_bytes += event.size + EVENT_OVERHEAD_BYTES
        self.staged_count += 1
        return Offer.STAGED

    def take(self) -> Sequence[StagedEvent]:
        """Hand out the oldest events as the batch in flight; empty when none wait.

        A batch has one fingerprint. Only one is in flight at a time: ``settle`` it first.
        """
        if self._in_flight:
            raise RuntimeError("a batch is in flight already")
        self._in_flight_first = self.staged_count - len(self._waiting)
        batch: list[StagedEvent] = []
        size = 0
        while self._waiting and len(batch) < self._batch_events_max:
            event = self._waiting[0]
            more = event.size + EVENT_OVERHEAD_BYTES
            if batch and (
                size + more > self._batch_bytes or event.fingerprint != batch[0].fingerprint
            ):
                break
            batch.append(self._waiting.popleft())
            size += more
        self.waiting_bytes -= size
        self._in_flight = batch
        return tuple(batch)

    def settle(self) -> None:
        """Note that something has become of every event in flight."""
        self._release(self._in_flight)
        self.settled_count += len(self._in_flight)
        self._in_flight = []

    def take_all(self) -> Sequence[StagedEvent]:
        """Give every event back, in flight ones first, and be empty; they count as settled."""
        left = (*self._in_flight, *self._waiting)
        self._release(left)
        self.settled_count += len(left)
        self._in_flight = []
        self._waiting.clear()
        self.waiting_bytes = 0
        return left

    def left_of_first(self, count: int) -> int:
        """Return how many of the first ``count`` events ever staged are left."""
        waiting_first = self.staged_count - len(self._waiting)
        waiting = max(0, min(count - waiting_first, len(self._waiting)))
        in_flight = max(0, min(count - self._in_flight_first, len(self._in_flight)))
        return waiting + in_flight

    def _may_make_room(self, held: int) -> bool:
        """Tell whether dropping waiting events would let an event of ``held`` bytes in."""
        in_flight = sum(event.held_bytes for event in self._in_flight)
        return self._drop_oldest and in_flight + held <= self._held_bytes_max

    def _release(self, events: Sequence[StagedEvent]) -> None:
        self.held_bytes -= sum(event.held_bytes for event in events)
