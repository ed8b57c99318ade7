"""Table definitions as JSON documents: what stores keep and what the server sends."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

from eventmill.base.errors import SchemaError
from eventmill.schema.dynamic import DynamicValue
from eventmill.schema.mapping import check_spec
from eventmill.schema.table import (
    Column,
    ColumnType,
    Granularity,
    Mode,
    Partitioning,
    Table,
    TableId,
    TableSpec,
)
from eventmill.schema.type_names import column_type

_LEVELS_MAX = 100


def columns_to_json(columns: Sequence[Column]) -> list[dict[str, Any]]:
    """Return columns as the JSON fields that BigQuery, ``bq mk`` and Terraform read."""
    return [_column_to_json(column) for column in columns]


def columns_from_json(fields: object) -> tuple[Column, ...]:
    """Read what ``columns_to_json`` writes; type aliases such as INT64 are accepted.

    Raises:
        SchemaError: the JSON has another form; the message names the column.
        UsageError: a type is none; the message lists the types.
    """
    return _columns_from_json(fields, "", 0)


def spec_to_json(spec: TableSpec) -> dict[str, Any]:
    """Return a spec as a JSON object that ``spec_from_json`` reads back to an equal value."""
    partitioning = spec.partitioning
    return {
        "table": str(spec.table),
        "message": spec.message,
        "fingerprint": spec.fingerprint,
        "columns": columns_to_json(spec.columns),
        "partitioning": None
        if partitioning is None
        else {
            "granularity": partitioning.granularity.value,
            "column": partitioning.column,
            "expiration_seconds": partitioning.expiration_seconds,
        },
        "clustering": list(spec.clustering),
        "require_partition_filter": spec.require_partition_filter,
        "description": spec.description,
        "owner": spec.owner,
        "labels": dict(sorted(spec.labels.items())),
        "freshness_seconds": spec.freshness_seconds,
        "descriptor_set": base64.b64encode(spec.descriptor_set).decode("ascii"),
    }


def spec_from_json(document: object) -> TableSpec:
    """Read what ``spec_to_json`` writes.

    Raises:
        SchemaError: a key is missing or of another form; the message names it.
        UsageError: the table's name or a type makes no sense.
    """
    source = _Object(document, "the table definition")
    spec = TableSpec(
        table=TableId.parse(source.text("table")),
        descriptor_set=source.encoded("descriptor_set"),
        message=source.text("message"),
        columns=columns_from_json(source.value("columns", list)),
        fingerprint=source.text("fingerprint"),
        partitioning=_partitioning_from_json(source.optional("partitioning", dict)),
        clustering=source.texts("clustering"),
        require_partition_filter=source.optional("require_partition_filter", bool) or False,
        description=source.optional("description", str) or "",
        owner=source.optional("owner", str) or "",
        labels=source.labels("labels"),
        freshness_seconds=source.number("freshness_seconds"),
    )
    check_spec(spec)
    return spec


def table_to_json(table: Table) -> dict[str, Any]:
    """Return a live table as a JSON object that ``table_from_json`` reads back."""
    return {
        **spec_to_json(table.spec),
        "version": table.version,
        "created_at": table.created_at,
        "updated_at": table.updated_at,
    }


def table_from_json(document: object) -> Table:
    """Read what ``table_to_json`` writes.

    Raises:
        SchemaError: a key is missing or of another form; the message names it.
        UsageError: the table's name or a type makes no sense.
    """
    source = _Object(document, "the table definition")
    version = source.value("version", int)
    if version < 1:
        raise SchemaError(f"version {version} of a table: versions count from 1")
    return Table(
        spec=spec_from_json(document),
        version=version,
        created_at=source.number("created_at") or 0.0,
        updated_at=source.number("updated_at") or 0.0,
    )


def _column_to_json(column: Column) -> dict[str, Any]:
    field: dict[str, Any] = {
        "name": column.name,
        "type": column.type.value,
        "mode": column.mode.value,
    }
    if column.description:
        field["description"] = column.description
    if column.default_value:
        field["defaultValueExpression"] = column.default_value
    if column.fields:
        field["fields"] = columns_to_json(column.fields)
    return field


def _columns_from_json(fields: object, prefix: str, depth: int) -> tuple[Column, ...]:
    place = prefix.rstrip(".") or "the table"
    if depth > _LEVELS_MAX:
        raise SchemaError(f"the columns of {place} are nested too deeply")
    if not isinstance(fields, list) or not fields:
        raise SchemaError(f"the columns of {place} are not a list of at least one JSON field")
    columns = []
    for index, field in enumerate(fields):
        source = _Object(field, f"column {index + 1} of {place}")
        name = source.text("name")
        source = _Object(field, f"column {prefix}{name}")
        type_ = column_type(source.text("type"))
        mode = (source.optional("mode", str) or Mode.NULLABLE.value).upper()
        if mode not in Mode.__members__:
            raise SchemaError(f"column {prefix}{name}: mode {mode!r} is none of {', '.join(Mode)}")
        below: tuple[Column, ...] = ()
        if type_ is ColumnType.RECORD:
            below = _columns_from_json(source.value("fields", list), f"{prefix}{name}.", depth + 1)
        elif source.optional("fields", list):
            raise SchemaError(f"column {prefix}{name}: only a RECORD has fields")
        columns.append(
            Column(
                name=name,
                type=type_,
                mode=Mode(mode),
                description=source.optional("description", str) or "",
                fields=below,
                default_value=source.optional("defaultValueExpression", str) or "",
            )
        )
    return tuple(columns)


def _partitioning_from_json(document: dict[str, Any] | None) -> Partitioning | None:
    if document is None:
        return None
    source = _Object(document, "partitioning")
    granularity = source.text("granularity").upper()
    if granularity not in Granularity.__members__:
        raise SchemaError(f"granularity {granularity!r} is none of {', '.join(Granularity)}")
    return Partitioning(
        granularity=Granularity(granularity),
        column=source.optional("column", str),
        expiration_seconds=source.number("expiration_seconds"),
    )


class _Object:
    """A JSON object whose keys are read with their types, and whose errors name the key."""

    def __init__(self, document: object, place: str) -> None:
        if not isinstance(document, Mapping):
            raise SchemaError(f"{place} is not a JSON object")
        self._document = document
        self._place = place

    def optional(self, key: str, type_: type) -> DynamicValue:
        value = self._document.get(key)
        if value is None:
            return None
        if not isinstance(value, type_) or (type_ is int and isinstance(value, bool)):
            raise SchemaError(
                f"{self._place}: {key} is {type(value).__name__}, not {type_.__name__}"
            )
        return value

    def value(self, key: str, type_: type) -> DynamicValue:
        value = self.optional(key, type_)
        if value is None:
            raise SchemaError(f"{self._place} has no {key}")
        return value

    def text(self, key: str) -> str:
        text: str = self.value(key, str)
        if not text:
            raise SchemaError(f"{self._place}: {key} is empty")
        return text

    def number(self, key: str) -> float | None:
        value = self._document.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise SchemaError(f"{self._place}: {key} is {type(value).__name__}, not a number")
        return float(value)

    def texts(self, key: str) -> tuple[str, ...]:
        values = self.optional(key, list) or []
        if not all(isinstance(value, str) for value in values):
            raise SchemaError(f"{self._place}: {key} is not a list of names")
        return tuple(values)

    def labels(self, key: str) -> dict[str, str]:
        values = self.optional(key, dict) or {}
        if not all(isinstance(k, str) and isinstance(v, str) for k, v in values.items()):
            raise SchemaError(f"{self._place}: {key} is not an object of texts")
        return dict(values)

    def encoded(self, key: str) -> bytes:
        try:
            return base64.b64decode(self.text(key), validate=True)
        except (binascii.Error, ValueError):
            raise SchemaError(f"{self._place}: {key} is not base64") from None
