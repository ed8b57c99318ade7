"""How to send one event into a table: an example event, and a program ready to be run.

The example has a value in every column that an event can fill, except that of a oneof it has the
first member. What it says means nothing; that the table accepts it is the promise, which rules of
``buf.validate`` in the .proto are no part of.
"""

from __future__ import annotations

import json
import keyword
import shlex
from base64 import b64encode
from collections.abc import Iterable, Mapping
from datetime import UTC
from pprint import pformat
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.json_format import MessageToDict

from eventmill.base.clock import SYSTEM_CLOCK, Clock
from eventmill.base.errors import UsageError
from eventmill.schema import times
from eventmill.schema.dynamic import DynamicMessage, DynamicValue, enum_of, message_of
from eventmill.schema.generate import python_name
from eventmill.schema.kinds import (
    DURATION,
    INTEGER_TYPES,
    LIST_VALUE,
    STRUCT,
    TIMESTAMP,
    VALUE,
    WRAPPERS,
    Kind,
    is_map,
)
from eventmill.schema.message_type import MessageType, real_oneof
from eventmill.schema.rows import RowEncoder
from eventmill.schema.shape import FieldShape, shape_of
from eventmill.schema.table import ColumnType, TableSpec

SNIPPETS = ("python", "python-dict", "curl", "shell")
"""What ``send_snippet`` writes: a program with the generated class, one with a dict, and a shell
command with curl or with ``eventmill send``."""

_DOCUMENT_LEVELS_MAX = 3
"""Messages inside one another that an example of a JSON document shows; the type has no limit."""
_WIDTH = 88
_TEXT = "example"
_DOCUMENT = {"key": "value"}
_BYTES = b"example"
_DATE = "2026-01-31"
_TEXTS = {
    ColumnType.JSON: json.dumps(_DOCUMENT),
    ColumnType.DATE: _DATE,
    ColumnType.TIME: "12:30:00",
    ColumnType.DATETIME: f"{_DATE}T12:30:00",
    ColumnType.NUMERIC: "12.50",
    ColumnType.GEOGRAPHY: "POINT(13.4 52.5)",
}
_FLOATS = (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT)


def send_snippet(spec: TableSpec, lang: str, address: str, *, clock: Clock = SYSTEM_CLOCK) -> str:
    """Return a program that sends one example event into the table of ``spec``.

    Args:
        spec: the table.
        lang: one of ``SNIPPETS``; ``python`` needs the code of ``generate_python`` on its path.
        address: where the table is, as ``eventmill.connect`` takes it; ``curl`` needs a server.
        clock: says which moment the example's timestamps name.

    Raises:
        UsageError: ``lang`` is none of them, or ``curl`` is to send to a folder.
    """
    message_type = MessageType.load(spec.descriptor_set, spec.message)
    row = example_row(message_type, clock=clock)
    if lang == "python":
        message = message_type.parse(RowEncoder(message_type).encode(row))
        return _python_class(spec, address, message)
    if lang == "python-dict":
        return _python_dict(spec, address, row)
    if lang == "curl":
        if "://" not in address:
            raise UsageError(
                f"curl sends to a server and {address!r} is a folder: run `eventmill serve` on"
                " it, and give the http:// address that it prints"
            )
        url = f"{address.rstrip('/')}/api/v1/tables/{spec.table}/events"
        command = (
            "curl --silent --show-error --header 'Content-Type: application/x-ndjson' \\\n"
            f"  --data-binary @- {shlex.quote(url)}"
        )
        return _piped(row, command)
    if lang == "shell":
        return _piped(row, f"eventmill send --store {shlex.quote(address)} {spec.table}")
    raise UsageError(f"there is no example for {lang!r}: use one of {', '.join(SNIPPETS)}")


def example_row(message_type: MessageType, *, clock: Clock = SYSTEM_CLOCK) -> dict[str, Any]:
    """Return an event as JSON has it, which ``RowEncoder`` and so every store accepts.

    Raises:
        SchemaError: the message does not fit a table.
    """
    moment = times.timestamp_text(int(clock.now()), 0)
    return _Example(moment).message(message_type.descriptor, shape_of(message_type), ())


class _Example:
    """Thinks up a value for each field; in what becomes JSON text, down to a few levels."""

    def __init__(self, moment: str) -> None:
        self._moment = moment

    def message(
        self,
        descriptor: Descriptor,
        shapes: Iterable[FieldShape] | None,
        above: tuple[Descriptor, ...],
    ) -> dict[str, Any]:
        """Return values of the fields that have columns.

        Args:
            descriptor: the message.
            shapes: its fields with columns; None: it is part of a JSON document.
            above: the messages of that document on the way down to it.
        """
        by_name = None if shapes is None else {shape.name: shape for shape in shapes}
        values: dict[str, Any] = {}
        taken: set[str] = set()
        for field in descriptor.fields:
            shape = by_name.get(field.name) if by_name is not None else None
            is_shown = shape is not None if by_name is not None else self._ends(field, above)
            oneof = real_oneof(field)
            if oneof in taken or not (is_shown or field.is_required):
                continue
            if oneof:
                taken.add(oneof)
            values[field.name] = self._field(field, shape, above)
        return values

    def _ends(self, field: FieldDescriptor, above: tuple[Descriptor, ...]) -> bool:
        message = field.message_type
        if message is not None and is_map(field):
            message = message.fields_by_name["value"].message_type
        return message is None or (message not in above and len(above) < _DOCUMENT_LEVELS_MAX)

    def _field(
        self, field: FieldDescriptor, shape: FieldShape | None, above: tuple[Descriptor, ...]
    ) -> DynamicValue:
        if is_map(field):
            key, value = (message_of(field).fields_by_name[name] for name in ("key", "value"))
            below = {s.name: s for s in shape.fields} if shape is not None else {}
            # JSON has no other keys than text.
            name = self._scalar(key, None)
            name = name if isinstance(name, str) else json.dumps(name)
            return {name: self._value(value, below.get("value"), above)}
        value = self._value(field, shape, above)
        return [value] if field.is_repeated else value

    def _value(
        self, field: FieldDescriptor, shape: FieldShape | None, above: tuple[Descriptor, ...]
    ) -> DynamicValue:
        message = field.message_type
        if message is None:
            return self._scalar(field, shape)
        well_known = {
            TIMESTAMP: self._moment,
            DURATION: "1.5s",
            STRUCT: _DOCUMENT,
            VALUE: _TEXT,
            LIST_VALUE: [_TEXT],
        }
        if message.full_name in well_known:
            return well_known[message.full_name]
        if message.full_name in WRAPPERS:
            return self._scalar(message.fields_by_name["value"], shape)
        if shape is not None and shape.fields:
            return self.message(message, shape.fields, ())
        return self.message(message, None, (*above, message))

    def _scalar(self, field: FieldDescriptor, shape: FieldShape | None) -> DynamicValue:
        kind = shape.kind if shape is not None else Kind.SCALAR
        if field.type == FieldDescriptor.TYPE_ENUM:
            values = enum_of(field).values
            return next((value.name for value in values if value.number), values[0].name)
        if kind is Kind.DAYS:
            return _DATE
        if kind is Kind.MICROSECONDS or (shape and shape.type is ColumnType.TIMESTAMP):
            return self._moment
        if field.type in INTEGER_TYPES:
            return 1
        if field.type in _FLOATS:
            return 1.5
        if field.type == FieldDescriptor.TYPE_BOOL:
            return True
        if field.type == FieldDescriptor.TYPE_BYTES:
            return b64encode(_BYTES).decode()
        return _TEXTS.get(shape.type, _TEXT) if shape is not None else _TEXT


def _python_class(spec: TableSpec, address: str, message: DynamicMessage) -> str:
    name = python_name(spec.descriptor_set, spec.message)
    call = _call(name.qualified_name, _arguments(message))
    standard = ["import datetime"] if "datetime." in call else []
    head = "\n\n".join([*standard, f"import eventmill\n{name.import_code}"])
    return f"{head}\n\nevent = {call}\n{_python_send(spec, address)}"


def _python_dict(spec: TableSpec, address: str, row: Mapping[str, Any]) -> str:
    return f"import eventmill\n\n{_assigned('event = ', row)}\n{_python_send(spec, address)}"


def _python_send(spec: TableSpec, address: str) -> str:
    return (
        f"sink = eventmill.connect({address!r})\n"
        f"verdict = eventmill.Uploader(sink, {str(spec.table)!r}).put(event)\n"
        "print(verdict.accepted, 'accepted', verdict.rejected)\n"
        "sink.close()\n"
    )


def _call(name: str, arguments: Mapping[str, Any]) -> str:
    """Return the source of a call, one argument a line."""
    lines = []
    reserved = {key: value for key, value in arguments.items() if keyword.iskeyword(key)}
    for key, value in arguments.items():
        if key not in reserved:
            lines.append(_assigned(f"    {key}=", value))
    if reserved:
        lines.append(_assigned("    **", reserved))
    return "\n".join([f"{name}(", *(f"{line}," for line in lines), ")"])


def _assigned(target: str, value: DynamicValue) -> str:
    text = pformat(value, width=_WIDTH - len(target), sort_dicts=False)
    return target + text.replace("\n", "\n" + " " * len(target))


def _arguments(message: DynamicMessage) -> dict[str, Any]:
    """Return what the constructor of a generated class makes ``message`` of."""
    return {field.name: _argument(field, value) for field, value in message.ListFields()}


def _argument(field: FieldDescriptor, value: DynamicValue) -> DynamicValue:
    if is_map(field):
        below = message_of(field).fields_by_name["value"]
        return {key: _map_value(below, value[key]) for key in value}
    if field.is_repeated:
        return [_plain(field, one) for one in value]
    return _plain(field, value)


def _map_value(field: FieldDescriptor, value: DynamicValue) -> DynamicValue:
    # Values of maps are made from their fields alone, whatever the type takes elsewhere.
    return _arguments(value) if field.message_type is not None else _plain(field, value)


def _plain(field: FieldDescriptor, value: DynamicValue) -> DynamicValue:
    if field.enum_type is not None:
        return enum_of(field).values_by_number[value].name
    if field.message_type is None:
        return value
    name = field.message_type.full_name
    if name == TIMESTAMP:
        return value.ToDatetime(tzinfo=UTC)
    if name == DURATION:
        return value.ToTimedelta()
    if name == STRUCT:
        return MessageToDict(value)
    return _arguments(value)


def _piped(row: Mapping[str, Any], command: str) -> str:
    return f"{command} <<'EOF'\n{json.dumps(row, ensure_ascii=False)}\nEOF\n"
