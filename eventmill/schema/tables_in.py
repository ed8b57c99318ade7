"""Which tables a set of .proto files speaks of, and what of the set belongs to one of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet

from eventmill.schema.message_type import MessageType
from eventmill.schema.options import table_options


def messages_of_tables(descriptor_set: bytes, files: Sequence[str]) -> list[str]:
    """Return the full names of messages whose options name a table, in order of declaration.

    Args:
        descriptor_set: as ``compile_protos`` returns it for ``files``.
        files: paths; messages of what they import are not looked at.

    Raises:
        SchemaError: an option has a value that makes no sense.
    """
    return [
        name
        for name in messages_in(descriptor_set, files, nested=True)
        if table_options(MessageType.load(descriptor_set, name).descriptor).id is not None
    ]


def messages_in(descriptor_set: bytes, files: Sequence[str], *, nested: bool = False) -> list[str]:
    """Return the full names of messages in ``files``; with ``nested`` those inside others too."""
    ends = [f"/{os.path.abspath(path).replace(os.sep, '/').lstrip('/')}" for path in files]
    return [
        name
        for file in FileDescriptorSet.FromString(descriptor_set).file
        if any(end.endswith(f"/{file.name}") for end in ends)
        for name in _names_in(file, nested=nested)
    ]


def only_for(descriptor_set: bytes, message: str) -> bytes:
    """Return the files of the set that define ``message`` and what it needs, in their order."""
    files = FileDescriptorSet.FromString(descriptor_set)
    by_name = {file.name: file for file in files.file}
    wanted = {MessageType.load(descriptor_set, message).descriptor.file.name}
    waiting = list(wanted)
    while waiting:
        below = set(by_name[waiting.pop()].dependency) - wanted
        wanted |= below
        waiting.extend(below)
    kept = [file for file in files.file if file.name in wanted]
    return FileDescriptorSet(file=kept).SerializeToString()


def _names_in(file: FileDescriptorProto, *, nested: bool) -> Iterator[str]:
    def below(prefix: str, messages: Sequence[DescriptorProto]) -> Iterator[str]:
        for message in messages:
            if not message.options.map_entry:
                yield f"{prefix}{message.name}"
                if nested:
                    yield from below(f"{prefix}{message.name}.", message.nested_type)

    yield from below(f"{file.package}." if file.package else "", file.message_type)
