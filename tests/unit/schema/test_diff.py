"""Plans: what may change on a live table, what is refused, and what results."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
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
    assert made.to_text().splitlines()[0] == "local.d.t: create"
    assert "  + add column inner.x INTEGER NULLABLE" in made.to_text().splitlines()


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
    assert made.notes == (
        "inner.x is no longer in the .proto: kept, NULL in new rows",
        "name is no longer in the .proto: kept, NULL in new rows",
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


@pytest.mark.parametrize(
    ("before", "after", "path", "reason"),
    [
        ("string a = 1;", "bytes a = 1;", "a", "type would change from STRING to BYTES"),
        ("string a = 1;", "repeated string a = 1;", "a", "from NULLABLE to REPEATED"),
        ("repeated string a = 1;", "string a = 1;", "a", "from REPEATED to NULLABLE"),
        ("In a = 1;", "Other a = 1;", "a.x", "type would change from INTEGER to STRING"),
        ("string a = 1;", "string b = 1;", "b", "renamed from a and kept its number"),
        ("In a = 1;", "Moved a = 1;", "a.z", "renamed from x"),
        ("string a = 1;", "string A = 1;", "A", "the live column is written a"),
        ("string a = 1;", "string a = 2;", "a", "number would change from 1 to 2"),
        ("int32 a = 1;", "sint32 a = 1;", "a", "encoding would change from plain integer"),
        ("string a = 1;", "E a = 1;", "a", "encoding would change from text to plain integer"),
        (
            "double a = 1;",
            "google.protobuf.Duration a = 1;",
            "a",
            "encoding would change from 64-bit float",
        ),
    ],
)
def test_what_a_live_table_does_not_allow_is_refused_with_a_way_out(
    before: str, after: str, path: str, reason: str
):
    types = """
        message In { int32 x = 1; } message Other { string x = 2; } message Moved { int32 z = 1; }
        enum E { X = 0; }
    """
    made = plan(*(f"message M {{ int32 id = 99; {fields} }} {types}" for fields in (before, after)))
    assert [refusal.path for refusal in made.refusals] == [path]
    assert reason in made.refusals[0].reason
    assert made.refusals[0].way_out
    assert made.result == made.live.spec
    assert made.to_json()["action"] == "refused"
    assert f"  ! {path}: " in made.to_text()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("int32 a = 1;", "int64 a = 1;"),
        ("uint32 a = 1;", "int64 a = 1;"),
        ("In a = 1;", "Same a = 1;"),
        ("fixed32 a = 1;", "sfixed32 a = 1;"),
        ("oneof k { string a = 1; }", "string a = 1;"),
        ("In a = 1;", "In a = 1; In b = 2;"),
    ],
)
def test_changes_that_read_earlier_events_alike_are_allowed(before: str, after: str):
    types = "message In { int32 x = 1; } message Same { int32 x = 1; }"
    made = plan(*(f"message M {{ int32 id = 99; {fields} }} {types}" for fields in (before, after)))
    assert not made.refusals
    assert ("message", "") in kinds(made)


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


@pytest.mark.parametrize(
    "other",
    [None, Partitioning(Granularity.HOUR), Partitioning(Granularity.DAY, "at")],
)
def test_another_partitioning_is_refused(other: Partitioning | None):
    made = plan_change(live(), spec(partitioning=other))
    assert [refusal.path for refusal in made.refusals] == [""]
    assert "make a table under another name" in made.refusals[0].way_out


def test_a_table_keeps_what_the_plan_results_in_however_often_it_is_applied():
    states = [BODY, BODY.replace("string name = 2;", ""), BODY.replace("int32 x = 1;", ""), BODY]
    table = live()
    for body in states:
        made = plan_change(table, spec(body))
        assert not made.refusals
        assert {path for path, _ in table.spec.walk()} <= {path for path, _ in made.result.walk()}
        table = replace(table, spec=made.result, version=table.version + 1)
        assert plan_change(table, spec(body)).is_empty
