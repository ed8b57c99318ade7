"""``eventmill workflow sample``: made-up events for the workflows that ship with Eventmill."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import click
import orjson

from eventmill.cli.scheduling import moment_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eventmill.workflow.shipped.cq_sample import Row

EVENTS = "cq.raw_events"
BUILDS = "cq.builds"
_LINES = 2_000
_WORKFLOWS = ("cq_attempts", "cq_attempts_with_builds")


@click.command("sample")
@click.argument("name", type=click.Choice(_WORKFLOWS), metavar="NAME")
@click.option(
    "--attempts", type=click.IntRange(0), default=1_000, show_default=True, metavar="N",
    help="How many attempts are started; each has about ten events.",
)  # fmt: skip
@click.option(
    "--seed", type=int, default=1, show_default=True, help="The same seed gives the same rows."
)
@click.option("--start", metavar="TIME", help="When the first one starts [default: 2026-01-01Z].")
@click.option(
    "--a-day", type=click.FloatRange(0, min_open=True), metavar="N",
    help="How many start within 24 hours [default: 2880].",
)  # fmt: skip
@click.option(
    "--table", type=click.Choice([EVENTS, BUILDS]), default=EVENTS, show_default=True,
    help="Whose rows are written: the builds are those that the same events name.",
)  # fmt: skip
def sample_command(
    name: str, attempts: int, seed: int, start: str | None, a_day: float | None, table: str
) -> None:
    """Write made-up input rows of a workflow that ships with Eventmill, as NDJSON.

    They have the accidents of a real commit queue: events out of order, told twice or without a
    time, attempts that go on after their slot, attempts that never end.

    \b
    eventmill workflow sample cq_attempts --attempts 10000 > events.ndjson
    eventmill send cq.raw_events events.ndjson
    eventmill workflow try cq_attempts --input cq.raw_events=events.ndjson
    """
    from eventmill.workflow.shipped import cq_sample

    begin = cq_sample.START_SECONDS if start is None else int(moment_of(start, "--start"))
    rows = cq_sample.sample_rows(
        attempts,
        seed,
        start_seconds=begin,
        attempts_a_day=a_day or cq_sample.ATTEMPTS_A_DAY,
    )
    _write(rows if table == EVENTS else cq_sample.sample_builds(rows, seed))


def _write(rows: Iterator[Row]) -> None:
    while some := list(islice(rows, _LINES)):
        click.echo(b"".join(orjson.dumps(row) + b"\n" for row in some), nl=False)
