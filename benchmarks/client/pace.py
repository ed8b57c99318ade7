"""What sending costs the caller, how soon all is acked, and what an import and an outage cost."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time

import eventmill
from benchmarks.client.processes import (
    PEERS_PYTHON,
    ROOT,
    TABLE,
    counts,
    loopback_environment,
    spec,
)
from benchmarks.pairs import Measure, pair
from eventmill.cli.demo.server import ServerProcess

OURS = "eventmill"
BUFFERED = "bigquery_lists"
"""Most of its calls only append to a list of the caller's own: no call to hold ours against."""
IMPORTS = {
    "eventmill": (sys.executable, "import eventmill"),
    "eventmill and all it takes to send": (
        sys.executable,
        "import eventmill; eventmill.connect('http://127.0.0.1:9'); eventmill.BatchUploader",
    ),
    "posthog": (PEERS_PYTHON, "import posthog"),
    "snowplow": (PEERS_PYTHON, "import snowplow_tracker"),
    "opentelemetry": (
        PEERS_PYTHON,
        "import opentelemetry.sdk._logs, opentelemetry.exporter.otlp.proto.http._log_exporter",
    ),
    "bigquery": (PEERS_PYTHON, "import google.cloud.bigquery"),
}


def bench_calls(bench, event_counts, rounds):
    """Return the measures of a burst into the trivial sink, the contenders in turn.

    Args:
        bench: files of the run.
        event_counts: events of a burst, by contender.
        rounds: of all contenders, every second one in the opposite order.
    """
    runs = {name: [] for name in event_counts}
    for number in range(rounds):
        for name in list(event_counts)[:: -1 if number % 2 else 1]:
            with bench.sink() as url:
                run = bench.run(
                    "caller",
                    contender=name,
                    url=url,
                    count=event_counts[name],
                    folder=bench.spool(),
                )
                run["arrived"] = counts(url)["different"]
                run["rate"] = run["arrived"] / run["seconds"]
            runs[name].append(run)
    return [*_costs(runs), *_rates(runs)]


def _costs(runs):
    peers = [name for name in runs if name not in (OURS, BUFFERED)]
    ours = runs[OURS]

    def value(name, key):
        return statistics.median(run[key] for run in runs[name])

    yield _at_most("caller, p50 of stage", value(OURS, "call_p50"), 4, "us")
    yield _at_most("caller, p99 of stage", value(OURS, "call_p99"), 15, "us")
    yield Measure("  mean of stage", value(OURS, "call_mean"), "us")
    for name in [*peers, *([BUFFERED] if BUFFERED in runs else ())]:
        yield Measure(f"  {name}, p50", value(name, "call_p50"), "us")
        yield Measure(f"  {name}, p99", value(name, "call_p99"), "us")
        yield Measure(f"  {name}, mean", value(name, "call_mean"), "us")
    yield pair(
        "p50 of stage / making the message, protobuf alone",
        [run["call_p50"] for run in ours],
        [run["make_p50"] for run in ours],
        "us",
    )
    best = min(peers, key=lambda name: value(name, "call_p50"))
    # A peer's call takes the fields; ours takes a message, so that making one counts with it.
    for what, key in (("stage", "call_p50"), ("making and staging", "made_p50")):
        mine = [run[key] for run in ours]
        others = [run["call_p50"] for run in runs[best]]
        middle = [
            statistics.median(round_)
            for round_ in zip(
                *([run["call_p50"] for run in runs[name]] for name in peers), strict=True
            )
        ]
        third, eighth = (0.333, 0.125) if what == "stage" else (None, None)
        yield pair(f"p50 of {what} / best peer ({best})", mine, others, "us", at_most=third)
        yield pair(f"p50 of {what} / median of the peers", mine, middle, "us", at_most=eighth)


def _rates(runs):
    def value(name, key):
        return statistics.median(run[key] for run in runs[name])

    yield _at_least("all acked, trivial sink", value(OURS, "rate"), 100_000, "events/s")
    peers = [name for name in runs if name != OURS]
    for name in peers:
        yield Measure(f"  {name}", value(name, "rate"), _lost_in(runs[name]))
    best = max(peers, key=lambda name: value(name, "rate"))
    yield pair(
        f"all acked / best peer ({best})",
        [run["rate"] for run in runs[OURS]],
        [run["rate"] for run in runs[best]],
        "events/s",
    )
    yield Measure("processor time, all threads", value(OURS, "cpu"), "us an event")
    for name in peers:
        yield Measure(f"  {name}", value(name, "cpu"), "us an event")


def _lost_in(runs):
    missing = max(run["count"] - run["arrived"] for run in runs)
    return "events/s" + (f"; up to {missing} did not come" if missing else "")


def bench_server(bench, count, rounds):
    """Return the measures of sending into the durable server, with its compactor at work."""
    served, trivial, compacted = [], [], []
    for number in range(rounds):
        data = os.path.join(bench.folder, f"served-{number}")
        with bench.sink() as url:
            trivial.append(_rate(bench, url, count))
            assert counts(url)["different"] == count
        with ServerProcess(data) as server, eventmill.open_store(server.url) as store:
            store.apply(spec())
            served.append(_rate(bench, server.url, count))
            stats = store.stats(TABLE)
            assert count <= stats.rows <= count + 1_000, (stats, count)
            compacted.append(stats.lake_rows)
    measure = pair("all acked, durable server / trivial sink", served, trivial, "events/s")
    measure.target = "at least 80,000"
    measure.holds = measure.value >= 80_000
    yield measure
    yield Measure("  of a burst in Parquet when all was acked", max(compacted), f"of {count} rows")


def _rate(bench, url, count):
    run = bench.run("caller", contender=OURS, url=url, count=count, folder=bench.spool())
    return count / run["seconds"]


def bench_import(rounds):
    """Return what importing costs over a bare Python, the least of ``rounds``, in turn."""
    bare, took = {}, {}
    for _ in range(rounds):
        for name, (python, statement) in IMPORTS.items():
            bare.setdefault(python, []).append(_seconds(python, "pass"))
            took.setdefault(name, []).append(_seconds(python, statement))
    for name, (python, _) in IMPORTS.items():
        cost = (min(took[name]) - min(bare[python])) * 1e3
        if python == sys.executable:
            yield _at_most(f"import of {name}", cost, 80, "ms")
        else:
            yield Measure(f"  {name}", cost, "ms")


def _seconds(python, statement):
    began = time.perf_counter()
    subprocess.run([str(python), "-c", statement], cwd=ROOT, check=True)
    return time.perf_counter() - began


def bench_memory(bench, count):
    """Return what a process gains while ``count`` events wait for a server that went down."""
    with bench.sink() as url:
        child = subprocess.Popen(
            bench.command("memory", contender=OURS, url=url, count=count, folder=bench.spool()),
            cwd=ROOT,
            env=loopback_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        child.stdout.readline()
    told = json.loads(child.communicate("\n")[0])
    assert told["warm_left"] == 0, told
    assert told["left"] == count, told
    yield _at_most(
        f"memory gained, {count:,} events staged with the server down",
        told["growth"] / 1e6,
        5,
        "MB",
    )
    yield Measure("  at its highest", told["peak_growth"] / 1e6, "MB")
    yield Measure("  spool on disk", told["spooled_bytes"] / 1e6, "MB")
    yield Measure("  p50 of stage meanwhile", told["call_p50"], "us")
    yield Measure("  p99 of stage meanwhile", told["call_p99"], "us")


def _at_most(name, value, limit, unit):
    return Measure(name, value, unit, None, None, f"at most {limit:,}", value <= limit)


def _at_least(name, value, limit, unit):
    return Measure(name, value, unit, None, None, f"at least {limit:,}", value >= limit)
