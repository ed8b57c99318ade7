"""The page of the schedule: its commands, flags, settings and numbers are those of the program."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from eventmill.base.settings import LoadedSettings, ScheduleSettings, Settings
from eventmill.cli.main import cli
from eventmill.schedule import book, due
from eventmill.schedule.scheduler import BEAT_SECONDS, STOP_SECONDS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "schedule.md").read_text("utf-8")
COMMANDS = re.findall(r"^    (eventmill .*?)(?:\s+#.*)?$", PAGE, re.MULTILINE)


def test_there_are_commands_on_the_page():
    assert len(COMMANDS) >= 10


@pytest.mark.parametrize("line", COMMANDS)
def test_each_command_is_one_that_there_is(line):
    words = shlex.split(line)[1:]
    context = click.Context(cli, info_name="eventmill")
    command = cli
    while isinstance(command, click.Group):
        command = command.get_command(context, words.pop(0))
        assert command is not None, line
    command.make_context("eventmill", words, resilient_parsing=False)


def test_settings_that_are_named_exist():
    names = {value.name for value in LoadedSettings(Settings(), {})}
    named = set(re.findall(r"`((?:schedule|workflow)\.[a-z_]+)`", PAGE))
    assert named - {"schedule.db"} <= names
    assert {"schedule.runs_max", "schedule.late_every_seconds"} <= named


def test_numbers_on_the_page_are_the_programs():
    assert ScheduleSettings().lease_seconds == 30
    assert "holds a lease of 30 seconds" in PAGE
    assert BEAT_SECONDS == STOP_SECONDS == 10
    assert "within ten seconds" in PAGE
    days = [kept / 86_400 for kept in (book.KEPT_LOG_SECONDS, book.KEPT_RUN_SECONDS)]
    assert days == [30, 90]
    assert book.KEPT_SLOT_SECONDS / 86_400 == 400
    assert "kept for 30 days, runs for 90, slots for 400" in PAGE
    assert due.SKIPPED_ROWS_MAX == 10_000
    assert due.MISSED_AFTER_SECONDS == 60
