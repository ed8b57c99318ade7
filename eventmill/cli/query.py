"""``eventmill query``: one GoogleSQL statement, its rows to the terminal, a pipe or a file."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from eventmill.base.errors import UsageError
from eventmill.base.quantity import format_bytes
from eventmill.cli.invocation import Invocation, pass_invocation, store_option
from eventmill.cli.output import (
    Format,
    chosen_format,
    format_options,
    json_line,
    write_result,
)
from eventmill.wire.parameters import parameter_value

TERMINAL_ROWS = 1_000
"""Rows shown on a terminal unless --row-limit says otherwise."""
PIPE_ROWS = 100_000
"""Rows written elsewhere unless --row-limit says otherwise."""


@click.command()
@click.argument("sql")
@click.option(
    "--param",
    "params",
    multiple=True,
    metavar="NAME:TYPE:VALUE",
    help="Value of @NAME, such as day:DATE:2013-02-09 or ids:ARRAY<INT64>:[1, 2]; TYPE may be"
    " empty for STRING. Repeatable.",
)
@click.option("--dry-run", is_flag=True, help="Print the bytes it would scan, and read nothing.")
@click.option(
    "--row-limit",
    type=click.IntRange(0),
    help=f"Rows to return, 0 for all [default: {PIPE_ROWS:,}; on a terminal {TERMINAL_ROWS:,}].",
)
@click.option("--timeout", "timeout_seconds", type=float, help="Stop after this many seconds.")
@store_option
@format_options
@pass_invocation
def query(
    invocation: Invocation,
    sql: str,
    params: Sequence[str],
    dry_run: bool,
    row_limit: int | None,
    timeout_seconds: float | None,
    form: str | None,
    output: str | None,
) -> None:
    """Answer one GoogleSQL statement.

    SQL is the statement, or - to read it from stdin. It sees every event acked before. Rows that
    were left out are told on stderr.

    \b
    eventmill query 'SELECT carrier, COUNT(*) AS flights FROM demo.flights GROUP BY 1'
    eventmill query 'SELECT * FROM ops.test_results' --format parquet -o results.parquet
    """
    values = dict(_parameter(text) for text in params)
    chosen = chosen_format(form, output)
    if sql == "-":
        sql = sys.stdin.read()
    limit = row_limit
    if limit is None:
        limit = TERMINAL_ROWS if chosen is Format.TABLE else PIPE_ROWS
    with invocation.store(writer=False) as store:
        result = store.query(
            sql,
            values or None,
            row_limit=limit or None,
            timeout_seconds=timeout_seconds,
            dry_run=dry_run,
        )
    if dry_run:
        _tell_scan(result.stats.bytes_scanned, chosen)
        return
    write_result(result, form=chosen, output=output)
    if result.stats.truncated:
        click.echo(
            f"cut at {len(result):,} rows; --row-limit N gives more, --row-limit 0 all", err=True
        )


def _parameter(text: str) -> tuple[str, object]:
    name, mark, rest = text.partition(":")
    # An ARRAY<...> has no colon in its name, so the first one after the type ends it.
    type_name, second, value = rest.partition(":")
    if not (mark and second and name):
        raise UsageError(f"--param {text!r}: write NAME:TYPE:VALUE, such as limit:INT64:10")
    try:
        return name, parameter_value(type_name, value)
    except UsageError as error:
        raise UsageError(f"--param {name}: {error}") from error


def _tell_scan(size: int, form: Format) -> None:
    if form is Format.TABLE:
        click.echo(f"would scan {size:,} bytes ({format_bytes(size)})")
    else:
        click.echo(json_line({"bytes_scanned": size}))
