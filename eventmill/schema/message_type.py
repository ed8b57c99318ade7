"""A message type at run time: its descriptor, its class, and the name of its wire meaning.

Needs protobuf alone, so that the sending library can use it.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, FileDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet
from google.protobuf.message import DecodeError, Message

from eventmill.base.errors import SchemaError, UsageError
from eventmill.base.renewed_lock import RenewedLock

_CACHED_TYPES_MAX = 1024
_Key = TypeVar("_Key")
_Value = TypeVar("_Value")

_guard = RenewedLock()
_pools: OrderedDict[bytes, descriptor_pool.DescriptorPool] = OrderedDict()
_loaded: OrderedDict[tuple[bytes, str], MessageType] = OrderedDict()
_of_classes: OrderedDict[type[Message], MessageType] = OrderedDict()


class MessageType:
    """One message type: made by ``load`` or ``of``, and the same object for the same arguments."""

    def __init__(self, descriptor: Descriptor, cls: type[Message], descriptor_set: bytes) -> None:
        self.descriptor = descriptor
        self.cls = cls
        self.descriptor_set = descriptor_set
        """Serialized ``FileDescriptorSet`` that defines the type, imports before importers."""
        self.full_name: str = descriptor.full_name
        self.parse: Callable[[bytes], Message] = cls.FromString
        self.fingerprint = fingerprint_of(descriptor)
        """16 hexadecimal characters that name the wire meaning; see ``fingerprint_of``."""

    def __repr__(self) -> str:
        return f"<MessageType {self.full_name} [{self.fingerprint}]>"

    @classmethod
    def load(cls, descriptor_set: bytes, message: str) -> MessageType:
        """Return the type named ``message`` (package included) in ``descriptor_set``.

        Raises:
            SchemaError: the bytes are no descriptor set, an import is missing from it, or it has
                no such message; then the message offers the names that are near.
        """
        message = message.removeprefix(".")
        key = (descriptor_set, message)
        with _guard.lock:
            found = _loaded.get(key)
            if found is None:
                pool = _pool_of(descriptor_set)
                try:
                    descriptor = pool.FindMessageTypeByName(message)
                except KeyError:
                    raise SchemaError(_no_such_message(descriptor_set, message)) from None
                message_class = message_factory.GetMessageClass(descriptor)
                found = _remember(_loaded, key, cls(descriptor, message_class, descriptor_set))
            return found

    @classmethod
    def of(cls, source: Message | type[Message] | Descriptor) -> MessageType:
        """Return the type of a message, of a generated class, or of a descriptor.

        The descriptor set is made from the descriptors in memory; it has no comments, as
        generated code has none.

        Raises:
            UsageError: ``source`` is none of the three.
        """
        descriptor = (
            source if isinstance(source, Descriptor) else getattr(source, "DESCRIPTOR", None)
        )
        if not isinstance(descriptor, Descriptor):
            raise UsageError(f"{source!r} is not a protobuf message, message class or descriptor")
        if isinstance(source, Message):
            message_class: type[Message] = type(source)
        elif isinstance(source, type):
            message_class = source
        else:
            message_class = message_factory.GetMessageClass(descriptor)
        with _guard.lock:
            found = _of_classes.get(message_class)
            if found is None:
                files = FileDescriptorSet(file=_files_below(descriptor.file, {}))
                made = cls(descriptor, message_class, files.SerializeToString())
                found = _remember(_of_classes, message_class, made)
            return found


def _remember(cache: OrderedDict[_Key, _Value], key: _Key, value: _Value) -> _Value:
    cache[key] = value
    if len(cache) > _CACHED_TYPES_MAX:
        cache.popitem(last=False)
    return value


def _files_below(
    file: FileDescriptor, seen: dict[str, FileDescriptorProto]
) -> list[FileDescriptorProto]:
    if file.name not in seen:
        for below in file.dependencies:
            _files_below(below, seen)
        seen[file.name] = FileDescriptorProto()
        file.CopyToProto(seen[file.name])
        # An importer must stand after its imports; a dict keeps the order of insertion.
        seen[file.name] = seen.pop(file.name)
    return list(seen.values())


def _pool_of(descriptor_set: bytes) -> descriptor_pool.DescriptorPool:
    pool = _pools.get(descriptor_set)
    if pool is None:
        pool = descriptor_pool.DescriptorPool()
        for file in _imports_first(_parse_set(descriptor_set)):
            try:
                pool.AddSerializedFile(file.SerializeToString())
            except (TypeError, ValueError) as error:
                raise SchemaError(f"the descriptor set cannot be used: {error}") from error
        _remember(_pools, descriptor_set, pool)
    return pool


def _parse_set(descriptor_set: bytes) -> FileDescriptorSet:
    try:
        return FileDescriptorSet.FromString(descriptor_set)
    except DecodeError as error:
        raise SchemaError(
            "the bytes are not a protobuf FileDescriptorSet: make them with compile_protos or"
            " protoc --include_imports --descriptor_set_out"
        ) from error


def _imports_first(files: FileDescriptorSet) -> list[FileDescriptorProto]:
    by_name = {file.name: file for file in files.file}
    ordered: dict[str, FileDescriptorProto] = {}

    def add(name: str, importer: str, above: tuple[str, ...]) -> None:
        if name in ordered:
            return
        if name not in by_name:
            raise SchemaError(
                f"the descriptor set lacks {name}, which {importer} imports: make it with"
                " --include_imports"
            )
        if name in above:
            raise SchemaError(f"{name} imports itself: {' -> '.join((*above, name))}")
        for below in by_name[name].dependency:
            add(below, name, (*above, name))
        ordered[name] = by_name[name]

    for file in files.file:
        add(file.name, "", ())
    return list(ordered.values())


def _no_such_message(descriptor_set: bytes, message: str) -> str:
    names = [name for file in _parse_set(descriptor_set).file for name in _names_in(file)]
    last = message.rsplit(".", 1)[-1]
    near = [name for name in names if name.rsplit(".", 1)[-1].lower() == last.lower()]
    import difflib  # only when a name is wrong: it costs every start 5 ms

    near += [name for name in difflib.get_close_matches(message, names) if name not in near]
    own = [name for name in names if not name.startswith("google.")]
    if near:
        return f"there is no message {message!r}: did you mean {', '.join(near[:3])}?"
    some = ", ".join(own[:10]) or "no message at all"
    return f"there is no message {message!r}; the files define {some}"


def _names_in(file: FileDescriptorProto) -> Iterator[str]:
    def below(prefix: str, messages: Iterable[DescriptorProto]) -> Iterator[str]:
        for message in messages:
            if not message.options.map_entry:
                yield prefix + message.name
                yield from below(f"{prefix}{message.name}.", message.nested_type)

    yield from below(f"{file.package}." if file.package else "", file.message_type)


def fingerprint_of(descriptor: Descriptor) -> str:
    """Return 16 hexadecimal characters that name the wire meaning of a message type.

    Two types have the same one when every message and enum that can be reached from them has
    the same full name, fields (number, name, type, label, presence, oneof) and enum values.
    Comments, options, file names and declaration order do not count, so that a generated class
    and a descriptor set of the same file agree.
    """
    messages, enums = reachable_types(descriptor)
    lines = [f"root {descriptor.full_name}"]
    for name in sorted(messages):
        lines.append(f"message {name}")
        fields = sorted(messages[name].fields, key=lambda field: field.number)
        lines.extend(_field_line(field) for field in fields)
    for name in sorted(enums):
        lines.append(f"enum {name}")
        lines.extend(sorted(f"{value.number} {value.name}" for value in enums[name].values))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def reachable_types(
    descriptor: Descriptor,
) -> tuple[dict[str, Descriptor], dict[str, EnumDescriptor]]:
    """Return all messages and enums that fields lead to, ``descriptor`` included, by name."""
    messages: dict[str, Descriptor] = {descriptor.full_name: descriptor}
    enums: dict[str, EnumDescriptor] = {}
    waiting = [descriptor]
    while waiting:
        for field in waiting.pop().fields:
            if field.enum_type is not None:
                enums[field.enum_type.full_name] = field.enum_type
            below = field.message_type
            if below is not None and below.full_name not in messages:
                messages[below.full_name] = below
                waiting.append(below)
    return messages, enums


def is_recursive(descriptor: Descriptor) -> bool:
    """Return whether messages of the type can be nested without end, as a Struct can."""
    done: set[str] = set()

    def meets_itself(message: Descriptor, above: frozenset[str]) -> bool:
        if message.full_name in above:
            return True
        if message.full_name in done:
            return False
        below = [field.message_type for field in message.fields if field.message_type is not None]
        found = any(meets_itself(one, above | {message.full_name}) for one in below)
        done.add(message.full_name)
        return found

    return meets_itself(descriptor, frozenset())


def real_oneof(field: FieldDescriptor) -> str:
    """Return the name of the oneof that a person wrote around ``field``; empty for none.

    For each proto3 ``optional`` field the compiler makes a oneof of one member, named with an
    underscore before the field's name (and an X before that while the name is taken:
    protobuf.dev, "Field presence", looked up 2026-11-23).
    """
    oneof = field.containing_oneof
    if oneof is None:
        return ""
    name = str(oneof.name)
    if len(oneof.fields) == 1 and name.lstrip("X") == f"_{field.name}":
        return ""
    return name


def _field_line(field: FieldDescriptor) -> str:
    label = "repeated" if field.is_repeated else "required" if field.is_required else "singular"
    named = field.message_type or field.enum_type
    return (
        f"{field.number} {field.name} {field.type} {label} {int(field.has_presence)}"
        f" {real_oneof(field)} {named.full_name if named else ''}"
    )
