"""``eventmill send``: NDJSON in, verdict counts out; a bad line is quarantined, never lost."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, TypeVar

import click

from eventmill import __version__
from eventmill.address import require_store
from eventmill.base.clock import SYSTEM_CLOCK
from eventmill.base.errors import EventmillError, UsageError
from eventmill.base.patience import call_patiently
from eventmill.cli.invocation import Invocation, pass_invocation, store_option
from eventmill.cli.output import json_line
from eventmill.schema.table import Table, TableId
from eventmill.wire.insert_id import InsertIdSource
from eventmill.wire.verdict import Rejection, Verdict

if TYPE_CHECKING:
    from rich.progress import ProgressColumn

    from eventmill.store.port import Store
    from eventmill.wire.batch import Batch
    from eventmill.wire.json_events import JudgedEvents

_T = TypeVar("_T")

EXIT_REJECTED = 3
BATCH_ROWS = 5_000
BATCH_BYTES = 4_000_000
LINE_BYTES_MAX = 8_000_000
"""Bytes of one line that are read; an event is at most 1,000,000 bytes encoded."""
_CLIENT = f"eventmill-send/{__version__}"
GIVE_UP_SECONDS = 2.0
"""How long a program that is interrupted waits to say what became of its last group."""
_TOLD_MAX = 5


@dataclass(slots=True)
class SendCounts:
    """What became of the lines so far."""

    sent: int = 0
    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    rejected_by_reason: Counter[str] = field(default_factory=Counter)
    examples: list[tuple[int, Rejection]] = field(default_factory=list)
    """The first few rejections, each with the number of its line in the input, from 1."""
    began: float = field(default_factory=SYSTEM_CLOCK.monotonic)

    @property
    def events_a_second(self) -> float:
        """How fast it has gone so far."""
        return self.sent / max(SYSTEM_CLOCK.monotonic() - self.began, 1e-9)


@click.command()
@click.argument("name", metavar="TABLE")
@click.argument("file", default="-")
@click.option(
    "--insert-id-field",
    metavar="NAME",
    help="Key of each line that holds its insert ID, and is no column.",
)
@store_option
@pass_invocation
def send(invocation: Invocation, name: str, file: str, insert_id_field: str | None) -> int:
    """Send NDJSON events into a table.

    FILE is a path, or - for stdin. Each line is one JSON object with the field names of the
    table's .proto. A line that is no event of the table is kept in quarantine with the reason,
    and the rest goes on. Prints the counts as one JSON object; exits with 3 when some were
    rejected.

    Without --insert-id-field, sending a file again stores its events again, and quarantines its
    bad lines again. With it, each event is kept once: a bad line whose insert ID cannot be read
    is known again by its number and its text.
    """
    table_id = TableId.parse(name)
    require_store(invocation.settings.client.store)
    with _opened(file) as lines, invocation.store(writer=True) as store:
        sender = Sender(store, store.describe(table_id), insert_id_field)
        try:
            with _followed(lines, sender.counts) as followed:
                for line in followed:
                    sender.add(line)
                sender.finish()
        except BaseException:
            sender.give_up()
            _tell(sender.counts)
            raise
    _tell(sender.counts)
    return EXIT_REJECTED if sender.counts.rejected else 0


class Sender:
    """Judges lines in groups and puts what is good; for one thread.

    While a group is put, by a thread beside, the next is read and judged: memory holds two, however
    long the input is. Of each its bad lines are quarantined before its good ones are put.
    """

    def __init__(
        self,
        store: Store,
        table: Table,
        insert_id_field: str | None = None,
        *,
        patience_seconds: float = 30.0,
    ) -> None:
        """Prepare to send to ``table``; a store that is away is waited for ``patience_seconds``."""
        # These bring orjson and protobuf, which --help does without.
        from eventmill.schema.message_type import MessageType
        from eventmill.schema.rows import RowEncoder
        from eventmill.wire.json_events import JsonReader

        self.counts = SendCounts()
        self._store = store
        self._patience_seconds = patience_seconds
        encoder = RowEncoder(MessageType.load(table.spec.descriptor_set, table.spec.message))
        self._reader = JsonReader(
            table,
            encoder.encode,
            InsertIdSource(),
            insert_id_field=insert_id_field,
            client=_CLIENT,
            name_refused=self._name_refused if insert_id_field is not None else None,
        )
        self._line_number = 0
        self._lines: list[bytes] = []
        self._numbers: list[int] = []
        self._bytes = 0
        self._under_way: _Delivery | None = None

    def add(self, line: bytes) -> None:
        """Take the next line, which may be blank; may put a group of them."""
        self._line_number += 1
        if not line.strip():
            return
        self._lines.append(line.rstrip(b"\n"))
        self._numbers.append(self._line_number)
        self._bytes += len(line)
        if len(self._lines) >= BATCH_ROWS or self._bytes >= BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Begin to put what was added, once what was begun before is done."""
        if not self._lines:
            return
        body, numbers = b"\n".join(self._lines), self._numbers
        judged = self._reader.read(body, is_lines=True, at_start=False)
        self._lines, self._numbers, self._bytes = [], [], 0
        self._settle()
        self._under_way = _Delivery(lambda: self._deliver(judged), numbers)
        self._under_way.start()

    def finish(self) -> None:
        """Put what is left, and wait until all of it is done."""
        self.flush()
        self._settle()

    def give_up(self) -> None:
        """Count what is being put if it is done soon, whatever became of it; put nothing more."""
        if self._under_way is not None:
            self._under_way.join(GIVE_UP_SECONDS)
            if self._under_way.verdict is not None:
                self._settle()

    def _settle(self) -> None:
        """Wait for the group under way, and count what became of its lines."""
        if self._under_way is not None:
            group, self._under_way = self._under_way, None
            self._count(group.result(), group.line_numbers)

    def _deliver(self, judged: JudgedEvents) -> Verdict:
        """Quarantine and put one group; beside the thread that reads."""
        if judged.refused:
            self._patiently(lambda: self._store.quarantine(judged.refused))
        return judged.verdict([self._put(batch) for batch in judged.batches()])

    def _name_refused(self, index: int, text: bytes) -> bytes:
        # The number keeps equal lines of one file apart, and costs no memory of earlier ones.
        digest = hashlib.sha256(text).hexdigest()[:16]
        return f"line-{self._numbers[index]}-{digest}".encode()

    def _put(self, batch: Batch) -> Verdict:
        return self._patiently(lambda: self._store.put(batch))

    def _patiently(self, call: Callable[[], _T]) -> _T:
        return call_patiently(call, wait_seconds=self._patience_seconds)

    def _count(self, verdict: Verdict, line_numbers: Sequence[int]) -> None:
        counts = self.counts
        for rejection in verdict.rejected:
            counts.rejected_by_reason[str(rejection.reason)] += 1
            if len(counts.examples) < _TOLD_MAX:
                counts.examples.append((line_numbers[rejection.index], rejection))
        counts.sent += verdict.count
        counts.accepted += verdict.accepted
        counts.duplicates += verdict.duplicates
        counts.rejected += len(verdict.rejected)


class _Delivery(threading.Thread):
    """One group on its way to the store."""

    def __init__(self, deliver: Callable[[], Verdict], line_numbers: Sequence[int]) -> None:
        super().__init__(name="eventmill-send", daemon=True)
        self._deliver = deliver
        self.line_numbers = line_numbers
        self.verdict: Verdict | None = None
        self._error: EventmillError | None = None

    def run(self) -> None:
        """Deliver; an error is kept for ``result``."""
        try:
            self.verdict = self._deliver()
        except EventmillError as error:
            self._error = error

    def result(self) -> Verdict:
        """Wait for the verdict, or raise the error that came in its place."""
        self.join()
        if self._error is not None:
            raise self._error
        if self.verdict is None:
            raise RuntimeError("the thread that sends has failed, as is told above")
        return self.verdict


@contextmanager
def _opened(file: str) -> Iterator[BinaryIO]:
    """Open the input; ``-`` is stdin, which is left open."""
    if file == "-":
        yield sys.stdin.buffer
        return
    try:
        opened = open(file, "rb")  # noqa: SIM115 - closed below, beyond this try
    except OSError as error:
        raise UsageError(
            f"{file} cannot be read: {error.strerror}; give the path of an NDJSON file, or - for"
            " stdin"
        ) from error
    with opened:
        yield opened


def read_lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of ``file``; of one over ``LINE_BYTES_MAX``, its beginning alone.

    Such a line is far over the limit of an event, so it ends in quarantine; and one that never
    ends cannot fill the memory. A byte order mark at the start of the file is left out.
    """
    from eventmill.wire.json_events import without_bom  # brings orjson; --help does without

    is_first = True
    while line := file.readline(LINE_BYTES_MAX):
        if len(line) == LINE_BYTES_MAX and not line.endswith(b"\n"):
            while (rest := file.readline(LINE_BYTES_MAX)) and not rest.endswith(b"\n"):
                pass
        yield without_bom(line) if is_first else line
        is_first = False


@contextmanager
def _followed(file: BinaryIO, counts: SendCounts) -> Iterator[Iterator[bytes]]:
    """Give the lines of ``file``, with progress on a terminal."""
    if not sys.stderr.isatty():
        yield read_lines(file)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    size = _size(file)
    columns: list[str | ProgressColumn] = [
        TextColumn("{task.fields[counts].sent:,} events"),
        TextColumn("{task.fields[counts].events_a_second:,.0f}/s"),
        TextColumn("{task.fields[counts].rejected:,} rejected"),
    ]
    if size is not None:
        columns += [BarColumn(), TextColumn("remaining"), TimeRemainingColumn(compact=True)]
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    with bar:
        task = bar.add_task("send", total=size, counts=counts)

        def lines() -> Iterator[bytes]:
            for line in read_lines(file):
                yield line
                bar.advance(task, len(line))

        yield lines()


def _size(file: BinaryIO) -> int | None:
    status = os.fstat(file.fileno())
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _tell(counts: SendCounts) -> None:
    """Print the counts on stdout, and the first rejections on stderr."""
    for number, rejection in counts.examples:
        at = f", field {rejection.field}" if rejection.field else ""
        click.echo(f"line {number}{at}: {rejection.reason}: {rejection.message}", err=True)
    if counts.rejected > len(counts.examples):
        click.echo(f"and {counts.rejected - len(counts.examples):,} more", err=True)
    if counts.rejected:
        click.echo("`eventmill quarantine list` shows the rejected events", err=True)
    told = {
        "sent": counts.sent,
        "accepted": counts.accepted,
        "duplicates": counts.duplicates,
        "rejected": counts.rejected,
        "rejected_by_reason": counts.rejected_by_reason,
    }
    click.echo(json_line(told))
