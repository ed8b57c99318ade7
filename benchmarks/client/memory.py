"""What a process gains in memory while a server is down and events wait: Eventmill alone.

``python -m benchmarks.client.memory '{"url": ..., "count": ..., ...}'`` sends some events to the
server at ``url``, prints a line, and stages ``count`` more once a line has come on stdin.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from array import array
from contextlib import suppress
from pathlib import Path

from benchmarks.client.caller import percentile
from benchmarks.client.event import values_of

WARM_UP = 5_000


def main():
    """Do what the first argument says."""
    import eventmill
    from eventmill.schema.message_type import MessageType

    logging.disable(logging.CRITICAL)  # that events wait is the point
    given = json.loads(sys.argv[1])
    sink = eventmill.connect(given["url"])
    uploader = eventmill.BatchUploader(
        sink,
        "bench.builds",
        spool_dir=given["folder"],
        spool_bytes_max=given["count"] * 1_000 + 10_000_000,
    )
    make = MessageType.load(Path(given["events"]).read_bytes(), "bench.Build").cls
    for number in range(WARM_UP):
        uploader.stage(make(**values_of(number)))
    left = uploader.flush(30)
    calls = array("q", bytes(8 * given["count"]))  # its memory is not the library's growth
    print("down", flush=True)
    sys.stdin.readline()
    with suppress(OSError):  # begins the highest mark anew, where that is allowed
        Path("/proc/self/clear_refs").write_text("5")
    before = rss_bytes()
    now = time.perf_counter_ns
    for number in range(given["count"]):
        message = make(**values_of(number))
        asked = now()
        uploader.stage(message)
        calls[number] = now() - asked
    after = rss_bytes()
    stats = uploader.stats()
    print(
        json.dumps(
            {
                "growth": after - before,
                "peak_growth": rss_bytes("VmHWM") - before,
                "left": stats.left,
                "warm_left": left,
                "spooled_bytes": stats.spooled_bytes,
                "call_p50": percentile(calls, 0.5),
                "call_p99": percentile(calls, 0.99),
            }
        )
    )
    sys.stdout.flush()
    uploader.close(0)


def rss_bytes(field="VmRSS"):
    """Return the memory that this process has (``VmHWM``: has ever had) in use."""
    with open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith(field):
                return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


if __name__ == "__main__":
    main()
