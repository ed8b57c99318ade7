"""Events read by a definition that came after the one they were judged by.

A sender may be newer than its table: fields that the table lacks are kept as they came, and nobody
has judged them. When the table gets those fields, an event may turn out not to fit: a text that is
no UTF-8, a time beyond the year 9999. It was acked and stays; what cannot be read of it reads as
not set, and its bytes stay whole.
"""

from __future__ import annotations

from collections.abc import Sequence

from eventmill.schema.check import EventCheck
from eventmill.schema.message_type import MessageType
from eventmill.schema.problem import EventProblem, Reason
from eventmill.schema.wire_walk import MalformedError, split_fields


class LateReading:
    """Finds what of earlier events one message type can hold; safe from any thread."""

    def __init__(self, message_type: MessageType) -> None:
        """Read by ``message_type``."""
        # Rules are promises of senders to come: an event from before them is none the worse.
        self._check = EventCheck(message_type, rules=False)

    def parts(self, events: Sequence[bytes]) -> dict[int, bytes]:
        """Return, by place, of each event that does not fit the part that does.

        Args:
            events: encoded messages that an earlier definition of the table found good.
        """
        misfits = self._check.problems(events, known_schema=True)
        return {place: self._part(events[place]) for place, _ in misfits}

    def problem(self, event: bytes) -> EventProblem | None:
        """Return why ``event`` does not fit; None: it does."""
        return self._check.problem(event, known_schema=True)

    def _part(self, event: bytes) -> bytes:
        """Leave out the fields, at the event's own level, that do not fit by themselves."""
        try:
            fields = split_fields(event)
        except MalformedError:
            return b""
        by_number: dict[int, bytes] = {}
        for number, encoded in fields:
            by_number[number] = by_number.get(number, b"") + encoded
        bad = {number for number, encoded in by_number.items() if not self._fits_alone(encoded)}
        part = b"".join(encoded for number, encoded in fields if number not in bad)
        # A total function: whatever else may be wrong, the other rows must stay readable.
        return part if self.problem(part) is None else b""

    def _fits_alone(self, encoded: bytes) -> bool:
        problem = self.problem(encoded)
        if problem is None:
            return True
        # A field by itself always lacks the others; only what is missing below it is its fault.
        return problem.reason is Reason.MISSING_REQUIRED and "." not in problem.field
