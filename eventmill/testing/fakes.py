"""Fakes that keep the contracts of what they stand for: a clock, and sinks around a sink."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from eventmill.base.clock import SYSTEM_CLOCK, Clock
from eventmill.base.errors import BackPressureError, UnavailableError, UsageError
from eventmill.schema.table import Table, TableId
from eventmill.wire.batch import Batch
from eventmill.wire.quarantined import QuarantinedEvent
from eventmill.wire.sink import Catalog, Features, QuarantiningSink, Sink
from eventmill.wire.verdict import Verdict

_T = TypeVar("_T")


class FakeClock:
    """Time that passes when it is told to, or slept through. Safe from any thread."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self._lock = threading.Lock()
        self._now = now
        self._elapsed = 0.0
        self.slept: list[float] = []
        """Every ``sleep``, in order."""

    def now(self) -> float:
        """Return the wall clock in seconds since 1970."""
        with self._lock:
            return self._now + self._elapsed

    def monotonic(self) -> float:
        """Return the seconds that have passed."""
        with self._lock:
            return self._elapsed

    def sleep(self, seconds: float) -> None:
        """Let ``seconds`` pass at once."""
        with self._lock:
            self.slept.append(seconds)
            self._elapsed += seconds

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass."""
        with self._lock:
            self._elapsed += seconds


class WrappedSink:
    """A sink around a sink, which hands everything on; fakes change what they are about."""

    def __init__(self, sink: Sink) -> None:
        self.inner = sink

    @property
    def features(self) -> Features:
        """What the sink within promises."""
        return self.inner.features

    def put(self, batch: Batch, *, timeout_seconds: float | None = None) -> Verdict:
        """Hand the batch on."""
        return self.inner.put(batch, timeout_seconds=timeout_seconds)

    def describe(self, table: TableId) -> Table:
        """Ask the sink within; raise UsageError when it cannot tell."""
        if not isinstance(self.inner, Catalog):
            raise UsageError(f"{self.inner!r} cannot describe its tables: wrap a sink that can")
        return self.inner.describe(table)

    def quarantine(self, events: Sequence[QuarantinedEvent]) -> None:
        """Hand rejected events on; raise UsageError when the sink within cannot keep them."""
        if not isinstance(self.inner, QuarantiningSink):
            raise UsageError(f"{self.inner!r} has no quarantine: wrap a sink that has one")
        self.inner.quarantine(events)

    def close(self) -> None:
        """Close the sink within."""
        self.inner.close()


class RecordingSink(WrappedSink):
    """Remembers what passed through it."""

    def __init__(self, sink: Sink) -> None:
        super().__init__(sink)
        self.batches: list[Batch] = []
        """Every batch that was put, in order, whatever became of it."""
        self.verdicts: list[Verdict] = []
        """Every verdict that was given, in order."""

    def put(self, batch: Batch, *, timeout_seconds: float | None = None) -> Verdict:
        """Remember the batch, hand it on, and remember the verdict."""
        self.batches.append(batch)
        verdict = self.inner.put(batch, timeout_seconds=timeout_seconds)
        self.verdicts.append(verdict)
        return verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """How likely each fault is for one call, each from 0.0 to 1.0; their sum at most 1.0."""

    request_lost: float = 0.0
    """The sink within never hears of the call."""
    reply_lost: float = 0.0
    """It carries the call out, and the caller hears an error: the hardest of them."""
    refused: float = 0.0
    """It asks for a pause (HTTP 429)."""
    slow: float = 0.0
    """It answers after ``slow_seconds``."""
    slow_seconds: float = 2.0


class FlakySink(WrappedSink):
    """A sink behind a bad network; the same seed gives the same faults."""

    def __init__(
        self, sink: Sink, faults: Faults, *, rng: random.Random, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        super().__init__(sink)
        self._faults = faults
        self._rng = rng
        self._clock = clock
        self._lock = threading.Lock()
        self.happened: Counter[str] = Counter()
        """Faults so far, by the name of their field in ``Faults``."""

    def put(self, batch: Batch, *, timeout_seconds: float | None = None) -> Verdict:
        """Hand the batch on, unless a fault strikes."""
        return self._through(lambda: self.inner.put(batch, timeout_seconds=timeout_seconds))

    def describe(self, table: TableId) -> Table:
        """Ask the sink within, unless a fault strikes."""
        return self._through(lambda: super(FlakySink, self).describe(table))

    def quarantine(self, events: Sequence[QuarantinedEvent]) -> None:
        """Hand rejected events on, unless a fault strikes."""
        self._through(lambda: super(FlakySink, self).quarantine(events))

    def _through(self, call: Callable[[], _T]) -> _T:
        fault = self._draw()
        if fault == "request_lost":
            raise UnavailableError("the request was lost")
        if fault == "refused":
            raise BackPressureError("asked for a pause", retry_after_seconds=1.0)
        if fault == "slow":
            self._clock.sleep(self._faults.slow_seconds)
        answer = call()
        if fault == "reply_lost":
            raise UnavailableError("the reply was lost")
        return answer

    def _draw(self) -> str | None:
        with self._lock:
            drawn = self._rng.random()
            for name in ("request_lost", "reply_lost", "refused", "slow"):
                drawn -= getattr(self._faults, name)
                if drawn < 0:
                    self.happened[name] += 1
                    return name
        return None
