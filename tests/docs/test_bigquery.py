"""The page on BigQuery as the store says what the code does: words, numbers, commands, columns."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click

from eventmill.cli.main import cli
from eventmill.store.bigquery import connection, insert_all, place, storage_write, store
from eventmill.store.bigquery.identity import NEEDED
from eventmill.store.bigquery.tables import VIEW_SUFFIX

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "bigquery.md").read_text("utf-8")
README = (ROOT / "README.md").read_text("utf-8")


def section(title: str) -> str:
    return PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]


def first_cells(title: str) -> set[str]:
    rows = re.findall(r"^\| (`[^|]*`) \|", section(title), re.MULTILINE)
    return {word for row in rows for word in re.findall(r"`([^`]+)`", row)}


def test_every_word_of_an_address_is_on_the_page():
    assert first_cells("The address") == set(place._WORDS)


def test_every_permission_that_is_asked_for_is_on_the_page():
    assert set(NEEDED) < first_cells("Permissions")


def test_the_numbers_are_those_of_the_code():
    how = section("How events are written")
    assert f"{connection.REQUEST_BYTES_MAX:,} bytes" in how
    assert f"{insert_all.REQUEST_ROWS_MAX} rows a request" in how
    assert f"{insert_all.REQUEST_BYTES_MAX:,} bytes" in how
    assert storage_write._IDLE_SECONDS_MAX == 8 * 60
    assert "idle for eight minutes" in how.replace("\n", " ")
    assert store.SETTLING_PAUSE_SECONDS == 2.0
    assert "waits two seconds" in section("After a change of a table").replace("\n", " ")
    assert f"{store.PIECE_BYTES:,} bytes" in section("Differences to the embedded store")
    assert place.BILLED_BYTES_MAX == 100 * 2**30
    assert f"T{VIEW_SUFFIX}" in how


def test_every_command_and_flag_exists():
    text = "\n".join(re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
    calls = [line for line in text.splitlines() if line.startswith("eventmill ")]
    calls += [f"eventmill {word}" for word in re.findall(r"`(table rm|spool drain)`", PAGE)]
    assert len(calls) >= 4
    for call in calls:
        words = shlex.split(call, comments=True)[1:]
        command: click.Command = cli
        while isinstance(command, click.Group) and words:
            found = command.get_command(click.Context(command), words.pop(0))
            assert found is not None, call
            command = found
        flags = {flag for param in command.params for flag in param.opts}
        assert {word for word in words if word.startswith("--")} <= flags, call


def test_links_lead_to_files_and_the_page_is_found():
    links = re.findall(r"\]\(([^)#:]+)\)", PAGE)
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []
    assert "docs/bigquery.md" in README
