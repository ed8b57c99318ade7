"""What a burst costs its caller, and how soon all of it is acked: one contender, one process.

``python -m benchmarks.client.caller '{"contender": ..., "url": ..., "count": ...}'`` prints JSON.
"""

from __future__ import annotations

import json
import sys
import time

from benchmarks.client.contenders import start
from benchmarks.client.event import UNCOUNTED, values_of

WARM_UP = 300
WARM_UP_SECONDS = 0.4


def measure(contender, count):
    """Send ``count`` events and close; return the costs in microseconds, and the pace."""
    make, capture = contender.make, contender.capture
    for number in range(UNCOUNTED, UNCOUNTED + min(WARM_UP, count)):
        capture(make(values_of(number)))
    time.sleep(WARM_UP_SECONDS)
    makes, calls, both = [], [], []
    note_make, note_call, note_both = makes.append, calls.append, both.append
    now = time.perf_counter_ns
    cpu = time.process_time()
    began = now()
    for number in range(count):
        values = values_of(number)
        first = now()
        event = make(values)
        second = now()
        capture(event)
        third = now()
        note_make(second - first)
        note_call(third - second)
        note_both(third - first)
    staged = now() - began
    contender.close()
    took = now() - began
    cpu = time.process_time() - cpu
    return {
        "count": count,
        "call_p50": percentile(calls, 0.5),
        "call_p99": percentile(calls, 0.99),
        "call_mean": sum(calls) / count / 1e3,
        "call_max": max(calls) / 1e3,
        "make_p50": percentile(makes, 0.5),
        "made_p50": percentile(both, 0.5),
        "made_p99": percentile(both, 0.99),
        "staged_seconds": staged / 1e9,
        "seconds": took / 1e9,
        "cpu": cpu * 1e6 / count,
    }


def percentile(nanoseconds, share):
    """Return the microseconds that ``share`` of the calls did not exceed."""
    ordered = sorted(nanoseconds)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] / 1e3


def main():
    """Do what the first argument says."""
    given = json.loads(sys.argv[1])
    contender = start(
        given["contender"],
        given["url"],
        lifted=True,
        folder=given.get("folder", ""),
        events=given.get("events", ""),
    )
    print(json.dumps(measure(contender, given["count"])))


if __name__ == "__main__":
    main()
