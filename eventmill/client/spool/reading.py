"""Reading a stretch of a segment, however large its records are."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import suppress

from eventmill.client.spool.dead import keep_damaged
from eventmill.client.spool.part import Part
from eventmill.client.spool.record import BODY_BYTES_MAX, HEAD_BYTES, Records, decode_records
from eventmill.client.spool.segment import Segment

_logger = logging.getLogger("eventmill.client")

_SLACK_BYTES = 4096
_HEADER_BYTES_MAX = 65_536


def read_records(segment: Segment, begin: int, end: int, bytes_max: int, count_max: int) -> Records:
    """Return records between two offsets, at least one event where there is one."""
    for size in (bytes_max + _SLACK_BYTES, HEAD_BYTES + BODY_BYTES_MAX, end - begin):
        content = segment.read(begin, min(end - begin, size))
        is_rest = len(content) >= end - begin
        records = decode_records(
            content, salt=segment.salt, count_max=count_max, bytes_max=bytes_max, is_rest=is_rest
        )
        if records.end or is_rest:
            break
    return records


def unsettled_in(part: Part) -> Iterator[Records]:
    """Yield the records of ``part`` of which nothing has become yet."""
    at = part.acked_to
    while at < part.segment.size:
        if at in part.settled:
            at = part.settled[at]
            continue
        stop = min((begin for begin in part.settled if begin > at), default=part.segment.size)
        records = read_records(part.segment, at, stop, 1 << 20, 10_000)
        yield records
        if not records.end:
            break
        at += records.end


def set_aside(part: Part, begin: int, size: int) -> None:
    """Copy bytes of ``part`` that are no record beside its owner's folder, where it has one."""
    content = part.segment.read(begin, size)
    folder = part.owner.folder
    kept = "" if folder is None else f" and are kept beside {folder.path}, in .damaged"
    _logger.error("%d bytes of staged events fail their checksum%s", size, kept)
    if folder is not None:
        with suppress(OSError):
            keep_damaged(folder.path, f"{part.segment.number}-{begin}", content)


def fingerprint_in(segment: Segment) -> str:
    """Return the fingerprint of the segment's encoded events; empty when its header is lost."""
    return header_in(segment).get("fingerprint", "")


def header_in(segment: Segment) -> dict[str, str]:
    """Return what the segment's header says of its events; empty when it is lost."""
    head = decode_records(
        segment.read(0, _HEADER_BYTES_MAX),
        salt=segment.salt,
        count_max=1,
        bytes_max=1,
        is_rest=False,
    ).header
    if head is None:
        return {}
    try:
        return {key: str(value) for key, value in json.loads(head).items()}
    except (ValueError, AttributeError):
        return {}
