"""Waiting for what time may mend: on a clock of the test's own."""

from __future__ import annotations

import random

import pytest

from eventmill.base.errors import BackPressureError, PermanentError, StoreBusyError, TransientError
from eventmill.base.patience import call_patiently


class FakeClock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        return self.seconds

    monotonic = now

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


class Failing:
    """Fails with the given errors in turn, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self._errors = list(errors)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self._errors:
            raise self._errors.pop(0)
        return "done"


def patiently(call, clock, **more):
    return call_patiently(call, wait_seconds=10, clock=clock, rng=random.Random(7), **more)


def test_it_calls_again_until_it_succeeds():
    clock, call = FakeClock(), Failing(TransientError("a"), TransientError("b"))
    assert patiently(call, clock) == "done"
    assert call.calls == 3
    assert 0 < clock.seconds < 1


def test_it_waits_as_long_as_it_is_asked_to():
    clock = FakeClock()
    patiently(Failing(BackPressureError("full", retry_after_seconds=3.0)), clock)
    assert clock.seconds == 3.0


def test_it_ends_with_the_last_failure_when_time_runs_out():
    clock, call = FakeClock(), Failing(*(TransientError(str(n)) for n in range(1000)))
    with pytest.raises(TransientError):
        patiently(call, clock)
    assert clock.seconds <= 10
    assert call.calls > 5


def test_what_time_does_not_mend_passes_at_once():
    clock, call = FakeClock(), Failing(PermanentError("no"))
    with pytest.raises(PermanentError):
        patiently(call, clock)
    assert (clock.seconds, call.calls) == (0.0, 1)


def test_only_the_named_failures_are_waited_for():
    call = Failing(TransientError("other"))
    with pytest.raises(TransientError, match="other"):
        patiently(call, FakeClock(), retry_on=StoreBusyError)
    assert call.calls == 1
