"""Events that the other end will not take, kept beside those that still wait for it.

One segment for each time it happens, in ``SPOOL/TABLE/.dead``; its header says why. They are sent
again when somebody asks for it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from itertools import count

from eventmill.client.spool.record import ENCODED, HEADER, ROW, encode_record
from eventmill.client.spool.segment import FileSegment

DEAD_FOLDER = ".dead"


class DeadLetters:
    """The dead-letter segments that one process writes. Safe from any thread."""

    def __init__(self, folder: str, name: str, about: Mapping[str, str]) -> None:
        """Prepare to write below ``folder`` (of the table) files that begin with ``name``."""
        self._folder = os.path.join(folder, DEAD_FOLDER)
        self._name = name
        self._about = about
        self._numbers = count(1)

    def keep(
        self, events: Iterable[tuple[bytes, bytes, bool]], fingerprint: str, why: str, now: float
    ) -> str:
        """Write events into a segment of their own; return its path.

        Promise: on return they survive a power cut.

        Args:
            events: insert ID, payload, and whether that is JSON.
            fingerprint: of those that are not.
            why: the error that the other end gave.
            now: seconds since 1970.

        Raises:
            OSError: the disk refused; the file may be there in part.
        """
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        path = os.path.join(self._folder, f"{self._name}-{next(self._numbers)}.seg")
        about = {"format": 1, "fingerprint": fingerprint, "error": why, **self._about}
        segment = FileSegment(path, 0, create=True)
        try:
            segment.append(encode_record(HEADER, b"", json.dumps(about).encode(), now))
            for insert_id, payload, is_row in events:
                segment.append(encode_record(ROW if is_row else ENCODED, insert_id, payload, now))
            segment.sync()
        finally:
            segment.close()
        return path
