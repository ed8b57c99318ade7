"""``eventmill workflow try``: a body on rows from files, touching no table."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import closing
from itertools import chain
from typing import TYPE_CHECKING, cast

import click

from eventmill.base.errors import UsageError
from eventmill.cli.invocation import Invocation, pass_invocation
from eventmill.cli.output import chosen_format, format_options, visible, write_result
from eventmill.cli.scheduling import found_workflow, moment_of, name_argument, workflows_option

if TYPE_CHECKING:
    from eventmill.workflow.definition import Body, WorkflowDefinition
    from eventmill.workflow.timetable import Slot
    from eventmill.workflow.trial_rows import RowFault, TrialRow

EXIT_REJECTED = 3
_ALWAYS = (0, 253_402_300_799)
"""1970-01-01 to 9999-12-31T23:59:59Z, the last whole second that a TIMESTAMP can be."""
_TOLD_MAX = 20


@click.command("try")
@name_argument
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="TABLE=FILE",
    help="Rows of an input, as NDJSON with the field names of its .proto; repeatable.",
)
@click.option(
    "--slot-start", metavar="TIME", help="@slot_start, such as 2026-01-31T10:00Z [default: 1970]."
)
@click.option(
    "--slot-end",
    metavar="TIME",
    help="@slot_end [default: the end of the slot that begins at --slot-start; else 9999].",
)
@click.option("--body", type=click.Choice(["sql", "beam"]), help="[default: the first that it has]")
@workflows_option
@format_options
@pass_invocation
def try_command(
    invocation: Invocation,
    name: str,
    inputs: tuple[str, ...],
    slot_start: str | None,
    slot_end: str | None,
    body: str | None,
    form: str | None,
    output: str | None,
) -> int:
    """Run a workflow's body on rows from files; print the rows that it would write.

    Touches no table of any store. Rows are judged by the input's .proto where workflow.toml names
    it; else their columns are inferred, and stderr says how. An input that is not named has no
    rows. Without --slot-start and --slot-end all rows are of the slot. Rows are taken
    (_ingested_at) at --slot-start, or now.

    Exits with 3 when rows do not fit; they are told, and the rest is run.

    \b
    eventmill workflow try cq_attempts --input cq.raw_events=events.ndjson
    """
    from eventmill.workflow.trial import Trial

    definition = found_workflow(invocation, name)
    chosen = chosen_format(form, output)
    slot = _slot(definition, slot_start, slot_end)
    beam = None
    if "beam" in definition.bodies:
        from eventmill.workflow.beam import BeamOptions

        beam = BeamOptions(python=invocation.settings.workflow.beam_python)
    taken_at = None if slot_start is None else slot[0]
    with closing(Trial(definition, taken_at=taken_at)) as trial:
        faults = trial.fill(_rows(inputs))
        _tell(faults, trial.notes)
        result = trial.run(slot, cast("Body | None", body), log=_log, beam=beam)
        write_result(result, form=chosen, output=output)
    return EXIT_REJECTED if faults else 0


def _rows(inputs: Iterable[str]) -> dict[str, Iterable[TrialRow]]:
    from eventmill.workflow.trial_rows import read_ndjson

    rows: dict[str, Iterable[TrialRow]] = {}
    for text in inputs:
        table, mark, path = text.partition("=")
        if not (table and mark and path):
            raise UsageError(f"--input {text!r}: write TABLE=FILE, such as ci.builds=builds.ndjson")
        rows[table] = chain(rows.get(table, ()), read_ndjson(path))
    return rows


def _slot(definition: WorkflowDefinition, start: str | None, end: str | None) -> Slot:
    first, last = _ALWAYS
    if start is not None:
        first = _second(start, "--slot-start")
        slot = definition.timetable.slot_at(first)
        if end is None and slot[0] != first:
            raise UsageError(
                f"--slot-start {start}: no slot of {definition.name}"
                f" ({definition.timetable.text}) begins then: give --slot-end as well"
            )
        last = slot[1]
    if end is not None:
        last = _second(end, "--slot-end")
    if last <= first:
        raise UsageError("--slot-end does not come after --slot-start")
    return first, last


def _second(text: str, flag: str) -> int:
    seconds = moment_of(text, flag)
    if seconds != int(seconds):
        raise UsageError(f"{flag} {text}: slots begin and end at whole seconds")
    return int(seconds)


def _tell(faults: list[RowFault], notes: list[str]) -> None:
    for note in notes:
        click.echo(f"note: {visible(note)}", err=True)
    for fault in faults[:_TOLD_MAX]:
        click.echo(visible(str(fault)), err=True)
    if len(faults) > _TOLD_MAX:
        click.echo(f"and {len(faults) - _TOLD_MAX:,} rows more that do not fit", err=True)


def _log(line: str) -> None:
    if sys.stderr.isatty():
        click.echo(visible(line), err=True)
