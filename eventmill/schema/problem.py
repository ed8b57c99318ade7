"""Why one event is refused: the closed list of reasons, and the error that carries one.

This is the lowest place that all judges of an event share (the JSON reader, the protobuf check,
the stores), so the list stands here and not beside the verdict.
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Every reason for which an event can be rejected. The value is what users see and query."""

    MALFORMED_EVENT = "malformed_event"
    """The bytes are not a protobuf message."""
    MALFORMED_JSON = "malformed_json"
    """The text is not JSON, or not a JSON object."""
    INVALID_UTF8 = "invalid_utf8"
    """A string field holds bytes that are not UTF-8."""
    UNKNOWN_FIELD = "unknown_field"
    """The event has a field that the table does not have."""
    WRONG_TYPE = "wrong_type"
    """A value does not fit its field's type."""
    MISSING_REQUIRED = "missing_required"
    """A proto2 required field is not set."""
    OUT_OF_RANGE = "out_of_range"
    """A number, timestamp or duration lies outside what the column can hold."""
    UNREPRESENTABLE = "unrepresentable"
    """The value has no form in its column, such as NaN inside a JSON document."""
    EVENT_TOO_LARGE = "event_too_large"
    """The event is over the size limit of one event."""
    BROKEN_RULE = "broken_rule"
    """The event breaks a rule (``buf.validate``) of its table's .proto."""
    BAD_INSERT_ID = "bad_insert_id"
    """The insert ID is empty, over 128 characters, or not UTF-8."""
    REFUSED_BY_STORE = "refused_by_store"
    """The store behind, such as BigQuery, does not take the row; the message says why."""
    OTHER = "other"
    """A reason of a newer server that this version does not know; the message says it."""


class EventProblem(Exception):  # noqa: N818 - a judgement on one event, not an error of the call
    """One event cannot be taken: the reason, the field, and a sentence for a person."""

    def __init__(self, reason: Reason, field: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.field = field
        """Path of the field, such as ``steps[2].name``; empty when it is the event as a whole."""
        self.message = message
