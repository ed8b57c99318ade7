"""Fields and values that a .proto had once: kept, told, and their numbers never used again."""

from __future__ import annotations

import json
import random

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from proto_world import RandomSchema, compiled

from eventmill.schema.diff import Plan, plan_change
from eventmill.schema.document import spec_from_json, spec_to_json
from eventmill.schema.mapping import spec_from_proto
from eventmill.schema.removed_fields import removed_fields
from eventmill.schema.table import Table, TableId, TableSpec

TABLE = TableId("local", "d", "t")
PROTO3 = 'syntax = "proto3";'


def spec(fields: str, syntax: str = PROTO3) -> TableSpec:
    """Return a table of message M; what closes M may go on with other types."""
    body = f"message In {{ int32 x = 1; }} message M {{ int32 id = 99;\n{fields}\n}}"
    return spec_from_proto(TABLE, compiled(body, syntax), "t.M")


def live(wanted: TableSpec) -> Table:
    return Table(wanted, 4, 0.0, 0.0)


def plan(before: str, after: str, syntax: str = PROTO3) -> Plan:
    return plan_change(live(spec(before, syntax)), spec(after, syntax))


@pytest.mark.parametrize(
    ("reserved", "todo"),
    [
        ("", 'write `reserved 2; reserved "b";` in message t.M (t.proto:12)'),
        ("reserved 1 to 3;", 'write `reserved "b";` in message t.M'),
        ('reserved "b";', "write `reserved 2;` in message t.M"),
        ('reserved 2; reserved "b";', ""),
    ],
)
def test_a_removed_field_is_kept_with_the_line_that_reserves_it(reserved: str, todo: str):
    made = plan("string b = 2;", reserved)
    assert not made.refusals
    assert len(made.notes) == 1
    assert made.notes[0].startswith(
        "b is no longer in the .proto: kept, NULL where an event lacks it"
    )
    assert todo in made.notes[0]
    assert ("write" in made.notes[0]) is bool(todo)


def test_reserved_names_have_no_quotes_in_editions():
    edition = 'edition = "2023";'
    made = plan("string b = 2;", "", edition)
    assert "`reserved 2; reserved b;`" in made.notes[0]


def test_the_way_out_of_a_used_number_is_one_that_is_free():
    before = "string a = 1; string z = 18999;"
    after = 'string b = 1; string z = 18999; reserved 20000 to 20010; reserved "a";'
    made = plan(before, after)
    assert made.refusals[0].way_out == (
        "keep the name a; or, to have both columns, give b the number 20011 and write `reserved 1;`"
    )


def after_removal(before: str, *removals: str) -> Table:
    """Return the table that stands after definition upon definition was applied."""
    table = live(spec(before))
    for fields in removals:
        made = plan_change(table, spec(fields))
        assert not made.refusals
        assert made.changes
        table = Table(made.result, table.version + 1, 0.0, 0.0)
    return table


SINCE_REMOVED = [
    ("string a = 1; string b = 2;", "string b = 2;", "string b = 2;\nint32 c = 1; // <-", "c"),
    ("string a = 1; string b = 2;", "string b = 2;", "string b = 2;\nstring c = 1; // <-", "c"),
    ("string a = 1; string b = 2;", "string b = 2;", "string b = 2;\nstring a = 3; // <-", "a"),
    (
        "P a = 1; } message P { int32 x = 1; int32 y = 2;",
        "P a = 1; } message P { int32 y = 2;",
        "P a = 1; } message P { int32 y = 2;\nint64 z = 1; // <-",
        "a.z",
    ),
    (
        "P a = 1; In b = 2; } message P { int32 x = 1;",
        "In b = 2;",
        "P a = 1; In b = 2; } message P {\nint32 x = 2; // <-",
        "a.x",
    ),
    (
        "E a = 1; } enum E { X = 0; A = 1;",
        "E a = 1; } enum E { X = 0;",
        "E a = 1; } enum E { X = 0;\nB = 1; // <-",
        "a",
    ),
]


@pytest.mark.parametrize(("before", "removed", "after", "path"), SINCE_REMOVED)
def test_a_number_stays_used_however_long_its_field_is_gone(
    before: str, removed: str, after: str, path: str
):
    table = after_removal(before, removed, f"bool later = 60; {removed}")
    made = plan_change(table, spec(after))
    assert [refusal.path for refusal in made.refusals] == [path]
    line = after[: after.index("// <-")].count("\n") + 13
    assert made.refusals[0].place == f"t.proto:{line}"
    assert not plan_change(table, spec(before)).refusals


def test_the_record_of_removed_fields_outlives_a_store_and_costs_nothing_when_empty():
    made = plan("string a = 1;", "string b = 2;")
    stored = spec_from_json(json.loads(json.dumps(spec_to_json(made.result))))
    assert stored.fingerprint == spec("string b = 2;").fingerprint
    assert removed_fields(stored.descriptor_set).fields["a"].number == 1
    back = plan_change(live(stored), spec("string a = 1; string b = 2;"))
    assert not back.refusals
    assert back.result.descriptor_set == back.wanted.descriptor_set


def test_random_schemas_lose_and_regain_a_field():
    for seed in range(60):
        schema = RandomSchema(random.Random(seed))
        whole = spec_from_proto(TABLE, schema.descriptor_set, "r.M0")
        unchanged = plan_change(live(whole), whole)
        assert (unchanged.is_empty, unchanged.notes) == (True, ())
        files = FileDescriptorSet.FromString(schema.descriptor_set)
        root = next(m for m in files.file[-1].message_type if m.name == "M0")
        place = next((i for i, f in enumerate(root.field) if not f.HasField("oneof_index")), None)
        if place is None or len(root.field) == 1:
            continue
        del root.field[place]
        less = spec_from_proto(TABLE, files.SerializeToString(), "r.M0")
        removal = plan_change(live(whole), less)
        assert not removal.refusals
        back = plan_change(live(removal.result), whole)
        assert not back.refusals
        assert not removed_fields(back.result.descriptor_set)
