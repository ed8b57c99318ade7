"""``eventmill table copy --to bigquery://PROJECT``: from a data folder into BigQuery."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import click

from eventmill.address import (
    BUSY_WAIT_SECONDS,
    bigquery_store,
    is_bigquery,
    is_folder,
    require_store,
)
from eventmill.base.clock import SYSTEM_CLOCK
from eventmill.base.errors import StoreBusyError, UnavailableError, UsageError
from eventmill.base.patience import call_patiently
from eventmill.base.quantity import format_bytes
from eventmill.base.settings import Settings
from eventmill.schema.table import TableId, TableSpec

if TYPE_CHECKING:
    from eventmill.store.bigquery.store import BigQueryStore
    from eventmill.store.local.store import LocalStore
    from eventmill.store.port import Store

_WAIT_SECONDS = 300.0
"""How long a failure that time may mend is met with another try of the same file."""


@dataclass(frozen=True, slots=True)
class Sum:
    """What stands for the insert IDs of a table's rows, in whatever order they are."""

    rows: int
    low: int
    high: int

    def __str__(self) -> str:
        return f"{self.rows:,} rows, checksum {self.high:x}-{self.low:x}"


def move_up(
    settings: Settings,
    folder: str,
    address: str,
    tables: Sequence[TableId],
    *,
    definition_only: bool,
) -> int:
    """Copy tables of a data folder into a project of BigQuery; return the exit code.

    Args:
        settings: how the folder is written and compacted.
        folder: path of the store.
        address: ``bigquery://PROJECT...``.
        tables: none: all of them.
        definition_only: make the tables, and load no rows.

    Raises:
        UsageError: the folder holds no store, or the address is not BigQuery's.
        StoreBusyError: a server or another writer works on the folder.
    """
    if not is_folder(folder):
        raise UsageError(f"--from names a data folder, not {folder}")
    if not is_bigquery(address):
        raise UsageError(f"--to names a project, bigquery://PROJECT, not {address}")
    require_store(folder)
    from eventmill.store.local.store import LocalStore

    # Taken for this process, so that nothing is appended between the copy and its check.
    with (
        LocalStore.open(folder, options=settings.store) as source,
        bigquery_store(address) as target,
    ):
        chosen = [source.describe(table).id for table in tables] or [
            table.id for table in source.tables()
        ]
        if not definition_only:
            _into_the_lake(source, settings)
        equal = [_move(source, target, table, definition_only=definition_only) for table in chosen]
    return 0 if all(equal) else 1


def _into_the_lake(source: LocalStore, settings: Settings) -> None:
    """Turn the log's rows into Parquet files as well."""
    from eventmill.store.local.compaction import compact_once

    source.seal()
    report = call_patiently(
        lambda: compact_once(source.path, options=settings.store),
        retry_on=StoreBusyError,
        wait_seconds=BUSY_WAIT_SECONDS,
    )
    if report.errors:
        raise UnavailableError(f"a table's log cannot be compacted: {report.errors[0]}")


def _move(
    source: LocalStore, target: BigQueryStore, table: TableId, *, definition_only: bool
) -> bool:
    """Copy one table; return whether both sides are equal at the end."""
    spec = source.describe(table).spec
    made = target.apply(replace(spec, table=_moved(target, table)))
    if definition_only:
        click.echo(f"{made.id} is defined as {table}", err=True)
        return True
    _load(source, target, table, made.spec)
    here, there = _sum(source, spec), _sum(target, made.spec)
    if here == there:
        click.echo(f"{table} is copied into {made.id}: {here}", err=True)
        return True
    click.echo(
        f"error: {table} and {made.id} differ:\n  here  {here}\n  there {there}\n"
        "Rows that were sent to BigQuery by others count there as well, and so do rows that were"
        " sent twice.",
        err=True,
    )
    return False


def _moved(target: BigQueryStore, table: TableId) -> TableId:
    return replace(table, project=target.address.removeprefix("bigquery://"))


def _load(source: LocalStore, target: BigQueryStore, table: TableId, moved: TableSpec) -> None:
    from eventmill.store.bigquery.loading import FileLoader
    from eventmill.store.local.leaving import Leaving

    loader = FileLoader(target.client, moved, SYSTEM_CLOCK)
    # A table that was removed and made again is another place: it has none of the files.
    place = hashlib.sha256(f"{moved.table} {loader.made_at}".encode()).hexdigest()[:16]
    leaving = Leaving(source.path, table, place)
    while (files := leaving.next()) is not None:
        total = sum(file.bytes for file in files.files)
        done = 0
        for number, file in enumerate(files.files):
            _show(f"{table}: {format_bytes(done)} of {format_bytes(total)}")
            stem = f"eventmill_copy_{files.key}_{number}"
            call_patiently(
                lambda path=file.path, stem=stem: loader.load(path, stem),  # type: ignore[misc]
                wait_seconds=_WAIT_SECONDS,
            )
            done += file.bytes
        _show("")
        leaving.carried(files)
    if leaving.ahead_rows:
        click.echo(
            f"of {leaving.ahead_rows:,} rows of {table} not all came along: their events have"
            " fields without a column; apply a .proto with those fields to it before it is copied",
            err=True,
        )


def _show(text: str) -> None:
    """Show how far it is on a terminal, in place of what was shown before."""
    if sys.stderr.isatty():
        click.echo(f"\r\x1b[K{text}", nl=False, err=True)


def _sum(store: Store, spec: TableSpec) -> Sum:
    from eventmill.store.bigquery.questions import partition_conditions

    # Two numbers of 32 bits a row: their sums stay below 2^63 for two milliards of rows.
    digits = "SUBSTR(TO_HEX(MD5(_insert_id)), {}, 8)"
    low, high = (f"SUM(CAST(CONCAT('0x', {digits.format(at)}) AS INT64))" for at in (1, 9))
    found = [
        row
        for condition in partition_conditions(spec)
        for row in store.query(
            f"SELECT COUNT(*) AS n, {low} AS low, {high} AS high"  # noqa: S608 - a checked name
            f" FROM `{spec.table}` WHERE {condition}"
        )
    ]
    return Sum(*(sum(int(row[name] or 0) for row in found) for name in ("n", "low", "high")))
