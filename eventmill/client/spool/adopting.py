"""Opening what a process that has ended left behind."""

from __future__ import annotations

import logging

from eventmill.client.spool.owner import OwnerFolder
from eventmill.client.spool.part import Owner, Part
from eventmill.client.spool.reading import fingerprint_in

_logger = logging.getLogger("eventmill.client")


def opened(folder: OwnerFolder, *, is_synced: bool) -> Owner:
    """Return the segments in ``folder`` that may hold events which are not acked.

    Args:
        folder: taken over; it is let go of when this fails.
        is_synced: bring them to stable storage: their process may have ended before it did.

    Raises:
        OSError: one cannot be read.
    """
    owner = Owner(folder)
    segments = []
    try:
        number, offset = folder.read_checkpoint()
        segments = folder.segments()
        for segment in segments:
            begin = offset if segment.number == number else 0
            if segment.number < number or begin >= segment.size:
                segment.remove()
                continue
            part = Part(owner, segment, fingerprint_in(segment), begin, begin, is_own=False)
            owner.parts.append(part)
    except BaseException:
        for segment in segments:
            segment.close()
        folder.release()
        raise
    if is_synced:
        try:
            for part in owner.parts:
                part.segment.sync(part.segment.size)
            folder.sync()
        except OSError as error:  # they are read and sent as long as that goes
            _logger.warning("%s cannot be synced: %s", folder.path, error)
    return owner
