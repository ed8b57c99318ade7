"""A message as a dict that JSON can hold: the row that its table would have."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from google.protobuf.message import Message

from eventmill.schema.faults import checks_of
from eventmill.schema.mapping import columns_of
from eventmill.schema.message_type import MessageType
from eventmill.schema.values import RowReader
from eventmill.wire.rows_text import json_value

_TYPES_MAX = 256


def row_dict(message: Message) -> dict[str, Any]:
    """Return ``message`` as ``{column: value}``, as the one mapping of the project has it.

    Values are of JSON's types: a TIMESTAMP is RFC 3339 in UTC, BYTES are base64, NUMERIC is a
    text, a FLOAT that is not finite is the text ``NaN``, ``Infinity`` or ``-Infinity``. What is
    NULL or an empty list in the table is left out, at every depth.

    Raises:
        EventProblem: a value has no place in its column; names the field.
        SchemaError: the message does not fit a table.
    """
    return _maker(MessageType.of(message))(message)


@lru_cache(maxsize=_TYPES_MAX)
def _maker(message_type: MessageType) -> Callable[[Message], dict[str, Any]]:
    checks = checks_of(message_type, rules=False)
    read = RowReader(message_type, columns_of(message_type)).read

    def make(message: Message) -> dict[str, Any]:
        for check in checks:
            problem = check(message)
            if problem is not None:
                raise problem
        row: dict[str, Any] = json_row(read(message))
        return row

    return make


def json_row(value: object) -> Any:  # noqa: ANN401 - of the same shape as what is given
    """Return a row, or a value in it, in JSON's types and without what is NULL or empty."""
    if isinstance(value, dict):
        return {
            name: json_row(below)
            for name, below in value.items()
            if below is not None and below != []
        }
    if isinstance(value, list):
        return [json_row(below) for below in value]
    return json_value(value)
