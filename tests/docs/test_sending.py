"""The page on sending says what the code does: its example, its commands, its numbers."""

from __future__ import annotations

import inspect
import re
import runpy
import shlex
import sys
from pathlib import Path
from typing import get_args

import click

from eventmill.base.settings import Settings
from eventmill.cli.main import cli, run
from eventmill.client import batch_uploader, live, room, sending, tally, uploader
from eventmill.client.batch_uploader import BatchUploader
from eventmill.client.http_sink import HttpSink
from eventmill.client.spool import place
from eventmill.client.spool.survey import State

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "sending.md").read_text("utf-8")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def test_the_example_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (proto,) = blocks((ROOT / "README.md").read_text("utf-8"), "proto")
    Path("build.proto").write_text(proto)
    words = "table apply --proto build.proto --message ci.Build --table ops.builds --yes"
    assert run(words.split()) == 0
    capsys.readouterr()
    (example,) = blocks(PAGE, "python")
    Path("example.py").write_text(example)
    runpy.run_path("example.py")
    assert capsys.readouterr().out == "0 left; 1 accepted\n"


def test_every_command_and_flag_exists():
    text = "\n".join(blocks(PAGE, "sh")).replace("\\\n", " ")
    calls = [line[line.index("eventmill ") :] for line in text.splitlines() if "eventmill " in line]
    assert len(calls) >= 5
    for call in calls:
        words = shlex.split(call.partition("|")[0], comments=True)[1:]
        command: click.Command = cli
        while isinstance(command, click.Group) and words:
            found = command.get_command(click.Context(command), words.pop(0))
            assert found is not None, call
            command = found
        flags = {flag for param in command.params for flag in param.opts}
        assert {word for word in words if word.startswith("--")} <= flags, call


def test_the_default_place_is_as_shown(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["/opt/app/checkout.py"])
    monkeypatch.setenv("HOME", str(tmp_path))
    with HttpSink("http://10.0.0.5:8484") as sink:
        folder = place.default_spool_dir(sink)
    shown = folder.replace(str(tmp_path), "~")
    assert f"    {shown}/local.ops.builds\n" in PAGE
    assert "~/.local/state/eventmill/spool/PROGRAM/ADDRESS/" in PAGE


def test_the_numbers_are_the_codes():
    stated = {
        f"`timeout_seconds` ({uploader.TIMEOUT_SECONDS:.0f})",
        f"`block_timeout_seconds` ({batch_uploader.BLOCK_TIMEOUT_SECONDS:.0f})",
        f"`spool_bytes_max` is {place.SPOOL_BYTES_MAX >> 30} GiB",
        f"({place.MEMORY_BYTES_MAX >> 20} MiB in memory)",
        f"every {sending.ADOPT_INTERVAL_SECONDS:.0f} seconds",
        f"at most {live.EXIT_SECONDS_MAX:.0f} seconds",
        f"least {tally.LOG_INTERVAL_SECONDS:.0f}".replace("least 60", "once a minute"),
    }
    assert {words for words in stated if words not in PAGE} == set()
    assert Settings().store.dedup_window_seconds == 86_400
    assert "(a day, `dedup_window_seconds`)" in PAGE


def test_every_choice_and_state_has_its_row():
    for choice in get_args(room.OnFull):
        assert f'| `"{choice}"' in PAGE
    default = inspect.signature(BatchUploader).parameters["on_full"].default
    assert f'| `"{default}"` (default) |' in PAGE
    for durability in get_args(place.Durability):
        assert f'| `"{durability}"' in PAGE
    for state in State:
        assert f"| `{state}` |" in PAGE
    for reason in tally.DROP_REASONS:
        assert f"`{reason}`" in PAGE
