"""``eventmill scheduler run``: the scheduler alone, beside a server or without one."""

from __future__ import annotations

import signal
import sys
import threading

import click

from eventmill.address import is_server
from eventmill.base.settings import Settings
from eventmill.cli.invocation import Invocation, pass_invocation, store_option
from eventmill.cli.scheduling import opened_scheduler, workflows_option, writing_store


@click.group()
@store_option
def scheduler() -> None:
    """Run workflows on their schedule without a server."""


@scheduler.command("run")
@workflows_option
@store_option
@pass_invocation
def run_command(invocation: Invocation) -> None:
    """Run the project's workflows on their schedule.

    `eventmill serve` does the same on its own store; this is for a store that has no server of ours
    (BigQuery), or to keep the work apart. Several may run at once: each slot is run by one. A
    data folder is taken for writing only while a slot is run.

    Beside a server name its data folder: of http://... this scheduler has a run book of its own,
    and runs what the server runs as well.

    The first line on stdout is `scheduler NAME runs the workflows in DIR`. Ctrl-C or SIGTERM ends
    it: slots that run are ended and are due again.
    """
    settings = invocation.settings
    _warn_of_a_server(settings)
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with (
        invocation.store(writer=False) as store,
        opened_scheduler(settings, writing=writing_store(settings), reading=store) as running,
    ):
        running.start()
        folder = settings.workflow.folder
        sys.stdout.write(f"scheduler {running.runner.name} runs the workflows in {folder}\n")
        sys.stdout.flush()
        ended.wait()


def _warn_of_a_server(settings: Settings) -> None:
    """Say that slots are run twice where a server runs the same workflows by another book."""
    from eventmill.schedule.place import book_path

    address = settings.client.store
    if is_server(address) and settings.schedule.folder is None:
        path = book_path(address, None, is_folder=False)
        click.echo(
            f"warning: the run book of this scheduler is {path}, and the server has its own: it"
            " runs the workflows of its ./workflows too, and slots that both have are run twice."
            " Call this on the server's machine with --store FOLDER, or start the server with"
            " --no-scheduler",
            err=True,
        )
