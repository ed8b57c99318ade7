"""The rules about tables: stale, too much quarantined, far fewer rows than a week ago."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from eventmill.base.clock import utc_datetime
from eventmill.base.errors import PermanentError, TableNotFoundError
from eventmill.base.quantity import format_seconds
from eventmill.schedule.alert_finding import Finding, Severity
from eventmill.schema.table import Table, TableId
from eventmill.store.port import Store

TABLE_STALE = "table_stale"
QUARANTINE_RATE = "quarantine_rate"
VOLUME_DROP = "volume_drop"
TABLE_RULES = (TABLE_STALE, QUARANTINE_RATE, VOLUME_DROP)
"""Each rule about tables, by name."""

QUARANTINE_WINDOW_SECONDS = 900.0
"""What the share of quarantined events is taken over: one bad deployment shows within minutes."""
QUARANTINE_SHARE_MAX = 0.01
QUARANTINED_MIN = 10
"""Fewer events are no rate; they are listed in quarantine all the same."""
VOLUME_SHARE_MIN = 0.5
VOLUME_ROWS_MIN = 100
"""Rows that the hour of last week must have had: below it, half of them is chance."""
TABLES_A_QUERY = 25
"""Tables counted by one question: each has a price of its own, and so has each of its parts."""
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
        try:
            newest = store.stats(table.id).newest_event_at
        except TableNotFoundError:  # it was dropped since the list was made
            continue
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
        accepted = _count(store, [table], since, None)[name] if table else 0
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


class VolumeWatch:
    """Finds tables that got less than half of the rows in the last whole hour of last week's.

    An hour that is over changes no more: its tables are counted once, a few at each look, so that
    hundreds of them do not hold up the other rules.
    """

    def __init__(self, store: Store, outputs: Callable[[], Collection[TableId]]) -> None:
        """Watch the tables of ``store``.

        Args:
            store: whose tables.
            outputs: returns the tables that workflows write, which are left out: their runs have
                rules.
        """
        self._store = store
        self._outputs = outputs
        self._end = 0.0
        self._left: deque[Table] = deque()
        self._found: dict[str, Finding] = {}

    def find(self, now: float, tables_max: int = sys.maxsize) -> Iterator[Finding]:
        """Count tables that are not counted yet for the last hour; yield those that are dropped.

        Args:
            now: seconds since 1970.
            tables_max: how many are counted at most.
        """
        end = now - now % _HOUR
        if end != self._end:
            tables, outputs = self._store.tables(), self._outputs()
            old = [t for t in tables if t.created_at <= end - _WEEK - _HOUR]
            self._left = deque(table for table in old if table.id not in outputs)
            self._found, self._end = {}, end
        for _ in range(0, min(len(self._left), tables_max), TABLES_A_QUERY):
            part = list(islice(self._left, TABLES_A_QUERY))
            self._count(part)
            for _ in part:
                self._left.popleft()
        yield from self._found.values()

    def unjudged(self) -> frozenset[str]:
        """Return the tables that are not counted yet."""
        return frozenset(str(table.id) for table in self._left)

    def _count(self, tables: Sequence[Table]) -> None:
        by_name = {str(table.id): table for table in tables}
        before_by_name = _counts(self._store, tables, self._end - _WEEK)
        watched = [
            by_name[name] for name, rows in before_by_name.items() if rows >= VOLUME_ROWS_MIN
        ]
        for name, rows in _counts(self._store, watched, self._end).items():
            before = before_by_name[name]
            if rows < VOLUME_SHARE_MIN * before:
                self._found[name] = _dropped(by_name[name], rows, before, self._end - _HOUR)


def _dropped(table: Table, rows: int, before: int, hour: float) -> Finding:
    return Finding(
        rule=VOLUME_DROP,
        subject=str(table.id),
        summary=(
            f"{table.id} got {rows:,} rows in the hour from {utc_datetime(hour):%Y-%m-%d %H:%M}"
            f" UTC, and {before:,} in that hour of last week: does a sender fail?"
        ),
        owner=table.spec.owner,
        severity=Severity.WARNING,
        labels={"table": str(table.id)},
    )


def _counts(store: Store, tables: Iterable[Table], end: float) -> dict[str, int]:
    """Count the rows that the store took in the hour before ``end``, by name of the table."""
    since, until = utc_datetime(end - _HOUR), utc_datetime(end)
    counts: dict[str, int] = {}
    left = list(tables)
    for first in range(0, len(left), TABLES_A_QUERY):
        part = left[first : first + TABLES_A_QUERY]
        try:
            counts |= _count(store, part, since, until)
        except PermanentError:  # one of them is gone meanwhile, or damaged: the others are not
            for table in part:
                with suppress(TableNotFoundError):
                    counts |= _count(store, [table], since, until)
    return counts


def _count(
    store: Store, tables: Sequence[Table], since: datetime, until: datetime | None
) -> dict[str, int]:
    """Count the rows that the store took in [since, until), by table; None: until now."""
    params: dict[str, Any] = {"since": since, "until": until or _LATEST}
    parts = []
    for table in tables:
        condition = "_ingested_at >= @since AND _ingested_at < @until"
        column = table.spec.partitioning.column if table.spec.partitioning else None
        if table.spec.require_partition_filter and column is not None:
            params["earliest"] = _EARLIEST
            condition += f" AND `{column}` >= @earliest"
        # Names of tables are those of the store: letters, digits and underscores.
        named = f"SELECT '{table.id}' AS name, COUNT(*) AS n FROM `{table.id}`"  # noqa: S608
        parts.append(f"{named} WHERE {condition}")
    rows = store.query(" UNION ALL ".join(parts), params, row_limit=None)
    return {str(row["name"]): int(row["n"]) for row in rows}
