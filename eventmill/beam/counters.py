"""Counts of what became of rows, which end in the log of a run."""

from __future__ import annotations

from typing import Any

from apache_beam.metrics import Metrics
from apache_beam.metrics.metric import MetricsFilter

NAMESPACE = "eventmill"


class Counters:
    """Beam metrics by plain names; may be a member of a DoFn, as it can be pickled."""

    def __init__(self) -> None:
        self._counters: dict[str, Any] = {}

    def __reduce__(self) -> tuple[type[Counters], tuple[()]]:
        return Counters, ()

    def add(self, name: str, count: int = 1) -> None:
        """Count ``count`` under ``name``."""
        counter = self._counters.get(name)
        if counter is None:
            counter = self._counters[name] = Metrics.counter(NAMESPACE, name)
        counter.inc(count)

    def read(self, count: int = 1) -> None:
        """Count rows that came in."""
        self.add("rows_read", count)

    def skipped(self, count: int = 1) -> None:
        """Count rows that are none of the pipeline's business."""
        self.add("rows_skipped", count)

    def dropped(self, count: int = 1) -> None:
        """Count keys that are incomplete, and give no row."""
        self.add("rows_dropped", count)

    def dead(self, count: int = 1) -> None:
        """Count rows that could not be taken."""
        self.add("rows_dead", count)

    def written(self, count: int = 1) -> None:
        """Count rows of the output."""
        self.add("rows_written", count)


def counts_of(result: Any) -> dict[str, int]:  # noqa: ANN401 - each runner has a class of its own
    """Return the counts of a job that has ended, by name."""
    found = result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))["counters"]
    counts: dict[str, int] = {}
    for one in found:
        # Committed: without the attempts of bundles that were run again. Not every runner tells.
        count = one.committed if one.committed is not None else one.attempted
        name = one.key.metric.name
        counts[name] = counts.get(name, 0) + count
    return dict(sorted(counts.items()))
