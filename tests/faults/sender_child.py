"""Stages events until it ends in the way that it is told; run by the tests of the sender.

``python sender_child.py '{"how": "burst", "url": ..., "spool_dir": ..., "cell": ...}'``: after
``stage`` has returned it writes the event's number and a line feed to stdout with one unbuffered
write, so that the parent knows what was staged before the end, whatever kind of end that is. A
number whose event was refused is written after an ``r``, anything else that it has to say as JSON.
"""

import atexit
import gc
import json
import os
import random
import resource
import signal
import sys
import threading
import time
import traceback

late = []
atexit.register(lambda: [each() for each in late])
"""Runs after the uploaders are closed, as it was registered before there were any."""

from eventmill.base.errors import BackPressureError, UsageError  # noqa: E402
from eventmill.client.batch_uploader import BatchUploader  # noqa: E402
from eventmill.client.http_sink import HttpSink  # noqa: E402
from eventmill.testing.events import build_type  # noqa: E402

CLIENT = os.path.join("eventmill", "client")
MORE = 500_000
"""Added to the numbers of events that are staged in an unusual place."""


class Sender:
    """One uploader, and the events of one cell."""

    def __init__(self, given):
        self.given = given
        self.build = build_type().cls
        self.count = given.get("count", 300)
        self.begin = given.get("begin", 0)
        self.rng = random.Random(given.get("seed"))
        self.events = self.new_uploader()

    def new_uploader(self):
        return BatchUploader(
            HttpSink(self.given["url"]),
            "contract.builds",
            spool_dir=self.given["spool_dir"],
            **{
                "retry_base_seconds": 0.01,
                "retry_cap_seconds": 0.1,
                "flush_interval_seconds": 0.005,
                "batch_bytes": 2_000,
                **self.given.get("options", {}),
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
        self.stage(0, 1_000_000, lambda: self.rng.uniform(0, 0.004))

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

    def long_close(self):
        """Be told that ``close`` begins, and be killed in it."""
        self.stage(0, self.count)
        say(closing=True)
        say(left=self.events.close(10))

    def sigterm_closes(self):
        """Stage and close in the function of a signal, in the middle of whatever it strikes."""

        def end(number, frame):
            within = any(
                CLIENT in each.filename and "stage" in each.name
                for each in traceback.extract_stack(frame)
            )
            self.stage(MORE, MORE + 3)
            say(within=within, left=self.events.close(5))
            sys.exit(0)

        signal.signal(signal.SIGTERM, end)
        self.stage(0, 1_000_000)

    def ctrl_c(self):
        """Go on after each KeyboardInterrupt, wherever it is raised."""
        number = struck = within = 0
        is_armed = False

        def interrupt(*_):
            nonlocal is_armed
            if is_armed:  # else one would end what is done about the one before
                is_armed = False
                raise KeyboardInterrupt

        signal.signal(signal.SIGINT, interrupt)
        while number < self.count:
            try:
                is_armed = True
                while number < self.count:
                    number += 1
                    self.stage(number, number + 1)
                is_armed = False
            except KeyboardInterrupt as error:
                struck += 1
                frames = traceback.extract_tb(error.__traceback__)
                within += any(CLIENT in frame.filename for frame in frames)
        say(struck=struck, within=within, left=self.events.close(10))

    def at_exit(self):
        """Stage when the program is ending: before the uploaders are closed, and after."""

        def after_close():
            try:
                self.events.stage(self.build(name="too late"))
            except UsageError as error:
                say(told=str(error))
            self.events = self.new_uploader()
            self.stage(2 * MORE, 2 * MORE + 20)

        late.append(after_close)
        atexit.register(lambda: self.stage(MORE, MORE + 20))
        self.stage(0, self.count)

    def in_del(self):
        """Stage from ``__del__`` of objects that are collected in the middle of anything."""
        numbers = iter(range(MORE, 2 * MORE))
        within = []

        class Ending:
            def __init__(self):
                self.itself = self

            def __del__(ending):
                frame = sys._getframe(1)
                while frame and CLIENT not in frame.f_code.co_filename:
                    frame = frame.f_back
                within.append(frame is not None)
                number = next(numbers)
                self.stage(number, number + 1)

        gc.set_threshold(20)
        for number in range(self.count):
            Ending()
            self.stage(number, number + 1)
        while len(within) < self.count:  # another thread may be in the middle of collecting
            gc.collect()
            time.sleep(0.001)
        say(within=sum(within), left=self.events.close(10))

    def no_thread(self):
        """Stage while no thread can be had, and end; or, told so, have one again."""
        real = threading.Thread.start
        refused = []

        def start(thread):
            refused.append(thread)
            raise RuntimeError("can't start new thread")

        threading.Thread.start = start
        self.stage(0, self.count // 2)
        if self.given.get("again"):
            threading.Thread.start = real
        self.stage(self.count // 2, self.count)
        say(refused=len(refused), left=self.events.close(5 if self.given.get("again") else 0.1))

    def through_outage(self):
        """Stage ten events a second until told otherwise, and send what has gathered."""
        told = threading.Event()
        threading.Thread(target=lambda: (sys.stdin.readline(), told.set()), daemon=True).start()
        self.stage(0, 100)
        number = 100
        while not told.wait(1.0):
            self.stage(number, number + 10)
            number += 10
        before = self.events.stats()
        left = self.events.close(10)
        say(retried=before.retried, waited=before.left, left=left)

    def full_disk(self):
        """Meet a file that may not grow, and find it growing again."""
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
        self.stage(0, self.count)
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        self.stage(self.count, self.count + 50)
        say(dropped=self.events.stats().dropped["disk"])
        os._exit(0)

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

    def adopt_until_killed(self):
        """Take over what others left, and be killed at it."""
        self.stage(0, 1)
        time.sleep(60)


def say(**words):
    os.write(1, json.dumps(words).encode() + b"\n")


def main(kind=Sender):
    given = json.loads(sys.argv[1])
    getattr(kind(given), given["how"])()


if __name__ == "__main__":
    main()
