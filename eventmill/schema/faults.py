"""What can be wrong in a message that parsed: checks compiled once a message type.

Only fields that can hold a value without a place in their column are visited; a type without
such fields has no checks at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from operator import attrgetter
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError

from eventmill.schema import times
from eventmill.schema.dynamic import DynamicMessage, DynamicValue, holder_of, message_of
from eventmill.schema.kinds import DURATION, TIMESTAMP, UINT64_TYPES, VALUE, Kind, is_map
from eventmill.schema.message_type import MessageType, reachable_types
from eventmill.schema.problem import EventProblem, Reason
from eventmill.schema.rules import rule_check
from eventmill.schema.shape import FieldShape, shape_of
from eventmill.schema.table import ColumnType, Mode
from eventmill.schema.text_values import TEXT_READERS
from eventmill.schema.wire_walk import bytes_field

Check = Callable[[Any], EventProblem | None]
"""Looks at a value; returns what is wrong, or None. The path counts from that value."""

INTEGER_MAX = 2**63 - 1
_TIMESTAMP_TEXT = (
    "the timestamp lies outside 0001-01-01 to 9999-12-31, or its nanos outside 0-999999999"
)
_DURATION_TEXT = (
    "the duration is over 315,576,000,000 seconds, or its seconds and nanos differ in sign"
)
_UTF8_TEXT = "the text is not UTF-8: encode it as UTF-8, or use a bytes field"


def checks_of(message_type: MessageType, *, rules: bool = True) -> tuple[Check, ...]:
    """Return the checks of a message of ``message_type``; an event is good when all find None.

    Args:
        message_type: of the events.
        rules: look at the rules (``buf.validate``) of the .proto as well.

    Raises:
        SchemaError: the message does not fit a table, or has a rule that cannot be used.
    """
    checks = list(_message_checks(shape_of(message_type)))
    messages, _ = reachable_types(message_type.descriptor)
    if any(field.is_required for message in messages.values() for field in message.fields):
        checks.insert(0, _check_required)
    # Last: rules take for granted that each value is one of its type.
    rule = rule_check(message_type) if rules else None
    if rule is not None:
        checks.append(rule)
    return tuple(checks)


def _check_required(message: DynamicMessage) -> EventProblem | None:
    if message.IsInitialized():
        return None
    path = message.FindInitializationErrors()[0]
    return EventProblem(Reason.MISSING_REQUIRED, path, f"{path} is a required field and is not set")


def _message_checks(shapes: Iterable[FieldShape]) -> list[Check]:
    return [check for shape in shapes for check in _field_checks(shape)]


def _field_checks(shape: FieldShape) -> list[Check]:
    """Return the checks of one field, which take the message that holds it."""
    field = shape.field
    if shape.kind is Kind.MAP:
        return _map_checks(shape)
    if shape.kind is Kind.JSON and is_map(field):
        return _document_field_checks(field, _Documents())
    value_check = _value_check(shape)
    if value_check is None:
        return []
    if field.message_type is not None:
        return [_on_message(field, value_check)]
    return [_on_scalar(field, value_check)]


def _value_check(shape: FieldShape) -> Check | None:
    """Return the check of one value: of an element, where the field is repeated."""
    kind = shape.kind
    if kind is Kind.TIMESTAMP:
        return _check_timestamp
    if kind is Kind.DURATION:
        return _check_duration
    if kind is Kind.JSON:
        return _Documents().check_of(message_of(shape.field))
    if kind is Kind.RECORD:
        return _all_of(_message_checks(shape.fields))
    check = _scalar_check(shape)
    if shape.wrapped is not None and check is not None:
        return _inside_wrapper(check)
    return check


def _scalar_check(shape: FieldShape) -> Check | None:
    field = shape.scalar
    if shape.kind is Kind.MICROSECONDS:
        return partial(_check_range, times.MICROSECONDS_MIN, times.MICROSECONDS_MAX, "TIMESTAMP")
    if shape.kind is Kind.DAYS:
        return partial(_check_range, times.DAYS_MIN, times.DAYS_MAX, "DATE")
    if field.type in UINT64_TYPES and shape.kind is not Kind.NUMERIC:
        return _check_uint64
    if shape.kind is Kind.TEXT:
        may_be_empty = shape.mode is not Mode.REPEATED
        return partial(_check_text_value, shape.type, may_be_empty)
    if field.type == FieldDescriptor.TYPE_STRING and takes_bad_utf8(field):
        return _check_utf8
    return None


def _map_checks(shape: FieldShape) -> list[Check]:
    key_check = _scalar_check(shape.fields[0])
    value_shape = shape.fields[1] if len(shape.fields) == 2 else None
    value_check = _value_check(value_shape) if value_shape else None
    if key_check is None and value_check is None:
        return []
    return [_on_map(shape.field, key_check, value_check)]


class _Documents:
    """Checks of messages that become JSON text, recursive ones included."""

    def __init__(self) -> None:
        self._compiled: dict[str, list[Check]] = {}

    def check_of(self, descriptor: Descriptor) -> Check | None:
        if descriptor.full_name == TIMESTAMP:
            return _check_timestamp
        if descriptor.full_name == DURATION:
            return _check_duration
        known = self._compiled.get(descriptor.full_name)
        if known is not None:
            # Met again below itself: the list is filled by now, or will be when it is first used.
            return partial(_run_all, known)
        checks: list[Check] = []
        self._compiled[descriptor.full_name] = checks
        for field in descriptor.fields:
            checks.extend(_document_field_checks(field, self))
        if descriptor.full_name == VALUE:
            checks.append(_check_finite)
        return partial(_run_all, checks) if checks else None


def _document_field_checks(field: FieldDescriptor, documents: _Documents) -> list[Check]:
    if is_map(field):
        key, value = (message_of(field).fields_by_name[name] for name in ("key", "value"))
        key_check = _document_value_check(key, documents)
        value_check = _document_value_check(value, documents)
        if key_check is None and value_check is None:
            return []
        return [_on_map(field, key_check, value_check)]
    check = _document_value_check(field, documents)
    if check is None:
        return []
    return [(_on_message if field.message_type is not None else _on_scalar)(field, check)]


def _document_value_check(field: FieldDescriptor, documents: _Documents) -> Check | None:
    if field.message_type is not None:
        return documents.check_of(field.message_type)
    if field.type == FieldDescriptor.TYPE_STRING and takes_bad_utf8(field):
        return _check_utf8
    return None


# From a message to the values of one of its fields.


def _on_scalar(field: FieldDescriptor, check: Check) -> Check:
    name, get = field.name, attrgetter(field.name)
    if field.is_repeated:
        return partial(_check_elements, name, get, check)
    if check is _check_uint64:
        return lambda message: None if get(message) <= INTEGER_MAX else _under(name, _too_large())

    def check_scalar(message: DynamicMessage) -> EventProblem | None:
        problem = check(get(message))
        return None if problem is None else _under(name, problem)

    return check_scalar


def _on_message(field: FieldDescriptor, check: Check) -> Check:
    name, get = field.name, attrgetter(field.name)
    if field.is_repeated:
        return partial(_check_elements, name, get, check)
    if check is _check_timestamp:
        return _on_timestamp(name, get)

    def check_message(message: DynamicMessage) -> EventProblem | None:
        if not message.HasField(name):
            return None
        problem = check(get(message))
        return None if problem is None else _under(name, problem)

    return check_message


def _on_timestamp(name: str, get: Callable[[Any], Any]) -> Check:
    """Check without a call more: most events have one timestamp, and an unset one is in range."""
    low, high, nanos_max = times.SECONDS_MIN, times.SECONDS_MAX, times.NANOS_MAX

    def check_timestamp_field(message: DynamicMessage) -> EventProblem | None:
        value = get(message)
        if low <= value.seconds <= high and 0 <= value.nanos <= nanos_max:
            return None
        return EventProblem(Reason.OUT_OF_RANGE, name, _TIMESTAMP_TEXT)

    return check_timestamp_field


def _check_elements(
    name: str, get: Callable[[Any], Any], check: Check, message: DynamicMessage
) -> EventProblem | None:
    for index, element in enumerate(get(message)):
        problem = check(element)
        if problem is not None:
            return _under(f"{name}[{index}]", problem)
    return None


def _on_map(field: FieldDescriptor, key_check: Check | None, value_check: Check | None) -> Check:
    name, get = field.name, attrgetter(field.name)

    def check_map(message: DynamicMessage) -> EventProblem | None:
        container = get(message)
        for key in container:
            problem = key_check(key) if key_check else None
            if problem is not None:
                return _under(name, problem)
            problem = value_check(container[key]) if value_check else None
            if problem is not None:
                return _under(f"{name}[{key_path(key)}]", problem)
        return None

    return check_map


def _all_of(checks: Sequence[Check]) -> Check | None:
    if not checks:
        return None
    return checks[0] if len(checks) == 1 else partial(_run_all, checks)


def _run_all(checks: Sequence[Check], message: DynamicMessage) -> EventProblem | None:
    for check in checks:
        problem = check(message)
        if problem is not None:
            return problem
    return None


def _inside_wrapper(check: Check) -> Check:
    return lambda wrapper: check(wrapper.value)


def _under(step: str, problem: EventProblem) -> EventProblem:
    return EventProblem(problem.reason, join_path(step, problem.field), problem.message)


def join_path(step: str, below: str) -> str:
    """Return the path of a field below ``step``."""
    if not below or below.startswith("["):
        return step + below
    return f"{step}.{below}"


def key_path(key: object) -> str:
    """Return a map's key as it stands in a path."""
    return f'"{key}"' if isinstance(key, str) else str(key)


# Of one value.


def _check_timestamp(value: DynamicValue) -> EventProblem | None:
    if times.is_timestamp(value):
        return None
    return EventProblem(Reason.OUT_OF_RANGE, "", _TIMESTAMP_TEXT)


def _check_duration(value: DynamicValue) -> EventProblem | None:
    if times.is_duration(value):
        return None
    return EventProblem(Reason.OUT_OF_RANGE, "", _DURATION_TEXT)


def _check_uint64(value: int) -> EventProblem | None:
    if value <= INTEGER_MAX:
        return None
    return _too_large()


def _too_large() -> EventProblem:
    return EventProblem(
        Reason.OUT_OF_RANGE, "", f"the number is over {INTEGER_MAX}, the most an INTEGER holds"
    )


def _check_range(low: int, high: int, type_name: str, value: int) -> EventProblem | None:
    if low <= value <= high:
        return None
    return EventProblem(
        Reason.OUT_OF_RANGE, "", f"{value} as {type_name} lies outside the years 1 to 9999"
    )


def _check_utf8(value: str | bytes) -> EventProblem | None:
    # protobuf hands out bytes where a proto2 string is not UTF-8.
    if isinstance(value, str):
        return None
    return EventProblem(Reason.INVALID_UTF8, "", _UTF8_TEXT)


def _check_text_value(
    type_: ColumnType, may_be_empty: bool, value: str | bytes
) -> EventProblem | None:
    if isinstance(value, bytes):
        return _check_utf8(value)
    if not value and may_be_empty:
        return None
    try:
        TEXT_READERS[type_](value)
    except ValueError as error:
        return EventProblem(Reason.UNREPRESENTABLE, "", f"{error}; the column is {type_}")
    return None


def _check_finite(value: DynamicValue) -> EventProblem | None:
    if math.isfinite(value.number_value):
        return None
    return EventProblem(
        Reason.UNREPRESENTABLE, "number_value", f"{value.number_value} has no form in JSON"
    )


def takes_bad_utf8(field: FieldDescriptor) -> bool:
    """Return whether parsing lets a string of ``field`` pass that is not UTF-8, as in proto2."""
    message_class = message_factory.GetMessageClass(holder_of(field))
    try:
        message_class.FromString(bytes_field(field.number, b"\xff"))
    except DecodeError:
        return False
    return True
