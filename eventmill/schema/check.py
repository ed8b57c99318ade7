"""The judgement on encoded events: the hot path of taking them in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.protobuf.message import DecodeError

from eventmill.schema import times
from eventmill.schema.faults import Check, checks_of
from eventmill.schema.kinds import Kind
from eventmill.schema.message_type import MessageType, real_oneof
from eventmill.schema.problem import EventProblem, Reason
from eventmill.schema.shape import shape_of
from eventmill.schema.table import Mode
from eventmill.schema.unknown import UnknownFields
from eventmill.schema.wire_walk import MalformedError, find_bad_text

_MERGED_MIN = 4
"""Events that are worth a message to merge them into."""
_CHUNK = 512
"""Events merged into one message: it grows with them, and goes when they are judged."""


class EventCheck:
    """Judges events of one message type; safe from any thread."""

    def __init__(self, message_type: MessageType, *, rules: bool = True) -> None:
        """Compile the checks.

        Args:
            message_type: of the events.
            rules: hold them to the rules (``buf.validate``) of the .proto as well.

        Raises:
            SchemaError: the message does not fit a table.
        """
        self.message_type = message_type
        self._parse = message_type.parse
        self._checks = checks_of(message_type, rules=rules)
        self._timestamps = _timestamps_alone(message_type, self._checks)
        self._unknown = UnknownFields(message_type)

    def problems(
        self, events: Sequence[bytes], *, known_schema: bool
    ) -> list[tuple[int, EventProblem]]:
        """Return what is wrong, as (place in ``events``, problem), ascending; empty: all good.

        Args:
            events: encoded messages; their size is not looked at here.
            known_schema: the sender encoded with a schema that the table has had (its
                fingerprint says so); otherwise an event of which the schema knows no field at
                all is a problem too: it was hardly meant for this table. One with some fields
                more than the schema has is none.
        """
        if known_schema and self._are_good(events):
            return []
        found = []
        for index, event in enumerate(events):
            problem = self.problem(event, known_schema=known_schema)
            if problem is not None:
                found.append((index, problem))
        return found

    def _are_good(self, events: Sequence[bytes]) -> bool:
        """Return whether all events parse and pass; the way that nearly every batch takes."""
        try:
            if self._timestamps is not None and len(events) >= _MERGED_MIN:
                return all(
                    self._merge_well(events[start : start + _CHUNK], self._timestamps)
                    for start in range(0, len(events), _CHUNK)
                )
            parse, checks = self._parse, self._checks
            for event in events:
                message = parse(event)
                for check in checks:
                    if check(message) is not None:
                        return False
        except DecodeError:
            return False
        return True

    def _merge_well(self, events: Sequence[bytes], timestamps: Sequence[str]) -> bool:
        """Return whether all events parse, one into the other, and no timestamp goes astray.

        Half the time of parsing each into a message of its own. A timestamp that an event sets
        is seen before the next one can set it again, so nothing hides.
        """
        whole: Any = self._parse(b"")
        seen = [getattr(whole, name) for name in timestamps]
        for timestamp in seen:
            timestamp.SetInParent()
        low, high, nanos_max = times.SECONDS_MIN, times.SECONDS_MAX, times.NANOS_MAX
        merge = whole.MergeFromString
        for event in events:
            merge(event)
            for at in seen:
                if not (low <= at.seconds <= high and 0 <= at.nanos <= nanos_max):
                    return False
        return True

    def problem(self, event: bytes, *, known_schema: bool) -> EventProblem | None:
        """Return what is wrong with one event; see ``problems``."""
        try:
            message = self._parse(event)
        except DecodeError:
            return self._parse_problem(event)
        if not known_schema and self._unknown.is_foreign(event):
            return self._foreign_problem(event)
        for check in self._checks:
            problem = check(message)
            if problem is not None:
                return problem
        return None

    def _parse_problem(self, event: bytes) -> EventProblem:
        try:
            path = find_bad_text(self.message_type.descriptor, event)
        except MalformedError:
            path = None
        if path is not None:
            return EventProblem(
                Reason.INVALID_UTF8,
                path,
                f"{path} is not UTF-8: encode it as UTF-8, or use a bytes field",
            )
        return EventProblem(
            Reason.MALFORMED_EVENT,
            "",
            f"the {len(event):,} bytes are not a {self.message_type.full_name}: send the"
            " encoded message alone, and nest it less than 100 levels deep",
        )

    def _foreign_problem(self, event: bytes) -> EventProblem:
        _, numbers = self._unknown.first(event) or ("", [])
        named = ", ".join(map(str, numbers[:10]))
        return EventProblem(
            Reason.UNKNOWN_FIELD,
            "",
            f"the event has field number {named} and none that {self.message_type.full_name} has:"
            " send it to its own table, or apply the newer .proto to this one, then replay",
        )


def _timestamps_alone(message_type: MessageType, checks: Sequence[Check]) -> tuple[str, ...] | None:
    """Return the fields with a timestamp when those at the top are all that can go wrong."""
    names = tuple(
        shape.field.name
        for shape in shape_of(message_type)
        # A oneof of several would take back what it was given when an event sets another.
        if shape.kind is Kind.TIMESTAMP
        and shape.mode is not Mode.REPEATED
        and not real_oneof(shape.field)
    )
    return names if len(names) == len(checks) else None
