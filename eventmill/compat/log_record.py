"""``eventmill.LogRecord`` without a compiler, and events of it from what was logged.

The message is that of ``eventmill/log_record.proto`` among the protos that ship with the package;
a test holds the two together. It is put together here so that a program that logs needs no more
than protobuf.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from google.protobuf import timestamp_pb2
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)

from eventmill.client.encode import Event
from eventmill.compat.log_text import extra_text
from eventmill.schema.message_type import MessageType

_STRING = FieldDescriptorProto.TYPE_STRING
_INT32 = FieldDescriptorProto.TYPE_INT32
_INT64 = FieldDescriptorProto.TYPE_INT64
_FIELDS = (
    ("logged_at", FieldDescriptorProto.TYPE_MESSAGE, False),
    ("level", _STRING, False),
    ("level_number", _INT32, False),
    ("logger", _STRING, False),
    ("message", _STRING, False),
    ("template", _STRING, True),
    ("exception_type", _STRING, True),
    ("exception_message", _STRING, True),
    ("traceback", _STRING, True),
    ("stack", _STRING, True),
    ("file", _STRING, True),
    ("line", _INT32, True),
    ("function", _STRING, True),
    ("host", _STRING, False),
    ("service", _STRING, False),
    ("process_id", _INT64, False),
    ("process_name", _STRING, True),
    ("thread_name", _STRING, True),
    ("task_name", _STRING, True),
    ("trace_id", _STRING, True),
    ("span_id", _STRING, True),
    ("extra", _STRING, False),
)
"""Name, type, and whether it is ``optional``; numbered from 1."""


@cache
def log_record_type() -> MessageType:
    """Return the message type ``eventmill.LogRecord``."""
    message = DescriptorProto(name="LogRecord")
    for number, (name, type_, is_optional) in enumerate(_FIELDS, 1):
        field = message.field.add(
            name=name, number=number, type=type_, label=FieldDescriptorProto.LABEL_OPTIONAL
        )
        if type_ == FieldDescriptorProto.TYPE_MESSAGE:
            field.type_name = ".google.protobuf.Timestamp"
        if is_optional:
            field.proto3_optional = True
            field.oneof_index = len(message.oneof_decl)
            message.oneof_decl.add(name=f"_{name}")
    timestamp = FileDescriptorProto()
    timestamp_pb2.DESCRIPTOR.CopyToProto(timestamp)
    file = FileDescriptorProto(
        name="eventmill/log_record.proto",
        package="eventmill",
        syntax="proto3",
        dependency=[timestamp.name],
        message_type=[message],
    )
    files = FileDescriptorSet(file=[timestamp, file])
    return MessageType.load(files.SerializeToString(), "eventmill.LogRecord")


def moment(seconds: float) -> dict[str, int]:
    """Return seconds since 1970 as the parts of a timestamp, in whole microseconds."""
    whole, micros = divmod(round(seconds * 1e6), 1_000_000)
    return {"seconds": whole, "nanos": micros * 1000}


class LogEvents:
    """Makes events from columns of ``eventmill.LogRecord`` and what was logged beside them."""

    def __init__(self, service: str = "", extra_columns: Sequence[str] = ()) -> None:
        """Prepare.

        Args:
            service: name of the program, for the column of that name.
            extra_columns: names among what was logged beside a message that are columns of the
                table, which then is of a message of the user's own.
        """
        self._class = log_record_type().cls
        self._same = {"host": socket.gethostname(), "service": service}
        self.extra_columns = tuple(extra_columns)

    def make(
        self, columns: Mapping[str, Any], extra: dict[str, object], *, is_plain: bool = False
    ) -> Event:
        """Return one event.

        Args:
            columns: of ``eventmill.LogRecord``; None leaves one unset.
            extra: goes into the column ``extra``, but for what has a column of its own.
            is_plain: give nothing a column of its own.
        """
        if not self.extra_columns:
            return self._class(**{**self._same, **columns, "extra": extra_text(extra)})
        own: dict[str, object] = {}
        if not is_plain:
            own = {name: extra.pop(name) for name in self.extra_columns if name in extra}
        row = {**own, **self._same, **columns, "extra": extra_text(extra)}
        return {name: value for name, value in row.items() if value is not None}
