"""``eventmill workflow export``: a workflow's schedule in the words of another scheduler."""

from __future__ import annotations

import os
import shutil
import sys

import click

from eventmill.address import is_folder
from eventmill.base.clock import SYSTEM_CLOCK
from eventmill.cli.invocation import Invocation, pass_invocation, store_option
from eventmill.cli.output import write_text
from eventmill.cli.scheduling import found_workflow, name_argument, opened_book, workflows_option

TARGETS = ("cron", "systemd", "kubernetes", "airflow")


@click.command("export")
@name_argument
@click.option("--to", "target", type=click.Choice(TARGETS), required=True, help="For whom.")
@click.option("--image", metavar="IMAGE", help="Container image with eventmill, for kubernetes.")
@click.option(
    "--program",
    metavar="PATH",
    help="How the other side calls eventmill [default: the path of this one for cron and systemd,"
    " `eventmill` for the others].",
)
@click.option(
    "--hand-over",
    is_flag=True,
    help="Leave the workflow to it from now on; `workflow resume` takes it back.",
)
@workflows_option
@store_option
@pass_invocation
def export_command(
    invocation: Invocation,
    name: str,
    target: str,
    image: str | None,
    program: str | None,
    hand_over: bool,
) -> None:
    """Print a workflow's schedule for cron, systemd, Kubernetes or Airflow.

    The text calls `eventmill workflow run NAME --slot ...` for the slot that just ended. Those runs
    stand in the run book like a scheduler's own, so alerts and `workflow runs` go on as before.
    With --hand-over, schedulers of Eventmill leave the workflow alone.
    """
    from eventmill.schedule.handover import FORMATS, Handover

    definition = found_workflow(invocation, name)
    settings = invocation.settings
    address = settings.client.store
    data_folder = os.path.abspath(address) if is_folder(address) else None
    words = [program or _program(target), "workflow", "run", name]
    words += ["--workflows", os.path.abspath(settings.workflow.folder)]
    words += ["--store", data_folder or address]
    text = FORMATS[target](
        Handover(
            definition=definition,
            words=words,
            folder=os.getcwd(),
            data_folder=data_folder,
            image=image,
        )
    )
    if hand_over:
        with opened_book(settings) as book:
            now = SYSTEM_CLOCK.now()
            book.note_workflow(name, definition.owner, definition.timetable.text, now)
            book.hand_over(name, target)
        click.echo(f"schedulers leave {name} to {target} from now on", err=True)
    write_text(text)


def _program(target: str) -> str:
    """Return how the other scheduler finds this program: cron and systemd look in few folders."""
    if target not in ("cron", "systemd"):
        return "eventmill"
    beside = os.path.join(os.path.dirname(sys.executable), "eventmill")
    return beside if os.access(beside, os.X_OK) else (shutil.which("eventmill") or "eventmill")
