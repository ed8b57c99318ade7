"""Stages events until it ends in the way that it is told; run by the tests of the sender.

``python sender_child.py '{"how": "burst", "url": ..., "spool_dir": ..., "cell": ...}'``: after
``stage`` has returned it writes the event's number and a line feed to stdout with one unbuffered
write, so that the parent knows what was staged before the end, whatever kind of end that is. A
number whose event was refused is written after an ``r``, anything else that it has to say as JSON.
"""

import json
import multiprocessing
import os
import random
import resource
import sys
import time

from eventmill.base.errors import BackPressureError
from eventmill.client.batch_uploader import BatchUploader
from eventmill.client.http_sink import HttpSink
from eventmill.testing.events import build_type

FORK_OFFSET = 1_000_000
"""Added to the numbers of a forked child's events."""


class Sender:
    """One uploader, and the events of one cell."""

    def __init__(self, given):
        self.given = given
        self.build = build_type().cls
        self.count = given.get("count", 300)
        self.begin = given.get("begin", 0)
        self.events = BatchUploader(
            HttpSink(given["url"]),
            "contract.builds",
            spool_dir=given["spool_dir"],
            **{
                "retry_base_seconds": 0.01,
                "retry_cap_seconds": 0.1,
                "flush_interval_seconds": 0.005,
                "batch_bytes": 2_000,
                **given.get("options", {}),
            },
        )

    def stage(self, begin, end, pause=None):
        for number in range(self.begin + begin, self.begin + end):
            event = self.build(name=f"{self.given['cell']}/{number}", tags=["x" * (number % 90)])
            try:
                self.events.stage(event)
            except BackPressureError:
                os.write(1, b"r%d\n" % number)
                continue
            os.write(1, b"%d\n" % number)
            if pause is not None:
                time.sleep(pause())

    # -- ways to end; each has its name from the test ------------------------------------------

    def burst(self):
        """Stage as fast as it goes, then wait for the end."""
        self.stage(0, self.count)
        time.sleep(60)

    def steady(self):
        """Stage about 500 a second until the end."""
        rng = random.Random(self.given["seed"])
        self.stage(0, 1_000_000, lambda: rng.uniform(0, 0.004))

    def plain_exit(self):
        """End as a program does that never heard of ``close``."""
        self.stage(0, self.count)

    def hard_exit(self):
        """End without any clean-up of Python's."""
        self.stage(0, self.count)
        os._exit(3)

    def short_close(self):
        """End with little time for what is left."""
        self.stage(0, self.count)
        say(left=self.events.close(0.2))

    def fork_first(self):
        """Fork before the first event; parent and child stage at the same time."""
        self.in_fork(lambda: self.stage(0, self.count))

    def fork_later(self):
        """Fork while events wait and threads send."""
        self.stage(0, self.count // 2)
        self.in_fork(lambda: self.stage(self.count // 2, self.count))

    def in_fork(self, meanwhile):
        child = os.fork()
        if not child:
            self.stage(FORK_OFFSET, FORK_OFFSET + self.count)
            os._exit(0)
        meanwhile()
        os.waitpid(child, 0)

    def multiprocessing_fork(self):
        """Let worker processes stage, that know nothing of the uploader's life."""
        self.stage(0, self.count // 2)
        context = multiprocessing.get_context("fork")
        workers = [
            context.Process(target=self.stage, args=(begin, begin + self.count))
            for begin in (FORK_OFFSET, 2 * FORK_OFFSET)
        ]
        for worker in workers:
            worker.start()
        self.stage(self.count // 2, self.count)
        for worker in workers:
            worker.join()

    def full_disk(self):
        """Meet a file that may not grow, and find it growing again."""
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
        self.stage(0, self.count)
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        self.stage(self.count, self.count + 50)
        say(dropped=self.events.stats().dropped["disk"])

    def adopt(self):
        """Wait for a word, then take over what others left, and tell how much that was."""
        os.write(1, b"{}\n")
        sys.stdin.readline()
        self.stage(0, 1)
        deadline = time.monotonic() + 10
        while os.path.exists(self.given["orphan"]) and time.monotonic() < deadline:
            time.sleep(0.005)
        self.events.flush(10)
        say(adopted=self.events.stats().adopted)


def say(**words):
    os.write(1, json.dumps(words).encode() + b"\n")


def main():
    given = json.loads(sys.argv[1])
    getattr(Sender(given), given["how"])()


if __name__ == "__main__":
    main()
