"""``eventmill tail``: the newest events of a table, then each new one as it is acked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from eventmill.base.clock import SYSTEM_CLOCK
from eventmill.base.errors import TransientError
from eventmill.cli.invocation import Invocation, pass_invocation, store_option
from eventmill.cli.output import Format, chosen_format, json_line, visible
from eventmill.schema.table import TableId

if TYPE_CHECKING:
    from eventmill.store.port import Store

POLL_SECONDS = 0.5
"""Pause between two looks at the table."""
_OVERLAP = timedelta(seconds=2)
"""How far each look reaches back: two batches may be committed in another order than the times
they carry, and what was shown is known by its insert ID and its time. By both, as a slot that
is run again has rows under the same insert IDs."""
_SEEN_MAX = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_OWN = ("_ingested_at", "_insert_id")


@click.command()
@click.argument("name", metavar="TABLE")
@click.option("--where", metavar="EXPR", help="Only events for which this GoogleSQL is true.")
@click.option("--follow/--no-follow", default=True, help="Go on with live events [default: on].")
@click.option(
    "-n",
    "count",
    type=click.IntRange(0, 100_000),
    default=10,
    show_default=True,
    help="How many of the newest events to begin with.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "ndjson"]),
    help="[default: table on a terminal, ndjson elsewhere].",
)
@store_option
@pass_invocation
def tail(
    invocation: Invocation,
    name: str,
    where: str | None,
    follow: bool,
    count: int,
    form: str | None,
) -> None:
    """Show the newest events of a table, then live ones.

    The oldest stands first; an event appears within about half a second of its ack. Ctrl-C ends
    it.
    """
    chosen = chosen_format(form)
    with invocation.store(writer=False) as store:
        feed = Feed(store, TableId.parse(name), where)
        for row in feed.newest(count):
            _show(row, chosen)
        while follow:
            SYSTEM_CLOCK.sleep(POLL_SECONDS)
            try:
                for row in feed.fresh():
                    _show(row, chosen)
            except TransientError as error:
                click.echo(f"waiting: {error}", err=True)


class Feed:
    """Hands out the events of one table, each once, oldest first; for one thread."""

    def __init__(self, store: Store, table: TableId, where: str | None = None) -> None:
        """Look at ``table``, which must exist; ``where`` is a GoogleSQL condition."""
        self._store = store
        self._table = store.describe(table).id
        # On lines of its own: a comment in the condition must not swallow what follows.
        self._where = f"AND (\n{where}\n)" if where else ""
        self._latest = _EPOCH
        self._seen: dict[tuple[str, datetime], None] = {}

    def newest(self, count: int) -> list[Mapping[str, Any]]:
        """Return the ``count`` newest events, and remember where the live ones begin."""
        rows = self._ask(f"ORDER BY _ingested_at DESC, _insert_id LIMIT {max(count, 1)}", _EPOCH)
        if rows:
            self._latest = rows[0]["_ingested_at"]
            for row in self._ask("", self._latest - _OVERLAP):
                self._is_new(row)
        return rows[:count][::-1]

    def fresh(self) -> Iterator[Mapping[str, Any]]:
        """Yield the events that were acked since the last look."""
        since = max(_EPOCH, self._latest - _OVERLAP) if self._seen else _EPOCH
        for row in self._ask("ORDER BY _ingested_at", since):
            self._latest = max(self._latest, row["_ingested_at"])
            if self._is_new(row):
                yield row

    def _ask(self, ending: str, since: datetime) -> list[Mapping[str, Any]]:
        # The name is a checked one, and the condition is the user's own.
        sql = (
            f"SELECT _ingested_at, _insert_id, * FROM `{self._table}`"  # noqa: S608
            f" WHERE _ingested_at >= @since {self._where} {ending}"
        )
        return list(self._store.query(sql, {"since": since}, row_limit=None))

    def _is_new(self, row: Mapping[str, Any]) -> bool:
        known_by = (row["_insert_id"], row["_ingested_at"])
        if known_by in self._seen:
            return False
        self._seen[known_by] = None
        if len(self._seen) > _SEEN_MAX:
            del self._seen[next(iter(self._seen))]
        return True


def _show(row: Mapping[str, Any], form: Format) -> None:
    if form is not Format.TABLE:
        click.echo(json_line(row))
        return
    told = {key: value for key, value in row.items() if key not in _OWN and value is not None}
    moment = row["_ingested_at"].astimezone().strftime("%H:%M:%S.%f")[:-3]
    click.echo(f"{click.style(moment, dim=True)}  {visible(json_line(told).decode())}")
