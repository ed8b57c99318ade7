"""Events as rows of the Storage Write API: protobuf messages of a type made for the purpose.

The API wants one self-contained message type, without imports, whose fields are named as the
columns are. The table's own message is no such type: it imports, nests types of other files, and
says with a default what a column says with NULL. So one is made from the columns, each field with
presence: what is unset is NULL.

Which protobuf type carries which column type:
docs.cloud.google.com/bigquery/docs/supported-data-types, looked up 2026-11-24.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import ptars
import pyarrow as pa
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pb2 import FileDescriptorProto as FileProto
from google.protobuf.message import Message

from eventmill.schema.message_type import MessageType
from eventmill.schema.table import Column, ColumnType, Mode, TableSpec
from eventmill.store.own_columns import INGESTED_AT, INSERT_ID
from eventmill.wire.columns import ColumnReader

_F = FieldDescriptorProto
_TYPES = {
    ColumnType.INTEGER: _F.TYPE_INT64,
    ColumnType.FLOAT: _F.TYPE_DOUBLE,
    ColumnType.BOOLEAN: _F.TYPE_BOOL,
    ColumnType.BYTES: _F.TYPE_BYTES,
    # Microseconds: of a number in the other write API, seconds. There text is sent.
    ColumnType.TIMESTAMP: _F.TYPE_INT64,
    ColumnType.DATE: _F.TYPE_INT32,
    ColumnType.RECORD: _F.TYPE_MESSAGE,
}
"""The carriers; every column type that is not here is carried as text."""
_CARRIED = {
    ColumnType.TIMESTAMP: pa.int64(),
    ColumnType.DATE: pa.int32(),
    ColumnType.TIME: pa.string(),
    ColumnType.DATETIME: pa.string(),
    ColumnType.NUMERIC: pa.string(),
    ColumnType.BIGNUMERIC: pa.string(),
}
"""Arrow types of the carriers, where they differ from those of the columns."""
_LABELS = {Mode.REPEATED: _F.LABEL_REPEATED}

OWN_COLUMNS = (
    Column(
        INSERT_ID,
        ColumnType.STRING,
        Mode.REQUIRED,
        "The event's identity, given where it was born. A row that was sent twice has the same.",
    ),
    Column(INGESTED_AT, ColumnType.TIMESTAMP, Mode.REQUIRED, "When the row was sent to BigQuery."),
)
"""What each table has beside its event's columns, at its end."""

_Fill: TypeAlias = Callable[[Any, dict[str, Any]], None]


class RowWriter:
    """Turns events of one table into rows for its write streams. Safe from any thread.

    Two ways that agree on every row: columns of Arrow to messages at once, or value by value.
    """

    def __init__(self, spec: TableSpec, *, fast: bool | None = None) -> None:
        """Make the message type of the rows.

        Args:
            spec: the table.
            fast: False: value by value; True or None: columns at once.

        Raises:
            SchemaError: the columns do not fit the message.
        """
        self._reader = ColumnReader(spec)
        self._carried = pa.schema(
            [
                pa.field(column.name, _carried(field.type, column))
                for column, field in zip(spec.columns, self._reader.arrow_schema, strict=True)
            ]
        )
        columns = (*spec.columns, *OWN_COLUMNS)
        self.descriptor = _message("Row", columns)
        """The type, self-contained: what a stream's first request says of the rows."""
        file = FileProto(name="eventmill/row.proto", syntax="proto2")
        file.message_type.append(self.descriptor)
        self._cls = MessageType.load(
            FileDescriptorSet(file=[file]).SerializeToString(), self.descriptor.name
        ).cls
        self._fill = _filler(spec.columns)
        descriptor: Any = self._cls.DESCRIPTOR
        self._handler: Any = None
        if fast is not False:
            self._handler = ptars.HandlerPool([descriptor.file]).get_for_message(descriptor)

    def rows(
        self, insert_ids: Sequence[bytes], events: Sequence[bytes], ingested_us: int
    ) -> list[bytes]:
        """Return one encoded row an event, in order.

        Args:
            insert_ids: of the events, in UTF-8.
            events: encoded messages that admission found good.
            ingested_us: microseconds since 1970.
        """
        batch = self._reader.read(pa.array(events, pa.binary()))
        carried = pa.Table.from_batches([batch]).cast(self._carried)
        if self._handler is not None and events:
            return self._at_once(carried, insert_ids, ingested_us)
        values = carried.to_pylist()
        encoded = []
        for insert_id, value in zip(insert_ids, values, strict=True):
            row: Any = self._cls()
            self._fill(row, value)
            setattr(row, INSERT_ID, insert_id.decode())
            setattr(row, INGESTED_AT, ingested_us)
            encoded.append(row.SerializeToString())
        return encoded

    def _at_once(
        self, carried: pa.Table, insert_ids: Sequence[bytes], ingested_us: int
    ) -> list[bytes]:
        own = {
            INSERT_ID: pa.array(insert_ids, pa.binary()).cast(pa.string()),
            INGESTED_AT: pa.repeat(pa.scalar(ingested_us, pa.int64()), carried.num_rows),
        }
        for name, values in own.items():
            carried = carried.append_column(name, values)
        (batch,) = carried.combine_chunks().to_batches()
        encoded: list[bytes] = self._handler.record_batch_to_array(batch).to_pylist()
        return encoded

    def parse(self, row: bytes) -> Message:
        """Return an encoded row as a message, such as for a test."""
        return self._cls.FromString(row)


def _message(name: str, columns: Sequence[Column]) -> DescriptorProto:
    message = DescriptorProto(name=name)
    names = {column.name for column in columns}
    for number, column in enumerate(columns, 1):
        field = message.field.add(
            name=column.name,
            number=number,
            type=_TYPES.get(column.type, _F.TYPE_STRING),
            # Required in the table is no matter of the row's type: the table says so itself.
            label=_LABELS.get(column.mode, _F.LABEL_OPTIONAL),
        )
        if column.type is ColumnType.RECORD:
            below = f"R{number}"
            while below in names:  # types and fields of one message share their names
                below += "_"
            message.nested_type.append(_message(below, column.fields))
            field.type_name = below
    return message


def _carried(type_: pa.DataType, column: Column) -> pa.DataType:
    """Return the Arrow type in which values of ``column`` are put into a row."""
    if pa.types.is_list(type_):
        return pa.list_(_carried(type_.value_type, column))
    if pa.types.is_struct(type_):
        return pa.struct(
            [
                pa.field(field.name, _carried(field.type, below))
                for field, below in zip(type_, column.fields, strict=True)
            ]
        )
    return _CARRIED.get(column.type, type_)


def _filler(columns: Sequence[Column]) -> _Fill:
    """Return what puts the values of ``columns`` into a row, or into a record of one."""
    scalars = [c.name for c in columns if c.type is not ColumnType.RECORD]
    plain = [c.name for c in columns if c.name in scalars and c.mode is not Mode.REPEATED]
    lists = [c.name for c in columns if c.name in scalars and c.mode is Mode.REPEATED]
    records = [
        (c.name, c.mode is Mode.REPEATED, _filler(c.fields))
        for c in columns
        if c.type is ColumnType.RECORD
    ]

    def fill(row: Any, values: dict[str, Any]) -> None:  # noqa: ANN401 - any message
        for name in plain:
            value = values[name]
            if value is not None:
                setattr(row, name, value)
        for name in lists:
            getattr(row, name).extend(values[name] or ())
        for name, is_repeated, below in records:
            value = values[name]
            if value is None:
                continue
            if is_repeated:
                for element in value:
                    below(getattr(row, name).add(), element)
            else:
                record = getattr(row, name)
                record.SetInParent()  # a record whose every column is NULL is not NULL itself
                below(record, value)

    return fill
