"""Where one uploader's spool is, and how large it may be."""

from __future__ import annotations

import os
import re
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from eventmill.base.environment import environment
from eventmill.base.errors import UsageError
from eventmill.client.spool.dead import DeadLetters
from eventmill.schema.table import TableId
from eventmill.wire.batch import EVENT_BYTES_MAX
from eventmill.wire.sink import Sink

Durability: TypeAlias = Literal["memory", "process", "host"]

SEGMENT_BYTES = 8 << 20
MEMORY_SEGMENT_BYTES = 1 << 20
"""Smaller than on disk: memory is given back a segment at a time."""
SPOOL_BYTES_MAX = 1 << 30
MEMORY_BYTES_MAX = 64 << 20


@dataclass(frozen=True, slots=True)
class SpoolPlace:
    """Where, and how much."""

    folder: str | None
    """Of the table; None: memory."""
    name: str
    """Of this owner's folder: no other process or uploader has the same."""
    about: Mapping[str, str]
    """What each segment's header says of its events."""
    segment_bytes: int
    bytes_max: int
    is_synced: bool
    """Whether events are brought to stable storage all the time."""

    def renewed(self) -> SpoolPlace:
        """Return the place for another owner, such as a forked child."""
        return replace(self, name=_owner_name())

    def dead_letters(self) -> DeadLetters | None:
        """Return where events go that the sink will not take; None in memory."""
        return DeadLetters(self.folder, self.name, self.about) if self.folder else None


def spool_place(
    sink: Sink,
    table: TableId,
    spool_dir: str | None,
    durability: Durability | None,
    bytes_max: int | None,
) -> SpoolPlace:
    """Return the place that ``BatchUploader``'s arguments ask for.

    Raises:
        UsageError: they do not fit together, or there is no spool on this system.
    """
    if durability not in (None, "memory", "process", "host"):
        raise UsageError(f"durability {durability!r}: write memory, process or host")
    if durability == "memory":
        if spool_dir is not None:
            raise UsageError("durability memory has no spool_dir: leave one of them out")
    elif spool_dir is None:
        spool_dir = default_spool_dir(sink)
        if spool_dir is None and durability is not None:
            raise UsageError(f"durability {durability} needs a spool_dir for {sink!r}")
    if spool_dir is not None and os.name == "nt":
        raise UsageError("there is no spool on Windows: give durability='memory'")
    segment_bytes = SEGMENT_BYTES if spool_dir else MEMORY_SEGMENT_BYTES
    if bytes_max is None:
        bytes_max = SPOOL_BYTES_MAX if spool_dir else MEMORY_BYTES_MAX
    bytes_min = 2 * EVENT_BYTES_MAX
    if bytes_max < bytes_min:
        raise UsageError(f"spool_bytes_max must be at least {bytes_min:,}")
    return SpoolPlace(
        folder=spool_dir and os.path.join(os.path.abspath(spool_dir), str(table)),
        name=_owner_name(),
        about={"table": str(table)},
        segment_bytes=min(segment_bytes, bytes_max // 4),
        bytes_max=bytes_max,
        is_synced=durability == "host",
    )


def default_spool_dir(sink: Sink) -> str | None:
    """Return the spool of this program for ``sink``; None for a sink without an address.

    Events wait for one address and no other: two programs, or one with two servers, do not send
    each other's.

    Raises:
        UsageError: as ``default_spool_root``.
    """
    address = getattr(sink, "address", None)
    if not isinstance(address, str) or os.name == "nt":
        return None
    program = os.path.basename(sys.argv[0] if sys.argv else "") or "python"
    return os.path.join(default_spool_root(), _plain(program), _plain(address))


def default_spool_root() -> str:
    """Return the folder below which the spools of all this user's programs are.

    Raises:
        UsageError: no folder is named, and the user has no home.
    """
    given = environment().get("EVENTMILL_SPOOL_DIR")
    if given:
        return given
    state = environment().get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    if state.startswith("~"):  # as it is told of a user whom the system does not know
        raise UsageError(
            "there is no place for a spool, as this user has no home: give a spool_dir, set"
            " EVENTMILL_SPOOL_DIR, or take durability='memory'"
        )
    return os.path.join(state, "eventmill", "spool")


def _plain(text: str) -> str:
    """Return ``text`` as the name of a folder."""
    return re.sub(r"[^A-Za-z0-9.-]+", "_", text).strip("._") or "_"


def _owner_name() -> str:
    return f"{os.getpid()}-{secrets.token_hex(8)}"
