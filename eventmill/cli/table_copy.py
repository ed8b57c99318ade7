"""``eventmill table copy``: a table's definition, and its rows under their own insert IDs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from eventmill.base.errors import PermanentError, UsageError
from eventmill.cli.invocation import Invocation, pass_invocation, store_option
from eventmill.schema.kinds import Kind
from eventmill.schema.message_type import MessageType
from eventmill.schema.shape import FieldShape, shape_of
from eventmill.schema.table import Mode, Table, TableId

if TYPE_CHECKING:
    from eventmill.store.port import Store

_PAGE_ROWS = 10_000
_FIRST = datetime(1, 1, 1, tzinfo=UTC)


@click.command("copy")
@click.argument("names", nargs=-1, metavar="FROM TO | [TABLE]...")
@click.option("--definition-only", is_flag=True, help="Make the table and copy no rows.")
@click.option("--from", "folder", metavar="DIR", help="With --to: a data folder [--store].")
@click.option("--to", "project", metavar="bigquery://PROJECT", help="Copy into BigQuery.")
@store_option
@pass_invocation
def copy(
    invocation: Invocation,
    names: Sequence[str],
    definition_only: bool,
    folder: str | None,
    project: str | None,
) -> int:
    """Copy a table's definition and rows into a new or an equal table.

    \b
    eventmill table copy ops.builds ops.builds_copy
    eventmill table copy --from ./eventmill-data --to bigquery://PROJECT [TABLE]...

    The first copies within a store. Rows keep their insert IDs, so that a copy that was broken
    off can be made again: what is there already is not stored twice. Their time of ingestion is
    that of the copy. What an event has beyond the table's columns stays behind, and is told.

    The second moves up: the named tables, or all, are made in BigQuery, and the folder's Parquet
    files are loaded there, each once however often the command is broken off and called again.
    No server may run on the folder meanwhile. At the end both sides count their rows and insert
    IDs; when they differ, both numbers are printed and the command exits with 1.
    """
    if project is not None:
        from eventmill.cli.table_move import move_up

        return move_up(
            invocation.settings,
            folder or invocation.settings.client.store,
            project,
            [TableId.parse(name) for name in names],
            definition_only=definition_only,
        )
    if folder is not None or len(names) != 2:
        raise UsageError(
            "give two tables, FROM and TO, to copy within a store; or --to bigquery://PROJECT"
            " (and --from DIR) to copy tables into BigQuery"
        )
    return _copy_within(invocation, *map(TableId.parse, names), definition_only=definition_only)


def _copy_within(
    invocation: Invocation, source_id: TableId, target_id: TableId, *, definition_only: bool
) -> int:
    from eventmill.client.uploader import Uploader  # --help does without

    with invocation.store(writer=True) as store:
        live = store.describe(source_id)
        store.apply(replace(live.spec, table=target_id))
        if definition_only:
            click.echo(f"{target_id} is defined as {source_id}", err=True)
            return 0
        uploader = Uploader(store, target_id)
        copied = there = 0
        for ids, rows in _pages(store, live):
            verdict = uploader.put(rows, insert_ids=ids)
            if verdict.rejected:
                first = verdict.rejected[0]
                raise PermanentError(
                    f"row {first.insert_id} cannot be copied: {first.field}: {first.message}"
                )
            copied += verdict.accepted
            there += verdict.duplicates
        ahead = store.stats(source_id).ahead_rows
    before = f", {there:,} were there before" if there else ""
    click.echo(f"{copied:,} rows of {source_id} are copied into {target_id}{before}", err=True)
    if ahead:
        click.echo(
            f"of {ahead:,} rows not all came along: their events have fields without a column in"
            f" {source_id}; apply a .proto with those fields to it before it is copied",
            err=True,
        )
    return 0


def _pages(store: Store, table: Table) -> Iterator[tuple[list[str], list[dict[str, Any]]]]:
    """Yield insert IDs with their rows, in order of ingestion."""
    shapes = shape_of(MessageType.load(table.spec.descriptor_set, table.spec.message))
    at, after = _FIRST, ""
    while True:
        page = store.query(
            f"SELECT _ingested_at, _insert_id, * FROM `{table.id}`"  # noqa: S608 - a checked name
            " WHERE _ingested_at >= @at AND (_ingested_at > @at OR _insert_id > @after)"
            f" ORDER BY _ingested_at, _insert_id LIMIT {_PAGE_ROWS}",
            {"at": at, "after": after},
        )
        rows = [dict(row) for row in page]
        if not rows:
            return
        at, after = rows[-1]["_ingested_at"], rows[-1]["_insert_id"]
        ids = [row.pop("_insert_id") for row in rows]
        for row in rows:
            del row["_ingested_at"]
        rows = [{key: value for key, value in row.items() if value is not None} for row in rows]
        for row in rows:
            # After the NULLs are gone: a Value may be null and yet be set.
            _read_documents(shapes, row)
        yield ids, rows


def _read_documents(shapes: Iterable[FieldShape], row: dict[str, Any]) -> None:
    """Read, in place, the JSON texts of columns whose field is a message or a map."""
    for shape in shapes:
        value = row.get(shape.name)
        if value is None:
            continue
        if shape.kind is Kind.JSON:
            is_list = shape.mode is Mode.REPEATED
            row[shape.name] = [json.loads(one) for one in value] if is_list else json.loads(value)
        elif shape.fields:
            for below in value if isinstance(value, list) else [value]:
                _read_documents(shape.fields, below)
