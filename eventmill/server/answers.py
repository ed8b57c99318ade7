"""Verdicts from the store's threads to the event loop, many at one wake-up.

A group commit answers dozens of requests within microseconds. One ``call_soon_threadsafe`` each
would write to the loop's wake-up pipe each time; here the first of them wakes the loop, which then
takes all that have come.
"""

from __future__ import annotations

import asyncio
from collections import deque

from eventmill.base.errors import EventmillError
from eventmill.wire.sink import Answer
from eventmill.wire.verdict import Verdict

_Waiting = tuple["asyncio.Future[Verdict]", Verdict | None, EventmillError | None]


class LoopAnswers:
    """Hands verdicts to coroutines of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._arrived: deque[_Waiting] = deque()
        self._is_woken = False

    def future(self) -> asyncio.Future[Verdict]:
        """Return a future of this loop for ``answer_for``."""
        return self._loop.create_future()

    def answer_for(self, future: asyncio.Future[Verdict]) -> Answer:
        """Return what a sink may call from any thread to end ``future``."""

        def answer(verdict: Verdict | None, error: EventmillError | None) -> None:
            self._arrived.append((future, verdict, error))
            if not self._is_woken:
                self._is_woken = True
                if not self._loop.is_closed():  # the server may have stopped waiting
                    self._loop.call_soon_threadsafe(self._deliver)

        return answer

    def _deliver(self) -> None:
        # Cleared first: whoever arrives from here on wakes the loop again, at worst for nothing.
        self._is_woken = False
        while self._arrived:
            future, verdict, error = self._arrived.popleft()
            if future.done():
                continue  # its request was given up
            if verdict is not None:
                future.set_result(verdict)
            else:
                future.set_exception(error or AssertionError("neither verdict nor error"))
