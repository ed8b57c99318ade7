"""The edge of the program: lazy commands, exit codes, and how errors are told."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest

from eventmill.base.errors import EventmillError, PermanentError, UnavailableError, UsageError
from eventmill.cli import main as main_module
from eventmill.cli.main import COMMANDS, cli, run

HELP_SECONDS_MAX = 0.2


def test_the_first_line_of_help_is_the_commands_own():
    context = click.Context(cli)
    for name, (_, line) in COMMANDS.items():
        command = cli.get_command(context, name)
        assert command is not None
        assert (command.help or "").splitlines()[0] == line


@pytest.mark.slow
def test_help_lists_every_command_and_imports_none():
    script = (
        "import sys, time; a = time.perf_counter();"
        " from eventmill.cli.main import run; code = run(['--help']);"
        " b = time.perf_counter();"
        " heavy = {'duckdb', 'pyarrow', 'rich', 'google.protobuf', 'orjson', 'starlette'};"
        " print('took', code, b - a, sorted(heavy & set(sys.modules)))"
    )
    runs = [
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        for _ in range(5)
    ]
    for name in COMMANDS:
        assert f"  {name} " in runs[0].stdout
    endings = [done.stdout.splitlines()[-1].split(" ", 3) for done in runs]
    assert {(code, heavy) for _, code, _, heavy in endings} == {("0", "[]")}
    assert min(float(seconds) for _, _, seconds, _ in endings) < HELP_SECONDS_MAX


@pytest.mark.parametrize("words", [["nonsense"], ["query"], ["query", "x", "--format", "xml"]])
def test_a_usage_error_exits_with_2_and_says_where_help_is(words, capsys):
    assert run(words) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert "--help`" in told
    assert "Traceback" not in told


@pytest.mark.parametrize("words", [[], ["table"]])
def test_no_command_at_all_shows_the_help(words, capsys):
    assert run(words) == 2
    assert capsys.readouterr().err.startswith("Usage: eventmill")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["tabel", "list"],
            "No such command 'tabel'. Did you mean 'table'? (see `eventmill --help`)",
        ),
        (["qurey", "SELECT 1"], "Did you mean 'query'?"),
        (["nothing-like-it"], "No such command 'nothing-like-it'; see `eventmill --help`"),
        (["--stroe", "x", "table"], "--store"),
        (["table", "lst"], "No such command 'lst'"),
    ],
)
def test_a_mistyped_word_is_met_with_the_one_it_resembles(words, told, capsys):
    assert run(words) == 2
    err = capsys.readouterr().err
    assert told in err
    assert len(err.strip().splitlines()) == 1


def failing(error: BaseException):
    @click.command()
    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (PermanentError("no such thing"), 1, "error: no such thing"),
        (UnavailableError("nobody answers"), 1, "error: nobody answers"),
        (UsageError("write it so"), 2, "error: write it so"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (ZeroDivisionError("by nought"), 1, "EVENTMILL_DEBUG=1"),
        (FileNotFoundError(2, "No such file", "x"), 1, "error: [Errno 2] No such file: 'x'"),
    ],
)
def test_each_error_has_its_exit_code_and_one_line(error, code, told, monkeypatch, capsys):
    monkeypatch.setattr(main_module, "cli", failing(error))
    assert run([]) == code
    err = capsys.readouterr().err
    assert told in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize("error", [ZeroDivisionError("by nought"), EventmillError("known")])
def test_the_traceback_is_there_for_who_asks(error, monkeypatch, capsys):
    monkeypatch.setenv("EVENTMILL_DEBUG", "1")
    monkeypatch.setattr(main_module, "cli", failing(error))
    assert run([]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["--store", "first", "settings"],
        ["settings", "--store", "first"],
        ["--store", "other", "settings", "--store", "first"],
    ],
)
def test_the_store_may_be_named_before_the_noun_and_after_the_verb(words, call):
    (row,) = (row for row in call(*words).rows if row["setting"] == "client.store")
    assert (row["value"], row["source"]) == ("first", "flag")


def test_the_store_may_be_named_between_noun_and_verb(call):
    assert "there is no store at 'nowhere'" in call("table", "--store", "nowhere", "list").err


def test_settings_show_the_source_and_keep_the_key_secret(call, monkeypatch, tmp_path):
    monkeypatch.setenv("EVENTMILL_KEY", "s3cret")
    (tmp_path / "eventmill.toml").write_text("[server]\nport = 9000\n")
    answer = call("settings")
    rows = {row["setting"]: row for row in answer.rows}
    assert rows["server.port"]["value"] == 9000
    assert rows["server.port"]["source"].endswith("eventmill.toml")
    assert rows["client.key"]["source"] == "environment EVENTMILL_KEY"
    assert "s3cret" not in answer.out


def test_a_bad_project_file_is_a_usage_error(call, tmp_path):
    (tmp_path / "eventmill.toml").write_text("[server]\nprot = 9000\n")
    answer = call("settings")
    assert answer.code == 2
    assert "eventmill.toml" in answer.err


def test_a_store_of_an_unknown_scheme_is_a_usage_error(call):
    answer = call("--store", "gopher://x", "table", "list")
    assert answer.code == 2
    assert "gopher://x" in answer.err


@pytest.mark.parametrize(
    ("port", "told"),
    [
        ("abc", "'--port': 'abc' is not a valid port number"),
        ("65536", "0<=x<=65535"),
        ("-1", "0<=x<=65535"),
    ],
)
@pytest.mark.parametrize("command", ["serve", "demo"])
def test_a_port_that_is_none_is_told_with_the_flags_name(call, tmp_path, command, port, told):
    answer = call(command, "--port", port)
    assert answer.code == 2
    assert told in answer.err
    assert not (tmp_path / "eventmill-data").exists()


def test_compact_and_serve_want_a_folder(call):
    for command in ("compact", "serve"):
        answer = call(command, "--store", "http://127.0.0.1:1")
        assert answer.code == 2
        assert "folder" in answer.err
