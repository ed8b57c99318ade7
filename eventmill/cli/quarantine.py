"""``eventmill quarantine``: rejected events, listed, and one shown whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click
import orjson

from eventmill.base.errors import SchemaError, TableNotFoundError, UsageError
from eventmill.cli.invocation import Invocation, pass_invocation, store_option
from eventmill.cli.output import (
    Format,
    chosen_format,
    format_options,
    json_line,
    visible,
    write_result,
)
from eventmill.schema.problem import Reason
from eventmill.schema.table import DEFAULT_PROJECT, TableId

if TYPE_CHECKING:
    from eventmill.store.port import Store

_LIST = (
    "SELECT quarantined_at, table_name AS `table`, insert_id, reason, field_path AS field, message"
    " FROM {quarantine} WHERE (@table = '' OR table_name = @table)"
    " AND (@reason = '' OR reason = @reason) ORDER BY quarantined_at DESC, insert_id LIMIT {limit}"
)
_SHOW = (
    "SELECT * FROM {quarantine} WHERE STARTS_WITH(insert_id, @prefix)"
    " ORDER BY quarantined_at DESC LIMIT 11"
)
_SHOWN_MAX = 10


@click.group()
@store_option
def quarantine() -> None:
    """Look at rejected events."""


@quarantine.command("list")
@click.option("--table", "name", metavar="TABLE", help="Only events sent to this table.")
@click.option(
    "--reason",
    type=click.Choice([str(reason) for reason in Reason]),
    metavar="REASON",
    help="Only events rejected for this reason, such as unknown_field.",
)
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True)
@store_option
@format_options
@pass_invocation
def list_events(
    invocation: Invocation,
    name: str | None,
    reason: str | None,
    limit: int,
    form: str | None,
    output: str | None,
) -> None:
    """List rejected events, newest first.

    On a terminal each has two lines, the second cut to its width; `quarantine show` shows an
    event whole.
    """
    quarantine, project = _quarantine_of(invocation.settings.client.store)
    table = TableId.parse(name) if name else None
    if table is not None and table.project == DEFAULT_PROJECT:
        table = replace(table, project=project)
    params = {"table": str(table or ""), "reason": reason or ""}
    with invocation.store(writer=False) as store:
        sql = _LIST.format(quarantine=quarantine, limit=limit)
        rows = store.query(sql, params, row_limit=None)
        if table is not None and not len(rows):
            store.describe(table)  # a name that nothing has is an error, not an empty list
    chosen = chosen_format(form, output)
    if chosen is Format.TABLE and output is None:
        _print_list(rows)
    else:
        write_result(rows, form=chosen, output=output)


@quarantine.command()
@click.argument("insert_id", metavar="INSERT_ID")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "ndjson"]),
    help="[default: table on a terminal, ndjson elsewhere].",
)
@store_option
@pass_invocation
def show(invocation: Invocation, insert_id: str, form: str | None) -> None:
    """Show rejected events whole; INSERT_ID may be the beginning of one.

    The event is printed as the JSON that came in, as protobuf text where its table's message type
    can read it, and otherwise as hexadecimal bytes.
    """
    quarantine, _ = _quarantine_of(invocation.settings.client.store)
    with invocation.store(writer=False) as store:
        rows = list(store.query(_SHOW.format(quarantine=quarantine), {"prefix": insert_id}))
        if not rows:
            raise UsageError(
                f"no rejected event has an insert ID that begins with {insert_id!r};"
                " `eventmill quarantine list` shows them"
            )
        shown = [_facts(store, row) for row in rows[:_SHOWN_MAX]]
    chosen = chosen_format(form)
    for facts in shown:
        if chosen is Format.TABLE:
            _print_facts(facts)
        else:
            click.echo(json_line(facts))
    if len(rows) > _SHOWN_MAX:
        click.echo(f"more than {_SHOWN_MAX} begin with {insert_id!r}; give more of it", err=True)


def _facts(store: Store, row: Mapping[str, Any]) -> dict[str, Any]:
    kind, text = event_text(store, row)
    return {
        "insert_id": row["insert_id"],
        "table": row["table_name"],
        "quarantined_at": row["quarantined_at"],
        "reason": row["reason"],
        "field": row["field_path"],
        "message": row["message"],
        "client": row["client"],
        "event_bytes": len(row["payload"] or b""),
        "event_as": kind,
        "event": text,
    }


def event_text(store: Store, row: Mapping[str, Any]) -> tuple[str, str]:
    """Return a quarantined event for a person to read, as (``json``/``protobuf``/``hex``, text).

    Args:
        store: the store that may know the table's message type.
        row: a row of ``eventmill.quarantine`` with all its columns.
    """
    payload: bytes = row["payload"] or b""
    if row["is_json"]:
        return "json", _json_text(payload)
    try:
        spec = store.describe(TableId.parse(row["table_name"])).spec
    except (TableNotFoundError, UsageError):
        return "hex", payload.hex(" ")
    text = _protobuf_text(spec.descriptor_set, spec.message, payload)
    return ("hex", payload.hex(" ")) if text is None else ("protobuf", text)


def _json_text(payload: bytes) -> str:
    try:
        return orjson.dumps(orjson.loads(payload), option=orjson.OPT_INDENT_2).decode()
    except orjson.JSONDecodeError:
        return payload.decode("utf-8", "backslashreplace")


def _protobuf_text(descriptor_set: bytes, message: str, payload: bytes) -> str | None:
    from google.protobuf import text_format
    from google.protobuf.message import DecodeError

    from eventmill.schema.message_type import MessageType

    try:
        event = MessageType.load(descriptor_set, message).parse(payload)
    except (DecodeError, SchemaError):
        return None
    return text_format.MessageToString(event, as_utf8=True, print_unknown_fields=True)


def _quarantine_of(address: str) -> tuple[str, str]:
    """Return where rejected events are in SQL, and which project a bare table's name means."""
    from eventmill.address import is_bigquery

    if not is_bigquery(address):
        return "eventmill.quarantine", DEFAULT_PROJECT
    from eventmill.store.bigquery.place import BigQueryPlace
    from eventmill.store.bigquery.tables import VIEW_SUFFIX

    place = BigQueryPlace.parse(address)
    # Each once, as often as it may have been written.
    return f"{place.own_dataset}.quarantine{VIEW_SUFFIX}", place.project


def _print_list(rows: Iterable[Mapping[str, Any]]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    for row in rows:
        # Not cut: the insert ID is what `quarantine show` asks for.
        moment = f"{row['quarantined_at']:%Y-%m-%d %H:%M:%S}Z"
        head = Text.assemble(
            (moment, "dim"), "  ", visible(row["table"]), "  ", (visible(row["insert_id"]), "bold")
        )
        console.print(head, soft_wrap=True)
        at = f"{row['field']}: " if row["field"] else ""
        # One line, whatever the message holds.
        told = " ".join(visible(f"{at}{row['message']}").split())
        why = Text.assemble("  ", (row["reason"], "red"), "  ", told)
        console.print(why, no_wrap=True, overflow="ellipsis")


def _print_facts(facts: Mapping[str, Any]) -> None:
    for word, value in facts.items():
        if word in ("event", "event_as"):
            continue
        click.echo(f"{word:<16}{visible(str(value))}")
    click.echo(f"event as {facts['event_as']}:")
    for line in str(facts["event"]).splitlines():
        click.echo(f"  {visible(line)}")
    click.echo()
