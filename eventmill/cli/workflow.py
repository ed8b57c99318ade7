"""``eventmill workflow``: named aggregations, their tests and their runs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from eventmill.cli.invocation import Invocation, pass_invocation
from eventmill.cli.output import Format, chosen_format, format_options, write_rows
from eventmill.cli.scheduling import workflows_option
from eventmill.cli.workflow_backfill import backfill_command
from eventmill.cli.workflow_book import log_command, pause_command, resume_command, runs_command
from eventmill.cli.workflow_export import export_command
from eventmill.cli.workflow_new import new_command
from eventmill.cli.workflow_run import run_command
from eventmill.cli.workflow_sample import sample_command
from eventmill.cli.workflow_test import test_command
from eventmill.cli.workflow_try import try_command
from eventmill.schema.table import DEFAULT_PROJECT

if TYPE_CHECKING:
    from eventmill.workflow.definition import WorkflowDefinition

_COLUMNS = ("workflow", "schedule", "inputs", "output", "owner", "bodies", "from", "error")


@click.group()
def workflow() -> None:
    """Make, test, run and schedule workflows.

    A workflow is a folder: workflow.toml (inputs, output, schedule), query.sql or pipeline.py, the
    .proto of its output, and cases in tests/. It makes the rows of one slot, such as an hour, and
    puts them in the place of those that the slot had.
    """


@click.command("list")
@click.option("--shipped", is_flag=True, help="List those that ship with Eventmill as well.")
@workflows_option
@format_options
@pass_invocation
def list_command(
    invocation: Invocation, shipped: bool, form: str | None, output: str | None
) -> None:
    """List the project's workflows, broken ones with what is wrong.

    FROM is the folder; eventmill for one that ships with it.
    """
    from eventmill.workflow.reading import SHIPPED_FOLDER, list_workflows

    folder = invocation.settings.workflow.folder
    chosen = chosen_format(form, output)
    found = list_workflows([folder, SHIPPED_FOLDER] if shipped else [folder])
    rows = [_row(definition) for definition in found.definitions]
    rows += [
        dict.fromkeys(_COLUMNS)
        | {"workflow": one.name, "from": _place(one.folder), "error": one.error}
        for one in found.broken
    ]
    rows.sort(key=lambda row: str(row["workflow"]))
    names = list(_COLUMNS) if chosen is not Format.TABLE or found.broken else list(_COLUMNS[:-1])
    if chosen is Format.TABLE:
        rows = [{name: _shown(row[name]) for name in names} for row in rows]
    write_rows(names, rows, form=chosen, output=output)
    if not rows:
        click.echo(
            f"there are no workflows in {folder}; `eventmill workflow new` makes one, and"
            " --shipped lists those that ship with Eventmill",
            err=True,
        )


def _row(definition: WorkflowDefinition) -> dict[str, Any]:
    return {
        "workflow": definition.name,
        "schedule": definition.timetable.text,
        "inputs": [str(entry.table) for entry in definition.inputs],
        "output": str(definition.output.table),
        "owner": definition.owner,
        "bodies": ", ".join(definition.bodies),
        "from": _place(definition.folder),
        "error": None,
    }


def _shown(value: object) -> str:
    """Return a value for eyes: lists in one line, tables without the project that all have."""
    if isinstance(value, list):
        return ", ".join(map(_shown, value))
    return str(value or "").removeprefix(f"{DEFAULT_PROJECT}.")


def _place(folder: str) -> str:
    from eventmill.workflow.reading import SHIPPED_FOLDER

    if folder.startswith(os.path.join(SHIPPED_FOLDER, "")):
        return "eventmill"
    near = os.path.relpath(folder)
    return folder if near.startswith("..") else near


workflow.add_command(new_command)
workflow.add_command(list_command)
workflow.add_command(test_command)
workflow.add_command(try_command)
workflow.add_command(sample_command)
workflow.add_command(run_command)
workflow.add_command(runs_command)
workflow.add_command(log_command)
workflow.add_command(backfill_command)
workflow.add_command(pause_command)
workflow.add_command(resume_command)
workflow.add_command(export_command)
