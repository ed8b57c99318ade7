"""``eventmill table files``: a table's Parquet files, for programs that read them by themselves."""

from __future__ import annotations

import click

from eventmill.address import is_folder, require_store
from eventmill.base.errors import UsageError
from eventmill.cli.invocation import Invocation, pass_invocation, store_option
from eventmill.cli.output import chosen_format, format_options, write_rows
from eventmill.schema.table import TableId


@click.command("files")
@click.argument("name", metavar="TABLE")
@click.option(
    "--link",
    "target",
    metavar="DIR",
    help="Make DIR, with a second name in it for each file: it stays as it is, and takes no space"
    " while the store has the files as well.",
)
@store_option
@format_options
@pass_invocation
def files(
    invocation: Invocation, name: str, target: str | None, form: str | None, output: str | None
) -> None:
    """List the Parquet files that hold a table's rows.

    For Spark, Polars and other programs that read Parquet. The files' folder has others beside
    them, whose rows are in these as well. Rows that are in the log alone are in no file yet:
    `eventmill compact`, or a minute of a running server, makes files of them.
    """
    # These bring the engines, which --help does without.
    from eventmill.store.local.lake_files import lake_files, link_lake_files

    address = invocation.settings.client.store
    if not is_folder(address):
        raise UsageError(
            f"table files works on a data folder, not on {address}: run it on the server's machine"
            " with --store FOLDER"
        )
    require_store(address)
    table = TableId.parse(name)
    found = link_lake_files(address, table, target) if target else lake_files(address, table)
    rows = [{"path": file.path, "rows": file.rows, "bytes": file.bytes} for file in found]
    write_rows(("path", "rows", "bytes"), rows, form=chosen_format(form, output), output=output)
    if not found:
        click.echo(f"no row of {table} is in a file yet: `eventmill compact` makes some", err=True)
