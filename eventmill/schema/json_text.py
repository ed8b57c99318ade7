"""A message as compact JSON text, for columns that keep a whole message.

Fields that are set stand under their proto names; 64-bit integers are numbers, enums names,
bytes base64, timestamps RFC 3339, durations as ``1.5s``, maps objects ascending by key;
infinities and NaN of FLOAT fields are the texts of protobuf's JSON form. ``schema.rows`` reads
the same form back.
"""

from __future__ import annotations

import base64
import json
import math
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from eventmill.schema import times
from eventmill.schema.dynamic import DynamicMessage, DynamicValue, enum_of, message_of
from eventmill.schema.kinds import DURATION, LIST_VALUE, STRUCT, TIMESTAMP, VALUE, WRAPPERS, is_map

_FLOATS = frozenset((FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT))
_EXACT_INTEGER_MAX = 2.0**53
"""Up to here a double holds every integer, so that it can be written as one."""


def message_text(message: DynamicMessage) -> str:
    """Return the compact JSON text of a message that ``EventCheck`` found good."""
    return _dump(_message_value(message))


def map_text(field: FieldDescriptor, container: DynamicMessage) -> str:
    """Return the JSON object of a map field's content, ascending by key."""
    return _dump(_map_value(field, container))


def _dump(value: DynamicValue) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _message_value(message: DynamicMessage) -> DynamicValue:
    descriptor: Descriptor = message.DESCRIPTOR
    name = descriptor.full_name
    if name == TIMESTAMP:
        return times.timestamp_text(message.seconds, message.nanos)
    if name == DURATION:
        return times.duration_text(message.seconds, message.nanos)
    if name == VALUE:
        return _json_value(message)
    if name == STRUCT:
        return {key: _json_value(message.fields[key]) for key in sorted(message.fields)}
    if name == LIST_VALUE:
        return [_json_value(value) for value in message.values]
    if name in WRAPPERS:
        return _scalar(descriptor.fields_by_name["value"], message.value)
    return {
        field.name: _field_value(field, value)
        for field, value in message.ListFields()
        if not field.is_extension
    }


def _field_value(field: FieldDescriptor, value: DynamicValue) -> DynamicValue:
    if is_map(field):
        return _map_value(field, value)
    if field.is_repeated:
        return [_scalar(field, element) for element in value]
    return _scalar(field, value)


def _map_value(field: FieldDescriptor, container: DynamicMessage) -> dict[str, Any]:
    below = message_of(field).fields_by_name["value"]
    return {_key_text(key): _scalar(below, container[key]) for key in sorted(container)}


def _key_text(key: DynamicValue) -> str:
    if isinstance(key, bool):
        return "true" if key else "false"
    return str(key)


def _scalar(field: FieldDescriptor, value: DynamicValue) -> DynamicValue:
    if field.message_type is not None:
        return _message_value(value)
    if field.enum_type is not None:
        return enum_name(field, value)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return base64.b64encode(value).decode("ascii")
    if field.type in _FLOATS and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def enum_name(field: FieldDescriptor, number: int) -> str:
    """Return the first name that an enum gives ``number``, or the number as decimal text."""
    for value in enum_of(field).values:
        if value.number == number:
            return str(value.name)
    return str(number)


def _json_value(value: DynamicValue) -> DynamicValue:
    kind = value.WhichOneof("kind")
    if kind is None or kind == "null_value":
        return None
    if kind == "number_value":
        return _number(value.number_value)
    if kind in ("string_value", "bool_value"):
        return getattr(value, kind)
    return _message_value(getattr(value, kind))


def _number(number: float) -> int | float:
    is_negative_zero = not number and math.copysign(1, number) < 0
    if number.is_integer() and abs(number) <= _EXACT_INTEGER_MAX and not is_negative_zero:
        return int(number)
    return number
