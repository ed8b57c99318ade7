"""``eventmill workflow new``: a folder that can be tested at once."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from eventmill.base.errors import EventmillError, UsageError
from eventmill.base.quantity import format_seconds, parse_seconds
from eventmill.cli.invocation import Invocation, pass_invocation, store_option
from eventmill.cli.scheduling import found_workflow, workflows_option
from eventmill.schema.table import TableId

if TYPE_CHECKING:
    from eventmill.workflow.timetable import Timetable


@click.command("new")
@click.argument("name")
@click.option(
    "--from", "source", metavar="WORKFLOW", help="Copy this one, such as cq_attempts, as it is."
)
@click.option("--input", "input_name", metavar="TABLE", help="The table that it reads.")
@click.option("--output", "output_name", metavar="TABLE", help="The table that it writes.")
@click.option("--every", metavar="TIME", help="Length of a slot: 15m, 1h, 1d [default: 1h].")
@click.option("--cron", metavar="EXPRESSION", help="Slots from one cron time to the next.")
@click.option("--timezone", metavar="ZONE", help="Of --cron, such as Europe/Berlin.")
@click.option("--owner", metavar="WHO", help="Who answers for it: an address, or a team's name.")
@store_option
@workflows_option
@pass_invocation
def new_command(
    invocation: Invocation,
    name: str,
    source: str | None,
    input_name: str | None,
    output_name: str | None,
    every: str | None,
    cron: str | None,
    timezone: str | None,
    owner: str | None,
) -> None:
    """Make the folder of a workflow, with an example that counts rows and its case.

    `eventmill workflow test NAME` passes at once. Where the store has the input, its partition
    column says when a row is. A folder that is there is left alone.

    \b
    eventmill workflow new builds-per-hour --input ci.builds --output ci.builds_per_hour
    eventmill workflow new my-attempts --from cq_attempts
    """
    from eventmill.workflow.new_folder import NewWorkflow, copy_folder, make_folder

    root = invocation.settings.workflow.folder
    if source is not None:
        given = {
            "--input": input_name, "--output": output_name, "--every": every, "--cron": cron,
            "--timezone": timezone, "--owner": owner,
        }  # fmt: skip
        for flag, value in given.items():
            if value is not None:
                raise UsageError(f"--from copies {source} as it is: leave {flag} out, and change"
                                 " workflow.toml afterwards")  # fmt: skip
        folder = copy_folder(root, name, found_workflow(invocation, source))
    else:
        if input_name is None or output_name is None:
            raise UsageError("give --input TABLE and --output TABLE, or --from WORKFLOW")
        schedule, timetable = _schedule(every, cron, timezone)
        table, written = TableId.parse(input_name), TableId.parse(output_name)
        if table == written:
            raise UsageError(f"--output {output_name}: it is the input too: name another table")
        folder = make_folder(
            root,
            NewWorkflow(
                name=name,
                input=table,
                output=written,
                schedule=schedule,
                timetable=timetable,
                owner=owner,
                time_column=_time_column(invocation, table),
            ),
        )
    click.echo(os.path.relpath(folder))
    click.echo(f"`eventmill workflow test {name}` runs its cases", err=True)


def _schedule(every: str | None, cron: str | None, timezone: str | None) -> tuple[str, Timetable]:
    """Return the keys of ``[schedule]`` and what they mean."""
    from eventmill.workflow.cron_slots import CronSlots
    from eventmill.workflow.every_slots import EverySlots

    if cron is not None:
        if every is not None:
            raise UsageError("--every and --cron exclude each other")
        slots = CronSlots(cron, timezone or "UTC")
        zone = f'\ntimezone = "{timezone}"' if timezone else ""
        return f'cron = "{slots.expression}"{zone}', slots
    if timezone is not None:
        raise UsageError("--timezone is about --cron: slots of a fixed length are counted in UTC")
    seconds = parse_seconds(every or "1h")
    if seconds != int(seconds):
        raise UsageError(f"--every {every}: a slot has a whole number of seconds")
    return f'every = "{format_seconds(seconds)}"', EverySlots(int(seconds))


def _time_column(invocation: Invocation, table: TableId) -> str | None:
    """Return the partition column of a table, where the store can be asked and has it."""
    try:
        with invocation.store(writer=False) as store:
            partitioning = store.describe(table).spec.partitioning
    except EventmillError as error:
        click.echo(f"note: the example goes by the time of ingestion: {error}", err=True)
        return None
    return partitioning.column if partitioning else None
