"""Where the .proto files say a thing: file and line of fields, messages, enums and their values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)

from eventmill.schema.message_type import MessageType
from eventmill.schema.options import TABLE_OPTIONS_NUMBER
from eventmill.schema.shape import FieldShape, shape_of
from eventmill.schema.table import TableSpec

_Path = tuple[int, ...]
_M, _E, _F = DescriptorProto, EnumDescriptorProto, FileDescriptorProto
# Numbers are 29 bits, and these are protobuf's own (protobuf.dev/programming-guides/proto3,
# "Assigning Field Numbers", looked up 2026-11-24).
_NUMBER_MAX = 536_870_911
_OWN_NUMBERS = range(19_000, 20_000)


class Places:
    """Finds what a definition names in its files; read only when first asked."""

    def __init__(self, spec: TableSpec) -> None:
        self._spec = spec
        self._lines: dict[str, dict[_Path, int]] = {}

    def of(self, full_name: str) -> str:
        """Return ``file:line`` of a field, a message, an enum, or a value (``enum.value``).

        The file is named as its importers name it. Empty: unknown, as in a descriptor set
        without source info.
        """
        file, path = self._index.get(full_name, (None, ()))
        return "" if file is None else self._line(file, path)

    def of_column(self, path: str) -> str:
        """Return ``file:line`` of the field behind a column, else of the nearest one above it."""
        while path:
            place = self.of(self._fields.get(path, ""))
            if place:
                return place
            path = path.rpartition(".")[0]
        return ""

    def of_table_options(self) -> str:
        """Return ``file:line`` of the message's table options, else of the message."""
        file, path = self._index.get(self._spec.message, (None, ()))
        if file is None:
            return ""
        options = (*path, _M.OPTIONS_FIELD_NUMBER, TABLE_OPTIONS_NUMBER)
        return self._line(file, options) or self._line(file, path)

    def reserve(self, full_name: str, number: int, name: str) -> str:
        """Return the statement that reserves what a message or enum lacks of number and name.

        Empty: both are reserved, or there is no such message or enum.
        """
        file, _ = self._index.get(full_name, (None, ()))
        holder = self._holders.get(full_name)
        if file is None or holder is None:
            return ""
        # An enum's range includes its end, a message's does not.
        last = 0 if isinstance(holder, EnumDescriptorProto) else 1
        words = []
        if not any(r.start <= number <= r.end - last for r in holder.reserved_range):
            words.append(f"reserved {number};")
        if name not in holder.reserved_name:
            # Editions write reserved names without quotes.
            quoted = name if file.syntax == "editions" else f'"{name}"'
            words.append(f"reserved {quoted};")
        return " ".join(words)

    def free_number(self, message: str, used: Iterable[int]) -> int | None:
        """Return a field number above all ``used`` that ``message`` may take; None: none is left.

        Args:
            message: full name of the message.
            used: numbers that fields have or had.
        """
        number = max(used, default=0) + 1
        holder = self._holders.get(message)
        taken = [(_OWN_NUMBERS.start, _OWN_NUMBERS.stop)]
        if isinstance(holder, DescriptorProto):
            taken += [(reserved.start, reserved.end) for reserved in holder.reserved_range]
            taken += [(extended.start, extended.end) for extended in holder.extension_range]
        for start, end in sorted(taken):
            if start <= number < end:
                number = end
        return number if number <= _NUMBER_MAX else None

    @cached_property
    def _fields(self) -> dict[str, str]:
        def walk(shapes: Iterable[FieldShape], prefix: str) -> Iterator[tuple[str, str]]:
            for shape in shapes:
                yield f"{prefix}{shape.name}", shape.field.full_name
                yield from walk(shape.fields, f"{prefix}{shape.name}.")

        spec = self._spec
        return dict(walk(shape_of(MessageType.load(spec.descriptor_set, spec.message)), ""))

    @cached_property
    def _files(self) -> list[FileDescriptorProto]:
        return list(FileDescriptorSet.FromString(self._spec.descriptor_set).file)

    @cached_property
    def _index(self) -> dict[str, tuple[FileDescriptorProto, _Path]]:
        return {
            name: (file, path)
            for file in self._files
            for name, path, _ in _named(file, file.package, ())
        }

    @cached_property
    def _holders(self) -> dict[str, DescriptorProto | EnumDescriptorProto]:
        return {
            name: holder
            for file in self._files
            for name, _, holder in _named(file, file.package, ())
            if holder is not None
        }

    def _line(self, file: FileDescriptorProto, path: _Path) -> str:
        lines = self._lines.get(file.name)
        if lines is None:
            lines = {tuple(at.path): at.span[0] + 1 for at in file.source_code_info.location}
            self._lines[file.name] = lines
        line = lines.get(path)
        return "" if line is None else f"{file.name}:{line}"


def _named(
    holder: FileDescriptorProto | DescriptorProto, scope: str, above: _Path
) -> Iterator[tuple[str, _Path, DescriptorProto | EnumDescriptorProto | None]]:
    """Yield (full name, path in the file, the message or enum) of all that ``holder`` defines."""
    if isinstance(holder, FileDescriptorProto):
        messages, messages_at = holder.message_type, _F.MESSAGE_TYPE_FIELD_NUMBER
        enums_at = _F.ENUM_TYPE_FIELD_NUMBER
    else:
        messages, messages_at = holder.nested_type, _M.NESTED_TYPE_FIELD_NUMBER
        enums_at = _M.ENUM_TYPE_FIELD_NUMBER
    prefix = f"{scope}." if scope else ""
    for index, message in enumerate(messages):
        name, path = f"{prefix}{message.name}", (*above, messages_at, index)
        yield name, path, message
        for at, field in enumerate(message.field):
            yield f"{name}.{field.name}", (*path, _M.FIELD_FIELD_NUMBER, at), None
        yield from _named(message, name, path)
    for index, enum in enumerate(holder.enum_type):
        name, path = f"{prefix}{enum.name}", (*above, enums_at, index)
        yield name, path, enum
        for at, value in enumerate(enum.value):
            yield f"{name}.{value.name}", (*path, _E.VALUE_FIELD_NUMBER, at), None
