"""A program that sends and ends in one of the ways in which programs end: one contender.

``python -m benchmarks.client.loss '{"contender": ..., "mode": ..., ...}'``. What was handed over is
told on stdout, one JSON object a line, before the end comes.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time

from benchmarks.client.contenders import start
from benchmarks.client.event import UNCOUNTED, values_of

STAY_SECONDS = 60.0
WARM_UP = 20
WARM_UP_SECONDS = 0.5
NEXT_SECONDS = 1.0
"""What the next start of the program is given to find what the last one left."""


class Program:
    """A program with one contender."""

    def __init__(self, given):
        self.given = given
        self.contender = start(
            given["contender"],
            given["url"],
            folder=given.get("folder", ""),
            events=given.get("events", ""),
        )
        self.sent = self.refused = 0
        self.longest = 0.0

    def send(self, begin, end):
        """Hand over events ``begin`` to ``end``; one that raises was refused, and told to be."""
        contender = self.contender
        for number in range(begin, end):
            asked = time.perf_counter()
            try:
                contender.capture(contender.make(values_of(number)))
            except Exception:  # noqa: BLE001 - each library has errors of its own
                self.refused += 1
            self.longest = max(self.longest, time.perf_counter() - asked)
            self.sent += 1

    def close(self):
        """Close as documented, and tell how that went."""
        asked = time.perf_counter()
        try:
            self.contender.close()
        except Exception as error:  # noqa: BLE001 - so has each close
            say(close_error=repr(error)[:200])
        say(close_seconds=time.perf_counter() - asked)

    def tell(self):
        """Tell what was handed over."""
        say(sent=self.sent, refused=self.refused, longest_ms=self.longest * 1e3)

    # -- ways to end ------------------------------------------------------------------------

    def exit(self):
        """Run to its last line, without close."""
        self.send(0, self.given["count"])
        self.tell()

    def stay(self):
        """Send a burst and stay, until whoever started it ends it."""
        self.send(0, self.given["count"])
        self.tell()
        time.sleep(STAY_SECONDS)

    def fork(self):
        """Use the library, fork, and send from the child, which closes."""
        self.send(UNCOUNTED, UNCOUNTED + WARM_UP)
        time.sleep(WARM_UP_SECONDS)
        child = os.fork()
        if not child:
            self.sent = self.refused = 0
            self.send(0, self.given["count"])
            self.tell()
            self.close()
            os._exit(0)
        deadline = time.monotonic() + self.given["patience_seconds"]
        while not os.waitpid(child, os.WNOHANG)[0]:
            if time.monotonic() > deadline:
                say(hung=True)
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                break
            time.sleep(0.05)
        os._exit(0)  # the parent's own end is another mode

    def outage(self):
        """Send at a steady pace while there is no server, and then a little longer; close."""
        say(begun=True)
        begun = time.perf_counter()
        count = int(self.given["seconds"] * self.given["per_second"])
        for number in range(count):
            self.send(number, number + 1)
            ahead = begun + self.sent / self.given["per_second"] - time.perf_counter()
            if ahead > 0:
                time.sleep(ahead)
            if time.perf_counter() - begun > self.given["seconds"]:
                break  # the calls took so long that there was no time for more
        self.tell()
        self.close()
        os._exit(0)

    def next(self):
        """Be the same program, started again."""
        self.contender.capture(self.contender.make(values_of(UNCOUNTED)))
        time.sleep(NEXT_SECONDS)
        self.close()


def say(**words):
    """Print one JSON object in one write."""
    os.write(1, json.dumps(words).encode() + b"\n")


def main():
    """Do what the first argument says."""
    given = json.loads(sys.argv[1])
    getattr(Program(given), given["mode"])()


if __name__ == "__main__":
    main()
