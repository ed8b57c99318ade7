"""A store, its server, and cells of the delivery matrix: senders, and what became of their events.

Processes and the server are real; between them stands ``chaos.ChaosProxy``.
"""

import contextlib
import itertools
import json
import os
import re
import select
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from chaos import ChaosProxy
from delivery_page import NEXT, PAGE, RESULTS, WITHIN_SECONDS, Line, lines_in, proof_of

from eventmill.base.clock import SystemClock
from eventmill.client.batch_uploader import BatchUploader
from eventmill.client.http_sink import HttpSink
from eventmill.client.spool.owner import orphans
from eventmill.testing.events import build_type

HERE = Path(__file__).parent
WAIT = 20.0
HEIRS = 1_000_000_000
"""The first number of events that are staged to make an heir look for what is left."""
LIFE = 10_000
"""Between the numbers of one sender's events and the next one's."""
SMALL = {
    "retry_base_seconds": 0.01,
    "retry_cap_seconds": 0.1,
    "flush_interval_seconds": 0.005,
    "batch_bytes": 2_000,
}
Build = build_type().cls


class Clock(SystemClock):
    """The machine's clock, with a wall clock that somebody sets, and time that nobody waits for."""

    def __init__(self):
        self.ahead_seconds = 0.0
        self.passed_seconds = 0.0

    def now(self):
        return super().now() + self.ahead_seconds

    def monotonic(self):
        return super().monotonic() + self.passed_seconds


def start_child(script, given, *, stdin=None):
    """Start a sender that is told ``given``."""
    return subprocess.Popen(
        [sys.executable, str(HERE / script), json.dumps(given)],
        stdout=subprocess.PIPE,
        stdin=stdin,
        stderr=subprocess.DEVNULL,
        bufsize=0,
    )


class Cell:
    """One run of one cell."""

    def __init__(self, world, request, spool_dir):
        self.world = world
        self.name = re.sub(r"\W+", "-", request.node.name.removeprefix("test_")).strip("-")
        self.use_spool(spool_dir)
        self.staged = set()
        self.refused = set()
        self.said = {}
        self.happened = Counter()
        self.adopted_seconds = 0.0
        self.is_judged = False
        self._mark = request.node.get_closest_marker("delivery")
        about = self._mark.kwargs if self._mark else {}
        self._about = {"mode": "process", "lost": "0", "counted": "", "delayed": NEXT} | about
        self._section = request.module.SECTION
        self._proof = proof_of(request.node.name)
        self._test = request.node.nodeid
        self._undo = contextlib.ExitStack()
        self._proxies = []
        self._numbers_of_heirs = itertools.count(HEIRS)

    def use_spool(self, spool_dir):
        """Look for what is left in another spool from now on."""
        self.spool_dir = str(spool_dir)
        self.folder = Path(spool_dir, "local.contract.builds")

    # -- senders -------------------------------------------------------------------------------

    def proxy(self, **likelihoods):
        """Return a proxy before the server; its port listens until the cell is judged."""
        proxy = ChaosProxy(self.world.server.port, **likelihoods)
        self._proxies.append(proxy)
        self._undo.callback(proxy.down)
        return proxy

    def child(self, how, url, *, script="sender_child.py", stdin=None, **given):
        """Start a sender that ends as ``how`` says."""
        given = {"spool_dir": self.spool_dir, "cell": self.name, **given}
        child = start_child(script, {"how": how, "url": url, **given}, stdin=stdin)
        self._undo.callback(child.stdout.close)
        self._undo.callback(child.wait, WAIT)
        self._undo.callback(child.kill)
        return child

    def end_of(self, child, *, seen=b"", timeout_seconds=WAIT):
        """Wait for the end of ``child`` and all that it forked; note what it staged.

        ``seen`` is what was read of it before, which may end in the middle of a line.
        """
        out, _ = child.communicate(timeout=timeout_seconds)
        self.note(seen + out)
        return child.returncode

    def left_by_a_dead_process(self):
        """Stage events in a process that cannot send one of them, and ends without any clean-up."""
        proxy = self.proxy()
        proxy.down()
        assert self.end_of(self.child("hard_exit", proxy.url)) == 3
        (orphan,) = orphans(str(self.folder))
        return orphan

    def read_lines(self, child, count):
        """Return what ``child`` writes until it has written more than ``count`` lines."""
        seen = b""
        while seen.count(b"\n") <= count:
            readable, _, _ = select.select([child.stdout], [], [], WAIT)
            assert readable, "the child stages nothing"
            read = child.stdout.read(4096)
            assert read, "the child has ended"
            seen += read
        return seen

    def kill(self, child, number, *, after_lines=0, after_seconds=0.0):
        """Send a signal when so many events are staged and so much time has passed."""
        seen = self.read_lines(child, after_lines)
        time.sleep(after_seconds)
        child.send_signal(number)
        self.note(seen + child.stdout.read())
        child.stdout.close()
        assert child.wait(WAIT) == -number

    def note(self, out):
        for line in out.split(b"\n")[:-1]:
            if line.startswith(b"{"):
                self.said.update(json.loads(line))
            elif line.startswith(b"r"):
                self.refused.add(int(line[1:]))
            else:
                self.staged.add(int(line))

    @contextlib.contextmanager
    def uploader(self, url, **options):
        """Yield an uploader in this process; what it stages through ``stage`` is noted."""
        options = {**SMALL, "spool_dir": self.spool_dir, **options}
        with HttpSink(url) as sink, BatchUploader(sink, "contract.builds", **options) as events:
            yield events

    def event(self, number, *, size=10):
        return Build(name=f"{self.name}/{number}", tags=["x" * size])

    def stage(self, events, numbers, *, size=10):
        """Stage events in this process; return how many were taken."""
        before = len(self.staged)
        for number in numbers:
            if events.stage(self.event(number, size=size)):
                self.staged.add(number)
        return len(self.staged) - before

    # -- what became of it ---------------------------------------------------------------------

    def adopt(self):
        """Let a new uploader send what is left; return its counts."""
        begun = time.monotonic()
        with self.uploader(self.world.server.url) as heir:
            self.stage(heir, [next(self._numbers_of_heirs)])
            while len(list(orphans(str(self.folder)))) > 1:
                assert time.monotonic() < begun + WITHIN_SECONDS, "what was left is not adopted"
                time.sleep(0.002)
            assert heir.flush(WITHIN_SECONDS) == 0
            self.adopted_seconds = time.monotonic() - begun
        left = set(os.listdir(self.folder)) - {".damaged", ".dead"}
        # A process that was killed while it made its folder has left that, and no event in it.
        left -= {path.name for path in self.folder.glob(".new-*") if not list(path.glob("*.seg"))}
        assert left == set(), "a spool in which nothing waits is still there"
        return heir.stats()

    def stored(self):
        """Return how often each number of this cell is in the store."""
        rows = self.world.store.query(
            f"SELECT name FROM contract.builds WHERE STARTS_WITH(name, '{self.name}/')",
            row_limit=None,
        )
        return Counter(int(row["name"].rpartition("/")[2]) for row in rows)

    def judge(self, stats, *, lost=(), counted=()):
        """Compare what was staged with what is stored, keep the result, and assert.

        Args:
            stats: of the last uploader: the one that ``adopt`` makes, which finds nothing left
                when the process at fault was to send all of it itself.
            lost: numbers that may be missing, as the line says.
            counted: numbers that are missing because of a stated rule, each of them counted.
        """
        self.is_judged = True
        stored = self.stored()
        for proxy in self._proxies:
            self.happened.update(proxy.happened)
        missing = self.staged - set(stored)
        doubled = sorted(number for number, count in stored.items() if count > 1)
        rest = missing - set(counted)
        line = Line(
            section=self._section,
            says=self._mark.args[0],
            mode=self._about["mode"],
            lost=self._about["lost"] if rest == set(lost) else str(len(rest)),
            doubled=str(len(doubled)),
            counted=self._about["counted"] or ("none" if not counted else "not stated"),
            delayed=self._about["delayed"],
            proof=self._proof,
        )
        self._keep(line, stats, missing)
        assert missing == set(lost) | set(counted)
        assert doubled == []
        assert not self.refused & set(stored), "the caller was told that these are not taken"
        assert len(self.staged) > 1
        assert bool(lost) is (self._about["lost"] != "0"), "the edge of the loss was not reached"
        if self._about["delayed"] != NEXT:
            assert stats.adopted == 0, "it was to be sent before the next process"
        assert line in lines_in(PAGE.read_text("utf-8")), (
            "docs/delivery.md says otherwise: run the fault tests, then scripts/write_delivery.py"
        )
        return stored

    def _keep(self, line, stats, missing):
        RESULTS.mkdir(parents=True, exist_ok=True)
        result = {
            "test": self._test,
            "line": asdict(line),
            "staged": len(self.staged),
            "missing": len(missing),
            "adopted": stats.adopted,
            "adopted_seconds": round(self.adopted_seconds, 3),
            "happened": dict(self.happened),
        }
        path = RESULTS / f"{self.name}.json"
        unfinished = path.with_suffix(f".{os.getpid()}")
        unfinished.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
        unfinished.replace(path)

    def end(self, *, has_failed):
        """Stop what the test has left running."""
        self._undo.close()
        assert self.is_judged or self._mark is None or has_failed, "a cell without a judgement"
