"""``eventmill table code``: classes for a table's events, and an example that sends one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from eventmill.address import is_server
from eventmill.base.settings import Settings
from eventmill.cli.invocation import Invocation, pass_invocation, store_option
from eventmill.schema.table import TableId

if TYPE_CHECKING:
    from eventmill.schema.table import TableSpec

LANGUAGES = (
    *("python", "cpp", "csharp", "dart", "go", "java", "js", "kotlin"),
    *("objc", "php", "ruby", "swift"),
)
SEND_FORMS = ("python", "python-dict", "curl", "shell")
"""The words of ``schema.generate`` and ``schema.snippets``, which bring protobuf; --help does
without, and a test keeps them equal."""


@click.command()
@click.argument("name", metavar="TABLE")
@click.option(
    "--lang",
    type=click.Choice(LANGUAGES),
    default="python",
    show_default=True,
    help="Language of the classes.",
)
@click.option("--out", metavar="DIR", default=".", help="Folder to write to [default: here].")
@click.option("--force", is_flag=True, help="Replace files that no protocol compiler made.")
@click.option(
    "--send",
    "--snippet",
    "form",
    type=click.Choice(SEND_FORMS),
    help="Write no code: print an example that sends one event.",
)
@store_option
@pass_invocation
def code(
    invocation: Invocation, name: str, lang: str, out: str, force: bool, form: str | None
) -> None:
    """Generate classes for a table's events.

    Python classes come with type stubs, and their files are printed. For other languages the
    table's definition is written to a file, and the protoc command that makes code of it is
    printed. Nothing needs the .proto files: all is made of what the table keeps.
    """
    table_id = TableId.parse(name)
    with invocation.store(writer=False) as store:
        spec = store.describe(table_id).spec
    if form is not None:
        _show_send(spec, form, invocation.settings)
    elif lang == "python":
        _write_python(spec, out, force=force)
    else:
        _write_for_protoc(spec, lang, out, force=force)


def _show_send(spec: TableSpec, form: str, settings: Settings) -> None:
    from eventmill.schema.snippets import send_snippet

    address = settings.client.store
    if form == "curl" and not is_server(address):
        server = settings.server
        click.echo(
            f"curl needs a server: run `eventmill serve --data {address}` beside it", err=True
        )
        address = f"http://{server.host}:{server.port}"
    click.echo(send_snippet(spec, form, address), nl=False)


def _write_python(spec: TableSpec, out: str, *, force: bool) -> None:
    from eventmill.schema.generate import generate_python, python_name, runtime_needed

    files = generate_python(spec.descriptor_set, spec.message, out, force=force)
    for file in files:
        click.echo(os.path.join(out, file))
    name = python_name(spec.descriptor_set, spec.message)
    needed = runtime_needed(os.path.join(out, files[-1]))
    version = f" {needed} or newer" if needed else ""
    click.echo(
        f"\nwith {os.path.abspath(out)} on the path (PYTHONPATH) and protobuf{version}:\n\n"
        f"{name.import_code}\n\n"
        f"`eventmill table code {spec.table} --send python` prints a program that sends one",
        err=True,
    )


def _write_for_protoc(spec: TableSpec, lang: str, out: str, *, force: bool) -> None:
    from eventmill.schema.generate import PLUGINS, protoc_command, write_descriptor_set

    command = protoc_command(spec.descriptor_set, spec.message, lang, out)
    written = write_descriptor_set(spec.descriptor_set, spec.message, out, force=force)
    plugin = f" and {PLUGINS[lang]}" if lang in PLUGINS else ""
    click.echo(
        f"{os.path.join(out, written)} is written; with protoc{plugin} installed, run:", err=True
    )
    click.echo(command)
