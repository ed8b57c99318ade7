"""``eventmill workflow run``: one slot of a workflow, now, in this process."""

from __future__ import annotations

import random
import secrets
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from eventmill.base.clock import SYSTEM_CLOCK, utc_datetime
from eventmill.base.errors import StoreBusyError
from eventmill.cli.invocation import Invocation, pass_invocation, store_option
from eventmill.cli.output import json_line
from eventmill.cli.scheduling import (
    found_workflow,
    name_argument,
    opened_book,
    slot_of,
    slot_runner,
    workflows_option,
    writing_store,
)

if TYPE_CHECKING:
    from eventmill.schedule.book_claims import Claim, Ending
    from eventmill.schedule.run_work import RunWork
    from eventmill.workflow.definition import Body


@click.command("run")
@name_argument
@click.option(
    "--slot",
    required=True,
    metavar="START",
    help="Start of the slot, such as 2026-03-29T01:00Z; `last` is the one that ended last.",
)
@click.option("--body", type=click.Choice(["sql", "beam"]), help="[default: the first it has].")
@click.option(
    "--attempt",
    type=click.IntRange(1),
    metavar="N",
    help="Which attempt it is, as the scheduler counts them that calls this.",
)
@workflows_option
@store_option
@pass_invocation
def run_command(
    invocation: Invocation, name: str, slot: str, body: Body | None, attempt: int | None
) -> None:
    """Run one slot of a workflow now.

    The slot's rows in the output table are replaced, whatever it had; the run is kept in the run
    book, where `eventmill workflow runs` shows it and alerts look. A slot that ended less than the
    workflow's delay ago is waited for. One that a scheduler is running is refused; a workflow that
    is paused is run all the same.

    For other schedulers: `--slot last` in a cron job, or the start of a data interval. The exit
    code is 0 when the slot has its rows, and 1 when not; in a pipe the result is one JSON object.
    """
    from eventmill.schedule.book_claims import Claim, Claims, Runner
    from eventmill.schedule.book_rows import Origin, RunState
    from eventmill.schedule.due import due_at, slot_text
    from eventmill.schedule.run_work import RunWork
    from eventmill.schedule.scheduler import runner_name

    settings = invocation.settings
    definition = found_workflow(invocation, name)
    wanted = slot_of(definition, slot, SYSTEM_CLOCK.now())
    SYSTEM_CLOCK.sleep(max(0.0, due_at(definition, wanted) - SYSTEM_CLOCK.now()))
    with opened_book(settings) as book:
        runner = Runner(runner_name(), Origin.COMMAND, settings.schedule.lease_seconds)
        now = SYSTEM_CLOCK.now()
        book.note_workflow(name, definition.owner, definition.timetable.text, now)
        claims = Claims(book)
        claim = claims.claim_slot(
            name, wanted, runner, now, attempts_max=definition.retries + 1, attempt=attempt,
            body=body or definition.bodies[0],
        )  # fmt: skip
        if not isinstance(claim, Claim):
            raise StoreBusyError(
                f"the slot {slot_text(wanted)} of {name} is being run by {claim.runner} (run"
                f" {claim.id}): wait for it, `eventmill workflow log {claim.id} --follow` shows it"
            )
        work = RunWork(
            claims,
            claim,
            definition,
            slot_runner(writing_store(settings), settings),
            clock=SYSTEM_CLOCK,
            rng=random.Random(secrets.randbits(64)),  # noqa: S311 - pauses, no secrets
            lease_seconds=runner.lease_seconds,
            body=body,
        )
        with _cancelled_by_signals(work):
            ending = work.run()
    _tell(claim, ending)
    if ending.state is not RunState.SUCCEEDED:
        click.echo(f"error: {ending.error}", err=True)
        raise click.exceptions.Exit(130 if ending.state is RunState.CANCELLED else 1)


@contextmanager
def _cancelled_by_signals(work: RunWork) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the run as cancelled; the second one does not wait for it."""
    before: dict[int, Any] = {}

    def cancel(number: int, frame: object) -> None:
        work.cancel(f"stopped by {signal.Signals(number).name}")
        signal.signal(number, before[number])

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    for caught in (signal.SIGINT, signal.SIGTERM):
        before[caught] = signal.signal(caught, cancel)
    try:
        yield
    finally:
        for number, restored in before.items():
            signal.signal(number, restored)


def _tell(claim: Claim, ending: Ending) -> None:
    """Print what became of the run: a line for eyes, one JSON object for programs."""
    told = {
        "workflow": claim.workflow,
        "slot_start": utc_datetime(claim.slot[0]),
        "slot_end": utc_datetime(claim.slot[1]),
        "run": claim.run_id,
        "attempt": claim.attempt,
        "state": ending.state.value,
        "input_rows": ending.input_rows,
        "output_rows": ending.output_rows,
        "replaced_rows": ending.replaced_rows,
        "late_rows": ending.late_rows,
        "seconds": ending.seconds,
        "error": ending.error or None,
    }
    if not sys.stdout.isatty():
        click.echo(json_line(told))
        return
    if not ending.error:
        click.echo(
            f"{claim.workflow}: {ending.output_rows:,} rows of {ending.input_rows:,} in"
            f" {ending.seconds:.2f} s, in place of {ending.replaced_rows:,} (run {claim.run_id})"
        )
