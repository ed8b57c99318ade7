"""``eventmill doctor``: one event down the whole way, and where it stopped."""

from __future__ import annotations

import getpass
import secrets
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from importlib import resources
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from eventmill import __version__
from eventmill.base.clock import SYSTEM_CLOCK, utc_datetime
from eventmill.base.errors import AccessError, EventmillError, TransientError
from eventmill.base.quantity import format_seconds
from eventmill.cli.invocation import Invocation, pass_invocation, store_option
from eventmill.cli.output import Format, chosen_format, format_options, visible, write_rows
from eventmill.schema.table import Partitioning, TableId, TableSpec

if TYPE_CHECKING:
    from eventmill.store.port import Store

TRACER_TABLE = "doctor.tracer"
_KEPT_SECONDS = 7 * 86_400.0
_SENDING_SECONDS = 30.0
_SEEING_SECONDS = 60.0
_LOOK_SECONDS = 0.25
_COLUMNS = ("step", "outcome", "seconds", "detail")
_MARKS = {"ok": "green", "failed": "red", "note": "yellow"}


@dataclass(frozen=True, slots=True)
class Step:
    """One part of the way."""

    step: str
    outcome: str
    """``ok``, ``failed``, or ``note``: something to know that stops nothing."""
    seconds: float
    detail: str


@click.command()
@store_option
@format_options
@pass_invocation
def doctor(invocation: Invocation, form: str | None, output: str | None) -> int:
    """Send one event down the whole way; say where it stopped.

    Makes the table doctor.tracer in --store, stages an event in a batch uploader, waits for its
    verdict, and asks for it by SQL. On BigQuery it says as well which identity is used and which
    permissions it lacks. Events of the table expire after a week.

    Exits with 0 when the event came through, with 1 when it did not.
    """
    chosen = chosen_format(form, output)
    steps: list[Step] = []
    for step in _way(invocation):
        steps.append(step)
        if chosen is Format.TABLE and output is None:
            mark = click.style(f"{step.outcome:7}", fg=_MARKS[step.outcome])
            click.echo(f"{mark}{step.step:22}{visible(step.detail)}")
    if chosen is not Format.TABLE or output is not None:
        write_rows(_COLUMNS, [asdict(step) for step in steps], form=chosen, output=output)
    failed = [step.step for step in steps if step.outcome == "failed"]
    if failed:
        click.echo(f"error: the way ends at: {', '.join(failed)}", err=True)
        return 1
    return 0


def _way(invocation: Invocation) -> Iterator[Step]:
    settings = invocation.settings
    address = settings.client.store
    source = invocation.loaded.sources.get("client.store", "default")
    python = ".".join(map(str, sys.version_info[:3]))
    yield Step("program", "ok", 0.0, f"eventmill {__version__}, Python {python}")
    yield Step("store", "ok", 0.0, f"{address} ({source})")
    opened: list[Store] = []
    try:
        step = _tried("open", lambda: _open(invocation, opened))
        yield step
        if step.outcome == "ok":
            yield from _through(opened[0], address)
    finally:
        for store in opened:
            store.close()


def _open(invocation: Invocation, opened: list[Store]) -> str:
    from eventmill.address import open_store

    store = open_store(invocation.settings.client.store, create=True, settings=invocation.settings)
    opened.append(store)
    return repr(store)


def _through(store: Store, address: str) -> Iterator[Step]:
    """Take an event through an open store; ends at the first step that fails."""
    from eventmill.address import is_bigquery

    if is_bigquery(address):
        from eventmill.store.bigquery.identity import identity_of

        yield _tried("identity", lambda: identity_of(store))
    spec = _tracer_spec(address)
    check_id = secrets.token_hex(8)
    steps: list[tuple[str, Callable[[], str]]] = [
        ("table", lambda: _apply(store, spec)),
        ("send", lambda: _send(store, spec.table, check_id)),
        ("query", lambda: _see(store, spec.table, check_id)),
    ]
    for name, work in steps:
        step = _tried(name, work)
        yield step
        if step.outcome == "failed":
            break
    if is_bigquery(address):
        yield _tried("permissions", lambda: _permissions(store, spec.table))


def _permissions(store: Store, table: TableId) -> str:
    from eventmill.store.bigquery.identity import missing_permissions

    missing = missing_permissions(store, table)
    if missing:
        raise AccessError(missing)
    return "all that are needed"


def _tried(name: str, work: Callable[[], str]) -> Step:
    began = SYSTEM_CLOCK.monotonic()
    try:
        outcome, detail = "ok", work()
    except EventmillError as error:
        outcome, detail = "failed", str(error)
    return Step(name, outcome, round(SYSTEM_CLOCK.monotonic() - began, 3), detail)


def _tracer_spec(address: str) -> TableSpec:
    from eventmill.address import is_bigquery
    from eventmill.schema.compile import compile_protos
    from eventmill.schema.mapping import spec_from_proto

    with resources.as_file(resources.files("eventmill.schema") / "protos") as folder:
        path = str(folder / "eventmill" / "tracer.proto")
        descriptor_set = compile_protos([path], [str(folder)])
    table = TableId.parse(TRACER_TABLE)
    if is_bigquery(address):  # a query has no other way to tell which project is meant
        table = replace(table, project=urlsplit(address).netloc)
    return spec_from_proto(
        table,
        descriptor_set,
        "eventmill.Tracer",
        partitioning=Partitioning(column="sent_at", expiration_seconds=_KEPT_SECONDS),
    )


def _apply(store: Store, spec: TableSpec) -> str:
    table = store.apply(spec)
    return f"{table.id}, version {table.version}"


def _send(store: Store, table: TableId, check_id: str) -> str:
    from eventmill.client.batch_uploader import BatchUploader

    now = utc_datetime(SYSTEM_CLOCK.now())
    row: dict[str, Any] = {"check_id": check_id, "sent_by": _sender(), "sent_at": now}
    began = SYSTEM_CLOCK.monotonic()
    with BatchUploader(store, table, durability="memory", flush_interval_seconds=0.0) as events:
        events.stage(row)
        left = events.flush(_SENDING_SECONDS)
        stats = events.stats()
    if left or not stats.accepted:
        raise TransientError(
            f"no verdict within {_SENDING_SECONDS:g} s"
            if left
            else f"the event was not accepted: {stats.rejected} rejected, {stats.undelivered}"
        )
    return f"acked after {format_seconds(SYSTEM_CLOCK.monotonic() - began)}"


def _see(store: Store, table: TableId, check_id: str) -> str:
    """Ask for the event until it is there."""
    began = SYSTEM_CLOCK.monotonic()
    sql = f"SELECT COUNT(*) AS n FROM `{table}` WHERE check_id = @id"  # noqa: S608 - our own name
    while True:
        (row,) = store.query(sql, {"id": check_id})
        waited = SYSTEM_CLOCK.monotonic() - began
        if row["n"]:
            return f"seen after {format_seconds(waited)}"
        if waited > _SEEING_SECONDS:
            raise TransientError(f"acked, and not seen by a query within {_SEEING_SECONDS:g} s")
        SYSTEM_CLOCK.sleep(_LOOK_SECONDS)


def _sender() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = "?"
    return f"{user}@{socket.gethostname()}"
