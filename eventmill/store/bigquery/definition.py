"""A table's definition as BigQuery's own: fields, partitioning, clustering, labels."""

from __future__ import annotations

from google.cloud import bigquery

from eventmill.base.errors import SchemaConflictError
from eventmill.schema.document import columns_from_json, columns_to_json
from eventmill.schema.from_fields import message_from_columns
from eventmill.schema.mapping import spec_from_proto
from eventmill.schema.table import Column, Granularity, Mode, Partitioning, TableId, TableSpec
from eventmill.store.bigquery.writer_rows import OWN_COLUMNS

DEFINITION_LABEL = "eventmill_definition"
"""Its value is the key of the definition in the catalog: the table says itself which it has, so
that table and catalog change in one step, guarded by the table's ETag."""
_OWN_NAMES = frozenset(column.name for column in OWN_COLUMNS)


def reference(table: TableId) -> bigquery.TableReference:
    """Return the table's name as the client library has it."""
    return bigquery.TableReference(
        bigquery.DatasetReference(table.project, table.dataset), table.table
    )


def fields_of(spec: TableSpec, live: bigquery.Table | None) -> list[bigquery.SchemaField]:
    """Return the fields that the table should have.

    Those of ``spec`` first come in the order of ``live``, as BigQuery moves none; at each level
    live fields that the definition does not have are kept.
    """
    wanted = columns_to_json((*spec.columns, *OWN_COLUMNS))
    if live is None:
        return [bigquery.SchemaField.from_api_repr(field) for field in wanted]
    present = [field.to_api_repr() for field in live.schema]
    return [bigquery.SchemaField.from_api_repr(field) for field in _merged(present, wanted)]


def _merged(present: list[dict], wanted: list[dict]) -> list[dict]:  # type: ignore[type-arg]
    by_name = {field["name"].lower(): field for field in wanted}
    names = {field["name"].lower() for field in present}
    merged = []
    for field in present:
        new = by_name.get(field["name"].lower())
        if new is None:
            merged.append(field)
            continue
        # What people have set by other tools, such as policy tags, stays.
        # A column that came to a table that was there is NULLABLE, and BigQuery keeps it so.
        is_relaxed = new["mode"] == Mode.REQUIRED.value and field.get("mode") != new["mode"]
        mode = Mode.NULLABLE.value if is_relaxed else new["mode"]
        kept = {**field, "description": new.get("description", ""), "mode": mode}
        if new.get("fields"):
            kept["fields"] = _merged(field.get("fields", []), new["fields"])
        merged.append(kept)
    for field in wanted:
        if field["name"].lower() in names:
            continue
        if field["mode"] == Mode.REQUIRED.value and present:
            # BigQuery takes no REQUIRED column into a table that is there.
            field = {**field, "mode": Mode.NULLABLE.value}
        merged.append(field)
    return merged


def new_table(spec: TableSpec, key: str) -> bigquery.Table:
    """Return the table to create.

    Args:
        spec: its definition.
        key: of the definition in the catalog.
    """
    table = bigquery.Table(reference(spec.table), schema=fields_of(spec, None))
    if spec.partitioning is not None:
        table.time_partitioning = bigquery.TimePartitioning(
            type_=spec.partitioning.granularity.value, field=spec.partitioning.column
        )
    if spec.clustering:
        table.clustering_fields = list(spec.clustering)
    set_changeable(table, spec, key)
    return table


def set_changeable(table: bigquery.Table, spec: TableSpec, key: str) -> list[str]:
    """Set what may change on a live table; return the names of those properties."""
    table.description = spec.description
    # None takes away a label that the definition has no more; others' labels stay.
    table.labels = {**dict(spec.labels), DEFINITION_LABEL: key}
    table.require_partition_filter = spec.require_partition_filter
    changed = ["description", "labels", "require_partition_filter"]
    if spec.partitioning is not None and table.time_partitioning is not None:
        seconds = spec.partitioning.expiration_seconds
        partitioning = table.time_partitioning
        partitioning.expiration_ms = None if seconds is None else int(seconds * 1000)
        table.time_partitioning = partitioning
        changed.append("time_partitioning")
    if list(spec.clustering) != list(table.clustering_fields or ()):
        table.clustering_fields = list(spec.clustering) or None
        changed.append("clustering_fields")
    return changed


def spec_of_foreign(table: bigquery.Table, name: TableId) -> TableSpec:
    """Return a definition of a table that was made by other tools, from its columns.

    Raises:
        SchemaConflictError: it has no column, or is a view.
        SchemaError: a column is of a type that no definition can say.
    """
    fields = [field.to_api_repr() for field in table.schema if field.name not in _OWN_NAMES]
    if table.table_type != "TABLE" or not fields:
        raise SchemaConflictError(f"{name} is a {table.table_type.lower()}, not a table of events")
    columns: tuple[Column, ...] = columns_from_json(fields)
    descriptor_set, message = message_from_columns(name, columns)
    return spec_from_proto(
        name,
        descriptor_set,
        message,
        partitioning=_partitioning_of(table),
        clustering=tuple(table.clustering_fields or ()),
        description=table.description or "",
        labels={k: v for k, v in table.labels.items() if k != DEFINITION_LABEL},
        require_partition_filter=bool(table.require_partition_filter),
    )


def _partitioning_of(table: bigquery.Table) -> Partitioning | None:
    found = table.time_partitioning
    if found is None:
        return None
    milliseconds = found.expiration_ms
    return Partitioning(
        Granularity(found.type_),
        found.field,
        None if milliseconds is None else int(milliseconds) / 1000,
    )
