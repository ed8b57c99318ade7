"""``eventmill serve``: the server on a data folder, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import ExitStack, nullcontext
from typing import TYPE_CHECKING

import click

from eventmill.address import is_folder
from eventmill.base.errors import UsageError
from eventmill.cli.invocation import Invocation, pass_invocation, setting_option, store_option
from eventmill.cli.scheduling import opened_scheduler, workflows_option

if TYPE_CHECKING:
    from eventmill.server.bigquery_write.listener import WriteListener


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
@click.option(
    "--write-api-port",
    type=PortNumber(),
    metavar="PORT",
    help="Port of BigQuery's Storage Write API as well, 0 picks a free one [not served].",
)
@workflows_option
@click.option("--no-scheduler", is_flag=True, help="Run no workflows, and evaluate no alerts.")
@click.option("--until-stdin-ends", is_flag=True, hidden=True)
@store_option
@pass_invocation
def serve(
    invocation: Invocation,
    port: int | None,
    write_api_port: int | None,
    no_scheduler: bool,
    until_stdin_ends: bool,
) -> None:
    """Run the server on a data folder.

    Makes the folder when it is not there. Runs the project's workflows on their schedule, and
    evaluates the alerts, unless --no-scheduler is given. The first line on stdout is `listening on
    http://HOST:PORT`; with --write-api-port, the second is `write API on HOST:PORT`. Ctrl-C or
    SIGTERM ends it: requests that have begun are answered, and what was acked is on disk in any
    case; slots of workflows that run are ended and are due again.
    """
    if port is not None:
        invocation.flags["server.port"] = port
    if write_api_port is not None:
        invocation.flags["server.write_api_port"] = write_api_port
    settings = invocation.settings
    if not is_folder(settings.client.store):
        raise UsageError(
            f"serve works on a data folder, not on {settings.client.store}: give --data DIR"
        )
    # These bring the engines and the server's packages, which --help does without.
    from eventmill.server.run import Server
    from eventmill.store.local.store import LocalStore

    write_listener = _write_listener_class() if settings.server.write_api_port is not None else None
    store = LocalStore.open(settings.client.store, options=settings.store, compactor=True)
    listener = None
    endings = ExitStack()
    try:
        server = Server(store, settings.server)
        # So that the same commands go on working on the folder, beside a server that asks for keys.
        store.announce(server.url, server.access.folder_token())
        if write_listener is not None:
            listener = write_listener(
                store,
                server.access,
                folder=settings.client.store,
                host=settings.server.host,
                port=settings.server.write_api_port or 0,
                metrics=server.app.state.metrics,
            )
            listener.start()
        if not no_scheduler:
            opened = opened_scheduler(
                settings,
                writing=lambda: nullcontext(store),
                reading=store,
                metrics=server.app.state.metrics,
            )
            endings.enter_context(opened).start()
        if until_stdin_ends:
            _end_with_stdin()
        sys.stdout.write(f"listening on {server.url}\n")
        if listener is not None:
            sys.stdout.write(f"write API on {listener.address}\n")
        sys.stdout.flush()
        server.serve_forever()
    finally:
        endings.close()
        if listener is not None:
            listener.stop()
        store.close()


def _write_listener_class() -> type[WriteListener]:
    try:
        from eventmill.server.bigquery_write.listener import WriteListener
    except ModuleNotFoundError as error:
        raise UsageError(
            f"the Storage Write API needs Google's client library ({error.name} is not installed):"
            " pip install 'eventmill[server,bigquery]', or leave --write-api-port away"
        ) from error
    return WriteListener


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
