"""The pieces of a spool: segments with how far they got, their owners, and what is handed out."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from eventmill.client.spool.owner import OwnerFolder
from eventmill.client.spool.record import HEADER, encode_record
from eventmill.client.spool.segment import MemorySegment, Segment

FORMAT = 1
"""Version of the folder's format, in each header."""


class SpoolFullError(Exception):
    """There is no room for a record: by the limit that was set (``quota``), or on the ``disk``."""

    def __init__(self, reason: str, cause: OSError | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.cause = cause


@dataclass(slots=True, eq=False)
class Part:
    """One segment with how far it was read and acked."""

    owner: Owner
    segment: Segment
    fingerprint: str
    read_to: int = 0
    acked_to: int = 0
    settled: dict[int, int] = field(default_factory=dict)
    """Regions beyond ``acked_to`` that are settled, end by begin."""
    is_own: bool = True
    """Whether this uploader appended to it; False in a segment that was adopted."""
    events: int = 0
    """Events appended by this uploader."""
    events_read: int = 0
    pins: int = 0
    """Threads that use the segment outside of the lock: it must not be closed under them."""


@dataclass(slots=True, eq=False)
class Owner:
    """The segments of one process and uploader that are not done with, oldest first."""

    folder: OwnerFolder | None
    """None: in memory."""
    parts: deque[Part] = field(default_factory=deque)

    def let_go(self) -> None:
        """Close everything, and remove what is acked; not under a thread that uses a segment.

        That one calls again when it is done. Nothing is acked any more between the two calls.
        """
        if any(part.pins for part in self.parts):
            return
        for part in self.parts:
            part.segment.close()
        if self.folder is not None:
            if all(part.acked_to >= part.segment.size for part in self.parts):
                self.folder.remove()
            self.folder.release()


@dataclass(slots=True, eq=False)
class Taken:
    """Events handed out to be sent: to be given to ``settle`` when something became of each."""

    ids: list[bytes]
    payloads: list[bytes]
    rows: list[int]
    """Places of those that are JSON."""
    fingerprint: str
    staged_at: float
    """When the first was staged, seconds since 1970."""
    first: int
    """Its number among all staged here; -1 for events of a process that has ended."""
    part: Part
    begin: int
    end: int


def begin_part(
    owner: Owner, number: int, salt: int, fingerprint: str, about: Mapping[str, str], now: float
) -> Part:
    """Return a new part of ``owner``, which does not list it yet; only its header is in it.

    Raises:
        OSError: there is no room for it; FileNotFoundError: the owner's folder is gone.
    """
    folder = owner.folder
    segment: Segment = folder.add_segment(number) if folder else MemorySegment(number, salt)
    header = json.dumps({"format": FORMAT, "fingerprint": fingerprint, **about}).encode()
    try:
        segment.append(encode_record(HEADER, b"", header, now, salt=salt))
    except OSError:
        with suppress(OSError):
            segment.remove()
        raise
    return Part(owner, segment, fingerprint, segment.size, segment.size)
