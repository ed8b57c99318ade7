"""Fields of an event that its table's schema does not have: a sender may be newer than a table.

Such an event is stored whole, and its fields appear once the table has them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.unknown_fields import UnknownFieldSet

from eventmill.schema.dynamic import DynamicMessage, DynamicValue
from eventmill.schema.faults import join_path, key_path
from eventmill.schema.kinds import is_map
from eventmill.schema.message_type import MessageType, reachable_types, real_oneof

_CHUNK = 256
"""Events merged into one message before it is asked: nearly always it answers for all of them."""


class UnknownFields:
    """Finds the events of one message type that have fields which it lacks, at any depth."""

    def __init__(self, message_type: MessageType) -> None:
        """Look by ``message_type``."""
        self._parse = message_type.parse
        messages, _ = reachable_types(message_type.descriptor)
        self._can_merge = not any(
            _replaces(field) for message in messages.values() for field in message.fields
        )

    def places(self, events: Sequence[bytes]) -> list[int]:
        """Return the places of such events, ascending.

        Args:
            events: encoded messages that parse as the type.
        """
        found: list[int] = []
        for start in range(0, len(events), _CHUNK):
            chunk = events[start : start + _CHUNK]
            if self._can_merge and not _has_any(self._merged(chunk)):
                continue
            found += [
                start + place for place, event in enumerate(chunk) if _has_any(self._parse(event))
            ]
        return found

    def first(self, event: bytes) -> tuple[str, list[int]] | None:
        """Return the path of the message with such fields and their numbers; None: it has none.

        The path is empty for the event itself.
        """
        return _first_in(self._parse(event))

    def is_foreign(self, event: bytes) -> bool:
        """Return whether the event has fields, and the type has none of them."""
        message = self._parse(event)
        message.DiscardUnknownFields()
        return bool(event) and not message.ByteSize()

    def _merged(self, events: Sequence[bytes]) -> DynamicMessage:
        whole: Any = self._parse(b"")
        for event in events:
            whole.MergeFromString(event)
        return whole


def _replaces(field: FieldDescriptor) -> bool:
    """Return whether merging can throw away a message of ``field`` that came before."""
    if field.message_type is None:
        return False
    return bool(real_oneof(field)) or is_map(field)


def _has_any(message: DynamicMessage) -> bool:
    size = message.ByteSize()
    message.DiscardUnknownFields()
    return bool(message.ByteSize() != size)


def _unknown_fields(message: DynamicMessage) -> Iterable[DynamicValue]:
    # The stubs do not know that it can be iterated.
    unknown: Any = UnknownFieldSet(message)
    return unknown  # type: ignore[no-any-return]


def _first_in(message: DynamicMessage) -> tuple[str, list[int]] | None:
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
            found = _first_in(element)
            if found is not None:
                return join_path(f"{field.name}{step}", found[0]), found[1]
    return None
