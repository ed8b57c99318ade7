"""What cannot be sent, kept beside the events that still wait.

Events that the other end will not take: one segment for each time it happens, in
``SPOOL/TABLE/.dead``; its header says why. They are sent again when somebody asks for it, who
takes the file away: it has its name only once it is whole. Bytes that fail their checksum: one
file a stretch in ``SPOOL/TABLE/.damaged``, for a person to look at.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import count

from eventmill.client.spool.record import ENCODED, HEADER, ROW, encode_record
from eventmill.client.spool.segment import FileSegment, salt_of, sync_folder, sync_folders_above

DEAD_FOLDER = ".dead"
DAMAGED_FOLDER = ".damaged"
UNFINISHED = ".new-"
"""Begins the name of what is being made, and of what a crash has kept from being finished."""
DEAD_SUFFIX = ".seg"
_WHY_CHARACTERS_MAX = 4_000
"""Of the error in a header; in JSON at most 12 bytes each, so that headers can be read."""


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

        Promise: on return they survive a power cut, and so does the name of the file.

        Args:
            events: insert ID, payload, and whether that is JSON.
            fingerprint: of those that are not.
            why: the error that the other end gave.
            now: seconds since 1970.

        Raises:
            OSError: the disk refused; what is there all the same may not survive a power cut.
        """
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        name = f"{self._name}-{next(self._numbers)}"
        path = os.path.join(self._folder, name + DEAD_SUFFIX)
        unfinished = os.path.join(self._folder, UNFINISHED + name + DEAD_SUFFIX)
        error = why[:_WHY_CHARACTERS_MAX]
        about = {"format": 1, "fingerprint": fingerprint, "error": error, **self._about}
        salt = salt_of(name)
        records = [encode_record(HEADER, b"", json.dumps(about).encode(), now, salt=salt)]
        for insert_id, payload, is_row in events:
            kind = ROW if is_row else ENCODED
            records.append(encode_record(kind, insert_id, payload, now, salt=salt))
        content = b"".join(records)
        segment = FileSegment(unfinished, 0, salt, create=True)
        try:
            try:
                segment.append(content)
                segment.sync(len(content))
            finally:
                segment.close()
            os.rename(unfinished, path)
        except BaseException:
            # Tried again and again on a full disk, it would keep the disk full.
            with suppress(OSError):
                os.unlink(unfinished)
            raise
        sync_folder(self._folder)
        sync_folders_above(self._folder)
        return path


def dead_letters_in(folder: str) -> list[str]:
    """Return the paths of the dead-letter segments of the table at ``folder``, by name."""
    below = os.path.join(folder, DEAD_FOLDER)
    try:
        names = sorted(os.listdir(below))
    except FileNotFoundError:
        return []
    return [
        os.path.join(below, name)
        for name in names
        if name.endswith(DEAD_SUFFIX) and not name.startswith(UNFINISHED)
    ]


def keep_damaged(owner_path: str, place: str, content: bytes) -> None:
    """Write ``content``, found at ``place`` of the owner's folder, beside that folder.

    Raises:
        OSError: the disk refused; the file may be there in part.
    """
    parent, owner_name = os.path.split(owner_path)
    folder = os.path.join(parent, DAMAGED_FOLDER)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    with open(os.path.join(folder, f"{owner_name}-{place}.bin"), "wb") as file:
        file.write(content)
