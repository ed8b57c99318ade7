"""Quotas: how fast a key, and a table, may be appended to.

Each quota is a bucket that refills evenly. A request is let in while there is anything left, and
may take more than that: the bucket is then in debt, and the next request waits until the debt is
paid. So the average holds, and no batch is too large to be taken at all.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from eventmill.base.clock import Clock
from eventmill.base.errors import QuotaError
from eventmill.base.quantity import format_bytes
from eventmill.schema.table import TableId
from eventmill.server.access.principal import NO_QUOTA, Principal, Quota

DAY_SECONDS = 86_400.0
RETRY_SECONDS_MAX = 300.0
"""The longest pause that is asked for: a quota that is raised meanwhile must be noticed."""
_BUCKETS_MAX = 10_000
_EVENTS = "events_per_second"
_BYTES = "bytes_per_day"


class _Bucket:
    """What is left of one quota. Held by the lock of ``Quotas``."""

    __slots__ = ("amount", "at", "capacity", "level", "name", "rate", "subject")

    def __init__(self, subject: str, name: str, amount: float, at: float) -> None:
        self.subject = subject
        self.name = name
        self.amount = amount
        self.rate = amount if name == _EVENTS else amount / DAY_SECONDS
        # A second's worth of events at once, a day's worth of bytes.
        self.capacity = max(amount, 1.0)
        self.level = self.capacity
        self.at = at

    def refill(self, now: float) -> None:
        self.level = min(self.capacity, self.level + max(0.0, now - self.at) * self.rate)
        self.at = now

    def refusal(self) -> QuotaError:
        # What is owed, and then a little: at nothing exactly the next one would not be let in.
        pause = min(max(-self.level / self.rate, 1.0), RETRY_SECONDS_MAX)
        if self.name == _EVENTS:
            amount, unit = f"{self.amount:,g} events", "second"
        else:
            amount, unit = format_bytes(int(self.amount)), "day"
        error = QuotaError(
            f"{self.subject} may append {amount} a {unit} and has used that up: the same batch"
            " is taken after a pause; nothing of it was stored",
            retry_after_seconds=pause,
        )
        error.facts = {"quota": self.name, "subject": self.subject, "limit": self.amount}
        return error


@dataclass(frozen=True, slots=True)
class Charge:
    """What was taken from quotas for one request."""

    _quotas: Quotas | None
    _taken: tuple[tuple[_Bucket, float], ...] = ()

    def give_back(self) -> None:
        """Return it: nothing was stored, and the sender will put it again."""
        if self._quotas is not None:
            self._quotas.give_back(self._taken)


_NOTHING = Charge(None)


class Quotas:
    """The quotas of one server. Safe from any thread; never waits for a disk."""

    def __init__(self, clock: Clock, table: Quota = NO_QUOTA) -> None:
        """Begin with full buckets.

        Args:
            clock: tells the time.
            table: what each table may take, from all keys together.
        """
        self._clock = clock
        self._table = table
        self._lock = threading.Lock()
        self._buckets: dict[tuple[str, str], _Bucket] = {}
        self._remembered: dict[str, tuple[float, float]] = {}

    def charge(self, principal: Principal, table: TableId, events: int, size: int) -> Charge:
        """Take from every quota that ``principal`` and ``table`` have, or from none.

        With nothing to take it only asks whether anything is left.

        Raises:
            QuotaError: one of them is used up.
        """
        if principal.quota is NO_QUOTA and self._table is NO_QUOTA:
            return _NOTHING  # the common case costs two comparisons
        now = self._clock.monotonic()
        with self._lock:
            taken = [
                *self._of(f"the key {principal.name!r}", principal.quota, events, size, now),
                *self._of(f"the table {table}", self._table, events, size, now),
            ]
            for bucket, _ in taken:
                bucket.refill(now)
                if bucket.level <= 0:
                    raise bucket.refusal()
            for bucket, amount in taken:
                bucket.level -= amount
        return Charge(self, tuple(taken))

    def give_back(self, taken: Iterable[tuple[_Bucket, float]]) -> None:
        """Return what a request took."""
        with self._lock:
            for bucket, amount in taken:
                bucket.level = min(bucket.capacity, bucket.level + amount)

    def levels(self) -> list[tuple[str, float, float]]:
        """Return (subject, level, moment) of every daily quota that is not full, to be noted."""
        now, moment = self._clock.monotonic(), self._clock.now()
        with self._lock:
            daily = [bucket for (_, name), bucket in self._buckets.items() if name == _BYTES]
            for bucket in daily:
                bucket.refill(now)
            return [(bucket.subject, bucket.level, moment) for bucket in daily]

    def remember(self, levels: Mapping[str, tuple[float, float]]) -> None:
        """Take over what an earlier process noted; what has passed since is refilled."""
        with self._lock:
            self._remembered = dict(levels)

    def _of(
        self, subject: str, quota: Quota, events: int, size: int, now: float
    ) -> list[tuple[_Bucket, float]]:
        found: list[tuple[_Bucket, float]] = []
        if quota.events_per_second is not None:
            bucket = self._bucket(subject, _EVENTS, quota.events_per_second, now)
            found.append((bucket, float(events)))
        if quota.bytes_per_day is not None:
            found.append((self._bucket(subject, _BYTES, quota.bytes_per_day, now), float(size)))
        return found

    def _bucket(self, subject: str, name: str, amount: float, now: float) -> _Bucket:
        bucket = self._buckets.get((subject, name))
        if bucket is not None and bucket.amount == amount:
            return bucket
        if len(self._buckets) >= _BUCKETS_MAX:
            self._forget_full(now)
        bucket = self._buckets[subject, name] = _Bucket(subject, name, amount, now)
        noted = self._remembered.pop(subject, None) if name == _BYTES else None
        if noted is not None:
            level, moment = noted
            since = max(0.0, self._clock.now() - moment)
            bucket.level = min(bucket.capacity, level + since * bucket.rate)
        return bucket

    def _forget_full(self, now: float) -> None:
        """Drop buckets that say nothing, so that names of tables that are none cannot pile up."""
        for bucket in self._buckets.values():
            bucket.refill(now)
        self._buckets = {k: b for k, b in self._buckets.items() if b.level < b.capacity}
