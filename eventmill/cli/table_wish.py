"""What a person wants a table to be: a .proto file and options beside it, as a ``TableSpec``."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import click

from eventmill.base.errors import UsageError
from eventmill.base.quantity import parse_seconds
from eventmill.schema.table import Granularity, Partitioning, Table, TableId, TableSpec

if TYPE_CHECKING:
    from eventmill.schema.message_type import MessageType

_F = TypeVar("_F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class TableWish:
    """The options of ``table plan`` and ``table apply``, as they were given."""

    proto: tuple[str, ...]
    import_dirs: tuple[str, ...]
    message: tuple[str, ...]
    table: str | None
    partition_by: str | None
    partition_type: str | None
    partition_expiration: str | None
    no_partition: bool
    cluster_by: str | None
    require_partition_filter: bool | None
    description: str | None
    owner: str | None
    label: tuple[str, ...]
    freshness: str | None

    def about_one_table(self) -> dict[str, object]:
        """Return the flags that say something of one table, each with its value."""
        return {
            "--table": self.table,
            "--partition-by": self.partition_by,
            "--cluster-by": self.cluster_by,
            "--description": self.description,
        }


def wish_options(command: _F) -> _F:
    """Give a command the options of ``TableWish``."""
    options = (
        click.option(
            "--proto",
            multiple=True,
            metavar="PATH",
            help="A .proto file, or a folder of them; one that ships with Eventmill by its name,"
            " such as eventmill/log_record.proto; repeatable.",
        ),
        click.option(
            "-I",
            "import_dirs",
            multiple=True,
            metavar="DIR",
            help="A folder in which imports are looked for; repeatable.",
        ),
        click.option(
            "--message",
            multiple=True,
            metavar="PKG.MSG",
            help="Full name of the table's message type; repeatable [default: every message in"
            " the files whose options name a table].",
        ),
        click.option(
            "--table", metavar="P.D.T", help="The table [default: the id that the .proto gives]."
        ),
        click.option(
            "--partition-by",
            metavar="COLUMN",
            help="A TIMESTAMP column [default: the time of ingestion].",
        ),
        click.option(
            "--partition-type",
            type=click.Choice([str(g) for g in Granularity], case_sensitive=False),
            help="Length of a partition [default: DAY].",
        ),
        click.option(
            "--partition-expiration",
            metavar="TIME",
            help="Remove rows this long after their partition's end: 30d, never.",
        ),
        click.option("--no-partition", is_flag=True, help="Keep all rows in one partition."),
        click.option("--cluster-by", metavar="COLUMN,...", help="Columns to sort by."),
        click.option(
            "--require-partition-filter/--no-require-partition-filter",
            default=None,
            help="Refuse queries without a filter on the partition column.",
        ),
        click.option("--description", help="What the table is for."),
        click.option("--owner", help="Who answers for the table."),
        click.option("--label", multiple=True, metavar="KEY=VALUE", help="Repeatable."),
        click.option(
            "--freshness",
            metavar="TIME",
            help="Promise: the newest event is never older than this, such as 15m.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def wanted_specs(wish: TableWish, find: Callable[[TableId], Table | None]) -> list[TableSpec]:
    """Compile the .proto files and add what the command line says; the command line wins.

    What neither says stays as it is on the live table, so that a change of the .proto alone takes
    away no owner, label or promise.

    Args:
        wish: the command line.
        find: returns the live table of a name, None when there is none.

    Returns:
        One definition a table, by name.

    Raises:
        SchemaError: a .proto cannot be used.
        UsageError: an option makes no sense, or no table is named.
    """
    from eventmill.schema.compile import compile_protos
    from eventmill.schema.message_type import MessageType
    from eventmill.schema.tables_in import messages_of_tables, only_for

    if not wish.proto:
        raise UsageError("no .proto file is named: give --proto FILE")
    files = proto_files(wish.proto)
    descriptor_set = compile_protos(files, wish.import_dirs)
    messages = wish.message or messages_of_tables(descriptor_set, files)
    if not messages:
        raise UsageError(
            "no message in the files names a table in its options (eventmill.table): give"
            " --message PKG.MSG, and --table for its name"
        )
    given = [flag for flag, value in wish.about_one_table().items() if value]
    if len(messages) > 1 and given:
        raise UsageError(
            f"{', '.join(given)} is about one table, and {len(messages)} are wanted: name one with"
            " --message, or say it in the options of each .proto"
        )
    specs = [
        _wanted_spec(wish, MessageType.load(only_for(descriptor_set, name), name), find)
        for name in dict.fromkeys(messages)
    ]
    by_table: dict[TableId, str] = {}
    for spec in specs:
        other = by_table.setdefault(spec.table, spec.message)
        if other != spec.message:
            raise UsageError(
                f"{other} and {spec.message} both name the table {spec.table}: give each its own"
            )
    return sorted(specs, key=lambda spec: spec.table)


def proto_files(paths: Sequence[str]) -> list[str]:
    """Return the .proto files at ``paths``, those below folders included.

    Raises:
        UsageError: a folder has none.
    """
    files: list[str] = []
    for path in paths:
        if not os.path.isdir(path):
            files.append(path)
            continue
        found = [
            os.path.join(folder, name)
            for folder, _, names in os.walk(path)
            for name in names
            if name.endswith(".proto")
        ]
        if not found:
            raise UsageError(f"there is no .proto file in the folder {path}")
        files.extend(sorted(found))
    return files


def _wanted_spec(
    wish: TableWish, message: MessageType, find: Callable[[TableId], Table | None]
) -> TableSpec:
    from eventmill.schema.mapping import spec_from_proto
    from eventmill.schema.options import option_conflicts, table_options
    from eventmill.store.change import refuse_own

    in_file = table_options(message.descriptor)
    name = wish.table or in_file.id
    if name is None:
        raise UsageError(
            f"no table is named: give --table DATASET.TABLE, or an id in the options of"
            f" {message.full_name}"
        )
    table = TableId.parse(name)
    refuse_own(table)
    live = find(table)
    overrides = _overrides(wish, in_file.partitioning or (live.spec.partitioning if live else None))
    for conflict in option_conflicts(in_file, overrides):
        click.echo(f"note: {conflict}", err=True)
    if live is not None:
        said = in_file.as_overrides().keys() | overrides.keys()
        kept = {word: getattr(live.spec, word) for word in _KEPT if word not in said}
        overrides = {**kept, **overrides}
    return spec_from_proto(table, message.descriptor_set, message.full_name, **overrides)


_KEPT = ("clustering", "owner", "labels", "freshness_seconds", "require_partition_filter",
         "partitioning")  # fmt: skip
"""What stays when nobody says otherwise. The description is the .proto's comment."""


def _overrides(wish: TableWish, in_file: Partitioning | None) -> dict[str, Any]:
    given: dict[str, Any] = {}
    if wish.cluster_by is not None:
        given["clustering"] = tuple(name.strip() for name in wish.cluster_by.split(",") if name)
    if wish.require_partition_filter is not None:
        given["require_partition_filter"] = wish.require_partition_filter
    if wish.description is not None:
        given["description"] = wish.description
    if wish.owner is not None:
        given["owner"] = wish.owner
    if wish.label:
        given["labels"] = dict(_label(text) for text in wish.label)
    if wish.freshness is not None:
        given["freshness_seconds"] = parse_seconds(wish.freshness)
    about_partition = (wish.partition_by, wish.partition_type, wish.partition_expiration)
    if wish.no_partition:
        if any(about_partition):
            raise UsageError("--no-partition excludes the other --partition options")
        given["partitioning"] = None
    elif any(about_partition):
        given["partitioning"] = _partitioning(wish, in_file or Partitioning())
    return given


def _partitioning(wish: TableWish, base: Partitioning) -> Partitioning:
    if wish.partition_by is not None:
        base = replace(base, column=wish.partition_by)
    if wish.partition_type is not None:
        base = replace(base, granularity=Granularity(wish.partition_type.upper()))
    if wish.partition_expiration is not None:
        never = wish.partition_expiration == "never"
        seconds = None if never else parse_seconds(wish.partition_expiration)
        base = replace(base, expiration_seconds=seconds)
    return base


def _label(text: str) -> tuple[str, str]:
    key, mark, value = text.partition("=")
    if not (key and mark):
        raise UsageError(f"--label {text!r}: write KEY=VALUE")
    return key, value
