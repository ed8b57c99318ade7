"""``eventmill table export``: a schema for Terraform, ``bq mk`` and other people's consoles."""

from __future__ import annotations

import json

import click

from eventmill.base.errors import UsageError
from eventmill.cli.invocation import Invocation, pass_invocation, store_option
from eventmill.cli.output import write_text
from eventmill.cli.table_wish import proto_files
from eventmill.schema.table import TableId, TableSpec

_NO_TABLE = TableId("local", "dataset", "table")
"""Stands where .proto files are exported that name no table."""


@click.command("export")
@click.argument("name", metavar="[TABLE]", required=False)
@click.option("--proto", multiple=True, metavar="PATH", help="A .proto file or folder; repeatable.")
@click.option("-I", "import_dirs", multiple=True, metavar="DIR", help="A folder of imports.")
@click.option("--message", metavar="PKG.MSG", help="Which message of the .proto files.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["bigquery-json", "ddl"]),
    default="bigquery-json",
    show_default=True,
)
@click.option("-o", "--output", metavar="FILE", help="Write to FILE instead of stdout.")
@store_option
@pass_invocation
def export(
    invocation: Invocation,
    name: str | None,
    proto: tuple[str, ...],
    import_dirs: tuple[str, ...],
    message: str | None,
    form: str,
    output: str | None,
) -> None:
    """Print a schema: of a live table, or straight from .proto files without any store.

    bigquery-json is the list of fields that `bq mk` and Terraform take; ddl is a CREATE TABLE
    statement with partitioning, clustering and descriptions.
    """
    from eventmill.schema.export import bigquery_fields, ddl

    if proto:
        spec = _from_proto(name, proto, import_dirs, message)
    elif name is None:
        raise UsageError("name a TABLE, or .proto files with --proto")
    elif message or import_dirs:
        raise UsageError("--message and -I are about .proto files: give --proto as well")
    else:
        with invocation.store(writer=False) as store:
            spec = store.describe(TableId.parse(name)).spec
    if form == "ddl":
        write_text(ddl(spec).rstrip("\n"), output)
    else:
        told = json.dumps(bigquery_fields(spec.columns), indent=2, ensure_ascii=False)
        write_text(told, output)


def _from_proto(
    name: str | None, proto: tuple[str, ...], import_dirs: tuple[str, ...], message: str | None
) -> TableSpec:
    from eventmill.schema.compile import compile_protos
    from eventmill.schema.mapping import spec_from_proto
    from eventmill.schema.message_type import MessageType
    from eventmill.schema.options import table_options
    from eventmill.schema.tables_in import messages_in, messages_of_tables

    files = proto_files(proto)
    descriptor_set = compile_protos(files, import_dirs)
    if message is None:
        found = messages_of_tables(descriptor_set, files) or messages_in(descriptor_set, files)
        if len(found) != 1:
            named = ", ".join(found[:10]) or "none"
            raise UsageError(f"the files have several messages ({named}): name one with --message")
        message = found[0]
    if name is None:
        in_file = table_options(MessageType.load(descriptor_set, message).descriptor).id
        table = TableId.parse(in_file) if in_file else _NO_TABLE
    else:
        table = TableId.parse(name)
    return spec_from_proto(table, descriptor_set, message)
