"""The rules about tables: stale, too much quarantined, far fewer rows than a week ago."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from typing import Any

from eventmill.base.clock import utc_datetime
from eventmill.base.quantity import format_seconds
from eventmill.schedule.alert_finding import Finding, Severity
from eventmill.schema.table import Table, TableId
from eventmill.store.port import Store

TABLE_STALE = "table_stale"
QUARANTINE_RATE = "quarantine_rate"
VOLUME_DROP = "volume_drop"

QUARANTINE_WINDOW_SECONDS = 900.0
"""What the share of quarantined events is taken over: one bad deployment shows within minutes."""
QUARANTINE_SHARE_MAX = 0.01
QUARANTINED_MIN = 10
"""Fewer events are no rate; they are listed in quarantine all the same."""
VOLUME_SHARE_MIN = 0.5
VOLUME_ROWS_MIN = 100
"""Rows that the hour of last week must have had: below it, half of them is chance."""
_EARLIEST = datetime(1, 1, 1, tzinfo=UTC)
_LATEST = datetime(9999, 12, 31, tzinfo=UTC)
_HOUR = 3_600.0
_WEEK = 7 * 86_400.0


def find_stale(store: Store, now: float) -> Iterator[Finding]:
    """Yield each table whose newest row is older than its freshness promise."""
    for table in store.tables():
        promise = table.spec.freshness_seconds
        if promise is None:
            continue
        newest = store.stats(table.id).newest_event_at
        # A table that never had a row has kept no promise since it was made.
        age = now - (table.created_at if newest is None else newest)
        if age <= promise:
            continue
        what = (
            "has no row"
            if newest is None
            else f"has no row newer than {utc_datetime(newest):%Y-%m-%d %H:%M:%S} UTC"
        )
        yield Finding(
            rule=TABLE_STALE,
            subject=str(table.id),
            summary=(
                f"{table.id} {what}; promised is one every {format_seconds(promise)}. Look at its"
                " senders: is one of them down, or what it sends in quarantine?"
            ),
            owner=table.spec.owner,
            labels={"table": str(table.id)},
        )


def find_quarantined(store: Store, now: float) -> Iterator[Finding]:
    """Yield each table of whose events more than one in a hundred was lately quarantined."""
    since = utc_datetime(now - QUARANTINE_WINDOW_SECONDS)
    rows = store.query(
        "SELECT table_name AS name, COUNT(*) AS events,"
        " APPROX_TOP_COUNT(reason, 1)[OFFSET(0)].value AS reason"
        " FROM eventmill.quarantine WHERE _ingested_at > @since GROUP BY name",
        {"since": since},
        row_limit=None,
    )
    tables = {str(table.id): table for table in store.tables()}
    for row in rows:
        name, quarantined = str(row["name"]), int(row["events"])
        if quarantined < QUARANTINED_MIN:
            continue
        table = tables.get(name)
        accepted = _count(store, table, since, None) if table else 0
        share = quarantined / (quarantined + accepted)
        if share <= QUARANTINE_SHARE_MAX:
            continue
        yield Finding(
            rule=QUARANTINE_RATE,
            subject=name,
            summary=(
                f"{share:.1%} of the events sent to {name} within"
                f" {format_seconds(QUARANTINE_WINDOW_SECONDS)} are in quarantine"
                f" ({quarantined:,} of {quarantined + accepted:,}), most of them for"
                f" {row['reason']}: `eventmill quarantine list --table {name}`"
            ),
            owner=table.spec.owner if table else "",
            labels={"table": name, "reason": str(row["reason"])},
        )


def find_dropped(store: Store, now: float, outputs: Collection[TableId]) -> Iterator[Finding]:
    """Yield each table that got less than half of the rows in the last whole hour of last week's.

    Args:
        store: whose tables.
        now: seconds since 1970.
        outputs: tables that workflows write, which are left out: their runs have rules.
    """
    end = now - now % _HOUR
    for table in store.tables():
        if table.id in outputs or table.created_at > end - _WEEK - _HOUR:
            continue
        before = _hour(store, table, end - _WEEK)
        if before < VOLUME_ROWS_MIN:
            continue
        rows = _hour(store, table, end)
        if rows >= VOLUME_SHARE_MIN * before:
            continue
        hour = utc_datetime(end - _HOUR)
        yield Finding(
            rule=VOLUME_DROP,
            subject=str(table.id),
            summary=(
                f"{table.id} got {rows:,} rows in the hour from {hour:%Y-%m-%d %H:%M} UTC, and"
                f" {before:,} in that hour of last week: does a sender fail?"
            ),
            owner=table.spec.owner,
            severity=Severity.WARNING,
            labels={"table": str(table.id)},
        )


def _hour(store: Store, table: Table, end: float) -> int:
    return _count(store, table, utc_datetime(end - _HOUR), utc_datetime(end))


def _count(store: Store, table: Table, since: datetime, until: datetime | None) -> int:
    """Count the rows that the store took in [since, until); None: until now."""
    params: dict[str, Any] = {"since": since, "until": until or _LATEST}
    condition = "_ingested_at >= @since AND _ingested_at < @until"
    column = table.spec.partitioning.column if table.spec.partitioning else None
    if table.spec.require_partition_filter and column is not None:
        params["earliest"] = _EARLIEST
        condition += f" AND `{column}` >= @earliest"
    (row,) = store.query(
        f"SELECT COUNT(*) AS n FROM `{table.id}` WHERE {condition}",  # noqa: S608 - names of the store
        params,
    )
    return int(row["n"])
