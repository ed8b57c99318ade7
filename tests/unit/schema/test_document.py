from __future__ import annotations

import copy
import json
import random
from typing import Any

import pytest
from proto_world import RandomSchema, compiled

from eventmill.base.errors import EventmillError, SchemaError, UsageError
from eventmill.schema.document import (
    columns_from_json,
    columns_to_json,
    spec_from_json,
    spec_to_json,
    table_from_json,
    table_to_json,
)
from eventmill.schema.mapping import spec_from_proto
from eventmill.schema.table import Granularity, Partitioning, Table, TableId

TABLE = TableId("local", "d", "t")
BODY = """
// A build.
message M { google.protobuf.Timestamp at = 1; repeated In steps = 2; }
message In { string name = 1 [(bqschema.options).default_value = "'x'"]; }
"""


def live() -> Table:
    spec = spec_from_proto(
        TABLE,
        compiled(BODY),
        "t.M",
        partitioning=Partitioning(Granularity.HOUR, "at", 3600.0),
        clustering=["at"],
        labels={"b": "2", "a": "1"},
        owner="me",
        freshness_seconds=60,
        require_partition_filter=True,
    )
    return Table(spec, 3, 1.5, 2.5)


def test_a_table_comes_back_equal_through_json_text():
    document = json.loads(json.dumps(table_to_json(live())))
    assert table_from_json(document) == live()
    assert table_to_json(table_from_json(document)) == document
    assert list(document["labels"]) == ["a", "b"]


def test_random_specs_come_back_equal():
    for seed in range(60):
        schema = RandomSchema(random.Random(seed))
        spec = spec_from_proto(TABLE, schema.descriptor_set, "r.M0", partitioning=None)
        assert spec_from_json(json.loads(json.dumps(spec_to_json(spec)))) == spec


def test_columns_are_the_json_fields_of_bigquery():
    fields = columns_to_json(live().spec.columns)
    assert fields[1] == {
        "name": "steps",
        "type": "RECORD",
        "mode": "REPEATED",
        "fields": [
            {
                "name": "name",
                "type": "STRING",
                "mode": "NULLABLE",
                "defaultValueExpression": "'x'",
            }
        ],
    }
    assert columns_from_json(fields) == live().spec.columns


def test_columns_as_people_write_them_are_taken():
    written = [
        {"name": "a", "type": "int64"},
        {
            "name": "b",
            "type": "Struct",
            "mode": "repeated",
            "fields": [{"name": "c", "type": "bool"}],
        },
    ]
    assert columns_to_json(columns_from_json(written)) == [
        {"name": "a", "type": "INTEGER", "mode": "NULLABLE"},
        {
            "name": "b",
            "type": "RECORD",
            "mode": "REPEATED",
            "fields": [{"name": "c", "type": "BOOLEAN", "mode": "NULLABLE"}],
        },
    ]


def changed(path: str, value: Any) -> dict[str, Any]:
    document = copy.deepcopy(table_to_json(live()))
    *parents, last = path.split(".")
    place: Any = document
    for name in parents:
        place = place[int(name) if name.isdigit() else name]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return document


@pytest.mark.parametrize(
    ("path", "value", "error", "words"),
    [
        ("table", None, SchemaError, "has no table"),
        ("table", "no name", UsageError, "not a table name"),
        ("message", "", SchemaError, "message is empty"),
        ("descriptor_set", "?", SchemaError, "not base64"),
        ("columns", [], SchemaError, "at least one"),
        ("columns", {}, SchemaError, "columns is dict, not list"),
        ("columns.0.type", "TEXT", UsageError, "'TEXT' is not a column type"),
        ("columns.0.mode", "MAYBE", SchemaError, "column at: mode 'MAYBE'"),
        ("columns.0.fields", [{}], SchemaError, "only a RECORD has fields"),
        ("columns.1.fields", None, SchemaError, "column steps has no fields"),
        ("columns.1.fields.0.name", 5, SchemaError, "name is int, not str"),
        ("partitioning.granularity", "WEEK", SchemaError, "granularity 'WEEK'"),
        ("partitioning.column", "steps", SchemaError, "partition column 'steps'"),
        ("clustering", [5], SchemaError, "list of names"),
        ("labels", {"a": 5}, SchemaError, "object of texts"),
        ("freshness_seconds", True, SchemaError, "not a number"),
        ("version", 0, SchemaError, "count from 1"),
        ("version", True, SchemaError, "version is bool"),
        ("created_at", "now", SchemaError, "created_at is str"),
    ],
)
def test_nonsense_is_refused_with_its_place(
    path: str, value: Any, error: type[EventmillError], words: str
):
    with pytest.raises(error, match=words):
        table_from_json(changed(path, value))


def test_what_is_no_object_is_refused():
    for nonsense in (None, [], "x", 5):
        with pytest.raises(SchemaError, match="not a JSON object"):
            table_from_json(nonsense)
