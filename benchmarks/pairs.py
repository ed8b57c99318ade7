"""What a benchmark reports: a value, what it was held against in the same run, and the target."""

import json
import os
import platform
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).with_name("results")


@dataclass
class Measure:
    """One row of a report."""

    name: str
    value: float
    unit: str
    against: float | None = None
    ratio: float | None = None
    target: str = ""
    holds: bool | None = None


def pair(name, ours, other, unit, *, at_least=None, at_most=None):
    """Return the measure of runs taken in turn: the median of the ratios pair by pair."""
    ratio = statistics.median(a / b for a, b in zip(ours, other, strict=True))
    target, holds = "", None
    if at_least is not None:
        target, holds = f"at least {at_least}", ratio >= at_least
    if at_most is not None:
        target, holds = f"at most {at_most}", ratio <= at_most
    return Measure(
        name,
        statistics.median(ours),
        unit,
        statistics.median(other),
        round(ratio, 3),
        target,
        holds,
    )


def report(name, measures, versions=(), load_before=None):
    """Print ``measures`` and write them to ``results/NAME.json``.

    Args:
        name: of the report.
        measures: its rows.
        versions: of packages in other environments, by name.
        load_before: the machine's load average when the run began, which says what else ran.
    """
    print(f"\n{name}: {platform.machine()}, {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}")
    print(f"{'':58}{'ours':>14}{'against':>14}{'ratio':>8}  target")
    for m in measures:
        against = "" if m.against is None else f"{m.against:,.1f}"
        ratio = "" if m.ratio is None else f"{m.ratio:.2f}"
        mark = {True: "holds", False: "MISSED", None: ""}[m.holds]
        print(f"{m.name:58}{m.value:>14,.1f}{against:>14}{ratio:>8}  {m.target} {mark} [{m.unit}]")
    RESULTS.mkdir(exist_ok=True)
    document = {
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "date": time.strftime("%Y-%m-%d"),
        "load_before": load_before,
        "versions": {
            "python": sys.version.split()[0],
            **{n: version(n) for n in ("duckdb", "pyarrow", "protobuf", "ptars")},
            **dict(versions),
        },
        "measures": [asdict(m) for m in measures],
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n")
