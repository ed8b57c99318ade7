"""Writes the generated pages of ``docs/reference``: settings and commands, from the code itself.

``write_reference.py`` writes them; ``--check`` only says whether they are as the code says, which
a test does on every run.
"""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import click

from eventmill.base.settings import SECTIONS, LoadedSettings, Settings
from eventmill.cli.main import COMMANDS, cli

REFERENCE = Path(__file__).resolve().parent.parent / "docs" / "reference"
_WIDTH = 100


def settings_page() -> str:
    """Return the page of all settings, as Markdown."""
    parts = [
        "# Settings",
        "Made by `scripts/write_reference.py` from `eventmill/base/settings.py`.",
        (
            "A value is looked for in this order: a flag of the command line; the environment;"
            " `eventmill.toml` in the working folder; `.config/eventmill/config.toml` in the home"
            " folder; the default. `eventmill settings` prints each one with the place it came"
            " from. A key that no setting has is an error, in a file and in the environment."
        ),
        '```toml\n[server]\nport = 9000\n\n[store]\nsegment_bytes = "64 MB"\n```',
        (
            "A size may be written as a number of bytes or as `48MiB`, a length of time as a"
            " number of seconds or as `30s`, `15m`, `36h`, `30d`."
        ),
    ]
    values = {value.name: value for value in LoadedSettings(Settings(), {})}
    for section, cls in SECTIONS.items():
        parts.append(f"## [{section}]")
        parts.append(inspect.cleandoc(cls.__doc__ or ""))
        for name, text in _field_texts(cls):
            value = values[f"{section}.{name}"]
            default = "none" if value.value is None else f"`{value.value}`"
            parts.append(f"### {name}")
            parts.append(f"Default: {default}. Environment: `{value.env}`.")
            parts.append(text)
    return "\n\n".join(_filled(part) for part in parts) + "\n"


def commands_page() -> str:
    """Return the page of all commands, as Markdown."""
    parts = [
        "# Commands",
        "Made by `scripts/write_reference.py` from the commands' own help.",
        "Rows are a table on a terminal and NDJSON in a pipe. Errors are told on stderr.",
        _EXIT_CODES,
    ]
    context = click.Context(cli, info_name="eventmill", **cli.context_settings)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        if command is not None:
            parts.extend(_command(command, context, name))
    return "\n\n".join(_filled(part) for part in parts) + "\n"


_EXIT_CODES = """\
| exit code | meaning |
|---|---|
| 0 | done |
| 1 | error |
| 2 | usage: an argument or a setting that makes no sense |
| 3 | some events were rejected; they are in quarantine |
| 4 | a checked condition does not hold |
| 130 | stopped by Ctrl-C |
| 141 | the reader of the output went away |"""


def _command(command: click.Command, parent: click.Context, name: str) -> Iterator[str]:
    context = click.Context(command, info_name=name, parent=parent, terminal_width=90)
    level = "##" if parent.parent is None else "###"
    yield f"{level} {context.command_path}"
    if isinstance(command, click.Group):
        yield inspect.cleandoc(command.help or "")
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            if found is not None:
                yield from _command(found, context, below)
        return
    yield f"```\n{command.get_help(context)}\n```"


def _field_texts(cls: type) -> Iterator[tuple[str, str]]:
    """Yield (name, the text that follows it) of each field of a settings class."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    body = tree.body if isinstance(tree, ast.ClassDef) else []
    for node, after in pairwise(body):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        text = ast.literal_eval(after.value) if isinstance(after, ast.Expr) else ""
        if not text:
            raise SystemExit(f"error: {cls.__name__}.{node.target.id} has no text after it")
        yield node.target.id, inspect.cleandoc(text)


def _filled(part: str) -> str:
    if part.startswith(("```", "#", "|")):
        return part
    part = part.replace("``", "`")
    return textwrap.fill(" ".join(part.split()), _WIDTH, break_on_hyphens=False)


def main(arguments: list[str]) -> int:
    """Write the pages, or with ``--check`` compare them; return the exit code."""
    stale = []
    for name, page in (("settings.md", settings_page()), ("commands.md", commands_page())):
        path = REFERENCE / name
        if path.exists() and path.read_text("utf-8") == page:
            continue
        stale.append(name)
        if "--check" not in arguments:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(page, "utf-8")
    if stale and "--check" in arguments:
        print(f"error: {', '.join(stale)} differ; run `python scripts/write_reference.py`")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
