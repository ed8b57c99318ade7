"""A schema in the words of others."""

from __future__ import annotations

import pytest
import sqlglot
from proto_world import PROTO2, compiled

from eventmill.schema.export import bigquery_fields, ddl
from eventmill.schema.mapping import spec_from_proto
from eventmill.schema.table import Granularity, Partitioning, TableId, TableSpec

TABLE = TableId("my-project", "ci", "builds")
BODY = """
message Step { optional string name = 1; repeated google.protobuf.Timestamp at = 2; }
// What "ran", and `how`:
// a\\b
message M {
  required int64 number = 1;
  optional google.protobuf.Timestamp ended_at = 2;
  repeated Step steps = 3;
  optional double cost = 4 [(bqschema.options).default_value = "0.0"];
  optional bytes raw = 5;
  // Left or right.
  optional bool left = 6;
  optional string doc = 7 [(bqschema.options).bq_type = "JSON"];
}
"""


def spec(**changes: object) -> TableSpec:
    return spec_from_proto(TABLE, compiled(BODY, PROTO2), "t.M", **changes)


def test_bigquery_fields_are_those_of_its_api():
    fields = bigquery_fields(spec().columns)
    assert fields[0] == {"name": "number", "type": "INTEGER", "mode": "REQUIRED"}
    assert fields[2] == {
        "name": "steps",
        "type": "RECORD",
        "mode": "REPEATED",
        "fields": [
            {"name": "name", "type": "STRING", "mode": "NULLABLE"},
            {"name": "at", "type": "TIMESTAMP", "mode": "REPEATED"},
        ],
    }
    assert fields[3]["defaultValueExpression"] == "0.0"
    assert fields[5]["description"] == "Left or right."


PARTITIONS = [
    (Partitioning(), "PARTITION BY _PARTITIONDATE"),
    (Partitioning(Granularity.HOUR), "PARTITION BY TIMESTAMP_TRUNC(_PARTITIONTIME, HOUR)"),
    (
        Partitioning(Granularity.MONTH, "ended_at", 86_400.0 * 1.5),
        "PARTITION BY TIMESTAMP_TRUNC(`ended_at`, MONTH)",
    ),
    (None, None),
]


@pytest.mark.parametrize(("partitioning", "clause"), PARTITIONS)
def test_a_statement_says_all_that_bigquery_has_words_for(partitioning, clause):
    text = ddl(
        spec(
            partitioning=partitioning,
            clustering=("number", "left"),
            labels={"team": "ci"},
            require_partition_filter=partitioning is not None,
        )
    )
    assert text.startswith("CREATE TABLE IF NOT EXISTS `my-project.ci.builds` (\n")
    for line in (
        "  `number` INT64 NOT NULL,",
        "  `ended_at` TIMESTAMP,",
        "    `at` ARRAY<TIMESTAMP>",
        "  `cost` FLOAT64 DEFAULT 0.0,",
        '  `left` BOOL OPTIONS (description = "Left or right."),',
        "  `doc` JSON",
        "CLUSTER BY `number`, `left`",
        '  labels = [("team", "ci")]' + (",\n" if partitioning else "\n"),
    ):
        assert line in text, line
    assert ("\n" + clause + "\n" in text) if clause else ("PARTITION" not in text)
    assert ("partition_expiration_days = 1.5" in text) == bool(
        partitioning and partitioning.expiration_seconds
    )
    assert ("require_partition_filter = TRUE" in text) == (partitioning is not None)
    assert 'What \\"ran\\", and `how`:\\na\\\\b' in text
    (statement,) = sqlglot.parse(text, read="bigquery")
    assert isinstance(statement, sqlglot.exp.Create)
    columns = statement.this.expressions
    assert [column.name for column in columns] == [c.name for c in spec().columns]
