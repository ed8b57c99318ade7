"""The generated pages of the reference are as the code says, and complete."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from eventmill.base.settings import LoadedSettings, Settings
from eventmill.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs" / "reference"


def test_the_generated_pages_are_up_to_date():
    done = subprocess.run(
        [sys.executable, "scripts/write_reference.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_setting_has_its_default_and_its_variable_on_the_page():
    page = (REFERENCE / "settings.md").read_text("utf-8")
    for value in LoadedSettings(Settings(), {}):
        section, key = value.name.split(".")
        assert f"## [{section}]" in page
        assert f"### {key}\n" in page
        assert f"`{value.env}`" in page


def test_every_command_is_on_the_page():
    page = (REFERENCE / "commands.md").read_text("utf-8")
    for name in COMMANDS:
        assert f"## eventmill {name}\n" in page
