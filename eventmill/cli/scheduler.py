"""``eventmill scheduler run``: the scheduler alone, beside a server or without one."""

from __future__ import annotations

import signal
import sys
import threading

import click

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

    The first line on stdout is `scheduler NAME runs the workflows in DIR`. Ctrl-C or SIGTERM ends
    it: slots that run are ended and are due again.
    """
    settings = invocation.settings
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
