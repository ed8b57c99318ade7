"""From a message type to a table: its columns, and the spec with all that is said about it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypedDict, Unpack

from eventmill.base.errors import SchemaError
from eventmill.schema.descriptions import Comments, column_description, cut, table_description
from eventmill.schema.kinds import Kind
from eventmill.schema.message_type import MessageType
from eventmill.schema.options import table_options
from eventmill.schema.rules import rule_check
from eventmill.schema.shape import FieldShape, shape_of
from eventmill.schema.table import (
    Column,
    ColumnType,
    Mode,
    Partitioning,
    TableId,
    TableSpec,
)

# BigQuery: four clustering columns, top-level and not repeated, of types that can be ordered;
# keys and values of labels (cloud.google.com/bigquery/docs/clustered-tables and
# /docs/labels-intro, looked up 2026-11-23).
CLUSTERING_COLUMNS_MAX = 4
_NOT_ORDERED = frozenset((ColumnType.RECORD, ColumnType.JSON, ColumnType.FLOAT, ColumnType.BYTES))
_LABEL_KEY = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_LABEL_VALUE = re.compile(r"[a-z0-9_-]{0,63}")
LABELS_MAX = 64


class SpecOverrides(TypedDict, total=False):
    """What ``spec_from_proto`` takes beside the message; an absent key: as the file says."""

    partitioning: Partitioning | None
    clustering: Sequence[str]
    description: str
    owner: str
    labels: Mapping[str, str]
    freshness_seconds: float | None
    require_partition_filter: bool


def columns_of(message_type: MessageType) -> tuple[Column, ...]:
    """Return the columns of a table of ``message_type``, in declaration order.

    Raises:
        SchemaError: the message does not fit a table; names the field, its file and the remedy.
    """
    comments = Comments(message_type.descriptor_set)
    return tuple(_column(shape, comments) for shape in shape_of(message_type))


def spec_from_proto(
    table: TableId | None,
    descriptor_set: bytes,
    message: str,
    **overrides: Unpack[SpecOverrides],
) -> TableSpec:
    """Return what a table of ``message`` should be.

    Args:
        table: the table's name; None: the one in the message's ``eventmill.table`` option.
        descriptor_set: as ``compile_protos`` returns it.
        message: full name of the message type.
        **overrides: win over what the .proto says; see ``SpecOverrides``.

    Raises:
        SchemaError: no such message, one that does not fit a table, no name for the table, or
            partitioning, clustering or labels that do not fit.
        UsageError: the name in the .proto's option is not a table name.
    """
    message_type = MessageType.load(descriptor_set, message)
    options = table_options(message_type.descriptor)
    if table is None:
        if options.id is None:
            raise SchemaError(
                f"no table is named: give one, or set option (eventmill.table).id on {message}"
            )
        table = TableId.parse(options.id)
    rule_check(message_type)  # rules that cannot be used are refused before there is a table
    comments = Comments(descriptor_set)
    said = {**options.as_overrides(), **overrides}
    spec = TableSpec(
        table=table,
        descriptor_set=descriptor_set,
        message=message_type.full_name,
        columns=columns_of(message_type),
        fingerprint=message_type.fingerprint,
        partitioning=said.get("partitioning", Partitioning()),
        clustering=tuple(said.get("clustering", ())),
        require_partition_filter=bool(said.get("require_partition_filter", False)),
        description=cut(said["description"])
        if "description" in said
        else table_description(
            comments.of(message_type.full_name), message_type.descriptor.file.name
        ),
        owner=said.get("owner", ""),
        labels=dict(said.get("labels", {})),
        freshness_seconds=said.get("freshness_seconds"),
    )
    check_spec(spec)
    return spec


def check_spec(spec: TableSpec) -> None:
    """Return when partitioning, clustering, labels and promises fit the columns of ``spec``.

    Raises:
        SchemaError: they do not; the message names the column or label and says what would fit.
    """
    top = {column.name: column for column in spec.columns}
    partitioning = spec.partitioning
    if partitioning is not None:
        _check_partitioning(partitioning, top)
    if spec.require_partition_filter and partitioning is None:
        raise SchemaError("require_partition_filter needs a partitioned table")
    if len(spec.clustering) > CLUSTERING_COLUMNS_MAX:
        raise SchemaError(
            f"{len(spec.clustering)} clustering columns are given; at most"
            f" {CLUSTERING_COLUMNS_MAX} count"
        )
    for name in spec.clustering:
        column = top.get(name)
        if column is None:
            raise SchemaError(f"clustering column {name!r} is not a top-level column of the table")
        if column.mode is Mode.REPEATED or column.type in _NOT_ORDERED:
            raise SchemaError(
                f"clustering column {name!r} is {column.mode} {column.type}; it must be a single"
                " value that can be ordered, and no FLOAT"
            )
    if len(set(spec.clustering)) < len(spec.clustering):
        raise SchemaError(f"a clustering column is given twice: {', '.join(spec.clustering)}")
    if spec.freshness_seconds is not None and not 0 < spec.freshness_seconds < float("inf"):
        raise SchemaError("the freshness promise must be a positive number of seconds, or none")
    _check_labels(spec.labels)


def _check_partitioning(partitioning: Partitioning, top: Mapping[str, Column]) -> None:
    seconds = partitioning.expiration_seconds
    if seconds is not None and not 0 < seconds < float("inf"):
        raise SchemaError("the partition expiration must be a positive time, or none")
    if partitioning.column is None:
        return
    column = top.get(partitioning.column)
    timestamps = ", ".join(c.name for c in top.values() if c.type is ColumnType.TIMESTAMP)
    remedy = f"use one of: {timestamps}" if timestamps else "the table has no TIMESTAMP column"
    if column is None:
        raise SchemaError(
            f"partition column {partitioning.column!r} is not a top-level column; {remedy}"
        )
    if column.type is not ColumnType.TIMESTAMP or column.mode is Mode.REPEATED:
        raise SchemaError(
            f"partition column {column.name!r} is {column.mode} {column.type}; {remedy}"
        )


def _check_labels(labels: Mapping[str, str]) -> None:
    if len(labels) > LABELS_MAX:
        raise SchemaError(f"{len(labels)} labels are given; a table has at most {LABELS_MAX}")
    for key, value in labels.items():
        if not _LABEL_KEY.fullmatch(key):
            raise SchemaError(
                f"label {key!r}: a key has 1-63 lower-case letters, digits, _ and -, and begins"
                " with a letter"
            )
        if not _LABEL_VALUE.fullmatch(value):
            raise SchemaError(
                f"label {key}={value!r}: a value has at most 63 lower-case letters, digits, _ and -"
            )


def _column(shape: FieldShape, comments: Comments) -> Column:
    enum = shape.field.enum_type if shape.kind is Kind.ENUM_NAME else None
    return Column(
        name=shape.name,
        type=shape.type,
        mode=shape.mode,
        description=column_description(comments.of(shape.field.full_name), enum),
        fields=tuple(_column(below, comments) for below in shape.fields),
        default_value=shape.default_value,
    )
