"""A table's schema in the words of others: BigQuery's JSON fields, and a CREATE TABLE statement."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from eventmill.schema.document import columns_to_json
from eventmill.schema.table import Column, ColumnType, Granularity, Mode, Partitioning, TableSpec

_SECONDS_A_DAY = 86_400.0
# GoogleSQL's names of the types (cloud.google.com/bigquery/docs/reference/standard-sql/data-types,
# looked up 2026-11-24); the others are called there as in BigQuery's API.
_SQL_NAMES = {
    ColumnType.INTEGER: "INT64",
    ColumnType.FLOAT: "FLOAT64",
    ColumnType.BOOLEAN: "BOOL",
}


def bigquery_fields(columns: Sequence[Column]) -> list[dict[str, Any]]:
    """Return columns as BigQuery's API, `bq mk` and Terraform take them.

    A list of ``{name, type, mode}`` with ``description``, ``defaultValueExpression`` and
    ``fields`` where there are any.
    """
    return columns_to_json(columns)


def ddl(spec: TableSpec) -> str:
    """Return the GoogleSQL statement that makes the table in BigQuery, with a newline at the end.

    What BigQuery has no word for (owner, freshness) stands among the labels and the description
    only if it was put there.
    """
    lines = ",\n".join(f"  {_column(column, '  ')}" for column in spec.columns)
    parts = [f"CREATE TABLE IF NOT EXISTS `{spec.table}` (\n{lines}\n)"]
    if spec.partitioning is not None:
        parts.append(f"PARTITION BY {_partition(spec.partitioning)}")
    if spec.clustering:
        parts.append(f"CLUSTER BY {', '.join(map(_name, spec.clustering))}")
    options = _table_options(spec)
    if options:
        parts.append("OPTIONS (\n  " + ",\n  ".join(options) + "\n)")
    return "\n".join(parts) + ";\n"


def _column(column: Column, indent: str) -> str:
    words = [_name(column.name), _type(column, indent)]
    if column.mode is Mode.REQUIRED:
        words.append("NOT NULL")
    if column.default_value:
        words.insert(2, f"DEFAULT {column.default_value}")
    if column.description:
        words.append(f"OPTIONS (description = {_text(column.description)})")
    return " ".join(words)


def _type(column: Column, indent: str) -> str:
    if column.type is ColumnType.RECORD:
        inner = indent + "  "
        fields = ",\n".join(f"{inner}{_column(field, inner)}" for field in column.fields)
        name = f"STRUCT<\n{fields}\n{indent}>"
    else:
        name = _SQL_NAMES.get(column.type, column.type.value)
    return f"ARRAY<{name}>" if column.mode is Mode.REPEATED else name


def _partition(partitioning: Partitioning) -> str:
    granularity = partitioning.granularity
    if partitioning.column is None:
        if granularity is Granularity.DAY:
            return "_PARTITIONDATE"
        return f"TIMESTAMP_TRUNC(_PARTITIONTIME, {granularity})"
    return f"TIMESTAMP_TRUNC({_name(partitioning.column)}, {granularity})"


def _table_options(spec: TableSpec) -> list[str]:
    options = []
    if spec.description:
        options.append(f"description = {_text(spec.description)}")
    if spec.labels:
        pairs = ", ".join(f"({_text(k)}, {_text(v)})" for k, v in sorted(spec.labels.items()))
        options.append(f"labels = [{pairs}]")
    if spec.partitioning is not None:
        if spec.partitioning.expiration_seconds is not None:
            days = spec.partitioning.expiration_seconds / _SECONDS_A_DAY
            options.append(f"partition_expiration_days = {days:g}")
        if spec.require_partition_filter:
            options.append("require_partition_filter = TRUE")
    return options


def _name(name: str) -> str:
    return f"`{name}`"


def _text(text: str) -> str:
    # JSON's escapes are GoogleSQL's as well.
    return json.dumps(text, ensure_ascii=False)
