"""What becomes of an event for which the spool has no room."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from eventmill.base.errors import BackPressureError, UsageError
from eventmill.client.callback import call_back
from eventmill.client.sending import Sending
from eventmill.client.spool.spool import Spool, SpoolFullError
from eventmill.client.tally import RareLog, Tally

OnFull: TypeAlias = Literal["block", "drop_newest", "drop_oldest"]
OnDrop: TypeAlias = Callable[[str, int], None]

_DISK_LOOK_SECONDS = 0.1
"""Nobody tells when a full disk has room again."""
_WORDS = {
    "oldest": "the spool is full; the oldest waiting events were dropped",
    "newest": "the spool is full; new events are dropped",
    "timeout": "the spool stayed full; callers were told that their events are not taken",
    "disk": "no space is left for the spool; new events are not taken",
    "damaged": "staged events fail their checksum and cannot be sent",
}


@dataclass(frozen=True, slots=True)
class WhenFull:
    """How a full spool is dealt with."""

    on_full: OnFull
    block_timeout_seconds: float | None
    on_drop: OnDrop | None

    def __post_init__(self) -> None:
        if self.on_full not in ("block", "drop_newest", "drop_oldest"):
            raise UsageError(f"on_full {self.on_full!r}: write block, drop_newest or drop_oldest")


class Room:
    """Makes room, waits for it, or drops; and tells of every drop."""

    def __init__(
        self,
        table: str,
        spool: Spool,
        sending: Sending,
        tally: Tally,
        when_full: WhenFull,
        log: RareLog,
    ) -> None:
        self._table = table
        self._spool = spool
        self._sending = sending
        self._tally = tally
        self._when_full = when_full
        self._log = log
        self._told: Counter[str] = Counter()

    def take_in(self, record: bytes, fingerprint: str, full: SpoolFullError) -> bool:
        """Add a record for which there was no room; return whether it was added.

        Raises:
            BackPressureError: it was not, and ``on_full`` is ``block``.
        """
        try:
            with self._spool.lock:
                if self._when_full.on_full == "drop_oldest":
                    is_in = self._drop_for(record, fingerprint, full)
                elif self._when_full.on_full == "block":
                    is_in = self._wait_for(record, fingerprint, full)
                else:
                    is_in = False
                    self._tally.dropped["disk" if full.reason == "disk" else "newest"] += 1
                if is_in:
                    self._sending.staged()
                return is_in
        finally:
            self.tell()

    def tell(self) -> None:
        """Tell of drops since the last call; without the lock."""
        with self._spool.lock:
            count = self._tally.dropped + self._spool.dropped
            new = count - self._told
            self._told = count
        for reason, number in new.items():
            self._log.tell(logging.ERROR, f"dropped {reason}", f"{self._table}: {_WORDS[reason]}")
            if self._when_full.on_drop is not None:
                call_back("on_drop", self._when_full.on_drop, reason, number)

    def _drop_for(self, record: bytes, fingerprint: str, full: SpoolFullError) -> bool:
        while self._spool.drop_oldest():
            try:
                self._spool.append(record, fingerprint)
            except SpoolFullError as error:
                full = error
            else:
                return True
        # All that is left is on its way.
        self._tally.dropped["disk" if full.reason == "disk" else "newest"] += 1
        return False

    def _wait_for(self, record: bytes, fingerprint: str, full: SpoolFullError) -> bool:
        limit = self._when_full.block_timeout_seconds
        clock = self._sending.clock
        deadline = None if limit is None else clock.monotonic() + limit
        while True:
            remaining = None if deadline is None else deadline - clock.monotonic()
            if remaining is not None and remaining <= 0:
                is_disk = full.reason == "disk"
                self._tally.dropped["disk" if is_disk else "timeout"] += 1
                why = f"could not grow ({full.cause})" if is_disk else "stayed full"
                raise BackPressureError(
                    f"the spool of {self._table} {why} for {limit} s; the event was not taken"
                ) from full
            pauses = [remaining] if remaining is not None else []
            if full.reason == "disk":
                pauses.append(_DISK_LOOK_SECONDS)
            self._sending.settled.wait(min(pauses, default=None))
            if self._sending.is_closed:
                raise UsageError("this BatchUploader is closed")
            try:
                self._spool.append(record, fingerprint)
            except SpoolFullError as error:
                full = error
            else:
                return True
