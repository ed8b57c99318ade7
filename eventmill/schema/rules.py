"""The rules that a .proto states of its values (protovalidate, ``buf.validate``), kept at ingest.

Whether a type has rules is read from the bytes of its options. So a type without them costs
nothing here, and the package that judges rules is only loaded for one that has them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, OneofDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.empty_pb2 import Empty
from google.protobuf.unknown_fields import UnknownFieldSet

from eventmill.base.errors import SchemaError
from eventmill.schema.dynamic import DynamicMessage, DynamicValue
from eventmill.schema.kinds import LIST_VALUE, STRUCT, VALUE, WRAPPERS
from eventmill.schema.message_type import MessageType, reachable_types
from eventmill.schema.problem import EventProblem, Reason

RULES_NUMBER = 1159
"""Extension of the options of fields, messages and oneofs that holds their rules."""
RULES_PROTO = "buf/validate/validate.proto"
"""What a .proto with rules imports."""

_BYTES_WIRE_TYPE = 2
_CHECKS_MAX = 1024
# What the evaluation of a rule says when it can never come out, whatever the event holds ...
_NEVER_EVALUATED = ("no_such_field", "No matching overloads", "outputs an unexpected type")
# ... unless it may have met a value whose type only the event tells; an unset wrapper is null.
_TYPED_BY_EVENT = frozenset((STRUCT, VALUE, LIST_VALUE, "google.protobuf.Any", *WRAPPERS))


def rules_by_place(message_type: MessageType) -> dict[str, bytes]:
    """Return the encoded rules of each message, field and oneof that fields lead to.

    Keys are full names, such as ``ci.Build.branch``; a place without rules is absent. Two types
    with equal results ask the same of an event, except for predefined rules whose own
    definition differs.
    """
    messages, _ = reachable_types(message_type.descriptor)
    return {
        place.full_name: rules
        for message in messages.values()
        for place in _places(message)
        if (rules := _rules_in(place))
    }


@functools.lru_cache(maxsize=_CHECKS_MAX)
def rule_check(message_type: MessageType) -> Callable[[Any], EventProblem | None] | None:
    """Return the check of the rules of ``message_type``; None: neither it nor a part has any.

    The check takes a parsed message and names the first rule that it breaks, and how many more
    it does. A rule that fails on an event instead of judging it counts as broken. The check is
    safe from any thread, and the same one for the same type.

    Raises:
        SchemaError: a rule does not compile, or fits no event; names the message and the
            reason. Or protovalidate is not installed.
    """
    ruled = rules_by_place(message_type)
    if not ruled:
        return None
    engine = _protovalidate()
    # It remembers rules by the names of messages, and two tables, or two versions of one, may
    # use a name for different things.
    validator = engine.Validator()
    root = message_type.descriptor
    messages, _ = reachable_types(root)
    # Parts first, so that a fault is told of the message that has it.
    for message in reversed(messages.values()):
        if message is root or any(place.full_name in ruled for place in _places(message)):
            _try_rules(engine, validator, message)

    def check_rules(message: DynamicMessage) -> EventProblem | None:
        try:
            violations = validator.collect_violations(message)
        except engine.EvaluationError as error:
            return EventProblem(
                Reason.BROKEN_RULE,
                "",
                f"a rule cannot judge this event: {error}; correct the rule, then replay",
            )
        return _problem_of(violations) if violations else None

    return check_rules


def rules_proto_set() -> bytes:
    """Return a serialized ``FileDescriptorSet`` that holds ``RULES_PROTO`` alone.

    Raises:
        SchemaError: protovalidate, which carries it, is not installed.
    """
    file = _protovalidate().ViolationPb.desc().file
    proto = FileDescriptorProto.FromString(file.proto.to_binary())
    return FileDescriptorSet(file=[proto]).SerializeToString()


def _protovalidate() -> ModuleType:
    try:
        import protovalidate  # takes longer than the rest of a start; few tables have rules
    except ImportError as error:
        raise SchemaError(
            "rules of buf.validate need protovalidate: pip install 'eventmill[server]'"
        ) from error
    return protovalidate


def _places(message: Descriptor) -> Iterable[Descriptor | FieldDescriptor | OneofDescriptor]:
    return (message, *message.fields, *message.oneofs)


def _rules_in(place: Descriptor | FieldDescriptor | OneofDescriptor) -> bytes:
    if not place.has_options:
        return b""
    # Read without any declaration, the extension is found whoever declared it, and how.
    options = Empty.FromString(place.GetOptions().SerializeToString())
    # The stubs do not know that it can be iterated.
    unread: Any = UnknownFieldSet(options)
    return b"".join(
        option.data
        for option in unread
        if option.field_number == RULES_NUMBER and option.wire_type == _BYTES_WIRE_TYPE
    )


def _try_rules(engine: ModuleType, validator: DynamicValue, message: Descriptor) -> None:
    """Compile the rules of ``message``, of which evaluation would otherwise be the first to tell.

    Raises:
        SchemaError: one does not compile, or can judge no event.
    """
    try:
        validator.collect_violations(message_factory.GetMessageClass(message)())
    except (engine.CompilationError, ValueError) as error:
        # ValueError: a file that the .proto compiler would not have made.
        fault: Exception = error
    except engine.EvaluationError as error:
        # Other failures, such as a division by an unset number, are those of an empty event.
        if not any(text in str(error) for text in _NEVER_EVALUATED):
            return
        below, _ = reachable_types(message)
        if not _TYPED_BY_EVENT.isdisjoint(below):
            return
        fault = error
    else:
        return
    raise SchemaError(
        f"message {message.full_name} in {message.file.name} has a rule (buf.validate) that cannot"
        f" be used: correct it and compile again\n{fault}"
    ) from fault


def _problem_of(violations: list[DynamicValue]) -> EventProblem:
    first = violations[0].proto
    text = f"{first.rule_id}: {first.message}"
    if first.for_key:
        text += " (the key)"
    more = len(violations) - 1
    if more:
        text += f"; the event breaks {more} more {'rule' if more == 1 else 'rules'}"
    return EventProblem(Reason.BROKEN_RULE, _path_of(first.field), text)


def _path_of(path: DynamicValue) -> str:
    """Return a violation's path as it stands in ``EventProblem.field``."""
    steps = []
    for element in path.elements if path is not None else ():
        step = element.field_name
        if element.subscript is not None:
            key = element.subscript.value
            step += f'["{key}"]' if isinstance(key, str) else f"[{key}]"
        steps.append(step)
    return ".".join(steps)
