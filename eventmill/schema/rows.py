"""Rows to encoded events: dicts of JSON or Python values, for people without generated code.

Converters are compiled once a message type; a row costs one dictionary walk and one call of the
message's constructor. What was built is judged by the same checks that judge bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, EncodeError

from eventmill.schema.dynamic import DynamicMessage, DynamicValue, message_of
from eventmill.schema.faults import Check, checks_of, join_path, key_path
from eventmill.schema.kinds import (
    DURATION,
    FIELD_MASK,
    LIST_VALUE,
    STRUCT,
    TIMESTAMP,
    VALUE,
    WRAPPERS,
    is_map,
)
from eventmill.schema.message_type import MessageType, is_recursive, real_oneof
from eventmill.schema.problem import EventProblem, Reason
from eventmill.schema.row_scalars import (
    Convert,
    converter_of,
    duration_parts,
    near_names,
    timestamp_parts,
    to_boolean,
    to_float,
    to_text,
    wrong_type,
)
from eventmill.schema.shape import FieldShape, shape_of

_EXACT_INTEGER_MAX = 2**53
"""Up to here a double, and so a number in a Struct, holds every integer."""

Steps = dict[str, tuple[str, Convert, bool, type | None]]
"""Of each name of a field, proto or JSON: (proto name, converter, whether it takes None, type
whose values the converter hands on as they are; of texts those in ASCII)."""
_HANDED_ON: dict[Convert, type] = {to_text: str, to_boolean: bool, to_float: float}
Dialect = Callable[[FieldShape], Convert | None]
"""Returns what converts one value of a field, an element of a repeated one; None: as ever."""


class RowEncoder:
    """Encodes rows of one message type; safe from any thread."""

    def __init__(
        self, message_type: MessageType, *, rules: bool = True, dialect: Dialect | None = None
    ) -> None:
        """Compile the converters.

        Args:
            message_type: of the rows.
            rules: refuse what breaks the rules of the .proto; a sender leaves that to the store,
                so that it needs no more than protobuf.
            dialect: reads values that another protocol writes in its own way.

        Raises:
            SchemaError: the message does not fit a table.
        """
        self.message_type = message_type
        self._class = message_type.cls
        self._convert = _Converters(dialect).message_fields(
            message_type.descriptor, shape_of(message_type)
        )
        self._checks: tuple[Check, ...] = checks_of(message_type, rules=rules)
        self._parse = message_type.parse
        self._may_be_deep = is_recursive(message_type.descriptor)

    def encode(self, row: Mapping[str, object]) -> bytes:
        """Return ``row`` as an encoded message.

        Keys are proto field names or their lowerCamel JSON names; None leaves a field unset. Any
        value is taken that says one thing: see ``row_scalars`` for each type.

        Raises:
            EventProblem: a value does not fit; ``field`` is its path, such as ``steps[2].name``.
        """
        try:
            message = self._class(**self._convert(row))
            for check in self._checks:
                problem = check(message)
                if problem is not None:
                    raise problem
            event: bytes = message.SerializeToString()
            if self._may_be_deep:
                self._parse(event)
        except (RecursionError, EncodeError, DecodeError):
            # protobuf copies a document into its field, and so may refuse the depth at once.
            raise _too_deep() from None
        return event


def _too_deep() -> EventProblem:
    return EventProblem(
        Reason.UNREPRESENTABLE, "", "the row is nested over 100 levels deep, the most a message is"
    )


class _Converters:
    """Compiles converters, one a message type, so that recursive types come to an end."""

    def __init__(self, dialect: Dialect | None) -> None:
        self._documents: dict[str, Convert] = {}
        self._dialect = dialect

    def message_fields(
        self, descriptor: Descriptor, shapes: Iterable[FieldShape] | None
    ) -> Callable[[Any], dict[str, Any]]:
        """Return the converter of a row to the arguments of a message's constructor.

        Args:
            descriptor: the message.
            shapes: its fields that have columns; None: it is part of a JSON document.
        """
        by_name = {shape.name: shape for shape in shapes} if shapes is not None else {}
        steps: Steps = {}
        for field in descriptor.fields:
            convert = self._field(field, by_name.get(field.name))
            step = (field.name, convert, _takes_none(field), _HANDED_ON.get(convert))
            steps.setdefault(field.json_name, step)
            steps[field.name] = step
        oneofs = {field.name: name for field in descriptor.fields if (name := real_oneof(field))}
        return _fields_converter(descriptor, steps, oneofs)

    def _field(self, field: FieldDescriptor, shape: FieldShape | None) -> Convert:
        if is_map(field):
            return self._map(field, shape)
        convert = self._value(field, shape)
        return _list_converter(convert, field) if field.is_repeated else convert

    def _map(self, field: FieldDescriptor, shape: FieldShape | None) -> Convert:
        key, value = (message_of(field).fields_by_name[name] for name in ("key", "value"))
        below = {s.name: s for s in shape.fields} if shape is not None else {}
        return _map_converter(
            _key_converter(key), self._value(value, below.get("value")), _takes_none(value)
        )

    def _value(self, field: FieldDescriptor, shape: FieldShape | None) -> Convert:
        if self._dialect is not None and shape is not None:
            own = self._dialect(shape)
            if own is not None:
                return own
        message = field.message_type
        if message is None:
            return converter_of(field, shape)
        name = message.full_name
        if name == TIMESTAMP:
            return _parts_converter(timestamp_parts)
        if name == DURATION:
            return _parts_converter(duration_parts)
        if name in WRAPPERS:
            inner = converter_of(message.fields_by_name["value"], shape)
            return lambda value: {"value": inner(value)}
        if name in (STRUCT, VALUE, LIST_VALUE):
            return _json_converter(message)
        if shape is not None and shape.fields:
            fields = self.message_fields(message, shape.fields)
            return _field_mask_converter(fields) if name == FIELD_MASK else fields
        return self._document(message)

    def _document(self, message: Descriptor) -> Convert:
        name = message.full_name
        if name not in self._documents:
            # The name stands before what is below it, where the type may come again; what it
            # leads to is made only then.
            self._documents[name] = lambda value: made(value)  # noqa: PLW0108
            made = self.message_fields(message, None)
            if name == FIELD_MASK:
                made = _field_mask_converter(made)
        return self._documents[name]


def _takes_none(field: FieldDescriptor) -> bool:
    """Return whether null is a value of the field: of ``google.protobuf.Value`` it is one."""
    message = field.message_type
    return message is not None and message.full_name == VALUE


def _fields_converter(
    descriptor: Descriptor, steps: Steps, oneofs: Mapping[str, str]
) -> Callable[[Any], dict[str, Any]]:
    names = [field.name for field in descriptor.fields]

    def convert(row: DynamicValue) -> dict[str, Any]:
        if type(row) is not dict and not isinstance(row, Mapping):
            raise wrong_type(row, f"an object with the fields of {descriptor.name}")
        values: dict[str, Any] = {}
        key: Any = ""
        try:
            for key, value in row.items():
                name, convert_value, takes_none, handed_on = steps[key]
                if value is None and not takes_none:
                    continue
                if name in values:
                    raise EventProblem(
                        Reason.WRONG_TYPE, "", f"{name} is given twice, also under its JSON name"
                    )
                kind = type(value)
                if kind is handed_on and (kind is not str or value.isascii()):
                    values[name] = value
                else:
                    values[name] = convert_value(value)
        except EventProblem as problem:
            raise EventProblem(
                problem.reason, join_path(steps[key][0], problem.field), problem.message
            ) from None
        except KeyError:
            # Only the look-up of a key raises it: converters have no mappings of their own.
            raise _unknown_key(key, descriptor, names) from None
        if oneofs:
            _check_oneofs(values, oneofs)
        return values

    return convert


def _unknown_key(key: object, descriptor: Descriptor, names: list[str]) -> EventProblem:
    shown = str(key)[:60]
    return EventProblem(
        Reason.UNKNOWN_FIELD,
        shown,
        f"{descriptor.full_name} has no field {shown!r}{near_names(shown, names)}",
    )


def _check_oneofs(values: Mapping[str, Any], oneofs: Mapping[str, str]) -> None:
    taken: dict[str, str] = {}
    for name in values:
        oneof = oneofs.get(name)
        if oneof is None:
            continue
        other = taken.setdefault(oneof, name)
        if other != name:
            raise EventProblem(
                Reason.WRONG_TYPE, name, f"{other} and {name} are of one oneof ({oneof}): give one"
            )


def _list_converter(convert: Convert, field: FieldDescriptor) -> Convert:
    takes_none = _takes_none(field)

    def convert_list(values: DynamicValue) -> list[Any]:
        if not isinstance(values, (list, tuple)):
            if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
                raise wrong_type(values, "a list")
            values = list(values)
        converted: list[Any] = []
        try:
            for value in values:
                if value is None and not takes_none:
                    raise wrong_type(value, "a value: a list cannot hold null")
                converted.append(convert(value))
        except EventProblem as problem:
            path = join_path(f"[{len(converted)}]", problem.field)
            raise EventProblem(problem.reason, path, problem.message) from None
        return converted

    return convert_list


def _map_converter(convert_key: Convert, convert: Convert, takes_none: bool) -> Convert:
    def convert_map(entries: DynamicValue) -> dict[Any, Any]:
        if isinstance(entries, Mapping):
            pairs = list(entries.items())
        elif isinstance(entries, (list, tuple)):
            pairs = [_entry(index, entry) for index, entry in enumerate(entries)]
        else:
            raise wrong_type(entries, "an object, or a list of {key, value}")
        converted: dict[Any, Any] = {}
        for key, value in pairs:
            try:
                if value is None and not takes_none:
                    raise wrong_type(value, "a value: a map cannot hold null")
                own_key = convert_key(key)
                if own_key in converted:
                    raise EventProblem(Reason.WRONG_TYPE, "", "the key is given twice")
                converted[own_key] = convert(value)
            except EventProblem as problem:
                path = join_path(f"[{key_path(key)}]", problem.field)
                raise EventProblem(problem.reason, path, problem.message) from None
        return converted

    return convert_map


def _entry(index: int, entry: DynamicValue) -> tuple[Any, Any]:
    if isinstance(entry, Mapping) and entry.keys() == {"key", "value"}:
        return entry["key"], entry["value"]
    problem = wrong_type(entry, "an object of key and value")
    raise EventProblem(problem.reason, f"[{index}]", problem.message)


def _key_converter(field: FieldDescriptor) -> Convert:
    convert = converter_of(field)
    if field.type != FieldDescriptor.TYPE_BOOL:
        return convert
    words = {"true": True, "false": False}
    return lambda key: convert(words.get(key, key) if isinstance(key, str) else key)


def _parts_converter(parts: Callable[[Any], tuple[int, int]]) -> Convert:
    def convert(value: DynamicValue) -> dict[str, int]:
        seconds, nanos = parts(value)
        return {"seconds": seconds, "nanos": nanos}

    return convert


def _field_mask_converter(fields: Convert) -> Convert:
    def convert(value: DynamicValue) -> DynamicValue:
        if isinstance(value, str):
            value = {"paths": [path for path in value.split(",") if path]}
        elif isinstance(value, (list, tuple)):
            value = {"paths": value}
        return fields(value)

    return convert


def _json_converter(descriptor: Descriptor) -> Convert:
    """Return the converter of JSON to a Struct, Value or ListValue message."""
    message_class = message_factory.GetMessageClass(descriptor)
    fill = {STRUCT: _fill_struct, VALUE: _fill_value, LIST_VALUE: _fill_list}[descriptor.full_name]

    def convert(value: DynamicValue) -> DynamicValue:
        message = message_class()
        fill(message, value)
        return message

    return convert


def _fill_struct(message: DynamicMessage, value: DynamicValue) -> None:
    if not isinstance(value, Mapping):
        raise wrong_type(value, "an object")
    for key, below in value.items():
        if not isinstance(key, str):
            raise wrong_type(key, "a name: the keys of a JSON object are strings")
        to_text(key)
        try:
            _fill_value(message.fields[key], below)
        except EventProblem as problem:
            raise EventProblem(
                problem.reason, join_path(key, problem.field), problem.message
            ) from None


def _fill_list(message: DynamicMessage, value: DynamicValue) -> None:
    if not isinstance(value, (list, tuple)):
        raise wrong_type(value, "a list")
    for index, below in enumerate(value):
        try:
            _fill_value(message.values.add(), below)
        except EventProblem as problem:
            path = join_path(f"[{index}]", problem.field)
            raise EventProblem(problem.reason, path, problem.message) from None


def _fill_value(message: DynamicMessage, value: DynamicValue) -> None:
    if value is None:
        message.null_value = 0
    elif isinstance(value, bool):
        message.bool_value = value
    elif isinstance(value, str):
        message.string_value = to_text(value)
    elif isinstance(value, (int, float)):
        if isinstance(value, int) and abs(value) > _EXACT_INTEGER_MAX and not _is_exact(value):
            raise EventProblem(
                Reason.OUT_OF_RANGE,
                "",
                f"{str(value)[:60]} has more digits than a number in a Struct keeps: write it as"
                " text",
            )
        if not math.isfinite(value):
            raise EventProblem(Reason.UNREPRESENTABLE, "", f"{value} has no form in JSON")
        message.number_value = value
    elif isinstance(value, Mapping):
        message.struct_value.SetInParent()
        _fill_struct(message.struct_value, value)
    elif isinstance(value, (list, tuple)):
        message.list_value.SetInParent()
        _fill_list(message.list_value, value)
    else:
        raise wrong_type(value, "a value that JSON can hold")


def _is_exact(value: int) -> bool:
    try:
        return int(float(value)) == value
    except OverflowError:
        return False
