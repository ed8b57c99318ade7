"""An event loop in which time passes as soon as everybody waits for it."""

import asyncio
import selectors
import time


class _Leaping(selectors.SelectSelector):
    """Never waits for a timer: it lets the loop's time pass instead."""

    def __init__(self):
        super().__init__()
        self.elapsed = 0.0

    def select(self, timeout=None):
        if timeout is None:
            return super().select(None)
        found = super().select(0)
        if not found:
            self.elapsed += timeout
        return found


class LeapingLoop(asyncio.SelectorEventLoop):
    """A loop for what never happens: who waits for a hanging sink has waited at once."""

    def __init__(self):
        self._leaping = _Leaping()
        super().__init__(self._leaping)

    def time(self):
        return self._leaping.elapsed


def run_leaping(coroutine):
    """Run ``coroutine``; return its result and the seconds that have passed for it."""
    with asyncio.Runner(loop_factory=LeapingLoop) as runner:
        loop = runner.get_loop()
        begun = loop.time()
        result = runner.run(coroutine)
        return result, loop.time() - begun


def waits_of(events):
    """Return how many waits an ``AsyncBatchUploader`` still knows of."""
    inner = events._uploader
    hurries = len(inner._sending._hurry)
    return hurries + len(inner._sending.settled._watches) + len(inner._syncing._waits)


async def until(condition, seconds=10.0):
    """Wait in real time until ``condition`` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)


def run_without_executor(loop_factory, coroutine):
    """Run ``coroutine`` in a loop whose executors are not to be had."""

    def no_executor(*args):
        raise AssertionError("an executor was asked for, which may be full")

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        if loop_factory is asyncio.new_event_loop:  # others cannot be patched
            runner.get_loop().run_in_executor = no_executor
        return runner.run(asyncio.wait_for(coroutine, 30))
