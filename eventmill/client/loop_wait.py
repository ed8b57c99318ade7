"""Waiting in an event loop: what is imported only by programs that have one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

from eventmill.client.flush import Flush

LOCK_SECONDS_MAX = 0.01
"""An event loop waits for a lock in steps of at most this."""


async def wait_in_loop(flushes: Sequence[Flush], timeout_seconds: float | None) -> int:
    """Wait until nothing is left or the time has passed; return how many events are left.

    It holds no thread, and leaves nothing behind when it is cancelled.
    """
    loop = asyncio.get_running_loop()
    waits = [(flush, loop.create_future()) for flush in flushes]
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                for flush, settled in waits:
                    tell = teller(loop, settled)
                    while not flush.begin(tell, LOCK_SECONDS_MAX):
                        await asyncio.sleep(LOCK_SECONDS_MAX)
                for _, settled in waits:
                    await settled
        return sum(
            0 if settled.done() and not settled.cancelled() else flush.left(LOCK_SECONDS_MAX)
            for flush, settled in waits
        )
    finally:
        for flush in flushes:
            flush.end()


def teller(loop: asyncio.AbstractEventLoop, waiting: asyncio.Future[None]) -> Callable[[], None]:
    """Return what ends the wait for ``waiting`` from any thread, once or more often."""

    def end() -> None:
        if not waiting.done():
            waiting.set_result(None)

    def tell() -> None:
        with suppress(RuntimeError):  # the loop is closed, so nobody waits
            loop.call_soon_threadsafe(end)

    return tell
