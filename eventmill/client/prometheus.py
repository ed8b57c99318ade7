"""The metrics of batch uploaders in Prometheus's text format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from eventmill.base.metrics import CATALOGUE, Kind, Metric, Metrics, Origin
from eventmill.client import live
from eventmill.client.measures import MEASURES
from eventmill.client.tally import UploaderStats
from eventmill.schema.table import TableId


class CountedUploader(Protocol):
    """A ``BatchUploader`` or an ``AsyncBatchUploader``."""

    @property
    def table(self) -> TableId:
        """Table of all its events."""
        ...

    def stats(self) -> UploaderStats:
        """Return the counts of this moment."""
        ...


def prometheus_text(*uploaders: CountedUploader) -> str:
    """Return the metrics of batch uploaders in Prometheus's text format, version 0.0.4.

    Answer a scrape with it under the content type ``text/plain; version=0.0.4``. Uploaders of the
    same table are one: their counts are added up. A forked child's counts begin at 0.

    Args:
        uploaders: whose; none: all that this process has made, so that no counter goes back when
            one of them is closed.
    """
    if not uploaders:
        return _text(live.stats_by_table())
    found: dict[TableId, list[UploaderStats]] = {}
    for uploader in uploaders:
        found.setdefault(uploader.table, []).append(uploader.stats())
    return _text({table: UploaderStats.sum_of(each) for table, each in found.items()})


def _text(stats_by_table: Mapping[TableId, UploaderStats]) -> str:
    metrics = Metrics(Origin.UPLOADER)
    for table, stats in stats_by_table.items():
        for metric, values_of in MEASURES.items():
            write = metrics.add if CATALOGUE[metric].kind is Kind.COUNTER else metrics.set
            for labels, value in values_of(stats).items():
                write(metric, value, str(table), *labels)
        latency = stats.send_latency
        metrics.add_histogram(
            Metric.UPLOADER_SEND_SECONDS, latency.counts, latency.seconds, str(table)
        )
    return metrics.render()
