"""The examples of docs/integrations.md do what the page says, one after another in one folder."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from eventmill.cli.main import run
from eventmill.compat.log_sending import LogOptions

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "integrations.md").read_text("utf-8")
README = (ROOT / "README.md").read_text("utf-8")


def blocks(language: str, text: str = PAGE) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def shell(command: str) -> int:
    words = shlex.split(command.replace("\\\n", " "))
    assert words[0] == "eventmill"
    return run(words[1:])


def program(text: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", text], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
def test_the_examples_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    apply, query = blocks("sh")
    with_logging, with_structlog, with_bqh = blocks("python")
    assert shell(apply) == 0
    assert "INFO till.front: order 17 is paid by card" in program(with_logging)
    capsys.readouterr()
    assert shell(query) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {
            "level": "INFO",
            "message": "order 17 is paid by card",
            "customer": "c-1",
            "exception_type": None,
        },
        {
            "level": "ERROR",
            "message": "order 17 is not delivered",
            "customer": None,
            "exception_type": "KeyError",
        },
    ]
    assert "sold out" in program(with_structlog)
    assert run(["query", "SELECT service, extra FROM ops.logs WHERE level = 'WARNING'"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["service"] == "till"
    assert json.loads(row["extra"]) == {"item": "tea", "left": 0}

    Path("build.proto").write_text(blocks("proto", README)[0])
    builds = ["--proto", "build.proto", "--message", "ci.Build", "--table", "ops.builds", "--yes"]
    assert run(["table", "apply", *builds]) == 0
    assert program(with_bqh) == "row 1 passed wrong_type\n"
    capsys.readouterr()
    assert run(["query", "SELECT commit FROM ops.builds"]) == 0
    assert capsys.readouterr().out == '{"commit":"3f2a"}\n'


def test_every_option_is_on_the_page():
    for name in LogOptions.__annotations__:
        assert f"`{name}`" in PAGE, name
