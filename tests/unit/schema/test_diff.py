"""Plans: what may change on a live table, what is refused, and what results."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from proto_world import PROTO2, compiled

from eventmill.schema.diff import ChangeKind, Plan, plan_change
from eventmill.schema.mapping import spec_from_proto
from eventmill.schema.table import Granularity, Mode, Partitioning, Table, TableId, TableSpec

TABLE = TableId("local", "d", "t")
BODY = """
// Builds.
message M { google.protobuf.Timestamp at = 1; string name = 2; In inner = 3; }
message In { int32 x = 1; string y = 2; }
"""


def spec(body: str = BODY, syntax: str = 'syntax = "proto3";', **overrides: Any) -> TableSpec:
    return spec_from_proto(TABLE, compiled(body, syntax), "t.M", **overrides)


def live(wanted: TableSpec | None = None) -> Table:
    return Table(wanted or spec(), 4, 0.0, 0.0)


def plan(before: str, after: str, syntax: str = 'syntax = "proto3";') -> Plan:
    return plan_change(live(spec(before, syntax)), spec(after, syntax))


def kinds(made: Plan) -> list[tuple[str, str]]:
    return [(change.kind.value, change.path) for change in made.changes]


def test_a_new_table_is_created_with_every_column_said():
    made = plan_change(None, spec())
    assert kinds(made)[0] == ("create", "")
    assert [path for _, path in kinds(made)[1:]] == [
        "at",
        "name",
        "inner",
        "inner.x",
        "inner.y",
    ]
    assert (made.result, made.expected_version) == (spec(), 0)
    assert made.to_json()["action"] == "create"
    assert made.to_text().splitlines() == [
        "local.d.t: create (+6)",
        "  + (table)  create local.d.t, partitioned by DAY of the time of ingestion",
        "  + at       TIMESTAMP NULLABLE",
        "  + name     STRING NULLABLE",
        "  + inner    RECORD NULLABLE",
        "  + inner.x  INTEGER NULLABLE",
        "  + inner.y  STRING NULLABLE",
    ]
    assert [change.place for change in made.changes[-3:]] == ["t.proto:14", *["t.proto:15"] * 2]


def test_an_unchanged_proto_is_no_change_and_keeps_the_live_definition():
    again = spec(BODY.replace("string name", "  string   name"))
    made = plan_change(live(), again)
    assert made.is_empty
    assert made.result == spec()
    assert made.expected_version == 4
    assert made.to_text() == "local.d.t: no changes"
    assert made.to_json()["action"] == "none"


def test_columns_are_added_at_every_level_in_their_place():
    made = plan(
        BODY,
        BODY.replace("string name = 2;", "string name = 2; bool ok = 9;").replace(
            "int32 x = 1;", "repeated Deep deep = 7; int32 x = 1;"
        )
        + "message Deep { string s = 1; }",
    )
    assert kinds(made)[:3] == [
        ("add_column", "ok"),
        ("add_column", "inner.deep"),
        ("add_column", "inner.deep.s"),
    ]
    assert kinds(made)[3:] == [("message", "")]
    assert [path for path, _ in made.result.walk()] == [
        *("at", "name", "ok", "inner", "inner.deep", "inner.deep.s", "inner.x", "inner.y"),
    ]
    assert not made.refusals


def test_columns_that_the_proto_no_longer_has_stay_at_the_end_of_their_level():
    after = """
        // Builds.
        message M { In inner = 3; google.protobuf.Timestamp at = 1; bool added = 9; }
        message In { string y = 2; }
    """
    made = plan(BODY, after)
    assert [path for path, _ in made.result.walk()] == [
        *("inner", "inner.y", "inner.x", "at", "added", "name"),
    ]
    told = "{} is no longer in the .proto: kept, NULL where an event lacks it; write `{}` in"
    told += " message {}, so that nobody uses them again"
    assert made.notes == (
        told.format("inner.x", 'reserved 1; reserved "x";', "t.In (t.proto:15)"),
        told.format("name", 'reserved 2; reserved "name";', "t.M (t.proto:14)"),
    )
    again = plan_change(Table(made.result, 5, 0.0, 0.0), spec(after))
    assert again.is_empty
    assert again.result == made.result


def test_required_is_relaxed_when_asked_and_when_the_field_is_gone():
    before = "message M { required int32 a = 1; required int32 b = 2; optional int32 c = 3; }"
    after = "message M { optional int32 a = 1; optional int32 c = 3; }"
    made = plan(before, after, PROTO2)
    assert [pair for pair in kinds(made) if pair[0] == "relax"] == [("relax", "a"), ("relax", "b")]
    assert {column.mode for column in made.result.columns} == {Mode.NULLABLE}


def test_everything_said_of_the_table_can_change():
    before = spec(
        labels={"a": "1", "b": "2"}, partitioning=Partitioning(Granularity.DAY, "at", 100.0)
    )
    after = spec(
        BODY.replace("// Builds.", "// All builds.").replace(
            "string name = 2", "string name = 2 [(bqschema.options).default_value = \"'x'\"]"
        ),
        labels={"a": "9", "c": "3"},
        partitioning=Partitioning(Granularity.DAY, "at", None),
        owner="me",
        freshness_seconds=60,
        clustering=["name"],
        require_partition_filter=True,
    )
    made = plan_change(live(before), after)
    assert kinds(made) == [
        ("default_value", "name"),
        ("expiration", ""),
        ("clustering", ""),
        ("partition_filter", ""),
        ("description", ""),
        ("owner", ""),
        ("freshness", ""),
        ("label", ""),
        ("label", ""),
        ("label", ""),
    ]
    assert {change.kind for change in made.changes} < set(ChangeKind)
    assert made.result == after
    told = made.to_text()
    for words in ("label a=9", "remove label b", "expire nothing", "cluster by name", "60 seconds"):
        assert words in told
    assert json.loads(json.dumps(made.to_json()))["action"] == "change"


def test_a_changed_comment_is_a_description():
    made = plan(BODY, BODY.replace("{ int32 x = 1;", "{\n// The x.\nint32 x = 1;"))
    assert kinds(made) == [("description", "inner.x")]
    assert made.changes[0].after == "The x."


TYPES = """
message In { int32 x = 1; }
message Same { int32 x = 1; }
message Other { string x = 2; }
message Pair { string key = 1; int32 value = 2; }
message Node { Node next = 1; string s = 2; }
"""
JSON = '[(bqschema.options).bq_type = "JSON"]'
INTEGER = '[(bqschema.options).bq_type = "INTEGER"]'
HERE = "// <-"


def of_fields(fields: str) -> str:
    """Return a file with message M of ``fields``; what closes M may go on with other types."""
    return f"{TYPES}message M {{ int32 id = 99;\n{fields}\n}}"


def of_enum(values: str, options: str = "") -> str:
    return of_fields(f"E a = 1 {options};\n}}\nenum E {{ X = 0;\n{values}")


def place_in(body: str) -> str:
    """Return where the marked line stands in the file that ``compiled`` makes of ``body``."""
    assert body.count(HERE) == 1
    return f"t.proto:{12 + body[: body.index(HERE)].count(chr(10))}"


REFUSED = [
    ("string a = 1;", "bytes a = 1; // <-", "a", "type would change from STRING to BYTES"),
    ("string a = 1;", "repeated string a = 1; // <-", "a", "from NULLABLE to REPEATED"),
    ("repeated string a = 1;", "string a = 1; // <-", "a", "from REPEATED to NULLABLE"),
    ("string a = 1;", "string A = 1; // <-", "A", "the live column is written a"),
    ("string a = 1;", "string b = 1; // <-", "b", "renamed from a and kept its number 1"),
    ("string a = 1;", "string a = 2; // <-", "a", "number would change from 1 to 2, and"),
    (
        "string a = 1; string b = 2;",
        "string b = 2;\nint32 c = 1; // <-",
        *("c", "its number 1 was that of a (string)"),
    ),
    (
        "google.protobuf.Empty a = 1;",
        "string b = 1; // <-",
        *("b", "its number 1 was that of a (google.protobuf.Empty)"),
    ),
    ("int64 a = 1;", "int32 a = 1; // <-", "a", "from int64 to int32, which cannot hold"),
    ("int32 a = 1;", "uint64 a = 1; // <-", "a", "from int32 to uint64, which cannot hold"),
    ("fixed32 a = 1;", "sfixed32 a = 1; // <-", "a", "to sfixed32, which cannot hold"),
    (
        "int32 a = 1;",
        "sint32 a = 1; // <-",
        *("a", "from int32 to sint32, from plain integer to zigzag integer on the wire"),
    ),
    (
        "string a = 1; }\nenum E { X = 0;",
        "E a = 1; // <-\n}\nenum E { X = 0;",
        *("a", "type would change from string to t.E"),
    ),
    (
        "double a = 1;",
        "google.protobuf.Duration a = 1; // <-",
        *("a", "from double to google.protobuf.Duration"),
    ),
    (
        "string a = 1;",
        "google.protobuf.StringValue a = 1; // <-",
        *("a", "from string to google.protobuf.StringValue"),
    ),
    (
        "string a = 1; string b = 2;",
        "oneof k { string a = 1;\nstring b = 2; // <-\n}",
        *("b", "it would join a in the oneof k"),
    ),
    (
        "oneof j { string a = 1; } oneof k { string b = 2; }",
        "oneof k { string b = 2;\nstring a = 1; // <-\n}",
        *("a", "it would join b in the oneof k"),
    ),
    (
        "In a = 1; }\nmessage Later { int32 z = 1;",
        "Later a = 1; }\nmessage Later { int32 z = 1; // <-",
        *("a.z", "renamed from x"),
    ),
    (
        f"In a = 1 {JSON}; }}\nmessage Later {{ int32 z = 1;",
        f"Later a = 1 {JSON}; }}\nmessage Later {{ int32 z = 1; // <-",
        *("a.z", "renamed from x"),
    ),
    (
        f"Other a = 1 {JSON};",
        f"Later a = 1 {JSON}; }}\nmessage Later {{\nrepeated string x = 2; // <-",
        *("a.x", "from one value to a list"),
    ),
    (
        "map<string, int32> a = 1;",
        "repeated Later a = 1; }\nmessage Later { int32 key = 2; // <-",
        *("a.key", "type would change from STRING to INTEGER"),
    ),
]


@pytest.mark.parametrize(("before", "after", "path", "reason"), REFUSED)
def test_what_a_live_table_does_not_allow_is_refused_with_place_and_way_out(
    before: str, after: str, path: str, reason: str
):
    made = plan(of_fields(before), of_fields(after))
    assert [refusal.path for refusal in made.refusals] == [path]
    refusal = made.refusals[0]
    assert reason in refusal.reason
    assert refusal.place == place_in(of_fields(after))
    assert refusal.way_out
    assert made.result == made.live.spec
    document = made.to_json()
    assert (document["action"], document["refusals"][0]["place"]) == ("refused", refusal.place)
    lines = made.to_text().splitlines()
    assert lines[1].startswith(f"  ! {path} ")
    assert lines[1].endswith(f"  {refusal.place}: {refusal.reason}")
    assert lines[2].strip() == f"way out: {refusal.way_out}"


ENUMS_REFUSED = [
    ("A = 1;", "B = 1; // <-", "", "number 1 of enum t.E was A and would be B"),
    ("A = 1;", "A = 2; // <-", "", "value A of enum t.E would change its number from 1 to 2"),
    ("A = 1;", "A = 2; // <-", INTEGER, "would change its number from 1 to 2"),
    (
        "A = 1;",
        "option allow_alias = true;\nB = 1; // <-\nA = 1;",
        *("", "number 1 of enum t.E was A and would be B"),
    ),
    ("A = 1; B = 2;", "A = 2; // <-\nB = 1;", "", "would change its number from 1 to 2"),
]


@pytest.mark.parametrize(("before", "after", "options", "reason"), ENUMS_REFUSED)
def test_enum_values_keep_their_number_and_the_name_that_rows_hold(
    before: str, after: str, options: str, reason: str
):
    made = plan(of_enum(before, options), of_enum(after, options))
    assert [refusal.path for refusal in made.refusals] == ["a"]
    assert reason in made.refusals[0].reason
    assert made.refusals[0].place == place_in(of_enum(after, options))


ALLOWED = [
    ("int32 a = 1;", "int64 a = 1;", "a is int64 now, int32 before: every earlier value"),
    ("uint32 a = 1;", "int64 a = 1;", "a is int64 now, uint32 before"),
    ("sint32 a = 1;", "sint64 a = 1;", "a is sint64 now, sint32 before"),
    ("In a = 1;", "Same a = 1;", "a is of message t.Same now, of t.In before"),
    ("In a = 1;", "In a = 1; In b = 2;", ""),
    ("string a = 1;", "optional string a = 1;", "a has presence now: where an event does not"),
    ("optional bool a = 1;", "bool a = 1;", "new rows hold false, not NULL"),
    ("oneof k { string a = 1; }", "string a = 1;", 'new rows hold "", not NULL'),
    ("string a = 1;", "oneof k { string a = 1; string b = 2; }", "a has presence now"),
    (
        "oneof k { string a = 1; string b = 2; }",
        "oneof j { string a = 1; string b = 2; string c = 3; }",
        "",
    ),
    ("map<string, int32> a = 1;", "repeated Pair a = 1;", "a was a map and is a list of t.Pair"),
    ("repeated Pair a = 1;", "map<string, int32> a = 1;", "a was a list of t.Pair and is a map"),
    (f"Node a = 1 {JSON};", f"Node a = 1 {JSON}; Node b = 2 {JSON};", ""),
    (
        "google.protobuf.Empty a = 1;",
        "",
        'a is no longer in the .proto: write `reserved 1; reserved "a";` in message t.M',
    ),
    ("A a = 1; } enum A { X = 0;", "A a = 1; } enum A { X = 0; Y = 1;", ""),
    (
        "E a = 1; } enum E { X = 0; A = 1;",
        "E a = 1; } enum E { X = 0;",
        'stored as "1"; write `reserved 1; reserved "A";` in the enum (t.proto:',
    ),
    (
        "E a = 1; } enum E { X = 0; A = 1;",
        'E a = 1; } enum E { reserved 1; reserved "A"; X = 0;',
        'the field is stored as "1"',
    ),
    (
        "E a = 1; } enum E { option allow_alias = true; X = 0; A = 1; B = 1;",
        "E a = 1; } enum E { X = 0; A = 1;",
        "enum t.E has no second name B for 1 any more",
    ),
    (
        f"E a = 1 {INTEGER}; }} enum E {{ X = 0; A = 1;",
        f"E a = 1 {INTEGER}; }} enum E {{ X = 0; B = 1;",
        "number 1 of enum t.E is B now, A before: the column holds numbers",
    ),
]


@pytest.mark.parametrize(("before", "after", "note"), ALLOWED)
def test_what_reads_earlier_events_alike_is_allowed_and_said(before: str, after: str, note: str):
    made = plan(of_fields(before), of_fields(after))
    assert not made.refusals
    assert ("message", "") in kinds(made)
    assert len(made.notes) == bool(note)
    assert note in "".join(made.notes)


def test_the_message_of_a_table_may_move():
    moved = spec_from_proto(
        TABLE, compiled("message Outer { message M { int32 a = 1; } }"), "t.Outer.M"
    )
    made = plan_change(live(spec("message M { int32 a = 1; }")), moved)
    assert not made.refusals
    assert made.notes[0].startswith("the table is of message t.Outer.M now, of t.M before")


def test_without_source_info_there_is_no_place_and_the_rest_is_the_same():
    files = FileDescriptorSet.FromString(compiled(of_fields("bytes a = 1;")))
    for file in files.file:
        file.ClearField("source_code_info")
    bare = spec_from_proto(TABLE, files.SerializeToString(), "t.M")
    made = plan_change(live(spec(of_fields("string a = 1;"))), bare)
    assert [(refusal.path, refusal.place) for refusal in made.refusals] == [("a", "")]
    assert made.to_text().splitlines()[1] == (
        "  ! a        its type would change from STRING to BYTES"
    )


def test_colours_mark_the_signs_and_change_no_word():
    made = plan(of_fields("string a = 1;"), of_fields("bytes a = 1; string b = 2;"))
    coloured = made.to_text(colour=True)
    for code, sign in ((31, "!"), (32, "+"), (33, "~")):
        assert f"\x1b[{code}m{sign} " in coloured
    assert re.sub(r"\x1b\[\d+m", "", coloured) == made.to_text()


def test_a_plan_of_a_thousand_columns_takes_no_second():
    parts = "\n".join(
        f"// Part {i}.\nmessage P{i} {{ "
        + "\n".join(f"// Field {j}.\n{kind} f{j} = {j};" for j, kind in enumerate(KINDS, 1))
        + " }"
        for i in range(100)
    )
    fields = " ".join(f"P{i} p{i} = {i + 100};" for i in range(100))
    sets = [compiled(f"{parts}\nmessage M {{ {fields} {more} }}") for more in ("", "bool b = 1;")]
    started = time.perf_counter()
    before, after = (spec_from_proto(TABLE, one, "t.M") for one in sets)
    made = plan_change(live(before), after)
    made.to_text()
    made.to_json()
    assert time.perf_counter() - started < 1
    assert len(list(after.walk())) == 1001
    assert kinds(made) == [("add_column", "b"), ("message", "")]


KINDS = (
    *("string", "int64", "bool", "double", "bytes", "repeated string", "optional int32"),
    *("google.protobuf.Timestamp", "google.protobuf.StringValue"),
)


def test_tightening_and_new_required_columns_are_refused():
    made = plan(
        "message M { optional int32 a = 1; }",
        "message M { required int32 a = 1; required int32 b = 2; }",
        PROTO2,
    )
    assert [(refusal.path, "REQUIRED" in refusal.reason) for refusal in made.refusals] == [
        ("a", True),
        ("b", True),
    ]
    assert {refusal.place for refusal in made.refusals} == {"t.proto:12"}


@pytest.mark.parametrize(
    "other",
    [None, Partitioning(Granularity.HOUR), Partitioning(Granularity.DAY, "at")],
)
def test_another_partitioning_is_refused(other: Partitioning | None):
    made = plan_change(live(), spec(partitioning=other))
    assert [refusal.path for refusal in made.refusals] == [""]
    assert "make a table under another name" in made.refusals[0].way_out
    assert made.refusals[0].place == "t.proto:14"


def test_a_partitioning_of_the_proto_is_refused_at_its_line():
    option = 'option (eventmill.table) = { partition { field: "at" } };'
    made = plan_change(live(), spec(BODY.replace("M {", f"M {{\n{option}")))
    assert [refusal.place for refusal in made.refusals] == ["t.proto:15"]


def test_a_table_keeps_what_the_plan_results_in_however_often_it_is_applied():
    states = [BODY, BODY.replace("string name = 2;", ""), BODY.replace("int32 x = 1;", ""), BODY]
    table = live()
    for body in states:
        made = plan_change(table, spec(body))
        assert not made.refusals
        assert {path for path, _ in table.spec.walk()} <= {path for path, _ in made.result.walk()}
        table = replace(table, spec=made.result, version=table.version + 1)
        assert plan_change(table, spec(body)).is_empty
