from __future__ import annotations

import random
import subprocess
import sys
import threading

import pytest
from google.protobuf import descriptor_pb2, struct_pb2, timestamp_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from proto_world import PROTO2, RandomSchema, compiled, message_type

from eventmill.base.errors import SchemaError, UsageError
from eventmill.schema.message_type import MessageType

BODY = "message M { int32 a = 1; In b = 2; } message In { string s = 1; } enum E { X = 0; }"


def fingerprint(body: str, syntax: str = 'syntax = "proto3";') -> str:
    return message_type(body, syntax=syntax).fingerprint


def test_the_same_arguments_give_the_same_object_in_every_thread():
    compiled(BODY)
    found: list[MessageType] = []
    threads = [threading.Thread(target=lambda: found.append(message_type(BODY))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(map(id, found))) == 1
    assert MessageType.of(timestamp_pb2.Timestamp) is MessageType.of(timestamp_pb2.Timestamp())


def test_a_loaded_type_parses_and_knows_its_names():
    loaded = message_type(BODY)
    message = loaded.parse(loaded.cls(a=5).SerializeToString())
    assert (message.a, loaded.full_name, loaded.descriptor.full_name) == (5, "t.M", "t.M")
    assert MessageType.load(loaded.descriptor_set, ".t.M").full_name == "t.M"


@pytest.mark.parametrize(
    ("wanted", "hint"), [("t.m", "t.M"), ("M", "t.M"), ("x.Inn", "t.In"), ("q", "t.M, t.In")]
)
def test_an_unknown_message_is_answered_with_near_names(wanted: str, hint: str):
    with pytest.raises(SchemaError, match="there is no message") as caught:
        MessageType.load(compiled(BODY), wanted)
    assert hint in str(caught.value)


def test_bytes_that_are_no_descriptor_set_and_missing_imports_are_told():
    with pytest.raises(SchemaError, match="not a protobuf FileDescriptorSet"):
        MessageType.load(b"\xff\xff", "t.M")
    files = FileDescriptorSet.FromString(compiled(BODY))
    del files.file[0]
    with pytest.raises(SchemaError, match=r"lacks google/protobuf/any\.proto"):
        MessageType.load(files.SerializeToString(), "t.M")


def test_imports_may_stand_in_any_order():
    files = FileDescriptorSet.FromString(compiled(BODY))
    backwards = FileDescriptorSet(file=reversed(files.file)).SerializeToString()
    assert MessageType.load(backwards, "t.M").fingerprint == fingerprint(BODY)


def test_what_is_no_message_type_is_refused():
    with pytest.raises(UsageError, match="is not a protobuf message"):
        MessageType.of(object())  # type: ignore[arg-type]


@pytest.mark.parametrize("generated", [timestamp_pb2.Timestamp, struct_pb2.Struct])
def test_a_generated_class_and_a_compiled_set_have_one_fingerprint(generated: type):
    name = generated.DESCRIPTOR.full_name
    assert (
        MessageType.of(generated).fingerprint
        == MessageType.load(compiled(BODY), name).fingerprint
        == MessageType.of(generated.DESCRIPTOR).fingerprint
    )


def test_the_set_made_from_a_class_loads_to_the_same_meaning():
    made = MessageType.of(descriptor_pb2.FileDescriptorProto)
    assert MessageType.load(made.descriptor_set, made.full_name).fingerprint == made.fingerprint


def test_comments_options_order_and_untouched_types_do_not_count():
    same = """
        // A comment.
        message In { /* and one */ string s = 1 [deprecated = true]; }
        message Other { int32 z = 1; }
        message M { In b = 2; int32 a = 1 [(bqschema.options).default_value = "5"]; }
    """
    assert fingerprint(same) == fingerprint(BODY)


@pytest.mark.parametrize(
    "other",
    [
        "message M { int32 a = 3; In b = 2; } message In { string s = 1; }",
        "message M { int32 aa = 1; In b = 2; } message In { string s = 1; }",
        "message M { sint32 a = 1; In b = 2; } message In { string s = 1; }",
        "message M { repeated int32 a = 1; In b = 2; } message In { string s = 1; }",
        "message M { optional int32 a = 1; In b = 2; } message In { string s = 1; }",
        "message M { oneof k { int32 a = 1; } In b = 2; } message In { string s = 1; }",
        "message M { int32 a = 1; In b = 2; } message In { bytes s = 1; }",
        "message M { int32 a = 1; In b = 2; int32 c = 4; } message In { string s = 1; }",
        "message M { int32 a = 1; Ix b = 2; } message Ix { string s = 1; }",
        "message M { E a = 1; In b = 2; } message In { string s = 1; } enum E { X = 0; }",
    ],
)
def test_every_change_of_the_wire_meaning_changes_the_fingerprint(other: str):
    assert fingerprint(other) != fingerprint(BODY)


def test_enum_values_and_presence_count():
    one = "message M { E e = 1; } enum E { A = 0; B = 1; }"
    assert fingerprint(one) != fingerprint("message M { E e = 1; } enum E { A = 0; C = 1; }")
    assert fingerprint(one) != fingerprint("message M { E e = 1; } enum E { A = 0; B = 2; }")
    two = "message M { optional int32 a = 1; }"
    assert fingerprint(two, PROTO2) == fingerprint(two)
    assert fingerprint("message M { required int32 a = 1; }", PROTO2) != fingerprint(two, PROTO2)


def test_random_schemas_keep_their_fingerprint_through_a_generated_class():
    for seed in range(60):
        loaded = RandomSchema(random.Random(seed)).load()
        again = MessageType.of(loaded.cls)
        assert again.fingerprint == loaded.fingerprint
        assert len(loaded.fingerprint) == 16
        assert int(loaded.fingerprint, 16) >= 0


@pytest.mark.slow
def test_the_client_side_of_this_room_imports_protobuf_alone():
    code = (
        "import sys, eventmill.schema.message_type, eventmill.schema.rows, eventmill.schema.check;"
        "print([m for m in ('pyarrow', 'ptars', 'grpc_tools', 'duckdb') if m in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
