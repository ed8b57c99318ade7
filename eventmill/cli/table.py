"""``eventmill table``: what a table is, made from a .proto file, shown and changed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from eventmill.address import is_folder
from eventmill.base.clock import utc_datetime
from eventmill.base.environment import environment
from eventmill.base.errors import (
    AccessError,
    SchemaConflictError,
    TableNotFoundError,
    UsageError,
)
from eventmill.base.quantity import format_seconds
from eventmill.cli.invocation import Invocation, pass_invocation, store_option
from eventmill.cli.output import (
    Format,
    chosen_format,
    format_options,
    json_line,
    write_rows,
    write_text,
)
from eventmill.cli.table_code import code
from eventmill.cli.table_copy import copy
from eventmill.cli.table_export import export
from eventmill.cli.table_files import files
from eventmill.cli.table_wish import TableWish, wanted_specs, wish_options
from eventmill.schema.table import Table, TableId, TableStats

if TYPE_CHECKING:
    from eventmill.schema.diff import Plan
    from eventmill.store.port import Store

EXIT_WOULD_CHANGE = 4
SAVED_KEYS = ("format", "wanted", "checksum")
"""Of a plan's JSON: what only `table apply --plan` needs."""

_LIST_COLUMNS = ("table", "rows", "log_bytes", "lake_bytes", "newest_event_at", "owner", "version")


@click.group()
@store_option
def table() -> None:
    """Plan, apply, show, list, copy, export and remove tables."""


table.add_command(code)
table.add_command(copy)
table.add_command(export)
table.add_command(files)


@table.command()
@wish_options
@store_option
@format_options
@pass_invocation
def plan(
    invocation: Invocation,
    /,
    form: str | None,
    output: str | None,
    **given: Any,  # noqa: ANN401 - the options, as click read them
) -> None:
    """Show what `table apply` would change, and change nothing.

    Exits with 1 when the live table does not allow the change.
    """
    plans = _plans(invocation, given)
    _show_plans(plans, chosen_format(form, output), output, is_saved=True)
    _refuse(plans)


@table.command()
@wish_options
@click.option("--yes", is_flag=True, help="Do not ask (needed where there is no terminal).")
@click.option("--check", is_flag=True, help="Change nothing; exit 4 when something would change.")
@click.option(
    "--plan",
    "plan_file",
    metavar="FILE",
    help="Carry out what `table plan -o FILE` has written, if the tables are still as they were;"
    " - for stdin.",
)
@store_option
@format_options
@pass_invocation
def apply(
    invocation: Invocation,
    /,
    yes: bool,
    check: bool,
    plan_file: str | None,
    form: str | None,
    output: str | None,
    **given: Any,  # noqa: ANN401 - the options, as click read them
) -> int:
    """Create tables, or change them to what the .proto files say.

    Shows the plan first and asks; a change that a live table does not allow is refused with the
    way out, and then no table is changed. Applying what is there already changes nothing.
    """
    if plan_file is not None:
        if any(given.values()):
            raise UsageError("--plan says everything: give no other option of the table with it")
        plans = _saved_plans(invocation, plan_file)
    else:
        plans = _plans(invocation, given)
    _show_plans(plans, chosen_format(form, output), output, is_saved=False)
    _refuse(plans)
    plans = [found for found in plans if not found.is_empty]
    if not plans:
        return 0
    if check:
        return EXIT_WOULD_CHANGE
    _ask(yes)
    with invocation.store(writer=True, create=True) as store:
        for found in plans:
            done = store.apply(found.wanted, expected_version=found.expected_version)
            click.echo(f"{done.id} is now at version {done.version}", err=True)
    return 0


@table.command()
@click.argument("name", metavar="TABLE")
@store_option
@format_options
@pass_invocation
def show(invocation: Invocation, name: str, form: str | None, output: str | None) -> None:
    """Show one table: columns, partitioning, what it holds, who answers for it."""
    table_id = TableId.parse(name)
    with invocation.store(writer=False) as store:
        live = store.describe(table_id)
        counts = store.stats(table_id)
    chosen = chosen_format(form, output)
    if chosen in (Format.JSON, Format.NDJSON):
        from eventmill.schema.document import table_to_json  # brings protobuf

        newest = counts.newest_event_at
        shown = {
            **table_to_json(live),
            "rows": counts.rows,
            "ahead_rows": counts.ahead_rows,
            "expired_rows": counts.expired_rows,
            "replaced_rows": counts.replaced_rows,
            "newest_event_at": None if newest is None else utc_datetime(newest),
        }
        click.echo(json_line(shown))
        return
    if chosen is Format.TABLE:
        for word, text in _facts(live, counts):
            click.echo(f"{word:<14}{text}")
        click.echo()
    columns = ("column", "type", "mode", "description")
    rows = [
        {"column": path, "type": c.type, "mode": c.mode, "description": c.description}
        for path, c in live.spec.walk()
    ]
    write_rows(columns, rows, form=chosen, output=output)


@table.command("list")
@store_option
@format_options
@pass_invocation
def list_tables(invocation: Invocation, form: str | None, output: str | None) -> None:
    """List the tables, what they hold, and their newest event."""
    with invocation.store(writer=False) as store:
        rows = [_list_row(store, live) for live in store.tables()]
    write_rows(_LIST_COLUMNS, rows, form=chosen_format(form, output), output=output)


@table.command()
@click.argument("name", metavar="TABLE")
@click.option("--yes", is_flag=True, help="Do not ask (needed where there is no terminal).")
@store_option
@pass_invocation
def rm(invocation: Invocation, name: str, yes: bool) -> None:
    """Remove a table with all its rows, and the keys' grants that name exactly it."""
    table_id = TableId.parse(name)
    with invocation.store(writer=True) as store:
        table_id = store.describe(table_id).id  # as the store names it, project included
        counts = store.stats(table_id)
        click.echo(f"{table_id} with {counts.rows:,} rows will be removed", err=True)
        _ask(yes)
        _withdraw_grants(invocation, store, table_id)
        store.drop(table_id)
    click.echo(f"{table_id} is removed", err=True)


def _withdraw_grants(invocation: Invocation, store: Store, table_id: TableId) -> None:
    """End the grants on a table of a folder; a server, where one runs, does so by itself."""
    from eventmill.client.http_store import HttpStore

    address = invocation.settings.client.store
    if not is_folder(address) or isinstance(store, HttpStore):
        return
    from eventmill.server.access.database import ACCESS_FILE
    from eventmill.server.access.withdrawing import withdraw_grants_in
    from eventmill.store.change import refuse_own

    refuse_own(table_id)
    path = os.path.join(os.path.expanduser(address), ACCESS_FILE)
    if os.path.exists(path):
        withdraw_grants_in(path, "folder", table_id)


def _live(invocation: Invocation, table_id: TableId) -> Table | None:
    """Return the live table; None when there is none, or not even a store yet."""
    address = invocation.settings.client.store
    if is_folder(address) and not os.path.isdir(address):
        return None
    with invocation.store(writer=False) as store:
        try:
            return store.describe(table_id)
        except TableNotFoundError:
            return None


def _plans(invocation: Invocation, given: Mapping[str, Any]) -> list[Plan]:
    """Return one plan a table that the options ask for."""
    from eventmill.schema.diff import plan_change

    live: dict[TableId, Table | None] = {}

    def find(name: TableId) -> Table | None:
        if name not in live:
            live[name] = _live(invocation, name)
        return live[name]

    return [plan_change(find(spec.table), spec) for spec in wanted_specs(TableWish(**given), find)]


def _saved_plans(invocation: Invocation, path: str) -> list[Plan]:
    """Return the plans in a file, made anew on the live tables.

    Raises:
        SchemaConflictError: a table is not as it was when its plan was made.
    """
    from eventmill.schema.diff import plan_change
    from eventmill.schema.plan_file import read_plans

    plans = []
    for saved in read_plans(_text_of(path)):
        live = _live(invocation, saved.wanted.table)
        version = live.version if live else 0
        if version != saved.expected_version:
            raise SchemaConflictError(
                f"{saved.wanted.table} is at version {version}, the plan was made on version"
                f" {saved.expected_version}: plan it again"
            )
        plans.append(plan_change(live, saved.wanted))
    return plans


def _text_of(path: str) -> str:
    try:
        if path == "-":
            return sys.stdin.read()
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the plan in {path} cannot be read: {error}") from error


def _show_plans(plans: Sequence[Plan], form: Format, output: str | None, *, is_saved: bool) -> None:
    """Write plans for a person or a program, with ``is_saved`` so that they can be read again."""
    if form is Format.TABLE:
        colour = output is None and sys.stdout.isatty() and "NO_COLOR" not in environment()
        text = "\n\n".join(found.to_text(colour=colour) for found in plans)
        write_text(text, output)
        return
    shown: list[Mapping[str, Any]] = [found.to_json() for found in plans]
    if not is_saved:
        shown = [{k: v for k, v in one.items() if k not in SAVED_KEYS} for one in shown]
    write_rows(list(shown[0]), shown, form=form, output=output)


def _refuse(plans: Sequence[Plan]) -> None:
    """Raise SchemaConflictError when any table does not allow its plan."""
    told = []
    for found in plans:
        table = found.wanted.table
        reasons = [
            f"{f'{refusal.place}: ' if refusal.place else ''}{refusal.path or table}:"
            f" {refusal.reason}; {refusal.way_out}"
            for refusal in found.refusals
        ]
        if reasons:
            told.append(f"{table} is not changed. " + " ".join(reasons))
    if told:
        raise SchemaConflictError("\n".join(told))


def _ask(yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("there is no terminal to ask: give --yes to go on")
    click.confirm("Go on?", abort=True, err=True)


def _list_row(store: Store, live: Table) -> dict[str, Any]:
    try:
        counts = store.stats(live.id)
    except AccessError:  # a key may know of a table, and not of what it holds
        counts = None
    newest = counts.newest_event_at if counts else None
    return {
        "table": str(live.id),
        "rows": counts.rows if counts else None,
        "log_bytes": counts.log_bytes if counts else None,
        "lake_bytes": counts.lake_bytes if counts else None,
        "newest_event_at": None if newest is None else utc_datetime(newest).replace(microsecond=0),
        "owner": live.spec.owner or None,
        "version": live.version,
    }


def _gone(counts: TableStats) -> Iterator[tuple[str, str]]:
    if counts.expired_rows:
        yield "expired", f"{counts.expired_rows:,} rows more were removed with their partitions"
    if counts.replaced_rows:
        yield "replaced", f"{counts.replaced_rows:,} rows more were replaced by later runs of slots"


def _facts(live: Table, counts: TableStats) -> Iterator[tuple[str, str]]:
    """Yield what is known of a table beside its columns, as (word, text)."""
    spec = live.spec
    yield "table", f"{live.id} (version {live.version})"
    yield "message", f"{spec.message} ({spec.fingerprint})"
    yield "rows", f"{counts.rows:,}"
    if counts.ahead_rows:
        told = f"{counts.ahead_rows:,} rows have fields that the table lacks or cannot hold: kept"
        yield "ahead", f"{told}, and shown once a .proto with a place for them is applied"
    yield from _gone(counts)
    if counts.newest_event_at is not None:
        newest = utc_datetime(counts.newest_event_at).replace(microsecond=0, tzinfo=None)
        yield "newest event", f"{newest}Z"
    if spec.partitioning is None:
        yield "partitions", "none"
    else:
        kept = spec.partitioning.expiration_seconds
        of = spec.partitioning.column or "ingestion time"
        until = "for good" if kept is None else format_seconds(kept)
        wanted = ", a query must filter by it" if spec.require_partition_filter else ""
        yield "partitions", f"{spec.partitioning.granularity} of {of}, kept {until}{wanted}"
    if spec.clustering:
        yield "clustered by", ", ".join(spec.clustering)
    if spec.owner:
        yield "owner", spec.owner
    if spec.labels:
        yield "labels", ", ".join(f"{key}={value}" for key, value in sorted(spec.labels.items()))
    if spec.freshness_seconds is not None:
        yield "fresh within", format_seconds(spec.freshness_seconds)
    if spec.description:
        yield "description", spec.description
