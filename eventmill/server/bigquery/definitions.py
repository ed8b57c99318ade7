"""A table's definition in BigQuery's words, and back: schema, partitioning, clustering, labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from eventmill.schema.document import columns_from_json, columns_to_json
from eventmill.schema.from_fields import is_from_columns, message_from_columns
from eventmill.schema.mapping import spec_from_proto
from eventmill.schema.table import (
    Column,
    ColumnType,
    Granularity,
    Mode,
    Partitioning,
    TableId,
    TableSpec,
)
from eventmill.server.bigquery.documents import labels_of, number_of, text_of
from eventmill.server.bigquery.errors import ApiError, invalid, unsupported
from eventmill.server.bigquery.rooms import shown
from eventmill.store.own_columns import OWN_FIELDS

_FIELD_KEYS = frozenset(("name", "type", "mode", "description", "fields"))
_MS = 1000.0


def columns_of(schema: object) -> tuple[Column, ...]:
    """Return the columns of a ``schema`` object of the API.

    Raises:
        ApiError: it says something that columns here cannot keep.
        SchemaError: it has another form; the message names the column.
    """
    if not isinstance(schema, Mapping):
        raise invalid("schema must be an object with fields", "schema")
    fields = schema.get("fields")
    _check_fields(fields, "")
    # Every table has these two without being asked, and shows them to queries that name them.
    own = [field.name for field in OWN_FIELDS]
    if isinstance(fields, list):
        fields = [f for f in fields if not (isinstance(f, Mapping) and f.get("name") in own)]
    return columns_from_json(fields)


def _check_fields(fields: object, prefix: str) -> None:
    if not isinstance(fields, list):
        return  # said by whoever reads them
    for field in fields:
        if not isinstance(field, Mapping):
            continue
        path = f"{prefix}{field.get('name')}"
        for key, value in field.items():
            if key == "policyTags" and isinstance(value, Mapping) and not value.get("names"):
                continue
            if key not in _FIELD_KEYS and value not in (None, "", {}, []):
                raise unsupported(f"{key} of field {path}")
        _check_fields(field.get("fields"), f"{path}.")


def schema_document(columns: Sequence[Column]) -> dict[str, Any]:
    """Return the ``schema`` object of columns; what a default value says is not evaluated here."""
    return {"fields": columns_to_json(columns)}


def new_spec(
    table: TableId,
    document: Mapping[str, Any],
    *,
    columns: Sequence[Column] | None = None,
    partition_expiration_ms: int | None = None,
) -> TableSpec:
    """Return the definition of a table that a client wants to be made.

    Args:
        table: its name.
        document: the table resource, or a job's configuration, which says the same.
        columns: of the table; None: those of the document's ``schema``.
        partition_expiration_ms: of the dataset, where the table says none; None: never.
    """
    if columns is None:
        if not document.get("schema"):
            raise unsupported(
                f"a table without a schema ({shown(table)})", "give at least one field"
            )
        columns = columns_of(document["schema"])
    descriptor_set, message = message_from_columns(table, columns)
    return spec_from_proto(
        table,
        descriptor_set,
        message,
        partitioning=partitioning_of(document, partition_expiration_ms),
        clustering=_clustering_of(document),
        require_partition_filter=_filter_of(document) or False,
        description=text_of(document, "description"),
        labels=labels_of(document),
    )


def changed_spec(
    live: TableSpec, document: Mapping[str, Any], labels: Mapping[str, str]
) -> TableSpec:
    """Return the definition that a table gets by a PATCH; what the body does not name stays."""
    spec = live
    if document.get("schema"):
        spec = with_columns(spec, columns_of(document["schema"]))
    if "timePartitioning" in document:
        spec = replace(spec, partitioning=partitioning_of(document, None))
    if "clustering" in document:
        spec = replace(spec, clustering=_clustering_of(document))
    wanted = _filter_of(document)
    if wanted is not None:
        spec = replace(spec, require_partition_filter=wanted)
    if "description" in document:
        spec = replace(spec, description=text_of(document, "description"))
    if "labels" in document:
        spec = replace(spec, labels=dict(labels))
    return live if spec is live else respecified(spec)


def respecified(spec: TableSpec) -> TableSpec:
    """Return the definition with what follows from its descriptor set made anew, and checked."""
    return spec_from_proto(
        spec.table,
        spec.descriptor_set,
        spec.message,
        partitioning=spec.partitioning,
        clustering=spec.clustering,
        require_partition_filter=spec.require_partition_filter,
        description=spec.description,
        owner=spec.owner,
        labels=spec.labels,
        freshness_seconds=spec.freshness_seconds,
    )


def with_columns(spec: TableSpec, columns: Sequence[Column]) -> TableSpec:
    """Return the definition with ``columns``, which may only add to what is there.

    Raises:
        ApiError: a column is missing, of another type or stricter; or the table's columns come
            from a .proto, where they are to be changed.
    """
    result = _evolved(spec, spec.columns, columns, "")
    if result == spec.columns:
        return spec
    if not is_from_columns(spec):
        raise ApiError(
            400,
            "invalid",
            f"the columns of {shown(spec.table)} come from message {spec.message} of a .proto:"
            " change them there, and apply it by `eventmill table apply`",
        )
    descriptor_set, message = message_from_columns(spec.table, result, spec)
    return replace(spec, descriptor_set=descriptor_set, message=message, columns=result)


def _evolved(
    spec: TableSpec, live: Sequence[Column], wanted: Sequence[Column], prefix: str
) -> tuple[Column, ...]:
    """Return the columns of one level: those that live, in their order, then the new ones."""

    def refuse(column: str, what: str) -> ApiError:
        return invalid(
            f"Provided Schema does not match Table {shown(spec.table)}."
            f" Field {prefix}{column} {what}"
        )

    by_name = {column.name.lower(): column for column in wanted}
    result = []
    for before in live:
        after = by_name.pop(before.name.lower(), None)
        if after is None:
            raise refuse(before.name, "is missing in new schema")
        if after.type is not before.type:
            raise refuse(before.name, f"has changed type from {before.type} to {after.type}")
        if after.mode is not before.mode and not (
            before.mode is Mode.REQUIRED and after.mode is Mode.NULLABLE
        ):
            raise refuse(before.name, f"has changed mode from {before.mode} to {after.mode}")
        fields = after.fields
        if before.type is ColumnType.RECORD:
            fields = _evolved(spec, before.fields, after.fields, f"{prefix}{before.name}.")
        # What clients do not know of a column stays as it is.
        result.append(
            replace(after, name=before.name, fields=fields, default_value=before.default_value)
        )
    for added in by_name.values():
        if added.mode is Mode.REQUIRED:
            raise invalid(
                f"Provided Schema does not match Table {shown(spec.table)}. Cannot add required"
                f" fields to an existing schema. (field: {prefix}{added.name})"
            )
        result.append(added)
    return tuple(result)


def partitioning_of(
    document: Mapping[str, Any], default_expiration_ms: int | None
) -> Partitioning | None:
    """Return how a table resource wants to be partitioned; None: not at all."""
    said = document.get("timePartitioning")
    if not said:
        return None
    if not isinstance(said, Mapping):
        raise invalid("timePartitioning must be an object", "timePartitioning")
    word = str(said.get("type") or "").upper()
    if word not in Granularity.__members__:
        raise invalid(
            f"timePartitioning.type {word!r} is none of {', '.join(Granularity)}",
            "timePartitioning.type",
        )
    expiration_ms = number_of(said, "expirationMs") or default_expiration_ms
    return Partitioning(
        granularity=Granularity(word),
        column=text_of(said, "field") or None,
        expiration_seconds=expiration_ms / _MS if expiration_ms else None,
    )


def _clustering_of(document: Mapping[str, Any]) -> tuple[str, ...]:
    said = document.get("clustering")
    fields = said.get("fields") if isinstance(said, Mapping) else said
    if not fields:
        return ()
    if not isinstance(fields, list) or not all(isinstance(name, str) for name in fields):
        raise invalid("clustering.fields must be a list of names", "clustering")
    return tuple(fields)


def _filter_of(document: Mapping[str, Any]) -> bool | None:
    said = document.get("requirePartitionFilter")
    if said is None:
        partitioning = document.get("timePartitioning")
        if isinstance(partitioning, Mapping):
            said = partitioning.get("requirePartitionFilter")
    return None if said is None else bool(said)


def definition_document(spec: TableSpec) -> dict[str, Any]:
    """Return what a table resource says of a definition."""
    document: dict[str, Any] = {"schema": schema_document(spec.columns)}
    partitioning = spec.partitioning
    if partitioning is not None:
        said: dict[str, Any] = {"type": partitioning.granularity.value}
        if partitioning.column is not None:
            said["field"] = partitioning.column
        if partitioning.expiration_seconds is not None:
            said["expirationMs"] = str(int(partitioning.expiration_seconds * _MS))
        document["timePartitioning"] = said
        document["requirePartitionFilter"] = spec.require_partition_filter
    if spec.clustering:
        document["clustering"] = {"fields": list(spec.clustering)}
    if spec.labels:
        document["labels"] = dict(spec.labels)
    if spec.description:
        document["description"] = spec.description
    return document
