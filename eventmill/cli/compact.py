"""``eventmill compact``: sealed log segments become Parquet files now, not in a while."""

from __future__ import annotations

from dataclasses import asdict

import click

from eventmill.address import is_server
from eventmill.base.errors import UsageError
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

    address = invocation.settings.client.store
    if is_server(address):
        raise UsageError(
            f"compact works on a data folder, not on the server {address}; run it on the"
            " server's machine with --store FOLDER (the server also does it by itself)"
        )
    report = compact_once(address, options=invocation.settings.store)
    click.echo(json_line(asdict(report)))
    for error in report.errors:
        click.echo(f"error: {error}", err=True)
    return 1 if report.errors else 0
