"""The judgement on encoded events: the hot path of taking them in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from eventmill.schema.dynamic import DynamicMessage, DynamicValue
from eventmill.schema.faults import checks_of, join_path, key_path
from eventmill.schema.kinds import is_map
from eventmill.schema.message_type import MessageType
from eventmill.schema.problem import EventProblem, Reason
from eventmill.schema.wire_walk import MalformedError, find_bad_text


class EventCheck:
    """Judges events of one message type; safe from any thread."""

    def __init__(self, message_type: MessageType) -> None:
        """Compile the checks.

        Raises:
            SchemaError: the message does not fit a table.
        """
        self.message_type = message_type
        self._parse = message_type.parse
        self._checks = checks_of(message_type)

    def problems(
        self, events: Sequence[bytes], *, known_schema: bool
    ) -> list[tuple[int, EventProblem]]:
        """Return what is wrong, as (place in ``events``, problem), ascending; empty: all good.

        Args:
            events: encoded messages; their size is not looked at here.
            known_schema: the sender encoded with this very schema (its fingerprint says so);
                otherwise an event with a field that the schema lacks is a problem too.
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
        parse, checks = self._parse, self._checks
        try:
            for event in events:
                message = parse(event)
                for check in checks:
                    if check(message) is not None:
                        return False
        except DecodeError:
            return False
        return True

    def problem(self, event: bytes, *, known_schema: bool) -> EventProblem | None:
        """Return what is wrong with one event; see ``problems``."""
        try:
            message = self._parse(event)
        except DecodeError:
            return self._parse_problem(event)
        if not known_schema:
            size = message.ByteSize()
            message.DiscardUnknownFields()
            if message.ByteSize() != size:
                return self._unknown_problem(event)
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

    def _unknown_problem(self, event: bytes) -> EventProblem:
        path, numbers = _unknown_in(self._parse(event)) or ("", [])
        named = ", ".join(map(str, numbers[:10]))
        place = f" below {path}" if path else ""
        return EventProblem(
            Reason.UNKNOWN_FIELD,
            path,
            f"the event has field number {named}{place}, which the table's schema does not have:"
            " apply the newer .proto to the table, then replay",
        )


def _unknown_fields(message: DynamicMessage) -> Iterable[DynamicValue]:
    # The stubs do not know that it can be iterated.
    unknown: Any = UnknownFieldSet(message)
    return unknown  # type: ignore[no-any-return]


def _unknown_in(message: DynamicMessage) -> tuple[str, list[int]] | None:
    """Return the path and numbers of the first unknown fields, or None."""
    numbers = sorted({field.field_number for field in _unknown_fields(message)})
    if numbers:
        return "", numbers
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if is_map(field):
            if field.message_type.fields_by_name["value"].message_type is None:
                continue
            below = [(f"[{key_path(key)}]", value[key]) for key in value]
        elif field.is_repeated:
            below = [(f"[{index}]", element) for index, element in enumerate(value)]
        else:
            below = [("", value)]
        for step, element in below:
            found = _unknown_in(element)
            if found is not None:
                return join_path(f"{field.name}{step}", found[0]), found[1]
    return None
