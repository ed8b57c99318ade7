"""The batch uploaders of this process: closed at its end, begun anew in a forked child, counted."""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from typing import Protocol

from eventmill.base.clock import SYSTEM_CLOCK
from eventmill.client.flush import LOCK_SECONDS_MAX, Flush
from eventmill.client.tally import UploaderStats
from eventmill.schema.table import TableId

EXIT_SECONDS_MAX = 5.0
"""All uploaders together delay the end of their program by no more than this."""


class LiveUploader(Protocol):
    """What this module wants of a batch uploader."""

    table: TableId
    close_at_exit: bool

    def begin_in_child(self) -> None:
        """Forget what is the parent's; no other thread is there."""
        ...

    def close(self, timeout_seconds: float = ...) -> int:
        """Send what is left, and end."""
        ...

    def new_flush(self) -> Flush:
        """Return a wait for what is staged, which has not begun."""
        ...

    def stats(self) -> UploaderStats:
        """Return the counts of this moment."""
        ...


_guard = threading.RLock()
_uploaders: weakref.WeakSet[LiveUploader] = weakref.WeakSet()
"""All of them: a closed one has locks as well, which a child must not inherit in use."""
_open: weakref.WeakSet[LiveUploader] = weakref.WeakSet()
_ended: dict[TableId, UploaderStats] = {}
"""What those have counted that are closed, so that no counter of the process goes back."""


def add(uploader: LiveUploader) -> None:
    """Take note of a new uploader, which stays its owner's."""
    with _guard:
        _uploaders.add(uploader)
        _open.add(uploader)


def retire(uploader: LiveUploader) -> None:
    """Keep what a closed uploader has counted, and let go of it."""
    with _guard:
        if uploader in _open:
            _open.discard(uploader)
            table = uploader.table
            _ended[table] = UploaderStats.sum_of(
                [*([_ended[table]] if table in _ended else []), uploader.stats().of_ended()]
            )


def stats_by_table() -> dict[TableId, UploaderStats]:
    """Return what all uploaders of this process have counted, closed ones included."""
    with _guard:
        found = {table: [stats] for table, stats in _ended.items()}
        for uploader in _open:
            found.setdefault(uploader.table, []).append(uploader.stats())
    return {table: UploaderStats.sum_of(each) for table, each in found.items()}


def _begin_in_child() -> None:
    global _guard  # noqa: PLW0603 - another thread of the parent may have held it
    _guard = threading.RLock()
    _ended.clear()
    for uploader in list(_uploaders):
        uploader.begin_in_child()


def _close_at_exit() -> None:
    uploaders = [uploader for uploader in list(_open) if uploader.close_at_exit]
    deadline = SYSTEM_CLOCK.monotonic() + EXIT_SECONDS_MAX
    for uploader in uploaders:
        uploader.new_flush().begin(_do_nothing, LOCK_SECONDS_MAX)  # all at once, not in a row
    for uploader in uploaders:
        uploader.close(max(0.0, deadline - SYSTEM_CLOCK.monotonic()))


def _do_nothing() -> None:
    pass


atexit.register(_close_at_exit)
if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_begin_in_child)
