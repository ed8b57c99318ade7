"""Calling a sink again while only time is wanting: one policy for both uploaders."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeVar

from eventmill.base.errors import TransientError
from eventmill.base.patience import pause_seconds
from eventmill.client.encode import EventEncoder
from eventmill.schema.table import TableId
from eventmill.wire.sink import Catalog, Sink

RETRY_BASE_SECONDS = 0.1
RETRY_CAP_SECONDS = 30.0

_T = TypeVar("_T")


class Retry:
    """The pauses between attempts, and whose decision it is to make another one."""

    def __init__(
        self,
        rng: random.Random,
        *,
        base_seconds: float = RETRY_BASE_SECONDS,
        cap_seconds: float = RETRY_CAP_SECONDS,
    ) -> None:
        """Prepare to retry.

        Args:
            rng: spreads the pauses of many senders.
            base_seconds: bound of the pause before the first retry; doubles with each.
            cap_seconds: bound that the doubling never passes.
        """
        self._rng = rng
        self._base_seconds = base_seconds
        self.cap_seconds = cap_seconds

    def until_told(
        self, call: Callable[[], _T], wait: Callable[[float, TransientError], bool]
    ) -> _T:
        """Call until the answer is a value or a PermanentError.

        Args:
            call: one attempt; harmless when repeated.
            wait: told the pause in seconds and why there is one; waits, and answers True; or
                answers False to give up.

        Raises:
            TransientError: of the last attempt, when ``wait`` gave up.
            PermanentError: at once, as ``call`` raised it.
        """
        attempt = 0
        while True:
            try:
                return call()
            except TransientError as error:
                pause = pause_seconds(
                    error,
                    attempt,
                    self._rng,
                    base_seconds=self._base_seconds,
                    cap_seconds=self.cap_seconds,
                )
                if not wait(pause, error):
                    raise
            attempt += 1

    def learn(
        self,
        encoder: EventEncoder,
        sink: Sink,
        table: TableId,
        wait: Callable[[float, TransientError], bool],
    ) -> None:
        """Tell ``encoder`` what ``table`` is; a sink that cannot say is taken as it is.

        Raises:
            TransientError: ``wait`` gave up (see ``until_told``).
            PermanentError: there is no such table, or it does not take the encoder's messages.
        """
        if isinstance(sink, Catalog):
            encoder.learn(self.until_told(lambda: sink.describe(table), wait))
