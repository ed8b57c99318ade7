"""``eventmill serve``: the server on a data folder, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import sys

import click

from eventmill.address import is_server
from eventmill.base.errors import UsageError
from eventmill.cli.invocation import Invocation, pass_invocation, setting_option, store_option


@click.command()
@setting_option("client.store", "--data", metavar="DIR", description="The data folder.")
@setting_option(
    "server.host", "--host", metavar="HOST", description="Address to listen on [127.0.0.1]."
)
@setting_option(
    "server.port", "--port", metavar="PORT", description="Port, 0 picks a free one [8484]."
)
@store_option
@pass_invocation
def serve(invocation: Invocation) -> None:
    """Run the server on a data folder.

    Makes the folder when it is not there. The first line on stdout is `listening on
    http://HOST:PORT`. Ctrl-C or SIGTERM ends it: requests that have begun are answered, and what
    was acked is on disk in any case.
    """
    settings = invocation.settings
    if is_server(settings.client.store):
        raise UsageError(
            f"serve works on a data folder, not on {settings.client.store}: give --data DIR"
        )
    # These bring the engines and the server's packages, which --help does without.
    from eventmill.server.run import Server
    from eventmill.store.local.store import LocalStore

    store = LocalStore.open(settings.client.store, options=settings.store, compactor=True)
    try:
        server = Server(store, settings.server)
        store.announce(server.url)
        sys.stdout.write(f"listening on {server.url}\n")
        sys.stdout.flush()
        server.serve_forever()
    finally:
        store.close()
