"""``eventmill workflow test``: the cases of workflows, in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import click

from eventmill.cli.invocation import Invocation, pass_invocation
from eventmill.cli.output import Format, chosen_format, format_options, visible, write_rows
from eventmill.cli.scheduling import found_workflow, workflows_option

if TYPE_CHECKING:
    from eventmill.workflow.case_run import CaseOutcome
    from eventmill.workflow.definition import Body, WorkflowDefinition

_COLUMNS = ("workflow", "case", "body", "outcome", "seconds", "told", "notes")
_SHORT_COLUMNS = _COLUMNS[:5]
EXIT_ERROR = 1


@click.command("test")
@click.argument("name", required=False)
@click.option("--body", type=click.Choice(["sql", "beam"]), help="[default: each body that it has]")
@workflows_option
@format_options
@pass_invocation
def test_command(
    invocation: Invocation,
    name: str | None,
    body: str | None,
    form: str | None,
    output: str | None,
) -> int:
    """Run the cases of a workflow, or of all workflows of the project.

    A case is tests/CASE.toml in the workflow's folder: the slot, input rows, and the rows that the
    body must make of them. It runs in memory and touches no store.

    Exits with 1 when a case fails, a workflow is broken, or there is no case at all.
    """
    from eventmill.workflow.case_run import run_cases

    chosen = chosen_format(form, output)
    definitions, broken = _wanted(invocation, name)
    outcomes: list[CaseOutcome] = []
    for definition in definitions:
        wanted = cast("Body | None", body)
        if name is None and wanted is not None and wanted not in definition.bodies:
            continue
        options = _beam_options(invocation) if "beam" in definition.bodies else None
        found = list(run_cases(definition, body=wanted, beam=options))
        if not found:
            click.echo(f"{definition.name} has no cases: write tests/CASE.toml", err=True)
        outcomes += found
    rows = [_row(one) for one in outcomes]
    write_rows(
        _SHORT_COLUMNS if chosen is Format.TABLE else _COLUMNS, rows, form=chosen, output=output
    )
    failed = [one for one in outcomes if not one.passed]
    if chosen is Format.TABLE:
        for one in failed:
            click.echo(f"\n{one.workflow}, {one.case}, {one.body}:", err=True)
            for line in (*one.told.splitlines(), *one.notes):
                click.echo(f"  {visible(line)}", err=True)
    for told in broken:
        click.echo(f"error: {told}", err=True)
    if not outcomes:
        click.echo("error: there is no case to run", err=True)
    return EXIT_ERROR if failed or broken or not outcomes else 0


def _wanted(invocation: Invocation, name: str | None) -> tuple[list[WorkflowDefinition], list[str]]:
    if name is not None:
        return [found_workflow(invocation, name)], []
    from eventmill.workflow.reading import list_workflows

    found = list_workflows([invocation.settings.workflow.folder])
    return list(found.definitions), [one.error for one in found.broken]


def _beam_options(invocation: Invocation) -> Any:  # noqa: ANN401 - imported when needed
    from eventmill.workflow.beam import BeamOptions

    return BeamOptions(python=invocation.settings.workflow.beam_python)


def _row(one: CaseOutcome) -> dict[str, Any]:
    return {
        "workflow": one.workflow,
        "case": one.case,
        "body": one.body,
        "outcome": "passed" if one.passed else "failed",
        "seconds": round(one.seconds, 3),
        "told": one.told or None,
        "notes": list(one.notes),
    }
