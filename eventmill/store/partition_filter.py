"""Tables that may only be queried with a filter on their partition column."""

from __future__ import annotations

from eventmill.base.errors import QueryError
from eventmill.schema.table import TableSpec
from eventmill.store.googlesql import Translation
from eventmill.store.own_columns import INGESTED_AT


def refuse_unfiltered(translation: Translation, spec: TableSpec) -> None:
    """Raise QueryError when ``spec`` wants a filter by which partitions can be left out.

    Each place where the query reads the table must have one. The time of ingestion is as good as
    the partition column: files are left out by either, and rows whose partition column is NULL are
    within the bounds of no comparison with it.
    """
    if not spec.require_partition_filter or spec.partitioning is None:
        return
    column = spec.partitioning.column or INGESTED_AT
    bounded = {name for table, name in translation.time_bounds if table == spec.table}
    if bounded.isdisjoint((column.lower(), INGESTED_AT)):
        raise QueryError(
            f"{spec.table} is only queried with a filter on its partition column: add"
            f" WHERE {column} >= TIMESTAMP '...' to each place that reads it"
        )
