"""Which partition a row belongs to, and when a partition is old."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from eventmill.schema.table import Granularity, Partitioning, TableSpec
from eventmill.store.own_columns import INGESTED_AT

NULL_PARTITION = "__NULL__"
"""Rows without a value in the partition column, named as BigQuery names it."""
WHOLE_TABLE = "__ALL__"
"""The one partition of a table that is not partitioned."""

_FORMATS = {
    Granularity.HOUR: "%Y-%m-%dT%H",
    Granularity.DAY: "%Y-%m-%d",
    Granularity.MONTH: "%Y-%m",
    Granularity.YEAR: "%Y",
}


def event_time_column(spec: TableSpec) -> str:
    """Return the column that tells a row's time: the partition column, else the ingestion time."""
    if spec.partitioning and spec.partitioning.column:
        return spec.partitioning.column
    return INGESTED_AT


def split(rows: pa.Table, spec: TableSpec) -> Iterator[tuple[str, pa.Table]]:
    """Yield (partition, its rows) in ascending order, rows sorted by the clustering columns.

    Rows that nothing orders keep the order they came in.
    """
    keys = [(name, "ascending") for name in spec.clustering]
    if spec.partitioning is None:
        yield WHOLE_TABLE, rows.sort_by(keys) if keys else rows
        return
    granularity = spec.partitioning.granularity
    times = rows[event_time_column(spec)].cast(pa.timestamp("us"))
    starts = pc.floor_temporal(times, unit=granularity.value.lower())
    distinct = pc.unique(starts)
    if len(distinct) == 1:
        label = partition_label(distinct[0].value, granularity)
        yield label, rows.sort_by(keys) if keys else rows
        return
    ordered = rows.append_column("__start", starts).append_column(
        "__place", pa.array(range(len(rows)), pa.int64())
    )
    ordered = ordered.sort_by([("__start", "ascending"), *keys, ("__place", "ascending")])
    # Nulls sort last, as does their partition's name.
    runs = pc.run_end_encode(ordered["__start"].combine_chunks())
    ordered = ordered.drop_columns(["__start", "__place"])
    begin = 0
    for end, start in zip(runs.run_ends.to_pylist(), runs.values, strict=True):
        yield partition_label(start.value, granularity), ordered.slice(begin, end - begin)
        begin = end


def partition_folder(spec: TableSpec, label: str) -> str:
    """Return the folder of a partition below the table's lake, such as ``DAY=2026-11-23``."""
    kind = spec.partitioning.granularity.value if spec.partitioning else "TABLE"
    return f"{kind}={label}"


def partition_label(start_us: int | None, granularity: Granularity) -> str:
    """Return a partition's name, such as ``2026-11-23``; the same text sorts by time."""
    if start_us is None:
        return NULL_PARTITION
    start = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=start_us)
    # strftime("%Y") does not pad years before 1000 on every platform.
    return start.strftime(_FORMATS[granularity].replace("%Y", f"{start.year:04d}"))


def expires_at(label: str, partitioning: Partitioning) -> float | None:
    """Return when a partition's rows are to go, in seconds since 1970; None: never."""
    if partitioning.expiration_seconds is None or label in (NULL_PARTITION, WHOLE_TABLE):
        return None
    start = datetime.strptime(label, _FORMATS[partitioning.granularity]).replace(tzinfo=UTC)
    try:
        end = _next_start(start, partitioning.granularity)
    except (OverflowError, ValueError):
        return None  # the last partition of year 9999 ends beyond what a datetime can say
    return end.timestamp() + partitioning.expiration_seconds


def _next_start(start: datetime, granularity: Granularity) -> datetime:
    if granularity is Granularity.HOUR:
        return start + timedelta(hours=1)
    if granularity is Granularity.DAY:
        return start + timedelta(days=1)
    if granularity is Granularity.MONTH:
        return (start.replace(day=28) + timedelta(days=4)).replace(day=1)
    return start.replace(year=start.year + 1)
