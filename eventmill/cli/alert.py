"""``eventmill alert``: what is wrong now, and whether those who should hear of it can be told."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from eventmill.address import is_folder
from eventmill.base.clock import SYSTEM_CLOCK, utc_datetime
from eventmill.base.environment import environment
from eventmill.base.errors import UsageError
from eventmill.base.quantity import format_seconds
from eventmill.base.settings import AlertSettings, WorkflowSettings
from eventmill.cli.invocation import Invocation, pass_invocation, setting_option, store_option
from eventmill.cli.output import (
    Format,
    chosen_format,
    format_options,
    visible,
    write_rows,
)

if TYPE_CHECKING:
    from eventmill.schedule.alert_setup import Alerts
    from eventmill.schedule.alert_state import Alert

EXIT_CONDITION = 4
_COLUMNS = ("state", "severity", "rule", "subject", "since", "owner", "summary")
_MARKS = {"firing": "red", "pending": "yellow", "ok": "green", "no_data": "yellow"}

_folder_option = setting_option(
    "alert.folder",
    "--alerts",
    metavar="DIR",
    description="Folder of channels and rules [default: ./alerts].",
)


@click.group()
@store_option
@_folder_option
def alert() -> None:
    """Show what is wrong now, and test who is told."""


@alert.command()
@click.option("--tell", is_flag=True, help="Tell the channels as well what has changed.")
@store_option
@_folder_option
@format_options
@pass_invocation
def check(invocation: Invocation, tell: bool, form: str | None, output: str | None) -> int:
    """Evaluate every rule now; print what fires.

    Meant for a monitor beside the server: it asks the store and the run book, and finds a
    scheduler that is dead. What has changed is told by the server; with --tell, or when the server
    is down, by this command.

    Exits with 4 when an alert fires, with 1 when none does but a rule cannot be evaluated, else
    with 0.
    """
    from eventmill.schedule.alert_teller import LAST_ROUND_SECONDS

    with _alerts(invocation) as alerts:
        alerts.engine.evaluate()
        missed = alerts.engine.tell(LAST_ROUND_SECONDS) if tell else 0
        firing = [found for found in alerts.book.alerts() if found.state.value == "firing"]
        _write(firing, form, output)
        unknown = _note_rules(alerts)
    if missed:
        click.echo(f"warning: {missed} notices were not taken; they are tried again", err=True)
    if firing:
        return EXIT_CONDITION
    return 1 if unknown else 0


@alert.command("list")
@click.option("--all", "ended", is_flag=True, help="List alerts that have ended as well.")
@store_option
@_folder_option
@format_options
@pass_invocation
def list_alerts(invocation: Invocation, ended: bool, form: str | None, output: str | None) -> None:
    """List the alerts, firing ones first.

    Pending ones have been found for less than their rule wants. The rules are evaluated first.
    """
    with _alerts(invocation) as alerts:
        alerts.engine.evaluate()
        found = [each for each in alerts.book.alerts() if ended or each.state.value != "ok"]
        _write(found, form, output)
        _note_rules(alerts)
        for notice in alerts.book.queue.waiting():
            if notice.error:
                click.echo(
                    f"note: {notice.channel} has not taken that {visible(notice.finding.subject)}"
                    f" is {notice.notice}: {visible(notice.error)}",
                    err=True,
                )


@alert.command()
@click.option("--channel", metavar="NAME", help="Only this channel [default: all].")
@store_option
@_folder_option
@pass_invocation
def test(invocation: Invocation, channel: str | None) -> int:
    """Send a test notice on every channel, and say which took it.

    Exits with 1 when one did not, or when there is none.
    """
    from eventmill.schedule.alert_channels import ChannelError
    from eventmill.schedule.alert_files import CHANNELS_FILE, read_alert_files
    from eventmill.schedule.alert_message import test_message

    folder = invocation.settings.alert.folder
    files = read_alert_files(folder, environment())
    for fault in files.faults.values():
        click.echo(f"error: {fault}", err=True)
    chosen = [each for each in files.channels.values() if channel in (None, each.name)]
    if not chosen:
        names = ", ".join(files.channels) or "none"
        what = f"there is no channel {channel}: {folder}/{CHANNELS_FILE} has {names}"
        if channel is None:
            what = (
                f"there is no channel: alerts are listed and logged, and nobody is told. Write one"
                f" into {folder}/{CHANNELS_FILE} (docs/alerts.md shows how)"
            )
        click.echo(f"error: {what}", err=True)
        return 1
    failed = bool(files.faults)
    for each in chosen:
        try:
            each.tell(test_message(SYSTEM_CLOCK.now()))
        except ChannelError as error:
            failed = True
            click.echo(f"{click.style('failed', fg='red')}  {each.name}: {visible(str(error))}")
        else:
            click.echo(f"{click.style('taken', fg='green')}   {each.name}")
    return 1 if failed else 0


@contextmanager
def _alerts(invocation: Invocation) -> Iterator[Alerts]:
    from eventmill.schedule.alert_setup import Alerts, choose_place, own_place
    from eventmill.schedule.place import book_path

    settings = invocation.settings
    address = settings.client.store
    own = own_place(settings.alert.folder, settings.workflow.folder)
    is_named = settings.alert.folder != AlertSettings().folder
    if is_named and not os.path.isdir(own.alert_folder):
        # The book would remember it, and later calls would go by it: with no rule and no channel.
        raise UsageError(
            f"there is no folder {own.alert_folder}: --alerts, or the setting alert.folder, names"
            " the one of channels and rules"
        )
    is_meant = (settings.alert.folder, settings.workflow.folder) != (
        AlertSettings().folder, WorkflowSettings().folder,
    )  # fmt: skip
    with invocation.store(writer=False) as store:
        path = book_path(address, settings.schedule.folder, is_folder=is_folder(address))
        place = choose_place(path, own, is_meant=is_meant, now=SYSTEM_CLOCK.now())
        if not place.is_same(own):
            click.echo(f"note: the rules and channels are those of {place.alert_folder}", err=True)
        with Alerts(
            store,
            path,
            alert_folder=place.alert_folder,
            workflow_folder=place.workflow_folder,
        ) as alerts:
            if not alerts.sees_a_schedule and not is_folder(address):
                click.echo(_NO_RUN_BOOK.format(address=address, path=path), err=True)
            alerts.hold()
            yield alerts


_NO_RUN_BOOK = """\
warning: only the tables are looked at: nothing is known here of the workflows of {address}, and of
  its scheduler. They are in the run book of the data folder: call this on the server's machine
  with --store FOLDER. (No scheduler has used {path}.)"""


def _write(found: list[Alert], form: str | None, output: str | None) -> None:
    chosen = chosen_format(form, output)
    if chosen is not Format.TABLE or output is not None:
        write_rows(_COLUMNS, [_row(each) for each in found], form=chosen, output=output)
        return
    if not found:
        click.echo("no alert")
    for each in found:
        row = _row(each)
        mark = click.style(f"{row['state']:8}", fg=_MARKS[row["state"]])
        owner = f" ({visible(row['owner'])})" if row["owner"] else ""
        click.echo(
            f"{mark} {row['since']:%Y-%m-%d %H:%M} {row['rule']}: {visible(row['subject'])}{owner}"
        )
        click.echo(f"         {visible(row['summary'])}")


def _row(each: Alert) -> dict[str, Any]:
    finding = each.finding
    return {
        "state": each.state.value,
        "severity": finding.severity.value,
        "rule": finding.rule,
        "subject": finding.subject,
        "since": utc_datetime(each.since),
        "owner": finding.owner,
        "summary": finding.summary,
    }


def _note_rules(alerts: Alerts) -> bool:
    """Say which rules cannot be evaluated; return whether there is one."""
    now = SYSTEM_CLOCK.now()
    unknown = False
    for rule in alerts.book.rules():
        if rule.failing_since is not None:
            unknown = True
            click.echo(
                f"note: the rule {rule.rule} cannot be evaluated, for"
                f" {format_seconds(max(0, round(now - rule.failing_since)))}:"
                f" {visible(rule.error or '')}",
                err=True,
            )
    return unknown
