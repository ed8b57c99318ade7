"""``eventmill compact``: sealed log segments become Parquet files now, not in a while."""

from __future__ import annotations

import os
from dataclasses import asdict

import click

from eventmill.address import is_folder
from eventmill.base.errors import StoreBusyError, UsageError
from eventmill.cli.invocation import Invocation, pass_invocation, store_option
from eventmill.cli.output import json_line


@click.command()
@store_option
@pass_invocation
def compact(invocation: Invocation) -> int:
    """Turn sealed log segments into Parquet files now.

    A server does this by itself; a folder that only commands write to does not. Harmless beside
    a running server, and when there is nothing to do. Prints one JSON object: what was done;
    exits with 1 when a table could not be compacted.
    """
    from eventmill.store.local.compaction import compact_once  # brings pyarrow and ptars
    from eventmill.store.local.layout import Layout

    address = invocation.settings.client.store
    if not is_folder(address):
        raise UsageError(
            f"compact works on a data folder, not on {address}; run it on the"
            " server's machine with --store FOLDER (the server also does it by itself)"
        )
    if not os.path.exists(Layout.at(address).database):
        raise UsageError(f"there is no store in {address}: name its folder with --store")
    try:
        report = compact_once(address, options=invocation.settings.store)
    except StoreBusyError:
        # The lock is held by the compactor of a server, or by another command like this one.
        click.echo("a compactor is at work on this folder already: it takes what is sealed",
                   err=True)  # fmt: skip
        return 0
    click.echo(json_line(asdict(report)))
    for error in report.errors:
        click.echo(f"error: {error}", err=True)
    return 1 if report.errors else 0
