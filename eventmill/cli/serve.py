"""``eventmill serve``: the server on a data folder, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import os
import signal
import sys
import threading

import click

from eventmill.address import is_server
from eventmill.base.errors import UsageError
from eventmill.cli.invocation import Invocation, pass_invocation, setting_option, store_option


class PortNumber(click.IntRange):
    """A port to listen on; 0 is any free one."""

    name = "port number"

    def __init__(self) -> None:
        super().__init__(0, 65_535)


@click.command()
@setting_option("client.store", "--data", metavar="DIR", description="The data folder.")
@setting_option(
    "server.host", "--host", metavar="HOST", description="Address to listen on [127.0.0.1]."
)
@click.option(
    "--port",
    type=PortNumber(),
    metavar="PORT",
    help="Port, 0 picks a free one [8484].",
)
@click.option("--until-stdin-ends", is_flag=True, hidden=True)
@store_option
@pass_invocation
def serve(invocation: Invocation, port: int | None, until_stdin_ends: bool) -> None:
    """Run the server on a data folder.

    Makes the folder when it is not there. The first line on stdout is `listening on
    http://HOST:PORT`. Ctrl-C or SIGTERM ends it: requests that have begun are answered, and what
    was acked is on disk in any case.
    """
    if port is not None:
        invocation.flags["server.port"] = port
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
        if until_stdin_ends:
            _end_with_stdin()
        sys.stdout.write(f"listening on {server.url}\n")
        sys.stdout.flush()
        server.serve_forever()
    finally:
        store.close()


def _end_with_stdin() -> None:
    """Have this process end as by SIGTERM when stdin ends.

    With a pipe that nobody writes to as stdin, that is when whoever started it is gone, however
    that came about.
    """

    def wait() -> None:
        # Not through sys.stdin: its lock, held by a thread that waits, hinders the exit.
        while os.read(0, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="eventmill-stdin", daemon=True).start()
