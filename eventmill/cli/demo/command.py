"""``eventmill demo``: the main job on real data, from an empty folder to answers."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import click

from eventmill.base.clock import SYSTEM_CLOCK
from eventmill.base.errors import UsageError
from eventmill.cli.demo.attempts import DemoWorkflows
from eventmill.cli.demo.flights import flights_file
from eventmill.cli.demo.job import DemoJob
from eventmill.cli.demo.own_tests import checkout
from eventmill.cli.demo.report import Report
from eventmill.cli.demo.server import ServerProcess
from eventmill.cli.output import json_line
from eventmill.cli.serve import PortNumber
from eventmill.client.http_store import HttpStore
from eventmill.store.local.lock import server_url

EXIT_DIFFERENCE = 1


@click.command()
@click.option("--once", is_flag=True, help="Stop the server at the end.")
@click.option("--json", "as_json", is_flag=True, help="End with one JSON object of the counts.")
@click.option("--data", metavar="DIR", help="A new folder for the data [default: a fresh one].")
@click.option(
    "--port", type=PortNumber(), metavar="PORT", default=0, help="Port [default: a free one]."
)
def demo(once: bool, as_json: bool, data: str | None, port: int) -> int:
    """Run the main job on real data: 336,776 flights.

    Starts a server on a fresh folder, makes tables from .proto files, sends the flights that left
    New York City in 2013 over HTTP, some of them twice and 37 bad events among them, aggregates
    them in SQL, and compares what was sent with what is there. Then a workflow aggregates the
    attempts of a commit queue from its events, and one with a planted fault fails, raises its
    alert and is mended. Without --once the server then stays, for queries of your own, until
    Ctrl-C.
    """
    began = SYSTEM_CLOCK.monotonic()
    flights_file()  # says how to get them before anything is started
    report = Report()
    with _folder(data) as folder, ServerProcess(folder, port=port) as server:
        report.say(f"server at {server.url}, data in {folder}")
        store = HttpStore(server.url, client_name="eventmill-demo")
        try:
            spool_dir = os.path.join(folder, ".spool")
            workflows = DemoWorkflows(folder, SYSTEM_CLOCK.now())
            job = DemoJob(store, checkout(), report.step, spool_dir=spool_dir, workflows=workflows)
            outcome = job.run()
        finally:
            store.close()
        seconds = SYSTEM_CLOCK.monotonic() - began
        report.show(outcome)
        accounts = outcome.accounts
        if as_json:
            summary = {
                "sent": accounts.sent,
                "accepted": accounts.accepted,
                "duplicates": accounts.duplicates,
                "quarantined": accounts.quarantined,
                "workflow_rows": outcome.workflow_rows,
                "seconds": round(seconds, 3),
            }
            click.echo(json_line(summary))
        if not once:
            _stay(server, report)
    return EXIT_DIFFERENCE if outcome.differences else 0


def _stay(server: ServerProcess, report: Report) -> None:
    """Leave the server up until Ctrl-C."""
    example = "SELECT origin, COUNT(*) AS flights FROM demo.flights GROUP BY origin"
    report.say(
        f"\nThe server stays at {server.url} until Ctrl-C. In another terminal:\n\n"
        f"  export EVENTMILL_STORE={server.url}\n"
        "  eventmill table list\n"
        f"  eventmill query '{example}'\n"
        "  eventmill quarantine list\n"
    )
    try:
        server.wait()
    except KeyboardInterrupt:
        report.say("stopping the server")


@contextmanager
def _folder(given: str | None) -> Iterator[str]:
    """Give a fresh data folder: the given one, the checkout's own, or one that goes at the end."""
    if given is not None:
        if os.path.isdir(given) and os.listdir(given):
            raise UsageError(f"--data {given}: the folder is not empty; name a new one")
        yield given
        return
    root = checkout()
    if root is None:
        with tempfile.TemporaryDirectory(prefix="eventmill-demo-") as folder:
            yield os.path.join(folder, "data")
        return
    folder = os.path.join(root, ".cache", "demo", "data")
    if os.path.isdir(folder):
        url = server_url(folder)
        if url is not None:
            raise UsageError(
                f"a demo is running at {url}; end it with Ctrl-C, or give --data for another"
            )
        shutil.rmtree(folder)
    os.makedirs(os.path.dirname(folder), exist_ok=True)
    yield folder
