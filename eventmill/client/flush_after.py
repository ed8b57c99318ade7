"""Flushing before a function ends, for programs that are frozen or killed between two calls."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable
from typing import ParamSpec, Protocol, TypeVar, cast

from eventmill.base.clock import SYSTEM_CLOCK, Clock
from eventmill.base.errors import UsageError
from eventmill.client.callback import call_back
from eventmill.client.flush import Flush, wait_in_thread
from eventmill.client.tally import RareLog
from eventmill.schema.table import TableId

RESERVE_SECONDS = 0.1
"""Of the time that remains, left to the answer itself."""

_P = ParamSpec("_P")
_R = TypeVar("_R")


class FlushedUploader(Protocol):
    """A ``BatchUploader`` or an ``AsyncBatchUploader``."""

    @property
    def table(self) -> TableId:
        """Table of all its events."""
        ...

    @property
    def spool_folder(self) -> str | None:
        """Folder of its spool; None: events wait in memory."""
        ...

    def new_flush(self) -> Flush:
        """Return a wait for what is staged, which has not begun."""
        ...


class FlushAfter:
    """What ``flush_after`` returns: a context manager, plain or async, and a decorator."""

    left = 0
    """After the block: how many of the events staged before its end are left."""

    def __init__(
        self,
        uploaders: tuple[FlushedUploader, ...],
        budget_seconds: float | None,
        remaining_millis: Callable[..., float] | None,
        reserve_seconds: float,
        on_left: Callable[[int], None] | None,
        clock: Clock,
    ) -> None:
        """Use ``flush_after``."""
        self._uploaders = uploaders
        self._budget_seconds = budget_seconds
        self._remaining_millis = remaining_millis
        self._reserve_seconds = reserve_seconds
        self._on_left = on_left
        self._clock = clock
        self._log = RareLog(clock)

    def __enter__(self) -> FlushAfter:
        return self

    def __exit__(self, *exc: object) -> None:
        self.left = self._flush(self._budget())

    async def __aenter__(self) -> FlushAfter:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.left = await self._flush_in_loop(self._budget())

    def __call__(self, function: Callable[_P, _R]) -> Callable[_P, _R]:
        """Return ``function`` with a flush after each call, however the call ends."""
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise UsageError(
                f"{function!r} is a generator, which runs after its call has returned: write"
                " `with flush_after(...)` in it"
            )
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def flushed_in_loop(*args: _P.args, **kwargs: _P.kwargs) -> object:
                try:
                    return await function(*args, **kwargs)
                finally:
                    await self._flush_in_loop(self._budget(*args, **kwargs))

            return cast("Callable[_P, _R]", flushed_in_loop)

        @functools.wraps(function)
        def flushed(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            try:
                return function(*args, **kwargs)
            finally:
                self._flush(self._budget(*args, **kwargs))

        return flushed

    def _budget(self, *args: object, **kwargs: object) -> float:
        limits = [] if self._budget_seconds is None else [self._budget_seconds]
        if self._remaining_millis is not None:
            remaining = self._remaining_millis(*args, **kwargs) / 1000
            limits.append(remaining - self._reserve_seconds)
        return max(0.0, min(limits))

    def _flush(self, budget_seconds: float) -> int:
        flushes = [uploader.new_flush() for uploader in self._uploaders]
        return self._told(wait_in_thread(flushes, budget_seconds, self._clock), budget_seconds)

    async def _flush_in_loop(self, budget_seconds: float) -> int:
        from eventmill.client.loop_wait import wait_in_loop  # plain code does without asyncio

        flushes = [uploader.new_flush() for uploader in self._uploaders]
        return self._told(await wait_in_loop(flushes, budget_seconds), budget_seconds)

    def _told(self, left: int, budget_seconds: float) -> int:
        if not left:
            return 0
        if self._on_left is not None:
            call_back("on_left", self._on_left, left)
            return left
        places = ", ".join(
            f"{uploader.table} in {uploader.spool_folder or 'memory'}"
            for uploader in self._uploaders
        )
        self._log.tell(
            logging.WARNING,
            "left",
            f"{left} events were not sent within {budget_seconds:.3g} s; they wait for the next"
            f" call ({places})",
        )
        return left


def flush_after(
    *uploaders: FlushedUploader,
    budget_seconds: float | None = None,
    remaining_millis: Callable[..., float] | None = None,
    reserve_seconds: float = RESERVE_SECONDS,
    on_left: Callable[[int], None] | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> FlushAfter:
    """Flush after a block or a function, within its budget: for functions as a service.

    Such a platform freezes the process as soon as a call has been answered, and background threads
    with it, so what is to be sent by then is sent before. It is a context manager and a decorator,
    of plain and of async code alike::

        @eventmill.flush_after(events, budget_seconds=0.5)
        def answer(request): ...

        async with eventmill.flush_after(events, budget_seconds=0.5) as flushed:
            ...
        flushed.left

    Promise: the flush returns within its budget, whatever the sink does, also when the block raises
    or is cancelled. What is left waits in the spool and is sent in a later call of this process, or
    by the next process that finds the spool; where the platform throws the disk away with the
    process, what is left then is lost with it.

    Args:
        uploaders: whose events; several are flushed at the same time.
        budget_seconds: wait at most this long.
        remaining_millis: asked when the block has ended how long the platform still gives, in
            milliseconds; of a decorated function with the arguments that it was called with. With
            a budget, the smaller of the two holds.
        reserve_seconds: of that time, left to the answer.
        on_left: told how many events are left, when any are; None: it is logged, at most once a
            minute.
        clock: measures the wait in plain code.

    Raises:
        UsageError: there is no uploader or no limit, or an argument makes no sense.
    """
    if not uploaders:
        raise UsageError("flush_after needs at least one uploader")
    if budget_seconds is None and remaining_millis is None:
        raise UsageError("flush_after needs a limit: give budget_seconds or remaining_millis")
    if (budget_seconds is not None and not budget_seconds >= 0) or not reserve_seconds >= 0:
        raise UsageError("budget_seconds and reserve_seconds must not be negative")
    return FlushAfter(uploaders, budget_seconds, remaining_millis, reserve_seconds, on_left, clock)
