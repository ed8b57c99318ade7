"""``eventmill workflow backfill``: the slots of a stretch of time, run by this process."""

from __future__ import annotations

import random
import secrets
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from eventmill.base.clock import SYSTEM_CLOCK
from eventmill.base.errors import UsageError
from eventmill.cli.invocation import Invocation, pass_invocation, store_option
from eventmill.cli.output import json_line
from eventmill.cli.scheduling import (
    found_workflow,
    moment_of,
    name_argument,
    opened_book,
    slot_runner,
    workflows_option,
    writing_store,
)

if TYPE_CHECKING:
    from eventmill.schedule.backfill import Backfill
    from eventmill.schedule.book_plan import BackfillEntry
    from eventmill.workflow.definition import WorkflowDefinition
    from eventmill.workflow.timetable import Slot

SLOTS_MAX = 1_000_000
"""Slots of one backfill; more are a slip of the pen, or several backfills."""
_LOOK_SECONDS = 0.25
_END_SECONDS = 12.0
"""How long slots that run may take to end once the backfill was stopped."""


@click.command("backfill")
@name_argument
@click.option("--from", "from_", required=True, metavar="START", help="First slot's start.")
@click.option("--to", required=True, metavar="END", help="Slots that start before it are run.")
@click.option(
    "--parallel", type=click.IntRange(1, 64), default=1, show_default=True, metavar="N",
    help="Slots that are run at one time.",
)  # fmt: skip
@click.option("--again", is_flag=True, help="Also run slots that have succeeded.")
@workflows_option
@store_option
@pass_invocation
def backfill_command(
    invocation: Invocation, name: str, from_: str, to: str, parallel: int, again: bool
) -> None:
    """Run the slots of a stretch of time.

    Those that have succeeded are left as they are, unless --again is given. The slots wait in the
    run book until this command has run them, so one that was broken off goes on when it is called
    again (without --again); no scheduler takes them. Failed attempts are repeated as
    the workflow says; a workflow that is paused is backfilled all the same.

    \b
    eventmill workflow backfill cq_attempts --from 2026-01-01 --to 2026-02-01 --parallel 2
    """
    from eventmill.schedule.backfill import Backfill
    from eventmill.schedule.book_claims import Runner
    from eventmill.schedule.book_rows import Origin, RunState
    from eventmill.schedule.scheduler import runner_name

    settings = invocation.settings
    definition = found_workflow(invocation, name)
    slots = _slots(definition, from_, to)
    with opened_book(settings) as book:
        now = SYSTEM_CLOCK.now()
        book.note_workflow(name, definition.owner, definition.timetable.text, now)
        backfill = Backfill(
            book,
            definition,
            slots,
            slot_runner(writing_store(settings), settings),
            Runner(runner_name(), Origin.BACKFILL, settings.schedule.lease_seconds),
            clock=SYSTEM_CLOCK,
            rng=random.Random(secrets.randbits(64)),  # noqa: S311 - pauses, no secrets
        )
        entry = backfill.enter(again=again)
        is_stopped = _run(backfill, entry, min(parallel, len(slots)))
        left, failed = backfill.left(), backfill.failed()
    done = backfill.progress
    told = {
        "workflow": name,
        "slots": len(slots),
        "succeeded_before": entry.succeeded,
        "succeeded": done.done[RunState.SUCCEEDED],
        "failed": failed,
        "left": left,
        "input_rows": done.input_rows,
        "output_rows": done.output_rows,
        "seconds": round(SYSTEM_CLOCK.now() - now, 3),
    }
    _tell(told)
    if is_stopped:
        click.echo(
            f"stopped: {left:,} slots are left; the same command without --again goes on",
            err=True,
        )
        raise click.exceptions.Exit(130)
    if failed or left:
        click.echo(
            f"error: {failed:,} slots have failed; `eventmill workflow runs {name}` says why, and"
            " the same command without --again tries them again",
            err=True,
        )
        raise click.exceptions.Exit(1)


def _slots(definition: WorkflowDefinition, from_: str, to: str) -> list[Slot]:
    begin, end = moment_of(from_, "--from"), moment_of(to, "--to")
    if end <= begin:
        raise UsageError(f"--to {to} is not after --from {from_}")
    now = SYSTEM_CLOCK.now()
    slots: list[Slot] = []
    for slot in definition.timetable.slots(begin, min(end, now)):
        if slot[1] <= now:
            slots.append(slot)
        if len(slots) > SLOTS_MAX:
            raise UsageError(
                f"more than {SLOTS_MAX:,} slots of {definition.name} ({definition.timetable.text})"
                f" start between {from_} and {to}: give a shorter stretch"
            )
    if not slots:
        raise UsageError(
            f"no slot of {definition.name} ({definition.timetable.text}) that has ended starts"
            f" between {from_} and {to}"
        )
    return slots


def _run(backfill: Backfill, entry: BackfillEntry, parallel: int) -> bool:
    """Run what waits; tell whether it was stopped before it was done."""
    with _stopped_by_signals(backfill) as stopped, _progress(backfill, entry) as show:
        backfill.start(parallel)
        ended_by = float("inf")
        while not backfill.wait(_LOOK_SECONDS):
            show()
            if stopped.is_set():
                ended_by = min(ended_by, SYSTEM_CLOCK.monotonic() + _END_SECONDS)
            if SYSTEM_CLOCK.monotonic() >= ended_by:
                break
    backfill.abandon()
    if backfill.error is not None:
        raise backfill.error
    return stopped.is_set()


@contextmanager
def _stopped_by_signals(backfill: Backfill) -> Iterator[threading.Event]:
    """Let Ctrl-C and SIGTERM stop the backfill; the second one does not wait for its end."""
    stopped = threading.Event()
    before: dict[int, Any] = {}

    def stop(number: int, frame: object) -> None:
        stopped.set()
        backfill.stop(f"the backfill was stopped by {signal.Signals(number).name}")
        signal.signal(number, before[number])

    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    for caught in (signal.SIGINT, signal.SIGTERM):
        before[caught] = signal.signal(caught, stop)
    try:
        yield stopped
    finally:
        for number, restored in before.items():
            signal.signal(number, restored)


@contextmanager
def _progress(backfill: Backfill, entry: BackfillEntry) -> Iterator[Callable[[], None]]:
    """Give what shows how far it is: slots, rows a second and the remaining time, on a terminal."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("{task.completed:,.0f} of {task.total:,.0f} slots"),
        TextColumn("{task.fields[rows_a_second]:,.0f} rows/s"),
        BarColumn(),
        TextColumn("remaining"),
        TimeRemainingColumn(compact=True),
        console=Console(stderr=True),
        transient=True,
    )
    began = SYSTEM_CLOCK.monotonic()
    with bar:
        task = bar.add_task("backfill", total=entry.waiting, rows_a_second=0.0)

        def show() -> None:
            seconds = max(SYSTEM_CLOCK.monotonic() - began, 0.001)
            done = backfill.progress
            rate = done.input_rows / seconds
            bar.update(task, completed=entry.waiting - backfill.left(), rows_a_second=rate)

        yield show


def _tell(told: dict[str, object]) -> None:
    if not sys.stdout.isatty():
        click.echo(json_line(told))
        return
    click.echo(
        f"{told['workflow']}: {told['succeeded']:,} of {told['slots']:,} slots run in"
        f" {told['seconds']:,} s, {told['succeeded_before']:,} left as they were;"
        f" {told['input_rows']:,} rows in, {told['output_rows']:,} out"
    )
