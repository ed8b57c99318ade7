"""``python -m benchmarks.client [--quick]``: sending, beside other clients, printed and written."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from pathlib import Path

from benchmarks.client.contenders import CONTENDERS
from benchmarks.client.losses import bench_losses
from benchmarks.client.pace import bench_calls, bench_import, bench_memory, bench_server
from benchmarks.client.processes import PEERS_PYTHON, Bench
from benchmarks.pairs import report

COUNTS = {"eventmill": 100_000, "bigquery_rows": 1_000}
QUICK_COUNTS = {"eventmill": 40_000, "bigquery_rows": 300}
PARTS = ("calls", "server", "import", "memory", "losses")


def measures(parts, *, quick):
    """Yield the measures of ``parts``, in order."""
    with Bench() as bench:
        if "calls" in parts:
            given, others = (QUICK_COUNTS, 3_000) if quick else (COUNTS, 20_000)
            event_counts = {name: given.get(name, others) for name in CONTENDERS}
            yield from bench_calls(bench, event_counts, 2 if quick else 7)
        if "server" in parts:
            yield from bench_server(bench, 100_000 if quick else 400_000, 1 if quick else 5)
        if "import" in parts:
            yield from bench_import(2 if quick else 10)
        if "memory" in parts:
            yield from bench_memory(bench, 200_000 if quick else 1_000_000)
        if "losses" in parts:
            yield from bench_losses(
                bench,
                list(CONTENDERS),
                runs=1 if quick else 3,
                outage_seconds=3.0 if quick else 60.0,
                patience_seconds=3.0 if quick else 30.0,
                restarts_all=not quick,
                at_once=6 if quick else 1,
            )


def peer_versions():
    """Return the versions of the peers in their environment."""
    lines = Path(__file__).with_name("peers.txt").read_text().splitlines()
    names = [line.partition("==")[0] for line in lines if not line.startswith("#")]
    program = "import json, sys; from importlib.metadata import version as v"
    program += "; print(json.dumps({name: v(name) for name in sys.argv[1:]}))"
    return json.loads(subprocess.check_output([str(PEERS_PYTHON), "-c", program, *names]))


def main():
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--quick", action="store_true", help="under a minute")
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS)
    chosen = parser.parse_args()
    if not PEERS_PYTHON.exists():
        parser.error(f"{PEERS_PYTHON} is not there: `make bench-client` makes it")
    load_before = round(os.getloadavg()[0], 2)
    found = list(measures(chosen.only, quick=chosen.quick))
    is_whole = tuple(chosen.only) == PARTS
    name = "client" if is_whole else f"client-{'-'.join(chosen.only)}"
    report(name, found, peer_versions(), load_before)
    print(f"load of the machine before the run: {load_before}")


if __name__ == "__main__":
    main()
