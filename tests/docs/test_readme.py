"""The README's example does what it says, on an empty folder."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path

from eventmill.cli.main import COMMANDS, run

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_the_example_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (proto,) = blocks("proto")
    Path("build.proto").write_text(proto)
    apply = next(block for block in blocks("sh") if "table apply" in block)
    assert run(shlex.split(apply.replace("\\\n", " "))[1:]) == 0
    capsys.readouterr()
    Path("example.py").write_text("\n".join(blocks("python")))
    runpy.run_path("example.py")
    first, *rows = capsys.readouterr().out.splitlines()
    assert first == "2 accepted; passed wrong_type"
    assert sorted(rows) == [
        "{'passed': False, 'seconds': 12.0}",
        "{'passed': True, 'seconds': 81.5}",
    ]
    assert run(["query", "SELECT COUNT(*) AS n FROM ops.builds WHERE commit = 'c0de'"]) == 0
    assert capsys.readouterr().out == '{"n":1}\n'
    assert run(["quarantine", "list", "--reason", "wrong_type"]) == 0
    assert "build-3" in capsys.readouterr().out


def test_the_example_is_of_twenty_lines_or_little_more():
    program = blocks("python")[0]
    assert len([line for line in program.splitlines() if line.strip()]) <= 20


def test_every_command_and_file_that_the_readme_names_exists():
    named = set(re.findall(r"^eventmill (\w+)", "\n".join(blocks("sh")), re.MULTILINE))
    assert named
    assert named <= set(COMMANDS)
    for link in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / link).exists(), link
    targets = re.findall(r"^make (\w+)", "\n".join(blocks("sh")), re.MULTILINE)
    makefile = (ROOT / "Makefile").read_text()
    assert targets == ["demo", "test"]
    assert all(f"\n{target}:" in makefile for target in targets)
