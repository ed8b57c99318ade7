"""``eventmill workflow runs|log|pause|resume``: what the run book says, and what it is told."""

from __future__ import annotations

import getpass
import socket
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from eventmill.base.clock import SYSTEM_CLOCK, utc_datetime
from eventmill.base.errors import UsageError
from eventmill.cli.invocation import Invocation, pass_invocation, store_option
from eventmill.cli.output import (
    Format,
    chosen_format,
    format_options,
    json_line,
    visible,
    write_rows,
)
from eventmill.cli.scheduling import found_workflow, name_argument, opened_book, workflows_option

if TYPE_CHECKING:
    from eventmill.schedule.book import RunBook
    from eventmill.schedule.book_rows import LogLine, RunRow, SlotRow

_LOOK_SECONDS = 0.5
_DIGITS_MAX = 18
"""Digits of a run's number that SQLite takes in any case; the runs of our time have 16."""
_RUN_COLUMNS = (
    "run", "workflow", "slot_start", "slot_end", "state", "attempt", "reason", "started_at",
    "seconds", "input_rows", "output_rows", "late_rows", "error",
)  # fmt: skip
_SHORT_COLUMNS = (
    "run", "workflow", "slot", "state", "try", "started", "seconds", "in", "out", "late", "why",
)  # fmt: skip
_SLOT_COLUMNS = (
    "workflow", "slot_start", "slot_end", "state", "reason", "attempts", "run", "succeeded_at",
    "input_rows", "output_rows", "late_rows", "too_late_rows",
)  # fmt: skip


@click.command("runs")
@click.argument("name", metavar="[NAME]", required=False)
@click.option("--slots", "by_slot", is_flag=True, help="Show slots instead of attempts; of NAME.")
@click.option(
    "-n", "limit", type=click.IntRange(1, 100_000), default=20, show_default=True,
    help="How many of the newest.",
)  # fmt: skip
@store_option
@format_options
@pass_invocation
def runs_command(
    invocation: Invocation,
    name: str | None,
    by_slot: bool,
    limit: int,
    form: str | None,
    output: str | None,
) -> None:
    """Show the newest runs, or the newest slots of a workflow.

    A run is one attempt at one slot, by a scheduler, by `workflow run` or by a backfill. Its state
    is running, succeeded, failed, timed_out, cancelled or lost (its process died).
    """
    chosen = chosen_format(form, output)
    if by_slot and name is None:
        raise UsageError("--slots shows those of one workflow: give its name")
    with opened_book(invocation.settings) as book:
        if name is not None and book.workflow(name) is None:
            raise UsageError(f"{name!r} has never been run here: nothing is in the run book")
        _note_idle(book, name)
        if by_slot:
            slots = book.latest_slots(str(name), limit)
            write_rows(_SLOT_COLUMNS, map(_slot, slots), form=chosen, output=output)
            return
        runs = book.runs(name, limit)
    if chosen is Format.TABLE:
        write_rows(_SHORT_COLUMNS, map(_short, runs), form=chosen, output=output)
    else:
        write_rows(_RUN_COLUMNS, map(_run, runs), form=chosen, output=output)


def _note_idle(book: RunBook, name: str | None) -> None:
    """Say of which workflows nothing new comes due, and what changes that."""
    for found in book.workflows():
        if name not in (None, found.name):
            continue
        if found.paused_at is not None:
            since = f"{utc_datetime(found.paused_at):%Y-%m-%d %H:%M}Z, by {found.paused_by}"
            told = f"is paused since {since}"
        elif found.handed_to:
            told = f"is left to {visible(found.handed_to)}"
        else:
            continue
        click.echo(
            f"note: {found.name} {told}; `eventmill workflow resume {found.name}` ends it", err=True
        )


def _short(run: RunRow) -> dict[str, Any]:
    """Return a run for eyes: what tells one from the other, and why it ended as it did."""
    from eventmill.schedule.due import moment_text

    seconds = "" if run.seconds is None else f"{run.seconds:.2f}"
    return {
        "run": str(run.id),
        "workflow": run.workflow,
        "slot": moment_text(run.start_seconds),
        "state": run.state.value,
        "try": f"{run.attempt}/{run.attempts_max}",
        "started": f"{utc_datetime(run.started_at):%m-%d %H:%M:%S}",
        "seconds": seconds,
        "in": _count(run.input_rows),
        "out": _count(run.output_rows),
        "late": _count(run.late_rows),
        "why": run.error or run.reason,
    }


def _count(rows: int | None) -> str:
    return "" if rows is None else f"{rows:,}"


def _run(run: RunRow) -> dict[str, Any]:
    return {
        "run": run.id,
        "workflow": run.workflow,
        "slot_start": run.start,
        "slot_end": run.end,
        "state": run.state.value,
        "attempt": run.attempt,
        "reason": run.reason,
        "started_at": utc_datetime(run.started_at),
        "seconds": run.seconds,
        "input_rows": run.input_rows,
        "output_rows": run.output_rows,
        "late_rows": run.late_rows,
        "error": run.error,
    }


def _slot(slot: SlotRow) -> dict[str, Any]:
    succeeded = slot.succeeded_at
    return {
        "workflow": slot.workflow,
        "slot_start": slot.start,
        "slot_end": slot.end,
        "state": slot.state.value,
        "reason": slot.reason,
        "attempts": slot.attempts,
        "run": slot.run_id,
        "succeeded_at": None if succeeded is None else utc_datetime(succeeded),
        "input_rows": slot.input_rows,
        "output_rows": slot.output_rows,
        "late_rows": slot.late_rows,
        "too_late_rows": slot.too_late_rows,
    }


@click.command("log")
@click.argument("run", metavar="RUN")
@click.option("--follow", is_flag=True, help="Go on until the run has ended.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "ndjson"]),
    help="[default: table on a terminal, ndjson elsewhere].",
)
@store_option
@pass_invocation
def log_command(invocation: Invocation, run: str, follow: bool, form: str | None) -> None:
    """Show the log of a run.

    RUN is its number, as `eventmill workflow runs` shows it, or the name of a workflow for its
    newest run.
    """
    chosen = chosen_format(form)
    with opened_book(invocation.settings) as book:
        found = _find_run(book, run)
        for line in _lines(book, found.id, follow):
            _show(line, chosen)


def _find_run(book: RunBook, text: str) -> RunRow:
    is_number = text.isdecimal() and len(text) <= _DIGITS_MAX
    found = book.run(int(text)) if is_number else next(iter(book.runs(text, 1)), None)
    if found is None:
        raise UsageError(
            f"there is no run {text!r}: give a number that `eventmill workflow runs` shows, or the"
            " name of a workflow that was run"
        )
    return found


def _lines(book: RunBook, run_id: int, follow: bool) -> Iterator[LogLine]:
    after = 0
    while True:
        # Asked first: a run that has ended by then writes no line behind those that follow.
        run = book.run(run_id)
        has_ended = run is None or run.ended_at is not None
        while lines := book.run_log(run_id, after):
            yield from lines
            after = lines[-1].id
        if has_ended or not follow:
            return
        sys.stdout.flush()
        SYSTEM_CLOCK.sleep(_LOOK_SECONDS)


def _show(line: LogLine, form: Format) -> None:
    moment = utc_datetime(line.at)
    if form is not Format.TABLE:
        told = {"at": moment, "level": line.level, "text": line.text}
        click.echo(json_line(told))
        return
    level = "" if line.level == "info" else f"{line.level}: "
    shown = click.style(moment.astimezone().strftime("%H:%M:%S.%f")[:-3], dim=True)
    click.echo(f"{shown}  {level}{visible(line.text)}")


@click.command("pause")
@name_argument
@workflows_option
@store_option
@pass_invocation
def pause_command(invocation: Invocation, name: str) -> None:
    """Let no scheduler run a workflow until `workflow resume`.

    A slot that runs goes on; one that comes due meanwhile is a missed slot afterwards.
    """
    definition = found_workflow(invocation, name)
    with opened_book(invocation.settings) as book:
        now = SYSTEM_CLOCK.now()
        book.note_workflow(name, definition.owner, definition.timetable.text, now)
        is_new = book.pause(name, _who(), now)
    click.echo(f"{name} is paused" if is_new else f"{name} was paused already", err=True)


@click.command("resume")
@name_argument
@store_option
@pass_invocation
def resume_command(invocation: Invocation, name: str) -> None:
    """Let schedulers run a workflow again.

    Slots that came due meanwhile are caught up as the workflow's `missed` says. A workflow that was
    handed over to another scheduler is taken back.
    """
    with opened_book(invocation.settings) as book:
        if book.workflow(name) is None:
            raise UsageError(f"{name!r} is not in the run book, so it is not paused either")
        was = book.resume(name)
    click.echo(f"{name} is resumed" if was else f"{name} was not paused", err=True)


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = "?"
    return f"{user}@{socket.gethostname()}"
