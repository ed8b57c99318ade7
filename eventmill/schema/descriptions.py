"""Descriptions of columns and tables, out of the comments of .proto files."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)

DESCRIPTION_BYTES_MAX = 1024
"""Bytes of one description (cloud.google.com/bigquery/quotas, "column description", looked up
2026-11-23)."""
_KEPT_BYTES_MAX = 1010
_CUT = "...(truncated)"


class Comments:
    """Leading comments of the messages and fields of a descriptor set, by full name."""

    def __init__(self, descriptor_set: bytes) -> None:
        self._texts: dict[str, str] = {}
        for file in FileDescriptorSet.FromString(descriptor_set).file:
            self._texts.update(_comments_in(file))

    def of(self, full_name: str) -> str:
        """Return the comment, without common indentation; empty when there is none."""
        return self._texts.get(full_name, "")


def column_description(comment: str, enum: EnumDescriptor | None = None) -> str:
    """Return the description of a column: its comment, and the names of its enum's values."""
    lines = [comment] if comment else []
    if enum is not None:
        lines.append(f"Valid values: {', '.join(value.name for value in enum.values)}.")
    return cut("\n".join(lines))


def table_description(comment: str, file_name: str) -> str:
    """Return the description of a table: the comment of its message, and where it is defined."""
    return cut("\n".join([*([comment] if comment else []), f"Defined in {file_name}."]))


def cut(text: str) -> str:
    """Return ``text``, or as many of its first lines as fit and a mark that it was cut."""
    if len(text.encode()) <= DESCRIPTION_BYTES_MAX:
        return text
    kept = ""
    for line in text.splitlines(keepends=True):
        if len((kept + line).encode()) > _KEPT_BYTES_MAX:
            break
        kept += line
    if not kept:
        kept = text.encode()[:_KEPT_BYTES_MAX].decode(errors="ignore")
    return kept + _CUT


def clean(comment: str) -> str:
    """Return a comment as protoc hands it over without its common indentation and end space."""
    return textwrap.dedent(comment.expandtabs()).strip("\n").rstrip()


_MESSAGE, _NESTED, _FIELD = (
    FileDescriptorProto.MESSAGE_TYPE_FIELD_NUMBER,
    DescriptorProto.NESTED_TYPE_FIELD_NUMBER,
    DescriptorProto.FIELD_FIELD_NUMBER,
)


def _comments_in(file: FileDescriptorProto) -> dict[str, str]:
    by_place = {
        tuple(location.path): clean(location.leading_comments)
        for location in file.source_code_info.location
        if location.leading_comments
    }
    if not by_place:
        return {}
    prefix = f"{file.package}." if file.package else ""
    names = _places(file.message_type, prefix, (_MESSAGE,))
    return {name: by_place[place] for place, name in names if place in by_place}


def _places(
    messages: Sequence[Any], prefix: str, above: tuple[int, ...]
) -> Iterator[tuple[tuple[int, ...], str]]:
    """Yield (path in the file's descriptor, full name) of every message and field."""
    for index, message in enumerate(messages):
        place, name = (*above, index), f"{prefix}{message.name}"
        yield place, name
        for at, field in enumerate(message.field):
            yield (*place, _FIELD, at), f"{name}.{field.name}"
        yield from _places(message.nested_type, f"{name}.", (*place, _NESTED))
