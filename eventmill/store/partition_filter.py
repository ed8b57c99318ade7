"""Tables that may only be queried with a filter on their partition column."""

from __future__ import annotations

from eventmill.base.errors import QueryError
from eventmill.schema.table import TableSpec
from eventmill.store.googlesql import Translation
from eventmill.store.own_columns import INGESTED_AT


def refuse_unfiltered(translation: Translation, spec: TableSpec) -> None:
    """Raise QueryError when ``spec`` wants a filter by which partitions can be left out.

    Each place where the query reads the table must have one.
    """
    if not spec.require_partition_filter or spec.partitioning is None:
        return
    column = spec.partitioning.column or INGESTED_AT
    if (spec.table, column.lower()) not in translation.time_bounds:
        raise QueryError(
            f"{spec.table} is only queried with a filter on its partition column: add"
            f" WHERE {column} >= TIMESTAMP '...' to each place that reads it"
        )
