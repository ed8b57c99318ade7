"""Events for tests: one table of CI builds, and its message type as it was, is and will be.

The descriptors are put together here, so that neither a compiler nor generated code is needed.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from google.protobuf import timestamp_pb2
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)

from eventmill.schema.mapping import spec_from_proto
from eventmill.schema.message_type import MessageType
from eventmill.schema.table import TableId, TableSpec
from eventmill.wire.batch import Batch

BUILDS = TableId("local", "contract", "builds")
"""The table that the suites put into."""
MESSAGE = "eventmill.testing.Build"

_SCALARS = {
    "name": (1, FieldDescriptorProto.TYPE_STRING),
    "seconds": (2, FieldDescriptorProto.TYPE_INT64),
    "ok": (3, FieldDescriptorProto.TYPE_BOOL),
}


@cache
def build_type(version: str = "current") -> MessageType:
    """Return the message type of a build.

    Args:
        version: ``older`` has the fields name and seconds; ``current`` also ok, at (a
            timestamp), tags and steps; ``newer`` also host, which the table lacks; ``newest``
            also ports, and in each step attempt and notes.
    """
    message = DescriptorProto(name="Build")
    for name, (number, type_) in _SCALARS.items():
        if version != "older" or name != "ok":
            message.field.add(
                name=name, number=number, type=type_, label=FieldDescriptorProto.LABEL_OPTIONAL
            )
    if version != "older":
        _add_compound_fields(message)
    if version in ("newer", "newest"):
        message.field.add(
            name="host",
            number=7,
            type=FieldDescriptorProto.TYPE_STRING,
            label=FieldDescriptorProto.LABEL_OPTIONAL,
        )
    if version == "newest":
        _add_newest_fields(message)
    timestamp = FileDescriptorProto()
    timestamp_pb2.DESCRIPTOR.CopyToProto(timestamp)
    file = FileDescriptorProto(
        name="eventmill/testing/build.proto",
        package="eventmill.testing",
        syntax="proto3",
        dependency=[timestamp.name],
        message_type=[message],
    )
    files = FileDescriptorSet(file=[timestamp, file])
    return MessageType.load(files.SerializeToString(), MESSAGE)


def build_spec(table: TableId = BUILDS, version: str = "current") -> TableSpec:
    """Return the definition of a table of builds."""
    return spec_from_proto(table, build_type(version).descriptor_set, MESSAGE)


def build(name: str, version: str = "current", **fields: Any) -> bytes:  # noqa: ANN401
    """Return one encoded build."""
    event: bytes = build_type(version).cls(name=name, **fields).SerializeToString()
    return event


def build_batch(
    *names: str,
    table: TableId = BUILDS,
    version: str = "current",
    insert_ids: list[bytes] | None = None,
    events: list[bytes] | None = None,
) -> Batch:
    """Return a batch of builds, each with its name as insert ID unless told otherwise."""
    return Batch.build(
        table,
        build_type(version).fingerprint,
        insert_ids if insert_ids is not None else [name.encode() for name in names],
        events if events is not None else [build(name, version) for name in names],
    )


def _add_compound_fields(message: DescriptorProto) -> None:
    optional, repeated = FieldDescriptorProto.LABEL_OPTIONAL, FieldDescriptorProto.LABEL_REPEATED
    step = message.nested_type.add(name="Step")
    step.field.add(name="name", number=1, type=FieldDescriptorProto.TYPE_STRING, label=optional)
    step.field.add(name="seconds", number=2, type=FieldDescriptorProto.TYPE_DOUBLE, label=optional)
    message.field.add(
        name="at",
        number=4,
        type=FieldDescriptorProto.TYPE_MESSAGE,
        type_name=".google.protobuf.Timestamp",
        label=optional,
    )
    message.field.add(name="tags", number=5, type=FieldDescriptorProto.TYPE_STRING, label=repeated)
    message.field.add(
        name="steps",
        number=6,
        type=FieldDescriptorProto.TYPE_MESSAGE,
        type_name=f".{MESSAGE}.Step",
        label=repeated,
    )


def _add_newest_fields(message: DescriptorProto) -> None:
    repeated, text = FieldDescriptorProto.LABEL_REPEATED, FieldDescriptorProto.TYPE_STRING
    number = FieldDescriptorProto.TYPE_INT32
    message.field.add(name="ports", number=8, type=number, label=repeated)
    step = message.nested_type[0]
    step.field.add(name="attempt", number=3, type=number, label=FieldDescriptorProto.LABEL_OPTIONAL)
    step.field.add(name="notes", number=4, type=text, label=repeated)
