"""A batch from the event loop into the store, without holding a thread until it is synced."""

from __future__ import annotations

import asyncio
import time
from functools import partial

from starlette.concurrency import run_in_threadpool

from eventmill.base.errors import UnavailableError
from eventmill.base.metrics import Metric, Metrics
from eventmill.schema.table import TableId
from eventmill.server.answers import LoopAnswers
from eventmill.store.port import Store
from eventmill.wire.batch import Batch
from eventmill.wire.sink import SubmittingSink
from eventmill.wire.verdict import Verdict

PUT_SECONDS_MAX = 30.0
"""How long a request waits for the store's verdict before it is answered with 503."""
INLINE_EVENTS_MAX = 64
"""Batches up to this size are handed to the store from the event loop: judging 64 events takes
less than moving to a thread and back. Larger ones would hold up every other request."""


class StorePutter:
    """Puts batches of one server into its store. Belongs to the event loop's thread."""

    def __init__(self, store: Store, metrics: Metrics) -> None:
        """Put into ``store``; ``metrics`` is told how long each batch took."""
        self._store = store
        self._metrics = metrics
        self._submitting = store if isinstance(store, SubmittingSink) else None
        self._answers: LoopAnswers | None = None

    async def put(self, batch: Batch) -> Verdict:
        """Put one batch and wait for the verdict.

        Raises:
            TransientError: any of the events may have been stored; put the batch again.
            PermanentError: nothing was stored.
        """
        submitting = self._submitting
        begun_at = time.perf_counter()
        try:
            async with asyncio.timeout(PUT_SECONDS_MAX):
                if submitting is None:
                    verdict = await run_in_threadpool(
                        partial(self._store.put, batch, timeout_seconds=PUT_SECONDS_MAX)
                    )
                else:
                    future = self._loop_answers().future()
                    answer = self._loop_answers().answer_for(future)
                    if batch.count <= INLINE_EVENTS_MAX:
                        submitting.submit(batch, answer)
                    else:
                        await run_in_threadpool(submitting.submit, batch, answer)
                    verdict = await future
        except TimeoutError:
            raise UnavailableError(
                f"the store gave no verdict within {PUT_SECONDS_MAX:g} s; put the batch again"
            ) from None
        self._metrics.observe(Metric.PUT_SECONDS, time.perf_counter() - begun_at)
        return verdict

    def _loop_answers(self) -> LoopAnswers:
        if self._answers is None:
            self._answers = LoopAnswers(asyncio.get_running_loop())
        return self._answers


def count_events(
    metrics: Metrics, table: TableId, *, accepted: int, duplicates: int, rejected: int
) -> None:
    """Count one request's events by what became of them."""
    name = str(table)
    metrics.add(Metric.BATCHES, 1, name)
    metrics.add(Metric.EVENTS, accepted, name, "accepted")
    if duplicates:
        metrics.add(Metric.EVENTS, duplicates, name, "duplicate")
    if rejected:
        metrics.add(Metric.EVENTS, rejected, name, "rejected")
