"""Examples are accepted: rows by the encoder and the checks, programs by running them."""

from __future__ import annotations

import json
import random
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from proto_world import PROTO2, RandomSchema, compiled, message_type
from store_world import builds_spec

import eventmill
from eventmill.base.errors import SchemaError, UsageError
from eventmill.schema import snippets
from eventmill.schema.check import EventCheck
from eventmill.schema.generate import generate_python
from eventmill.schema.mapping import spec_from_proto
from eventmill.schema.message_type import MessageType
from eventmill.schema.rows import RowEncoder
from eventmill.schema.snippets import SNIPPETS, example_row, send_snippet
from eventmill.schema.table import TableId

TABLE = TableId("local", "d", "t")
NOW = SimpleNamespace(now=lambda: 1_790_000_000.9)
MOMENT = "2026-09-21T14:13:20Z"
INTEGERS = ("int32", "int64", "uint32", "uint64", "sint32", "sint64")
INTEGERS += ("fixed32", "fixed64", "sfixed32", "sfixed64")
NESTED = "message N { google.protobuf.Timestamp at = 1; google.protobuf.Struct s = 2; }"


def as_type(name: str) -> str:
    return f'[(bqschema.options).bq_type = "{name}"]'


CASES = [
    *((f"{type_} x = 1;", {"x": 1}) for type_ in INTEGERS),
    ("double x = 1; float y = 2;", {"x": 1.5, "y": 1.5}),
    ("bool x = 1; string s = 2;", {"x": True, "s": "example"}),
    ("bytes x = 1;", {"x": "ZXhhbXBsZQ=="}),
    ("enum E { NONE = 0; SOME = 5; } E x = 1; repeated E y = 2;", {"x": "SOME", "y": ["SOME"]}),
    ("enum E { NONE = 0; } E x = 1;", {"x": "NONE"}),
    ("google.protobuf.Timestamp x = 1;", {"x": MOMENT}),
    ("repeated google.protobuf.Timestamp x = 1;", {"x": [MOMENT]}),
    ("google.protobuf.Duration x = 1;", {"x": "1.5s"}),
    ("google.protobuf.Struct x = 1;", {"x": {"key": "value"}}),
    ("google.protobuf.Value x = 1;", {"x": "example"}),
    ("google.protobuf.ListValue x = 1;", {"x": ["example"]}),
    ("google.protobuf.StringValue x = 1;", {"x": "example"}),
    ("google.protobuf.BytesValue x = 1;", {"x": "ZXhhbXBsZQ=="}),
    ("google.protobuf.UInt64Value x = 1; google.protobuf.BoolValue y = 2;", {"x": 1, "y": True}),
    (f"int64 x = 1 {as_type('TIMESTAMP')};", {"x": MOMENT}),
    (f"int32 x = 1 {as_type('DATE')};", {"x": "2026-01-31"}),
    (f"uint64 x = 1 {as_type('NUMERIC')};", {"x": 1}),
    (f"string x = 1 {as_type('JSON')};", {"x": '{"key": "value"}'}),
    (f"string x = 1 {as_type('DATE')};", {"x": "2026-01-31"}),
    (f"string x = 1 {as_type('TIME')};", {"x": "12:30:00"}),
    (f"string x = 1 {as_type('DATETIME')};", {"x": "2026-01-31T12:30:00"}),
    (f"string x = 1 {as_type('TIMESTAMP')};", {"x": MOMENT}),
    (f"repeated string x = 1 {as_type('NUMERIC')};", {"x": ["12.50"]}),
    (f"string x = 1 {as_type('GEOGRAPHY')};", {"x": "POINT(13.4 52.5)"}),
    ("message N { int32 a = 1; } N x = 1; repeated N y = 2;", {"x": {"a": 1}, "y": [{"a": 1}]}),
    ("message N {} N x = 1; int32 y = 2;", {"y": 1}),
    ("oneof o { string a = 1; int32 b = 2; } optional int32 c = 3;", {"a": "example", "c": 1}),
    ("map<string, int32> x = 1;", {"x": {"example": 1}}),
    (
        "map<int64, string> x = 1; map<bool, bool> y = 2;",
        {"x": {"1": "example"}, "y": {"true": True}},
    ),
    ("map<string, google.protobuf.Timestamp> x = 1;", {"x": {"example": MOMENT}}),
    ("map<string, google.protobuf.Duration> x = 1;", {"x": {"example": "1.5s"}}),
    ("map<string, google.protobuf.Struct> x = 1;", {"x": {"example": {"key": "value"}}}),
    (
        f"{NESTED} map<string, N> x = 1;",
        {"x": {"example": {"at": MOMENT, "s": {"key": "value"}}}},
    ),
    ("message N {} map<string, N> x = 1;", {"x": {"example": {}}}),
    ("google.protobuf.Any x = 1;", {"x": {"type_url": "example", "value": "ZXhhbXBsZQ=="}}),
    ("google.protobuf.FieldMask x = 1;", {"x": {"paths": ["example"]}}),
    (f"M x = 1 {as_type('JSON')}; int32 y = 2;", {"x": {"y": 1}, "y": 1}),
    (f"map<int32, M> x = 1 {as_type('STRING')}; int32 y = 2;", {"x": {"1": {"y": 1}}, "y": 1}),
    ("string from = 1; int32 class = 2;", {"from": "example", "class": 1}),
]


@pytest.mark.parametrize(("fields", "wanted"), CASES, ids=[fields for fields, _ in CASES])
def test_each_kind_of_column_has_an_example_that_is_accepted(fields: str, wanted: dict):
    loaded = message_type(f"message M {{ {fields} }}")
    row = example_row(loaded, clock=NOW)
    assert row == wanted
    check_accepted(loaded)


@pytest.mark.parametrize(
    "body",
    [
        "message M { required N n = 1; message N { required string s = 1; } }",
        "message M { required N n = 1; required int32 x = 2; message N {} }",
        f"message M {{ optional N n = 1 {as_type('JSON')}; }} message N {{ required bytes b=1; }}",
        "message M { optional E e = 1; enum E { A = -3; B = 0; } }",
    ],
)
def test_required_fields_are_given(body: str):
    check_accepted(message_type(body, syntax=PROTO2))


def test_random_schemas_have_accepted_examples():
    judged = 0
    for seed in range(300):
        try:
            loaded = RandomSchema(random.Random(seed)).load()
            check_accepted(loaded)
        except SchemaError:  # a type that fits no table
            continue
        judged += 1
    assert judged > 200


def check_accepted(loaded: MessageType) -> None:
    """See that the row is an event, and that the class snippet's call makes the same event."""
    row = json.loads(json.dumps(example_row(loaded, clock=NOW)))
    event = RowEncoder(loaded).encode(row)
    assert EventCheck(loaded).problems([event], known_schema=True) == []
    message = loaded.parse(event)
    call = snippets._call("M", snippets._arguments(message))
    made = eval(call, {"M": loaded.cls, "datetime": __import__("datetime")})
    assert made == message, call


# The whole programs, as a person would run them.


@pytest.fixture(scope="module")
def builds(tmp_path_factory) -> SimpleNamespace:
    """A store with the table ci.builds, and its generated code, each in a folder."""
    root = tmp_path_factory.mktemp("builds")
    spec = builds_spec()
    generate_python(spec.descriptor_set, spec.message, str(root / "code"))
    store = eventmill.open_store(str(root / "it's"), create=True)
    store.apply(spec, expected_version=0)
    store.close()
    return SimpleNamespace(spec=spec, address=str(root / "it's"), code=root / "code")


def stored(address: str) -> list[dict]:
    store = eventmill.open_store(address, writer=False)
    try:
        return list(store.query("SELECT * FROM ci.builds", row_limit=None))
    finally:
        store.close()


@pytest.mark.slow
@pytest.mark.parametrize("lang", ["python", "python-dict", "shell"])
def test_the_program_sends_the_example_when_it_is_run(builds, lang: str):
    before = len(stored(builds.address))
    program = send_snippet(builds.spec, lang, builds.address, clock=NOW)
    env = {"PYTHONPATH": f"{builds.code}:{Path(eventmill.__file__).parents[1]}"}
    env["PATH"] = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    command = ["sh", "-c"] if lang == "shell" else [sys.executable, "-c"]
    done = subprocess.run([*command, program], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "accepted" in done.stdout
    rows = stored(builds.address)
    assert len(rows) == before + 1
    assert rows[-1]["status"] == "SUCCESS"
    assert rows[-1]["ended_at"].isoformat() == "2026-09-21T14:13:20+00:00"
    assert rows[-1]["steps"] == [{"name": "example", "status": "SUCCESS", "duration_us": 1}]


def test_curl_posts_one_line_to_the_events_of_the_table(builds):
    text = send_snippet(builds.spec, "curl", "http://h:8484/", clock=NOW)
    command, line, end = text.rstrip("\n").rsplit("\n", 2)
    words = shlex.split(command)
    assert words[0] == "curl"
    assert "http://h:8484/api/v1/tables/local.ci.builds/events" in words
    assert "Content-Type: application/x-ndjson" in words
    assert (words[-1], end) == ("<<EOF", "EOF")
    assert "<<'EOF'" in command
    assert json.loads(line) == example_row(
        MessageType.load(builds.spec.descriptor_set, "ci.Build"), clock=NOW
    )


def test_names_that_are_words_of_python_are_given_as_a_dict():
    spec = spec_from_proto(TABLE, compiled("message M { string from = 1; int32 x = 2; }"), "t.M")
    text = send_snippet(spec, "python", "./here", clock=NOW)
    assert "event = M(\n    x=1,\n    **{'from': 'example'},\n)" in text
    compile(text, "snippet", "exec")


@pytest.mark.parametrize(
    ("lang", "address", "text"),
    [
        ("cobol", "http://h:1", f"'cobol': use one of {', '.join(SNIPPETS)}"),
        ("curl", "./here", "curl sends to a server and './here' is a folder"),
    ],
)
def test_what_has_no_example_is_said(lang: str, address: str, text: str):
    with pytest.raises(UsageError, match=text):
        send_snippet(builds_spec(), lang, address, clock=NOW)
