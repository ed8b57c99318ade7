"""``eventmill table copy``: a table's definition, and its rows under their own insert IDs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from eventmill.base.errors import PermanentError
from eventmill.cli.invocation import Invocation, pass_invocation, store_option
from eventmill.schema.table import TableId

if TYPE_CHECKING:
    from eventmill.store.port import Store

_PAGE_ROWS = 10_000
_FIRST = datetime(1, 1, 1, tzinfo=UTC)


@click.command("copy")
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.option("--definition-only", is_flag=True, help="Make the table and copy no rows.")
@store_option
@pass_invocation
def copy(invocation: Invocation, source: str, target: str, definition_only: bool) -> int:
    """Copy a table's definition and rows into a new or an equal table.

    Rows keep their insert IDs, so that a copy that was broken off can be made again: what is
    there already is not stored twice. Their time of ingestion is that of the copy.
    """
    from eventmill.client.uploader import Uploader  # --help does without

    source_id, target_id = TableId.parse(source), TableId.parse(target)
    with invocation.store(writer=True) as store:
        live = store.describe(source_id)
        store.apply(replace(live.spec, table=target_id))
        if definition_only:
            click.echo(f"{target_id} is defined as {source_id}", err=True)
            return 0
        uploader = Uploader(store, target_id)
        copied = there = 0
        for ids, rows in _pages(store, source_id):
            verdict = uploader.put(rows, insert_ids=ids)
            if verdict.rejected:
                first = verdict.rejected[0]
                raise PermanentError(
                    f"row {first.insert_id} cannot be copied: {first.field}: {first.message}"
                )
            copied += verdict.accepted
            there += verdict.duplicates
    before = f", {there:,} were there before" if there else ""
    click.echo(f"{copied:,} rows of {source_id} are copied into {target_id}{before}", err=True)
    return 0


def _pages(store: Store, table: TableId) -> Iterator[tuple[list[str], list[dict[str, Any]]]]:
    """Yield insert IDs with their rows, in order of ingestion."""
    at, after = _FIRST, ""
    while True:
        page = store.query(
            f"SELECT _ingested_at, _insert_id, * FROM `{table}`"  # noqa: S608 - a checked name
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
        yield ids, [{key: value for key, value in row.items() if value is not None} for row in rows]
