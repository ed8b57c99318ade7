"""The rules that a .proto states of its values (buf.validate), kept at ingest."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from proto_world import PROTO2, compiled, message_type

from eventmill.base.errors import SchemaError
from eventmill.schema.check import EventCheck
from eventmill.schema.compile import compile_protos
from eventmill.schema.diff import plan_change
from eventmill.schema.mapping import spec_from_proto
from eventmill.schema.message_type import MessageType
from eventmill.schema.plan import ChangeKind
from eventmill.schema.problem import EventProblem, Reason
from eventmill.schema.rows import RowEncoder
from eventmill.schema.rules import RULES_PROTO, rule_check, rules_by_place
from eventmill.schema.table import Table, TableId

TABLE = TableId("local", "t", "m")

G = "google.protobuf"
IMPORT = f'import "{RULES_PROTO}";\n'
V = "(buf.validate.field)"
BODY = f"""{IMPORT}
enum Color {{ COLOR_NONE = 0; COLOR_RED = 1; }}
message In {{ string name = 1 [{V}.string.min_len = 2]; }}
message M {{
  option (buf.validate.message).cel = {{
    id: "span", message: "start is after end", expression: "this.start <= this.end"
  }};
  option (buf.validate.message).oneof = {{ fields: ["left", "right"] }};
  optional string must = 1 [{V}.required = true];
  int32 n = 2 [{V}.int32 = {{ gte: -5, lt: 10 }}];
  string mail = 3 [{V}.string.email = true, {V}.ignore = IGNORE_IF_ZERO_VALUE];
  {G}.Duration took = 4 [{V}.duration.lte = {{ seconds: 60 }}];
  {G}.Timestamp at = 5 [{V}.timestamp.gt = {{ seconds: 1000 }}];
  repeated string words = 6 [{V}.repeated = {{ max_items: 2, unique: true }}];
  map<string, int32> counts = 7 [{V}.map.values.int32.gt = 0, {V}.map.keys.string.max_len = 3];
  Color color = 8 [{V}.enum.defined_only = true];
  In in = 9;
  repeated In steps = 10;
  map<string, In> tags = 11;
  map<int64, In> numbered = 12;
  oneof pick {{ option (buf.validate.oneof).required = true; int32 a = 13; string b = 14; }}
  int64 start = 15;
  int64 end = 16;
  string left = 17;
  string right = 18;
  string even = 19 [{V}.cel = {{
    id: "even", expression: "size(this) % 2 == 0 ? '' : 'has %d letters'.format([size(this)])"
  }}];
  {G}.Int32Value wrapped = 20 [{V}.int32.gt = 3];
  In unasked = 21 [{V}.ignore = IGNORE_ALWAYS];
  In document = 22 [(bqschema.options).bq_type = "JSON"];
  repeated int32 counted = 23 [{V}.repeated.items.int32.gt = 0];
}}
"""
GOOD = {"must": "x", "a": 1}


def judged(row: dict, body: str = BODY, syntax: str = 'syntax = "proto3";') -> EventProblem | None:
    """Return what both ways in, bytes and rows, find in ``row``: they find the same."""
    loaded = message_type(body, syntax=syntax)
    fields = {name: {"value": v} if name == "wrapped" else v for name, v in row.items()}
    event = loaded.cls(**fields).SerializeToString()
    good = loaded.cls(**(GOOD if body is BODY else {})).SerializeToString()
    found = EventCheck(loaded).problems([good, event, good], known_schema=True)
    problem = found[0][1] if found else None
    assert [index for index, _ in found] == ([1] if problem else [])
    encoder = RowEncoder(loaded)
    if problem is None:
        assert encoder.encode(row) == event
    else:
        with pytest.raises(EventProblem) as of_row:
            encoder.encode(row)
        assert (of_row.value.reason, of_row.value.field) == (problem.reason, problem.field)
        assert of_row.value.message == problem.message
    return problem


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"must": ""},
        {"n": -5},
        {"n": 9},
        {"mail": "a@example.com"},
        {"took": {"seconds": 60}},
        {"at": {"seconds": 1001}},
        {"words": ["a", "b"]},
        {"counts": {"abc": 1}},
        {"color": 1},
        {"in": {"name": "ab"}, "steps": [{"name": "ab"}], "tags": {"": {"name": "ab"}}},
        {"start": 3, "end": 3},
        {"left": "x"},
        {"even": "abcd"},
        {"wrapped": 4},
        {"unasked": {"name": ""}},
        {"counted": [1, 2]},
    ],
)
def test_an_event_that_keeps_the_rules_is_good(row: dict):
    assert judged(GOOD | row) is None


@pytest.mark.parametrize(
    ("row", "path", "words"),
    [
        ({"n": -6}, "n", "int32.gte_lt: must be greater than or equal to -5 and less than 10"),
        ({"n": 10}, "n", "int32.gte_lt: "),
        ({"mail": "nobody"}, "mail", "string.email: must be a valid email address"),
        ({"took": {"seconds": 60, "nanos": 1}}, "took", "duration.lte: "),
        ({"at": {"seconds": 1000}}, "at", "timestamp.gt: "),
        ({"words": ["a", "b", "c"]}, "words", "repeated.max_items: "),
        ({"words": ["a", "a"]}, "words", "repeated.unique: "),
        ({"counts": {"a": 0}}, 'counts["a"]', "int32.gt: must be greater than 0"),
        ({"counts": {"abcd": 1}}, 'counts["abcd"]', "string.max_len: .* (the key)"),
        ({"color": 7}, "color", "enum.defined_only: "),
        ({"in": {}}, "in.name", "string.min_len: must be at least 2 characters"),
        ({"steps": [{"name": "ab"}] * 2 + [{"name": "a"}]}, "steps[2].name", "string.min_len: "),
        ({"tags": {"k": {}}}, 'tags["k"].name', "string.min_len: "),
        ({"numbered": {-7: {}}}, "numbered[-7].name", "string.min_len: "),
        ({"start": 4, "end": 3}, "", "span: start is after end"),
        ({"left": "x", "right": "y"}, "", "message.oneof: "),
        ({"even": "abc"}, "even", "even: has 3 letters"),
        ({"wrapped": 3}, "wrapped", "int32.gt: "),
        ({"document": {"name": "a"}}, "document.name", "string.min_len: "),
        ({"counted": [1, 0]}, "counted[1]", "int32.gt: "),
    ],
)
def test_a_broken_rule_is_named_with_its_place(row: dict, path: str, words: str):
    problem = judged(GOOD | row)
    assert problem is not None
    assert (problem.reason, problem.field) == (Reason.BROKEN_RULE, path)
    start, _, end = words.partition(".*")
    assert problem.message.startswith(start)
    assert problem.message.endswith(end)


@pytest.mark.parametrize(("missing", "path"), [("must", "must"), ("a", "pick")])
def test_what_is_required_and_not_set_is_named(missing: str, path: str):
    problem = judged({name: value for name, value in GOOD.items() if name != missing})
    assert problem is not None
    assert (problem.reason, problem.field) == (Reason.BROKEN_RULE, path)
    assert problem.message.startswith("required: ")


@pytest.mark.parametrize(
    ("row", "end"),
    [
        ({"n": 99, "color": 7}, "; the event breaks 1 more rule"),
        ({"n": 99, "color": 7, "in": {}}, "; the event breaks 2 more rules"),
    ],
)
def test_further_broken_rules_are_counted(row: dict, end: str):
    problem = judged(GOOD | row)
    assert problem is not None
    assert problem.field == "n"
    assert problem.message.endswith(end)


def test_predefined_rules_are_kept():
    body = f"""{IMPORT}
    extend buf.validate.Int32Rules {{
      optional bool even = 1162 [(buf.validate.predefined).cel = {{
        id: "int32.even", message: "must be even", expression: "!rule || this % 2 == 0"
      }}];
    }}
    message M {{ optional int32 n = 1 [{V}.int32.(even) = true]; }}
    """
    assert judged({"n": 2}, body, PROTO2) is None
    problem = judged({"n": 3}, body, PROTO2)
    assert problem is not None
    assert (problem.field, problem.message) == ("n", "int32.even: must be even")


def test_what_has_no_place_in_a_column_is_told_before_a_rule():
    problem = judged(GOOD | {"at": {"nanos": -1}, "n": 99})
    assert problem is not None
    assert problem.reason is Reason.OUT_OF_RANGE


def test_a_rule_that_fails_on_an_event_refuses_that_event():
    rule = '{ id: "x", expression: "1 / this == 1" }'
    loaded = message_type(f"{IMPORT}message M {{ int32 n = 1 [{V}.cel = {rule}]; }}")
    check = rule_check(loaded)
    assert check is not None
    assert check(loaded.cls(n=1)) is None
    problem = check(loaded.cls(n=0))
    assert problem is not None
    assert problem.reason is Reason.BROKEN_RULE
    assert "divide by zero; correct the rule, then replay" in problem.message


def field(rules: str, type_: str = "string") -> str:
    return f"{type_} s = 1 [{V}.{rules}];"


@pytest.mark.parametrize(
    ("inside", "words"),
    [
        (field('cel = { id: "bad.one", expression: "this +" }'), "bad.one.*Syntax error"),
        (field('cel = { id: "bad.one", expression: "gone(this)" }'), "bad.one"),
        (field('cel = { id: "bad.one", expression: "this > 1" }'), "bad.one.*_>_"),
        (field('cel = { id: "bad.one", expression: "1 + 1" }'), "bad.one.*unexpected type"),
        (field("int32.gt = 1"), r"FieldRules\.int32.*t\.N\.s"),
        (field('string.pattern = "("'), r"missing \)"),
        (field("repeated.items.int32.gt = 1", "repeated string"), r"t\.N\.s"),
        (
            'option (buf.validate.message).cel = { id: "x", expression: "this.nmae == 1" };',
            "no_such_field : nmae",
        ),
        ('option (buf.validate.message).oneof = { fields: ["gone"] };', "field gone not found"),
    ],
)
def test_a_rule_that_cannot_be_used_is_refused_by_name(inside: str, words: str):
    body = f"{IMPORT}message N {{ int32 x = 9; {inside} }}\nmessage M {{ map<string, N> ns = 1; }}"
    with pytest.raises(SchemaError, match=rf"(?s)message t\.N in t\.proto .* correct .*{words}"):
        EventCheck(message_type(body))
    with pytest.raises(SchemaError, match=r"message t\.N in t\.proto"):
        RowEncoder(message_type(body))


@pytest.mark.parametrize(
    ("type_", "expression"),
    [
        (f"{G}.Value", "this.s > 1.0"),
        (f"{G}.Int32Value", "this.s > 1"),
        ("int32", "1 / this.s == 1"),
    ],
)
def test_a_rule_that_only_an_empty_event_fails_is_no_fault(type_: str, expression: str):
    rule = f'{{ id: "x", expression: "{expression}" }}'
    body = f"message M {{ {type_} s = 1; option (buf.validate.message).cel = {rule}; }}"
    assert rule_check(message_type(IMPORT + body)) is not None


def test_files_that_no_compiler_makes_are_refused_without_a_traceback(tmp_path: Path):
    (tmp_path / "low.proto").write_text(
        f'syntax = "proto3"; {IMPORT} message Low {{ {field("string.min_len = 2")} }}'
    )
    top = tmp_path / "top.proto"
    top.write_text(
        """syntax = "proto3"; import "low.proto";
        message M { oneof o { int32 a = 1; int32 b = 2; } Low low = 3; }"""
    )
    files = FileDescriptorSet.FromString(compile_protos([str(top)]))
    fields = files.file[-1].message_type[0].field
    fields.append(fields[1])
    del fields[1]
    with pytest.raises(SchemaError, match=r"message M in top\.proto .*\n.*consecutively"):
        EventCheck(MessageType.load(files.SerializeToString(), "M"))


def test_types_of_one_name_keep_their_own_rules():
    def said(length: int) -> str:
        loaded = message_type(f"{IMPORT}message M {{ {field(f'string.min_len = {length}')} }}")
        check = rule_check(loaded)
        assert check is not None
        assert check is rule_check(loaded)
        problem = check(loaded.cls(s="a"))
        assert problem is not None
        return problem.message

    assert "at least 2 " in said(2)
    assert "at least 5 " in said(5)


def test_one_check_serves_many_threads():
    loaded = message_type(BODY)
    check = EventCheck(loaded)
    events = [
        loaded.cls(**GOOD, n=n, even="ab", steps=[{"name": "ab"}]).SerializeToString()
        for n in range(20)
    ]

    def judge(_: int) -> list[int]:
        return [index for index, _ in check.problems(events, known_schema=True)]

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(judge, range(64))) == [list(range(10, 20))] * 64


def test_the_import_needs_no_file_of_the_user_and_takes_theirs_where_there_is_one(tmp_path: Path):
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "low.proto").write_text(
        f'syntax = "proto3"; {IMPORT} message Low {{ {field("string.min_len = 2")} }}'
    )
    top = tmp_path / "t" / "top.proto"
    top.write_text('syntax = "proto3"; import "low.proto"; message M { Low low = 1; }')
    without = FileDescriptorSet.FromString(compile_protos([str(top)]))
    own = tmp_path / "own" / RULES_PROTO
    own.parent.mkdir(parents=True)
    own.write_text(
        """syntax = "proto2"; package buf.validate; import "google/protobuf/descriptor.proto";
        extend google.protobuf.FieldOptions { optional Mine field = 1159; }
        message Mine { optional MineOfText string = 14; }
        message MineOfText { optional uint64 min_len = 2; }"""
    )
    within = FileDescriptorSet.FromString(compile_protos([str(top)], [str(tmp_path / "own")]))
    for files, is_own in ((without, False), (within, True)):
        rules_file = next(file for file in files.file if file.name == RULES_PROTO)
        assert ("Mine" in [message.name for message in rules_file.message_type]) is is_own
        loaded = MessageType.load(files.SerializeToString(), "M")
        found = EventCheck(loaded).problems(
            [loaded.cls(low={"s": "a"}).SerializeToString()], known_schema=True
        )
        assert [(problem.field, problem.reason) for _, problem in found] == [
            ("low.s", Reason.BROKEN_RULE)
        ]


def test_places_with_rules_are_listed_and_others_are_not():
    loaded = message_type(BODY)
    places = rules_by_place(loaded)
    assert {"t.M", "t.M.n", "t.M.pick", "t.In.name"} <= set(places)
    assert not {"t.M.start", "t.M.document", "t.In"} & set(places)
    assert rules_by_place(MessageType.of(loaded.cls)) == places


_LOADED = """
import sys
sys.path.insert(0, {tests!r})
from proto_world import message_type
from eventmill.schema.check import EventCheck
from eventmill.schema.rows import RowEncoder
loaded = message_type({body!r})
assert not EventCheck(loaded).problems([b""] * 9, known_schema=True)
RowEncoder(loaded).encode({{}})
print("protovalidate" in sys.modules)
"""
_NOT_INSTALLED = """
import sys
sys.path.insert(0, {tests!r})
from proto_world import message_type
from eventmill.base.errors import SchemaError
from eventmill.schema.check import EventCheck
sys.modules["protovalidate"] = None
try:
    print(EventCheck(message_type({body!r})))
except SchemaError as error:
    print(error)
"""


NONE = "message M { int32 n = 1; string day = 2 [deprecated = true]; }"
SOME = f"{IMPORT}message M {{ int32 n = 1 [{V}.int32.lt = 5]; }}"


@pytest.mark.parametrize(
    ("script", "body", "said"),
    [
        (_LOADED, NONE, "False"),
        (_LOADED, SOME, "True"),
        (_NOT_INSTALLED, NONE, "EventCheck object"),
        (_NOT_INSTALLED, SOME, "pip install 'eventmill[server]'"),
    ],
)
def test_only_a_type_with_rules_needs_the_package_that_judges_them(
    script: str, body: str, said: str
):
    tests = str(Path(__file__).parents[2])
    run = subprocess.run(
        [sys.executable, "-c", script.format(tests=tests, body=body)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said in run.stdout


def test_a_plan_shows_rules_that_come_change_and_go():
    plain = IMPORT + "message M { string a = 1; string b = 2; }"
    ruled = plain.replace("string a = 1", "string a = 1 [(buf.validate.field).string.min_len = 2]")
    other = ruled.replace("= 2]", "= 3]")
    for before, after, text in (
        (plain, ruled, "hold events to new rules of t.M.a"),
        (ruled, other, "hold events to other rules of t.M.a"),
        (other, plain, "hold events to no more rules of t.M.a"),
    ):
        wanted = [spec_from_proto(TABLE, compiled(body), "t.M") for body in (before, after)]
        live = Table(wanted[0], 1, 0.0, 0.0)
        plan = plan_change(live, wanted[1])
        assert [(c.kind, c.text) for c in plan.changes] == [(ChangeKind.RULES, text)]
        assert plan_change(live, live.spec).is_empty
