"""Calling again what time may mend, for as long as the caller is willing to wait."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeVar

from eventmill.base.clock import SYSTEM_CLOCK, Clock, backoff_seconds
from eventmill.base.errors import TransientError

_T = TypeVar("_T")


def pause_seconds(
    error: TransientError,
    attempt: int,
    rng: random.Random,
    *,
    base_seconds: float,
    cap_seconds: float,
) -> float:
    """Draw the pause after a failure: the backoff's, and never less than the other end asks for.

    Args:
        error: the failure.
        attempt: 0 for the first retry.
        rng: source of chance.
        base_seconds: bound of the first pause's chance.
        cap_seconds: bound that its doubling never passes; what the other end asks for may.
    """
    drawn = backoff_seconds(attempt, rng, base_seconds=base_seconds, cap_seconds=cap_seconds)
    return max(drawn, error.retry_after_seconds or 0.0)


def call_patiently(
    call: Callable[[], _T],
    *,
    wait_seconds: float,
    retry_on: type[TransientError] = TransientError,
    clock: Clock = SYSTEM_CLOCK,
    rng: random.Random | None = None,
) -> _T:
    """Call until it succeeds or ``wait_seconds`` have passed, with growing pauses between.

    Args:
        call: harmless when repeated, such as putting one batch.
        wait_seconds: no new attempt begins later than this after the first; 0: one attempt.
        retry_on: which failures are worth another attempt.
        clock: tells and passes the time.
        rng: spreads the pauses of many callers; None: a new one.

    Raises:
        TransientError: the last failure, when time ran out. Other errors pass at once.
    """
    rng = rng or random.Random()  # noqa: S311 - spreads the callers, guards nothing
    deadline = clock.monotonic() + wait_seconds
    attempt = 0
    while True:
        try:
            return call()
        except retry_on as error:
            pause = pause_seconds(error, attempt, rng, base_seconds=0.05, cap_seconds=2.0)
            if clock.monotonic() + pause > deadline:
                raise
            clock.sleep(pause)
            attempt += 1
