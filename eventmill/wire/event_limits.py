"""What one event must keep to on every hop, judged in one place and told in the same words."""

from __future__ import annotations

from eventmill.schema.problem import EventProblem, Reason
from eventmill.wire.batch import EVENT_BYTES_MAX, INSERT_ID_CHARACTERS_MAX


def event_size_problem(size: int) -> EventProblem | None:
    """Return why an event of ``size`` bytes cannot be taken; None: it can."""
    if size <= EVENT_BYTES_MAX:
        return None
    message = f"the event has {size:,} bytes; the limit is {EVENT_BYTES_MAX:,}"
    return EventProblem(Reason.EVENT_TOO_LARGE, "", message)


def insert_id_problem(raw: bytes, field: str = "") -> EventProblem | None:
    """Return why an insert ID cannot be taken; None: it can.

    Args:
        raw: the insert ID as it is sent.
        field: where in the event it was found; empty when it came beside the event.
    """
    size = len(raw)
    if 0 < size <= INSERT_ID_CHARACTERS_MAX and raw.isascii():
        return None
    if not raw:
        return EventProblem(Reason.BAD_INSERT_ID, field, "the insert ID is empty")
    try:
        count = len(raw.decode())
    except UnicodeDecodeError:
        return EventProblem(Reason.BAD_INSERT_ID, field, "the insert ID is not UTF-8")
    if count <= INSERT_ID_CHARACTERS_MAX:
        return None
    message = f"the insert ID has {count:,} characters; the limit is {INSERT_ID_CHARACTERS_MAX}"
    return EventProblem(Reason.BAD_INSERT_ID, field, message)
