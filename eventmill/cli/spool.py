"""``eventmill spool``: what senders on this machine have still to send, shown, and sent."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import click

from eventmill.base.clock import SYSTEM_CLOCK
from eventmill.base.errors import PermanentError, TransientError, UsageError
from eventmill.base.quantity import format_bytes, format_seconds, parse_seconds
from eventmill.cli.invocation import Invocation, pass_invocation, store_option
from eventmill.cli.output import (
    Format,
    chosen_format,
    format_options,
    json_line,
    visible,
    write_rows,
)

if TYPE_CHECKING:
    from eventmill.client.drain import Drain
    from eventmill.client.spool.survey import Finding
    from eventmill.schema.table import TableId
    from eventmill.store.port import Store

EXIT_LEFT = 1
EXIT_REJECTED = 3
_COLUMNS = (
    *("spool", "table", "state", "owner", "segments", "bytes", "events"),
    *("oldest_age_seconds", "error"),
)
_FOLDER = click.Path(exists=True, file_okay=False)


@click.group()
@store_option
def spool() -> None:
    """Show and send events that wait on this machine."""


@spool.command()
@click.argument("folder", metavar="[DIR]", type=_FOLDER, required=False)
@format_options
def status(folder: str | None, form: str | None, output: str | None) -> int:
    """Show what waits to be sent, by table and owner.

    DIR is a spool, or a folder with spools below it; without it, all that this user's programs
    have by default. An owner is one process: while it is `living`, it sends by itself; what an
    `ended` one left is sent by the next that uses the spool, or by `eventmill spool drain`. Dead
    letters are events that the other end would not take, with its error.
    """
    from eventmill.client.spool.place import default_spool_root
    from eventmill.client.spool.survey import findings_in, tables_below

    faults: list[tuple[str, OSError]] = []
    rows: list[dict[str, Any]] = []
    root = folder or default_spool_root()
    if folder:
        _require_whole(folder)
    if folder or os.path.exists(root):
        for path in tables_below(root, lambda error: faults.append((root, error))):
            try:
                rows += [_row(os.path.dirname(path), finding) for finding in findings_in(path)]
            except OSError as error:
                faults.append((path, error))
    chosen = chosen_format(form, output)
    if chosen is Format.TABLE and output is None:
        _print_by_table(root, rows)
    else:
        write_rows(_COLUMNS, rows, form=chosen, output=output)
    for path, fault in faults:
        click.echo(
            f"error: {visible(fault.filename or path)} cannot be read: {fault.strerror}; run this"
            " as the user whose programs send from there", err=True,
        )  # fmt: skip
    return EXIT_LEFT if faults else 0


def _row(spool_dir: str, finding: Finding) -> dict[str, Any]:
    amount = finding.amount
    age = None if amount.oldest_at is None else max(0.0, SYSTEM_CLOCK.now() - amount.oldest_at)
    values = (
        *(spool_dir, str(finding.table), str(finding.state), finding.owner or None),
        *(amount.segments, amount.bytes, amount.events, age, finding.error or None),
    )
    return dict(zip(_COLUMNS, values, strict=True))


def _print_by_table(root: str, rows: list[dict[str, Any]]) -> None:
    if not rows:
        click.echo(f"nothing waits below {visible(root)}", err=True)
    for folder, of_table in groupby(rows, key=lambda row: os.path.join(row["spool"], row["table"])):
        listed = list(of_table)
        click.echo(visible(folder))
        shown = [
            {
                **{key: row[key] or "" for key in ("state", "owner")},
                **{key: row[key] for key in ("segments", "events")},
                "bytes": format_bytes(row["bytes"]),
                "oldest": _age_text(row["oldest_age_seconds"]),
            }
            for row in listed
        ]
        columns = ("state", "owner", "segments", "bytes", "events", "oldest")
        write_rows(columns, shown, form=Format.TABLE)
        for row in listed:
            if row["error"]:  # below, as it may be long
                count = f" ({row['events']:,} events)" if row["events"] else ""
                click.echo(f"{row['state']}{count}: {visible(row['error'])}")
        click.echo()


def _age_text(seconds: float | None) -> str:
    """Return an age to two digits or so: an old event need not be known to the second."""
    if seconds is None:
        return ""
    unit = next((unit for unit in (86_400, 3_600, 60) if seconds >= 2 * unit), 1)
    return format_seconds(seconds // unit * unit)


@dataclass(slots=True)
class Drained:
    """What became of one table's events, as it is printed."""

    table: str
    sent: int = 0
    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    undelivered: int = 0
    """Events that are dead letters now."""
    damaged: int = 0
    left: int = 0
    """Events that were to be sent and wait on, dead letters only when they were to be sent."""

    @property
    def exit_code(self) -> int:
        """What a script is to know."""
        if self.left or self.undelivered or self.damaged:
            return EXIT_LEFT
        return EXIT_REJECTED if self.rejected else 0


@spool.command()
@click.argument("folder", metavar="DIR", type=_FOLDER)
@click.option("--dead-letters", is_flag=True, help="Send what was not taken earlier, once more.")
@click.option(
    "--timeout", default="5m", show_default=True, metavar="TIME", help="Stop after this long."
)
@store_option
@pass_invocation
def drain(invocation: Invocation, folder: str, dead_letters: bool, timeout: str) -> int:
    """Send what ended processes have left in a spool to --store.

    DIR is a spool, as `eventmill spool status` names it, or the folder of one table in it. What a
    living process has is left to it. Prints the counts of each table as a JSON object, and why
    something is left. Ctrl-C loses nothing; run it again to go on.

    Exits with 0 when everything was sent, with 1 when something is left, with 3 when events were
    rejected.
    """
    deadline = SYSTEM_CLOCK.monotonic() + parse_seconds(timeout)
    tables = _tables_of_one_spool(folder)
    if not tables:
        click.echo(f"nothing waits in {folder}", err=True)
        return 0
    codes = set()
    with invocation.store(writer=True) as store:
        for path in tables:
            remaining = max(0.0, deadline - SYSTEM_CLOCK.monotonic())
            try:
                codes.add(_drain_table(store, path, dead_letters, remaining))
            except BrokenPipeError:
                raise
            except OSError as error:  # of this table's folder; the others' events can be sent
                click.echo(f"error: {visible(path)}: {error}", err=True)
                codes.add(EXIT_LEFT)
    return EXIT_LEFT if EXIT_LEFT in codes else max(codes)


def _require_whole(folder: str) -> None:
    """Raise UsageError for a piece of a spool, in which nothing would be found."""
    from eventmill.client.spool.survey import table_around

    table = table_around(folder)
    if table:
        raise UsageError(f"{folder} is a part of the spool of one table: name {table}")


def _tables_of_one_spool(folder: str) -> list[str]:
    from eventmill.client.spool.survey import tables_below

    _require_whole(folder)
    faults: list[OSError] = []
    tables = list(tables_below(folder, faults.append))
    if faults:
        raise faults[0]
    spools = sorted({os.path.dirname(path) for path in tables})
    if len(spools) > 1:
        # What waits for one server must not go to another.
        listed = "".join(f"\n  {path}" for path in spools)
        raise UsageError(f"below {folder} are several spools; name one of them:{listed}")
    for path in tables:
        user = os.stat(path).st_uid
        if user != os.geteuid():
            raise UsageError(
                f"{path} belongs to user {user}, whose programs could not use what this would"
                f" leave there: run it as that user, such as by `sudo -u '#{user}'`"
            )
    return tables


def _drain_table(store: Store, path: str, dead_letters: bool, timeout_seconds: float) -> int:
    """Drain one table, and tell what became of its events; return the exit code."""
    from eventmill.client.drain import Drain, bring_back
    from eventmill.schema.table import TableId

    table = TableId.parse(os.path.basename(path))
    drained = Drained(str(table))
    why = _why_not(store, table)
    if why:
        return _tell(drained, path, why, dead_letters)
    if dead_letters:
        bring_back(path)
    work = Drain(store, table, os.path.dirname(path))
    why = "this was broken off"
    try:
        with _followed(work, str(table)) as on_step:
            is_done = work.run(timeout_seconds, on_step)
        why = work.why_waiting or "time was over"
        if is_done:
            why = "they could not be opened, or somebody else had them just then"
    finally:
        drained.accepted, drained.duplicates = work.tally.accepted, work.tally.duplicates
        drained.rejected = work.tally.rejected
        drained.sent = drained.accepted + drained.duplicates + drained.rejected
        drained.undelivered = sum(work.tally.undelivered.values())
        drained.damaged = work.damaged_count
        code = _tell(drained, path, why, dead_letters, work.undelivered_why)
    return code


def _why_not(store: Store, table: TableId) -> str:
    """Return why the store will not take the table's events, so that none becomes a dead letter;
    empty when it may."""
    try:
        store.describe(table)
    except TransientError:  # that is waited for
        return ""
    except PermanentError as error:
        return str(error)
    return ""


def _tell(
    drained: Drained, path: str, why: str, dead_letters: bool, undelivered_why: str = ""
) -> int:
    """Print the counts on stdout, and on stderr what is left and why; return the exit code."""
    from eventmill.client.spool.survey import State, findings_in

    counts: Counter[str] = Counter()
    for finding in findings_in(path):
        if finding.state is State.LIVING and finding.amount.events:
            click.echo(
                f"{drained.table}: {finding.amount.events:,} events are left to {finding.owner},"
                " a process that lives", err=True,
            )  # fmt: skip
        counts[finding.state] += finding.amount.events
    dead_before = max(0, counts[State.DEAD] - drained.undelivered)
    drained.left = counts[State.ENDED] + (dead_before if dead_letters else 0)
    told: Mapping[str, int] = {
        f"are left: {why}; run this again": drained.left,
        f"were not taken and are dead letters now: {undelivered_why}": drained.undelivered,
        f"fail their checksum and are kept in {path}/.damaged": drained.damaged,
        f"were rejected; `eventmill quarantine list --table {drained.table}` shows them": (
            drained.rejected
        ),
        "of earlier are dead letters; --dead-letters sends them again": (
            0 if dead_letters else dead_before
        ),
    }
    for text, count in told.items():
        if count:
            click.echo(f"{drained.table}: {count:,} events {visible(text)}", err=True)
    click.echo(json_line(asdict(drained)))
    return drained.exit_code


@contextmanager
def _followed(work: Drain, table: str) -> Iterator[Callable[[], None]]:
    """Give what is to be called after each step, with progress on a terminal."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        TextColumn("{task.fields[sent]:,} events"),
        TextColumn("{task.fields[rate]:,.0f}/s"),
        BarColumn(),
        TextColumn("remaining"),
        TimeRemainingColumn(compact=True),
    )
    began = SYSTEM_CLOCK.monotonic()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(table, total=None, sent=0, rate=0.0)

        def step() -> None:
            tally = work.tally
            sent = tally.accepted + tally.duplicates + tally.rejected
            rate = sent / max(SYSTEM_CLOCK.monotonic() - began, 1e-9)
            done = work.found_bytes - work.left_bytes
            bar.update(task, total=work.found_bytes, completed=done, sent=sent, rate=rate)

        yield step
