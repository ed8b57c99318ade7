"""Messages to rows of Python values: the definition of the mapping, value by value.

The fast way to columns (``wire.columns``) must agree with what is read here, row by row.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Context, Decimal
from operator import attrgetter
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from eventmill.schema import times
from eventmill.schema.dynamic import DynamicMessage, DynamicValue, enum_of
from eventmill.schema.json_text import map_text, message_text
from eventmill.schema.kinds import Kind, is_map
from eventmill.schema.message_type import MessageType
from eventmill.schema.shape import FieldShape, pair_columns, shape_of
from eventmill.schema.table import Column, ColumnType, Mode
from eventmill.schema.text_values import TEXT_READERS

Read = Callable[[Any], Any]
_NUMERIC = Context(prec=38)
_NUMERIC_UNIT = Decimal("1e-9")


class RowReader:
    """Reads messages of one type as rows of a table; safe from any thread."""

    def __init__(self, message_type: MessageType, columns: tuple[Column, ...]) -> None:
        """Compile the readers.

        Args:
            message_type: of the messages that will be read.
            columns: of the table; those that the message does not have are NULL, or empty lists.

        Raises:
            SchemaError: the message does not fit a table.
        """
        self._read = record_reader(shape_of(message_type), columns)

    def read(self, message: DynamicMessage) -> dict[str, Any]:
        """Return the row of a message that ``EventCheck`` found good.

        Values are int, float, bool, str, bytes; datetime (aware, UTC; the int of microseconds
        since 1970 where a datetime cannot hold it), date, time, Decimal; a dict for a RECORD, a
        list for REPEATED, None for NULL.
        """
        return self._read(message)  # type: ignore[no-any-return]


def record_reader(shapes: tuple[FieldShape, ...], columns: tuple[Column, ...]) -> Read:
    """Return the reader of a message's fields to a dict with the keys of ``columns``."""
    readers: list[tuple[str, Read]] = []
    for column, shape in pair_columns(columns, shapes):
        if shape is None:
            readers.append((column.name, _read_empty if _is_list(column) else _read_null))
        else:
            readers.append((column.name, _field_reader(shape, column)))

    def read_record(message: DynamicMessage) -> dict[str, Any]:
        return {name: read(message) for name, read in readers}

    return read_record


def _is_list(column: Column) -> bool:
    return column.mode is Mode.REPEATED


def _read_null(message: DynamicMessage) -> None:
    del message


def _read_empty(message: DynamicMessage) -> list[Any]:
    del message
    return []


def _field_reader(shape: FieldShape, column: Column) -> Read:
    """Return the reader of a column from the message that holds its field."""
    field = shape.field
    get: Read = attrgetter(field.name)
    if shape.kind is Kind.MAP:
        return _map_reader(shape, column, get)
    if shape.kind is Kind.JSON and is_map(field):
        return lambda message: map_text(field, get(message))
    value = value_reader(shape, column)
    if field.is_repeated:
        if value is None:
            return lambda message: list(get(message))
        return lambda message: [value(element) for element in get(message)]
    if not field.has_presence:
        return get if value is None else lambda message: value(get(message))
    has = field.name
    if value is None:
        return lambda message: get(message) if message.HasField(has) else None
    return lambda message: value(get(message)) if message.HasField(has) else None


def value_reader(shape: FieldShape, column: Column) -> Read | None:
    """Return the reader of one value, an element where repeated; None: the value as it is."""
    kind = shape.kind
    if kind is Kind.RECORD:
        return record_reader(shape.fields, column.fields)
    if kind is Kind.TIMESTAMP:
        return _read_timestamp
    if kind is Kind.DURATION:
        return _read_duration
    if kind is Kind.JSON:
        return message_text
    scalar = _scalar_reader(shape)
    if shape.wrapped is None:
        return scalar
    if scalar is None:
        return attrgetter("value")
    return lambda wrapper: scalar(wrapper.value)


def _scalar_reader(shape: FieldShape) -> Read | None:
    if shape.kind is Kind.ENUM_NAME:
        names = enum_names(shape.field)
        return lambda number: names.get(number) or str(number)
    if shape.kind is Kind.TEXT:
        return text_reader(shape.type)
    if shape.kind is Kind.MICROSECONDS:
        return times.datetime_of_microseconds
    if shape.kind is Kind.DAYS:
        return times.date_of_days
    if shape.kind is Kind.NUMERIC:
        return Decimal
    return None


def text_reader(type_: ColumnType) -> Read:
    """Return the reader of a text that was judged good for a column of ``type_``; empty is None.

    What it returns raises ValueError when the text does not read as the type.
    """
    if type_ is ColumnType.JSON:
        # How deep a text may be depends on the stack of whoever parses it: not a second time.
        return lambda text: text or None
    read = TEXT_READERS[type_]
    if type_ is ColumnType.NUMERIC:
        # Arrow counts the zeros at the end of a number among its digits.
        return lambda text: read(text).quantize(_NUMERIC_UNIT, context=_NUMERIC) if text else None
    return lambda text: read(text) if text else None


def enum_names(field: FieldDescriptor) -> dict[int, str]:
    """Return the name of each number of a field's enum: the first, where it has aliases."""
    names: dict[int, str] = {}
    for value in enum_of(field).values:
        names.setdefault(value.number, value.name)
    return names


def _map_reader(shape: FieldShape, column: Column, get: Read) -> Read:
    value: Read | None = None
    extra: dict[str, Any] = {}
    has_value = False
    for below, below_shape in pair_columns(column.fields, shape.fields):
        if below_shape is None:
            extra[below.name] = [] if _is_list(below) else None
        elif below_shape.name == "value":
            has_value = True
            value = value_reader(below_shape, below)

    def read_map(message: DynamicMessage) -> list[dict[str, Any]]:
        container = get(message)
        rows = []
        for key in sorted(container):
            row = {"key": key, **extra}
            if has_value:
                row["value"] = container[key] if value is None else value(container[key])
            rows.append(row)
        return rows

    return read_map


def _read_timestamp(value: DynamicValue) -> DynamicValue:
    return times.datetime_of_microseconds(value.seconds * 1_000_000 + value.nanos // 1000)


def _read_duration(value: DynamicValue) -> float:
    # Two rounded operations, as Arrow does them, so that both readers agree to the last bit.
    return float(value.seconds + value.nanos / 1e9)
