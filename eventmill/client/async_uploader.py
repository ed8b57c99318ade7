"""``AsyncBatchUploader``: the batch uploader of programs that run in an event loop."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Literal, Unpack

from eventmill.base.errors import UsageError
from eventmill.client.batch_uploader import CLOSE_TIMEOUT_SECONDS, BatchUploader
from eventmill.client.closing import Closing
from eventmill.client.encode import Event
from eventmill.client.flush import Flush
from eventmill.client.loop_wait import teller, wait_in_loop
from eventmill.client.options import UploaderOptions
from eventmill.client.room import DISK_LOOK_SECONDS, NoRoomError
from eventmill.client.settling import Watch
from eventmill.client.syncing import in_memory, sync_failure, sync_timeout
from eventmill.client.tally import UploaderStats
from eventmill.schema.table import TableId
from eventmill.wire.sink import Sink


class AsyncBatchUploader:
    """Sends events of one table in batches, from a program that runs in an event loop.

    A ``BatchUploader`` in every promise, with the same spool and the same background threads.
    ``stage`` is a plain call of microseconds that never waits; whatever waits is a coroutine,
    holds no thread meanwhile and needs no executor. A cancelled wait leaves nothing behind, and
    takes nothing back: what was staged is sent.

    It is bound to no event loop: one may be made before the loop runs, used from several, and
    staged to from any thread. ``on_drop`` and ``on_undelivered`` are plain functions, called from
    background threads.
    """

    def __init__(
        self,
        sink: Sink,
        table: str | TableId,
        *,
        on_full: Literal["raise", "drop_newest", "drop_oldest"] = "raise",
        **options: Unpack[UploaderOptions],
    ) -> None:
        """Prepare to take events; nothing is sent or written, and no thread runs, yet.

        Args:
            sink: where events go; its ``put`` is called from background threads.
            table: ``project.dataset.table`` or ``dataset.table``.
            on_full: what ``stage`` does with a full spool: raise BackPressureError at once, drop
                the new event, or drop the oldest waiting segment.
            options: as ``BatchUploader`` takes them.

        Raises:
            UsageError: an argument makes no sense.
        """
        if on_full not in ("raise", "drop_newest", "drop_oldest"):
            raise UsageError(
                f"on_full {on_full!r}: write raise, drop_newest or drop_oldest; to wait for room,"
                " await stage_when_room(...)"
            )
        self._uploader = BatchUploader(sink, table, on_full=on_full, **options)
        self._turns: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = (
            weakref.WeakKeyDictionary()
        )
        """Of each loop, held by the task that is the next to have room."""

    async def __aenter__(self) -> AsyncBatchUploader:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<AsyncBatchUploader {self.table} [{self.stats().left} events left]>"

    @property
    def table(self) -> TableId:
        """Table of all events."""
        return self._uploader.table

    @property
    def spool_folder(self) -> str | None:
        """Folder of this table's spool; None: events wait in memory."""
        return self._uploader.spool_folder

    def stage(self, message: Event, insert_id: str | None = None) -> bool:
        """Take one event to be sent soon; never waits.

        Promise: as ``BatchUploader.stage``.

        Args:
            message: a protobuf message of the table's type, or a dict of its columns.
            insert_id: the event's identity, 1 to 128 characters; None: a new one.

        Returns:
            Whether it was taken; False only with a full spool and an ``on_full`` that drops.

        Raises:
            EventProblem: the event does not fit its table, or is too large; names the field.
            BackPressureError: the spool is full, and ``on_full`` is ``raise``.
            UnavailableError: too many files are open to make the spool's folder.
            UsageError: it is no event of this table, the spool's folder cannot be made, or the
                uploader is closed.
        """
        return self._uploader.stage(message, insert_id)

    async def stage_when_room(
        self, message: Event, insert_id: str | None = None, timeout_seconds: float | None = None
    ) -> bool:
        """Take one event, and wait for room while the spool is full.

        Promise: an event whose wait was cancelled or too long was not taken. With an ``on_full``
        that drops it does not wait.

        Args:
            message: as ``stage`` takes it; encoded before the wait.
            insert_id: as ``stage`` takes it.
            timeout_seconds: wait at most this long; None: until there is room.

        Returns:
            As ``stage``.

        Raises:
            BackPressureError: the spool stayed full for ``timeout_seconds``; counted as dropped.
            UsageError: the uploader was closed meanwhile. And what ``stage`` raises otherwise.
        """
        try:
            return self._uploader.stage(message, insert_id)
        except NoRoomError as error:
            refused = error
        try:
            # One task of a loop waits for room, and the others for their turn: else each batch
            # that is acked would wake all of them.
            async with asyncio.timeout(timeout_seconds), self._turn():
                await _take_in(refused)
        except TimeoutError:
            raise refused.room.give_up(refused, timeout_seconds or 0.0) from None
        return True

    async def stage_and_wait(
        self, message: Event, insert_id: str | None = None, timeout_seconds: float | None = None
    ) -> bool:
        """Take one event, and wait until it is synced: it then survives a power cut.

        Callers that wait at the same time share one sync. A cancelled wait takes nothing back.

        Returns:
            As ``stage``.

        Raises:
            UnavailableError: the disk failed, or ``timeout_seconds`` (None: no limit) passed; the
                event is staged all the same.
            UsageError: the spool is in memory. And what ``stage`` raises.
        """
        if self.spool_folder is None:
            raise in_memory()
        if not self.stage(message, insert_id):
            return False
        loop = asyncio.get_running_loop()
        told: asyncio.Future[None] = loop.create_future()
        tell = teller(loop, told)
        errors: list[OSError] = []

        def tell_with(error: OSError | None) -> None:
            if error is not None:
                errors.append(error)
            tell()

        forget = self._uploader.begin_sync_wait(tell_with)
        try:
            async with asyncio.timeout(timeout_seconds):
                await told
        except TimeoutError:
            raise sync_timeout(timeout_seconds) from None
        finally:
            forget()
        if errors:
            raise sync_failure(errors[0])
        return True

    async def flush(self, timeout_seconds: float | None = None) -> int:
        """Send what was staged before the call, and wait until something has become of it.

        Args:
            timeout_seconds: wait at most this long; None: until all of it is settled.

        Returns:
            How many of those events are left; 0 when each one is acked, rejected or undelivered.
        """
        return await wait_in_loop([self.new_flush()], timeout_seconds)

    async def close(self, timeout_seconds: float = CLOSE_TIMEOUT_SECONDS) -> int:
        """Send what is left, and end.

        Promise: returns within ``timeout_seconds``, whatever the sink or the disk does; cancelled,
        it ends at once. Events that could not be sent by then wait in the spool for the next
        process that uses it; without a spool they are handed to ``on_undelivered`` and counted. A
        second call does nothing.

        Returns:
            How many events were left.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_seconds
        closing = self._uploader.begin_close()
        if closing is None:
            return 0
        remaining = 0.0
        try:
            await self.flush(timeout_seconds)
            remaining = max(0.0, deadline - loop.time())
        finally:
            ended = _end_in_thread(closing, remaining, loop)
        return await ended

    def stats(self) -> UploaderStats:
        """Return the counts of this moment."""
        return self._uploader.stats()

    def new_flush(self) -> Flush:
        """Return a wait for what is staged, which has not begun; see ``BatchUploader``."""
        return self._uploader.new_flush()

    def _turn(self) -> asyncio.Lock:
        return self._turns.setdefault(asyncio.get_running_loop(), asyncio.Lock())


async def _take_in(refused: NoRoomError) -> None:
    """Wait until the event that was refused is in the spool."""
    loop = asyncio.get_running_loop()
    room = refused.room
    while True:
        changed: asyncio.Future[None] = loop.create_future()
        watch = Watch(lambda: True, teller(loop, changed))
        if room.take_in_or_watch(refused, watch):
            return
        try:
            # Nobody tells when a full disk has room again.
            seconds = DISK_LOOK_SECONDS if refused.full.reason == "disk" else None
            await asyncio.wait([changed], timeout=seconds)
        finally:
            room.unwatch(watch)


def _end_in_thread(
    closing: Closing, timeout_seconds: float, loop: asyncio.AbstractEventLoop
) -> asyncio.Future[int]:
    """End in a thread of its own: it waits for others, and closes and removes files."""
    ended: asyncio.Future[int] = loop.create_future()

    def resolve(tell: Callable[[], None]) -> None:
        if not ended.done():
            tell()

    def end() -> None:
        try:
            left = closing.end(timeout_seconds)
        except BaseException as error:
            failure = error
            _in_loop(loop, lambda: resolve(lambda: ended.set_exception(failure)))
            raise
        _in_loop(loop, lambda: resolve(lambda: ended.set_result(left)))

    try:
        threading.Thread(target=end, name="eventmill-uploader-close", daemon=True).start()
    except RuntimeError:  # too many threads, or the interpreter is ending
        ended.set_result(closing.end(0.0))
    return ended


def _in_loop(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    with suppress(RuntimeError):  # the loop is closed, so nobody waits
        loop.call_soon_threadsafe(call)
