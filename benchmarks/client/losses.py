"""What is lost by each contender in each way to end; the parent's half of ``loss``."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

from benchmarks.client.processes import ROOT, counts, free_port, loopback_environment
from benchmarks.pairs import Measure

BURST = 1_250
"""Ends amid a list of 500, as a program does on average."""
FORK_COUNT = 750
KILL_AFTER_SECONDS = 0.01
"""Between the last call of a burst and the end of its process."""
SETTLE_SECONDS = 0.3
PER_SECOND = 100
AFTER_OUTAGE_SECONDS = 3.0
MODES = ("exit without close", "SIGTERM", "kill -9", "fork", "outage")


@dataclass
class Loss:
    """What became of the events of one run."""

    sent: int
    refused: int
    """Of them the caller was told, by an exception."""
    arrived: int
    """Different ones at the sink, after the program was started once more."""
    hung: bool
    longest_ms: float
    """Longest call."""
    late: int = 0
    """Of those that arrived, the ones that came with the next start."""

    @property
    def lost(self):
        """Events of which nobody was told and that never came."""
        return self.sent - self.refused - self.arrived


def run_mode(bench, contender, mode, *, outage_seconds, patience_seconds, restarts_all):
    """Run one contender in one mode, then once more as the next start of the same program."""
    folder = bench.spool()
    with ExitStack() as stack:
        is_outage = mode == "outage"
        port = free_port() if is_outage else 0
        url = f"http://127.0.0.1:{port}" if is_outage else stack.enter_context(bench.sink())
        given = {
            "contender": contender,
            "url": url,
            "folder": folder,
            "patience_seconds": patience_seconds,
            "count": FORK_COUNT if mode == "fork" else BURST,
            "per_second": PER_SECOND,
            "seconds": outage_seconds + AFTER_OUTAGE_SECONDS,
            "mode": mode if mode in ("fork", "outage") else "stay",
        }
        if mode == "exit without close":
            given["mode"] = "exit"
        with subprocess.Popen(
            bench.command("loss", **given),
            cwd=ROOT,
            env=loopback_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        ) as child:
            first = child.stdout.readline()
            if is_outage:
                time.sleep(outage_seconds)
                stack.enter_context(bench.sink(port))
            elif mode in ("SIGTERM", "kill -9"):
                time.sleep(KILL_AFTER_SECONDS)
                (child.terminate if mode == "SIGTERM" else child.kill)()
            told, hung = _rest(child, 3 + patience_seconds + given["seconds"] * is_outage)
        time.sleep(SETTLE_SECONDS)
        alone = counts(url)["different"]
        if restarts_all or os.listdir(folder):
            _next_start(bench, {**given, "mode": "next"}, patience_seconds)
            time.sleep(SETTLE_SECONDS)
        for line in (first + told).splitlines():
            given.update(json.loads(line))
        arrived = counts(url)["different"]
        return Loss(
            given["sent"],
            given["refused"],
            arrived,
            hung or given.get("hung", False),
            given["longest_ms"],
            arrived - alone,
        )


def _rest(child, seconds):
    """Return what else the child says, and whether it had to be ended."""
    try:
        return child.communicate(timeout=seconds)[0], False
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)  # its own session: what it forked as well
        return child.communicate()[0], True


def _next_start(bench, given, patience_seconds):
    with subprocess.Popen(
        bench.command("loss", **given),
        cwd=ROOT,
        env=loopback_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as child:
        try:
            child.wait(patience_seconds + 5)
        except subprocess.TimeoutExpired:
            child.kill()


def bench_losses(bench, contenders, *, runs, at_once, **limits):
    """Return the measures of every mode: ours held to none, each peer's beside it.

    Args:
        bench: files of the run.
        contenders: names; the first is ours.
        runs: of each mode; ours tells the worst of them, a peer the median.
        at_once: programs that run at the same time, beside all outages, which mostly wait.
        limits: ``outage_seconds``, how long no server is there; ``patience_seconds``, after which
            a program that does not end counts as hung; ``restarts_all``, whether a program is
            started once more even if it has left nothing in its folder.
    """
    cells = [(mode, name) for mode in MODES for name in contenders for _ in range(runs)]
    outages = [cell for cell in cells if cell[0] == "outage"]
    others = [cell for cell in cells if cell[0] != "outage"]
    found = {}
    with ThreadPoolExecutor(len(outages)) as waiting, ThreadPoolExecutor(at_once) as busy:
        runs = [
            (cell, pool.submit(run_mode, bench, cell[1], cell[0], **limits))
            for pool, part in ((waiting, outages), (busy, others))
            for cell in part
        ]
        for cell, run in runs:
            found.setdefault(cell, []).append(run.result())
    return [
        measure
        for mode in MODES
        for measure in _measures(mode, {name: found[mode, name] for name in contenders}, limits)
    ]


def _measures(mode, by_contender, limits):
    ours, *peers = by_contender
    what = f"{mode} of {limits['outage_seconds']:g} s" if mode == "outage" else mode
    worst = max(loss.lost for loss in by_contender[ours])
    fewest = min(statistics.median(loss.lost for loss in by_contender[name]) for name in peers)
    is_none = worst == 0 and not any(loss.hung for loss in by_contender[ours])
    yield Measure(
        f"lost, {what}: {ours}", worst, _unit(by_contender[ours]), fewest, None, "none", is_none
    )
    for name in peers:
        lost = statistics.median(loss.lost for loss in by_contender[name])
        yield Measure(f"  {name}", lost, _unit(by_contender[name]))


def _unit(losses):
    """Return what the number counts, and what else a reader of it must know."""
    sent = statistics.median(loss.sent for loss in losses)
    words = [f"of {sent:g} events"]
    refused = statistics.median(loss.refused for loss in losses)
    if refused:
        words.append(f"{refused:g} more refused with an exception")
    late = statistics.median(loss.late for loss in losses)
    if late:
        words.append(f"{late:g} came with the next start")
    longest = statistics.median(loss.longest_ms for loss in losses)
    if longest >= 1_000:
        words.append(f"a call took {longest / 1e3:.1f} s")
    if any(loss.hung for loss in losses):
        words.append("did not end by itself")
    return "; ".join(words)
