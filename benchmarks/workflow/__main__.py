"""``python -m benchmarks.workflow [--quick]``: workflows, side by side, printed and written."""

from __future__ import annotations

import argparse
import json
import os
import subprocess

from benchmarks.pairs import report
from benchmarks.workflow.aggregate import BEAM_PYTHON, bench_beam, bench_sql
from benchmarks.workflow.idle import measures as bench_idle
from benchmarks.workflow.repair import bench_repair
from benchmarks.workflow.world import World

PARTS = ("sql", "repair", "idle", "beam")
EVENTS, HOURS = 1_000_000, 240
QUICK_EVENTS, QUICK_HOURS = 40_000, 12


def measures(parts, *, quick):
    """Yield the measures of ``parts``, in order."""
    world = World(QUICK_EVENTS if quick else EVENTS, QUICK_HOURS if quick else HOURS)
    # Over a few events the cost of a slot outweighs that of its rows: no targets for those.
    at_most = (None, None) if quick else (1.3, 0.05)
    try:
        yield from bench_sql(world, 3 if quick else 9, at_most[0])
        if "beam" in parts:
            yield from bench_beam(world)
        if "repair" in parts:
            yield from bench_repair(world, 2 if quick else 5, at_most[1])
        if "idle" in parts:
            yield from bench_idle(quick=quick)
    finally:
        world.close()


def beam_versions():
    """Return the versions in the environment of Beam."""
    program = "import json; from importlib.metadata import version as v"
    program += "; print(json.dumps({'apache-beam': v('apache-beam')}))"
    return json.loads(subprocess.check_output([str(BEAM_PYTHON), "-c", program]))


def main():
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--quick", action="store_true", help="under a minute")
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS)
    chosen = parser.parse_args()
    if not BEAM_PYTHON.exists():
        parser.error(f"{BEAM_PYTHON} is not there: `make bench-workflow` makes it")
    load_before = round(os.getloadavg()[0], 2)
    found = list(measures(chosen.only, quick=chosen.quick))
    is_whole = tuple(chosen.only) == PARTS
    name = "workflow" if is_whole else f"workflow-{'-'.join(chosen.only)}"
    report(name, found, beam_versions(), load_before)
    print(f"load of the machine before the run: {load_before}")


if __name__ == "__main__":
    main()
