"""``eventmill key``: who may do what, on a folder or on a server."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, Protocol

import click
import orjson

from eventmill.base.clock import SYSTEM_CLOCK, utc_datetime
from eventmill.base.errors import UsageError
from eventmill.base.quantity import parse_bytes, parse_seconds
from eventmill.cli.invocation import Invocation, pass_invocation, store_option
from eventmill.cli.output import chosen_format, format_options, write_rows
from eventmill.schema.table import DEFAULT_PROJECT
from eventmill.wire.keys import GrantText, KeyFacts, KeyKind, KeyWish, NewKey

if TYPE_CHECKING:
    from eventmill.server.access.service_account import KeyPair

_COLUMNS = (
    "name", "kind", "state", "grants", "owner", "created_at", "expires_at", "last_used_at",
    "events_per_second", "bytes_per_day", "email",
)  # fmt: skip


class _Keys(Protocol):
    """Keys of a folder or of a server."""

    def create(self, wish: KeyWish) -> NewKey: ...

    def all(self) -> list[KeyFacts]: ...

    def revoke(self, name: str) -> KeyFacts: ...


@click.group()
@store_option
def key() -> None:
    """Make, list and revoke keys.

    A server asks for keys from the first one on. What is done on its data folder holds within a
    quarter of a second, on http://HOST:PORT at once.
    """


@key.command()
@click.argument("name")
@click.option(
    "--grant",
    "grants",
    multiple=True,
    metavar="ROLE:RESOURCE[:TIME]",
    help=(
        "What the key may do, and where: appender, reader, editor or admin on DATASET.TABLE,"
        " DATASET.*, PROJECT.*.* or * for everything; with TIME, such as 30d, for so long only."
        " May be given several times."
    ),
)
@click.option("--expires", metavar="TIME", help="End the key after TIME, such as 90d [never].")
@click.option("--owner", default="", help="Who is to be asked about it.")
@click.option(
    "--events-per-second",
    type=click.FloatRange(0, min_open=True),
    metavar="NUMBER",
    help="How many events it may append a second [as many as it likes].",
)
@click.option(
    "--bytes-per-day",
    metavar="SIZE",
    help="How much it may append a day, such as 5GiB [as much as it likes].",
)
@click.option(
    "--google",
    is_flag=True,
    help="Make a service-account key file that Google's client libraries read.",
)
@click.option(
    "--project",
    default=DEFAULT_PROJECT,
    show_default=True,
    help="Project of the service account's e-mail address, and of its clients.",
)
@click.option(
    "--server-url",
    metavar="URL",
    help="With --google: address at which clients will reach the server [that of --store].",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Write the key to a new FILE that its owner alone can read; needed for --google.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "ndjson"]),
    help="[default: text on a terminal, ndjson elsewhere; text is the token alone].",
)
@store_option
@pass_invocation
def create(
    invocation: Invocation,
    name: str,
    grants: Sequence[str],
    expires: str | None,
    owner: str,
    events_per_second: float | None,
    bytes_per_day: str | None,
    google: bool,
    project: str,
    server_url: str | None,
    output: str | None,
    form: str | None,
) -> None:
    """Make a key, and show it this one time.

    \b
    eventmill key create ci --grant appender:ops.builds --expires 90d
    eventmill key create boards --grant 'reader:ops.*' --owner team@example.com
    eventmill key create etl --google --grant 'editor:ops.*' -o etl.json

    It is an API token for the Eventmill client (key=... or EVENTMILL_KEY) and for `curl -H
    'Authorization: Bearer KEY'`; with --google a file for GOOGLE_APPLICATION_CREDENTIALS. Only
    its hash, or public half, is kept.
    """
    now = SYSTEM_CLOCK.now()
    if server_url and not google:
        raise UsageError("--server-url goes with --google: an API token names no server")
    if google and output is None:
        raise UsageError("a service-account key is a file: give -o FILE")
    wish = KeyWish(
        name=name,
        grants=tuple(_grant(text, now) for text in grants),
        owner=owner,
        project=project,
        expires_at=now + parse_seconds(expires) if expires else None,
        events_per_second=events_per_second,
        bytes_per_day=parse_bytes(bytes_per_day) if bytes_per_day else None,
    )
    with ExitStack() as opened:
        keys = opened.enter_context(_keys(invocation, create=True))
        file = None if output is None else opened.enter_context(_new_file(output))
        if google:
            new, content = _google(keys, wish, server_url or _address(invocation))
        else:
            new = keys.create(wish)
            content = f"{new.token}\n".encode()
        if file is not None:
            try:
                file.write(content)
            except OSError as error:
                keys.revoke(name)  # nobody has it, and nobody ever will
                raise UsageError(f"{output} cannot be written: {error.strerror}") from error
    _tell_new(new, output)
    if output is None:
        chosen = form or ("text" if chosen_format(None).value == "table" else "ndjson")
        _print_token(new, chosen)


@key.command("list")
@click.option("--all", "revoked_too", is_flag=True, help="Also those that were revoked.")
@store_option
@format_options
@pass_invocation
def list_keys(
    invocation: Invocation, revoked_too: bool, form: str | None, output: str | None
) -> None:
    """List keys: what they may do, and when they were last used (to within a minute)."""
    with _keys(invocation) as keys:
        facts = [found for found in keys.all() if revoked_too or found.state != "revoked"]
    rows = [_row(found) for found in facts]
    write_rows(_COLUMNS, rows, form=chosen_format(form, output), output=output)


@key.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@store_option
@pass_invocation
def revoke(invocation: Invocation, names: Sequence[str]) -> None:
    """End keys for good.

    They are refused from now on: at once with http://HOST:PORT, within a quarter of a second on
    the data folder of a running server. Also when none is left, a server goes on asking for keys.
    """
    with _keys(invocation) as keys:
        for name in names:
            keys.revoke(name)
            click.echo(f"revoked {name}", err=True)


@contextmanager
def _keys(invocation: Invocation, *, create: bool = False) -> Iterator[_Keys]:
    """Open the keys of the store that the settings name."""
    from eventmill.address import is_server

    settings = invocation.settings.client
    if is_server(settings.store):
        from eventmill.client.http_keys import HttpKeys

        timeout_seconds = settings.timeout_seconds
        with closing(
            HttpKeys(settings.store, key=settings.key, timeout_seconds=timeout_seconds)
        ) as remote:
            yield remote
        return
    from eventmill.server.access.access import FOLDER_OWNER
    from eventmill.server.access.database import ACCESS_FILE, AccessDatabase
    from eventmill.server.access.keys import KeyRing

    folder = os.path.abspath(os.path.expanduser(settings.store))
    path = os.path.join(folder, ACCESS_FILE)
    if create:
        os.makedirs(folder, exist_ok=True)
    elif not os.path.exists(path):
        raise UsageError(
            f"there are no keys in {folder}: `eventmill key create` makes the first one, or --store"
            " or EVENTMILL_STORE names another folder"
        )
    database = AccessDatabase(path)
    try:
        yield KeyRing(database, SYSTEM_CLOCK, FOLDER_OWNER)
    finally:
        database.close()


def _grant(text: str, now: float) -> GrantText:
    role, mark, rest = text.partition(":")
    resource, _, length = rest.partition(":")
    if not mark or not resource:
        raise UsageError(f"{text!r} is not a grant: write ROLE:RESOURCE, such as reader:ops.builds")
    return GrantText(role, resource, now + parse_seconds(length) if length else None)


def _address(invocation: Invocation) -> str:
    """Return where clients find the server, as far as it can be told from here."""
    from eventmill.address import is_server
    from eventmill.store.local.lock import server_url

    settings = invocation.settings
    if is_server(settings.client.store):
        return settings.client.store
    found = server_url(settings.client.store)
    if found is None:
        raise UsageError(
            "no server runs on this folder now: give --server-url, the address at which clients"
            " will reach it, such as http://127.0.0.1:8484"
        )
    return found


def _google(keys: _Keys, wish: KeyWish, server_url: str) -> tuple[NewKey, bytes]:
    """Make a service account; its private key is made here, and only the public one is sent."""
    from dataclasses import replace

    from eventmill.server.access.service_account import key_file, make_key_pair

    pair: KeyPair = make_key_pair()
    token_uri = f"{server_url.rstrip('/')}/token"
    new = keys.create(
        replace(
            wish,
            kind=KeyKind.SERVICE_ACCOUNT,
            public_key=pair.public_key,
            public_key_id=pair.key_id,
            token_uri=token_uri,
        )
    )
    document = key_file(wish.name, wish.project, pair, token_uri)
    return new, orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


class _NewFile:
    """A file that only its owner can read, and that was not there before."""

    def __init__(self, path: str) -> None:
        try:
            self._fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise UsageError(f"{path} cannot be made: {error.strerror}") from error

    def write(self, content: bytes) -> None:
        """Write all of it, and wait until it is on disk: there is no second copy."""
        with open(self._fd, "wb", closefd=False) as file:
            file.write(content)
        os.fsync(self._fd)

    def close(self) -> None:
        os.close(self._fd)


@contextmanager
def _new_file(path: str) -> Iterator[_NewFile]:
    """Make ``path`` before the key, so that no key is made that cannot be handed over."""
    file = _NewFile(path)
    try:
        yield file
    except BaseException:
        os.unlink(path)
        raise
    finally:
        file.close()


def _tell_new(new: NewKey, output: str | None) -> None:
    facts = new.facts
    until = "" if facts.expires_at is None else f" until {utc_datetime(facts.expires_at):%F %R}Z"
    click.echo(f"made {facts.name}{until}: {', '.join(map(str, facts.grants))}", err=True)
    if output is not None:
        click.echo(f"it is in {output}, and nowhere else: keep it secret", err=True)
    else:
        click.echo("it is shown this one time, and kept nowhere: keep it secret", err=True)
    if new.is_first:
        click.echo(
            "from now on the server asks for a key at every request, of its own machine too",
            err=True,
        )


def _print_token(new: NewKey, form: str) -> None:
    if form == "text":
        click.echo(new.token)
        return
    option = orjson.OPT_INDENT_2 if form == "json" else 0
    click.echo(orjson.dumps({**new.facts.to_json(), "key": new.token}, option=option))


def _row(facts: KeyFacts) -> dict[str, object]:
    moments = ("created_at", "expires_at", "last_used_at")
    row: dict[str, object] = {word: getattr(facts, word) for word in _COLUMNS}
    row["grants"] = ", ".join(map(str, facts.grants))
    for word in moments:
        seconds = getattr(facts, word)
        row[word] = None if seconds is None else utc_datetime(seconds).replace(microsecond=0)
    return row
