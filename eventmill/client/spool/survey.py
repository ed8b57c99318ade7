"""What waits in the spools below a folder, seen from outside: nothing is locked, moved or sent."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from eventmill.base.errors import UsageError
from eventmill.client.spool.dead import DAMAGED_FOLDER, DEAD_FOLDER, dead_letters_in
from eventmill.client.spool.owner import is_locked, orphans, unacked
from eventmill.client.spool.reading import header_in, read_records
from eventmill.client.spool.segment import FileSegment, Segment, salt_of
from eventmill.schema.table import TableId

_READ_BYTES = 1 << 20
_READ_COUNT = 10_000


class State(StrEnum):
    """Why something is in a spool."""

    LIVING = "living"
    """A process that lives has it, and sends it."""
    ENDED = "ended"
    """Its process has ended: the next that uses the spool, or a drain, sends it."""
    DEAD = "dead letters"
    """The other end would not take it; it is sent again when somebody asks for it."""
    DAMAGED = "damaged"
    """Bytes that fail their checksum, for a person to look at."""


@dataclass(slots=True)
class Amount:
    """How much there is."""

    segments: int = 0
    bytes: int = 0
    """On disk, without what is acked."""
    events: int = 0
    oldest_at: float | None = None
    """When the oldest event was staged (a dead letter: refused), seconds since 1970; None: there
    is none."""

    def add(self, segment: Segment, begin: int) -> None:
        """Count what ``segment`` holds from the offset ``begin`` on."""
        self.segments += 1
        self.bytes += max(0, segment.size - begin)
        at = begin
        while at < segment.size:
            records = read_records(segment, at, segment.size, _READ_BYTES, _READ_COUNT)
            self.events += len(records.ids)
            if records.staged_at is not None:
                self.oldest_at = min(self.oldest_at or records.staged_at, records.staged_at)
            if not records.end:
                break  # a torn end, or one that is being written
            at += records.end


@dataclass(frozen=True, slots=True)
class Finding:
    """One owner's events; or all dead letters of one error; or what is damaged."""

    table: TableId
    state: State
    owner: str
    """Name of the owner's folder, which begins with its process ID; empty for other states."""
    amount: Amount
    error: str = ""
    """Why dead letters were not taken."""


def tables_below(root: str, on_error: Callable[[OSError], None]) -> Iterator[str]:
    """Yield the folders of tables that have something in a spool at or below ``root``, by path.

    Links are followed, as those who send follow them; a folder is looked into once.

    Args:
        root: the folder of a table, of a spool, or of many spools.
        on_error: told each folder that cannot be listed.
    """
    seen: set[tuple[int, int]] = set()
    # Absolute, as a table's folder may be given from within as a dot.
    for path, folders, _ in os.walk(os.path.abspath(root), onerror=on_error, followlinks=True):
        try:
            place = os.stat(path)
        except OSError as error:
            on_error(error)
            folders.clear()
            continue
        if (place.st_dev, place.st_ino) in seen:
            folders.clear()
            continue
        seen.add((place.st_dev, place.st_ino))
        folders.sort()
        if _is_table(path, folders):
            folders.clear()
            yield path


def table_around(folder: str) -> str | None:
    """Return the folder of the table of which ``folder`` is a part, such as one owner's.

    None when it is no part of one.
    """
    above, name = os.path.split(os.path.abspath(folder))
    return above if _is_table(above, [name]) else None


def findings_in(folder: str) -> Iterator[Finding]:
    """Yield what is in the spool of the table at ``folder``, owner by owner.

    An owner that has nothing left to send is found as well while it lives.

    Raises:
        OSError: something in it cannot be read.
    """
    table = TableId.parse(os.path.basename(folder))
    for path in orphans(folder):
        state = State.LIVING if is_locked(path) else State.ENDED
        amount = Amount()
        for segment, begin in unacked(path):
            amount.add(segment, begin)
        if amount.segments or state is State.LIVING:
            yield Finding(table, state, os.path.basename(path), amount)
    for error, amount in _dead_by_error(folder).items():
        yield Finding(table, State.DEAD, "", amount, error)
    damaged = _damaged(os.path.join(folder, DAMAGED_FOLDER))
    if damaged.segments:
        yield Finding(table, State.DAMAGED, "", damaged, f"see {folder}/{DAMAGED_FOLDER}")


def _is_table(path: str, folders: list[str]) -> bool:
    name = os.path.basename(path)
    try:
        if str(TableId.parse(name)) != name:  # a shorter name, by which no uploader finds it
            return False
    except UsageError:
        return False
    kept = (DEAD_FOLDER, DAMAGED_FOLDER)
    return any(name in kept for name in folders) or any(True for _ in orphans(path))


def _dead_by_error(folder: str) -> dict[str, Amount]:
    found: dict[str, Amount] = {}
    for path in dead_letters_in(folder):
        name = os.path.basename(path).rpartition(".")[0]
        try:
            segment = FileSegment(path, 0, salt_of(name), create=False)
        except FileNotFoundError:  # somebody sends it again
            continue
        try:
            error = header_in(segment).get("error", "not known: the file's header is damaged")
            found.setdefault(error, Amount()).add(segment, 0)
        finally:
            segment.close()
    return found


def _damaged(folder: str) -> Amount:
    amount = Amount()
    if os.path.isdir(folder):
        with os.scandir(folder) as entries:
            for entry in entries:
                amount.segments += 1
                amount.bytes += entry.stat().st_size
    return amount
