"""The page on workflows says what the code does: its example runs, its tables are complete."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from eventmill.cli.main import run
from eventmill.wire.slot import SlotKey
from eventmill.workflow.cases import FLOAT_TOLERANCE
from eventmill.workflow.reading import read_workflow
from eventmill.workflow.touched import MARGIN_SECONDS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "workflows.md").read_text("utf-8")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"(?:#|--|//) (workflows/\S+)\n")


def blocks(language):
    return [text for found, text in BLOCK.findall(PAGE) if found == language]


def test_the_example_runs_as_it_stands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows, printed = blocks("json")
    Path("builds.ndjson").write_text(rows)
    ran = []
    for language, text in BLOCK.findall(PAGE):
        named = NAMED.match(text)
        if named:
            assert Path(named[1]).parent.is_dir()  # workflow new has made it
            Path(named[1]).write_text(text)
        elif language == "proto":
            Path("build.proto").write_text(text)
        elif language == "sh":
            for line in text.splitlines():
                ran.append(line)
                assert run(shlex.split(line)[1:]) == 0, line
    assert len(ran) == 5
    assert capsys.readouterr().out.endswith(printed)


def test_every_key_of_workflow_toml_is_in_a_table(tmp_path):
    """The page names each key that the reader knows, which it tells when it refuses one."""
    folder = tmp_path / "slow-builds"
    folder.mkdir()
    files = {Path(NAMED.match(text)[1]).name: text for _, text in BLOCK.findall(PAGE)
             if NAMED.match(text)}  # fmt: skip
    for name, text in files.items():
        (folder / name).write_text(text)
    toml = (folder / "workflow.toml").read_text()
    places = {"[[input]]": "[[input]]\n", "[output]": "[output]\n", "[schedule]": "[schedule]\n"}
    known = set()
    for text in [f"unknown = 1\n{toml}", *(toml.replace(p, f"{p}\nunknown = 1") for p in places)]:
        (folder / "workflow.toml").write_text(text)
        with pytest.raises(Exception, match="no such key: allowed are") as caught:
            read_workflow(str(folder))
        known |= set(str(caught.value).partition("allowed are ")[2].partition(";")[0].split(", "))
    assert {"name", "slot_by", "message", "parallel_slots"} <= known
    tables = "\n".join(line for line in PAGE.splitlines() if line.startswith("|"))
    for key in known - {"input", "output", "schedule"}:
        assert re.search(rf"^\|[^|]*[`\[]{key}[`\]]", tables, re.MULTILINE), key


def test_the_defaults_are_those_of_the_code(tmp_path):
    (tmp_path / "slow-builds").mkdir()
    for _, text in BLOCK.findall(PAGE):
        if NAMED.match(text):
            (tmp_path / "slow-builds" / Path(NAMED.match(text)[1]).name).write_text(text)
    found = read_workflow(str(tmp_path / "slow-builds"))
    assert (found.delay_seconds, found.lateness_seconds) == (60, 2 * 86_400)
    assert found.done_within_seconds == found.delay_seconds + 300
    assert (found.timeout_seconds, found.retries, found.retry_base_seconds) == (3_600, 3, 10)
    assert (found.missed, found.missed_slots_max, found.overlap) == ("all", 1_000, "queue")
    assert (found.parallel_slots, found.start_at_seconds) == (1, None)
    for text in ("`1m`", "`2d`", "`delay` + 5 min", "`1h`", "`3`, `10s`", "`all`", "`1000`"):
        assert f"| {text} |" in PAGE


def test_the_numbers_are_those_of_the_code():
    assert MARGIN_SECONDS == 120
    assert "may differ by up to two minutes" in PAGE
    assert FLOAT_TOLERANCE == 1e-9
    assert "as a part of it; 1e-9 unless it is given" in PAGE
    key = SlotKey("slow-builds", 1_767_607_200, 1_767_610_800).insert_id(0)
    assert f"`WORKFLOW/{key.partition('/')[2]}`" in PAGE


def test_every_key_of_a_case_is_in_its_table():
    source = (ROOT / "eventmill" / "workflow" / "cases.py").read_text()
    keys = set(re.findall(r'keys\.\w+\("(\w+)"', source)) | {"slot_start", "slot_end"}
    assert {"columns", "expect_error"} <= keys
    section = PAGE[PAGE.index("## Cases") :]
    for key in keys:
        assert re.search(rf"^\|[^|]*[`\[]{key}[`\].]", section, re.MULTILINE), key
