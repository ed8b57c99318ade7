"""What becomes of an event for which the spool has no room."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from eventmill.base.errors import BackPressureError, UsageError
from eventmill.client.callback import call_back
from eventmill.client.sending import Sending
from eventmill.client.settling import Watch
from eventmill.client.spool.part import SpoolFullError
from eventmill.client.spool.spool import Spool
from eventmill.client.tally import RareLog, Tally

OnFull: TypeAlias = Literal["block", "raise", "drop_newest", "drop_oldest"]
OnDrop: TypeAlias = Callable[[str, int], None]

DISK_LOOK_SECONDS = 0.1
"""Nobody tells when a full disk has room again."""
_WORDS = {
    "oldest": "the spool is full; the oldest waiting events were dropped",
    "newest": "the spool is full; new events are dropped",
    "timeout": "the spool stayed full; callers were told that their events are not taken",
    "disk": "the spool's disk is full, or fails; new events are not taken",
    "damaged": "staged events fail their checksum and cannot be sent",
}


@dataclass(frozen=True, slots=True)
class WhenFull:
    """How a full spool is dealt with."""

    on_full: OnFull
    block_timeout_seconds: float | None
    on_drop: OnDrop | None

    def __post_init__(self) -> None:
        if self.on_full not in get_args(OnFull):
            raise UsageError(
                f"on_full {self.on_full!r}: write block, raise, drop_newest or drop_oldest"
            )


class NoRoomError(BackPressureError):
    """The spool is full, and ``on_full`` is ``raise``: the event is its caller's as before."""

    def __init__(self, room: Room, record: bytes, fingerprint: str, full: SpoolFullError) -> None:
        super().__init__(f"the spool of {room.table} {_why(full)}; the event was not taken")
        self.room = room
        self.record = record
        self.fingerprint = fingerprint
        self.full = full


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
        self.table = table
        self._spool = spool
        self._sending = sending
        self._tally = tally
        self._when_full = when_full
        self._log = log
        self._told: Counter[str] = Counter()

    def take_in(self, record: bytes, fingerprint: str, full: SpoolFullError) -> bool:
        """Add a record for which there was no room; return whether it was added.

        Raises:
            BackPressureError: it was not, and ``on_full`` is ``block`` or ``raise``.
            UsageError: it was not, as the uploader is closed.
        """
        if self._when_full.on_full == "raise":
            raise NoRoomError(self, record, fingerprint, full)
        try:
            with self._spool.lock:
                self._require_open()
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

    def take_in_or_watch(self, refused: NoRoomError, watch: Watch) -> bool:
        """Add a record that was refused or, when there is no room yet, have ``watch`` told.

        Returns:
            Whether it was added; ``refused.full`` says why not.

        Raises:
            UsageError: it was not, as the uploader is closed.
        """
        with self._spool.lock:
            self._require_open()
            try:
                self._spool.append(refused.record, refused.fingerprint)
            except SpoolFullError as error:
                refused.full = error
                self._sending.settled.add_later(watch)
                return False
            self._sending.staged()
            return True

    def unwatch(self, watch: Watch) -> None:
        """Tell ``watch`` no more."""
        self._sending.settled.remove(watch)

    def give_up(self, refused: NoRoomError, seconds: float) -> BackPressureError:
        """Count as dropped what there was no room for; return what its caller is to be told."""
        with self._spool.lock:
            self._tally.dropped["disk" if refused.full.reason == "disk" else "timeout"] += 1
        self.tell()
        return _stayed_full(self.table, refused.full, seconds)

    def tell(self) -> None:
        """Tell of drops since the last call; without the lock."""
        with self._spool.lock:
            count = self._tally.dropped + self._spool.dropped
            new = count - self._told
            self._told = count
        for reason, number in new.items():
            self._log.tell(logging.ERROR, f"dropped {reason}", f"{self.table}: {_WORDS[reason]}")
            if self._when_full.on_drop is not None:
                call_back("on_drop", self._when_full.on_drop, reason, number)

    def _require_open(self) -> None:
        """Refuse what comes after ``close``, which may have counted already what is left."""
        if self._sending.is_closed:
            raise UsageError("this BatchUploader is closed")

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
            # Looked at before each wait: what happened before this thread had the lock, nobody
            # tells it any more.
            self._require_open()
            try:
                self._spool.append(record, fingerprint)
            except SpoolFullError as error:
                full = error
            else:
                return True
            remaining = None if deadline is None else deadline - clock.monotonic()
            if remaining is not None and remaining <= 0:
                self._tally.dropped["disk" if full.reason == "disk" else "timeout"] += 1
                raise _stayed_full(self.table, full, limit or 0.0) from full
            pauses = [remaining] if remaining is not None else []
            if full.reason == "disk":
                pauses.append(DISK_LOOK_SECONDS)
            self._sending.settled.wait(min(pauses, default=None))


def _stayed_full(table: str, full: SpoolFullError, seconds: float) -> BackPressureError:
    why = f"could not grow ({full.cause})" if full.reason == "disk" else "stayed full"
    return BackPressureError(
        f"the spool of {table} {why} for {seconds:g} s; the event was not taken"
    )


def _why(full: SpoolFullError) -> str:
    return f"cannot grow ({full.cause})" if full.reason == "disk" else "is full"
