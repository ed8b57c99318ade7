"""What a batch uploader's stats are as metrics of the catalogue."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from eventmill.base.metrics import Metric
from eventmill.client.tally import DROP_REASONS, UploaderStats

Values: TypeAlias = Mapping[tuple[str, ...], float]
"""By the labels after ``table``; every label that there can be has a value, so none comes late."""

MEASURES: Mapping[Metric, Callable[[UploaderStats], Values]] = {
    Metric.UPLOADER_STAGED_EVENTS: lambda stats: {(): stats.staged},
    Metric.UPLOADER_STAGED_BYTES: lambda stats: {(): stats.staged_bytes},
    Metric.UPLOADER_ADOPTED_EVENTS: lambda stats: {(): stats.adopted},
    Metric.UPLOADER_SENT_EVENTS: lambda stats: {(): stats.sent},
    Metric.UPLOADER_ACKED_EVENTS: lambda stats: {
        ("accepted",): stats.accepted,
        ("duplicate",): stats.duplicates,
        ("rejected",): stats.rejected,
    },
    Metric.UPLOADER_QUARANTINED_EVENTS: lambda stats: {(): stats.quarantined},
    Metric.UPLOADER_UNDELIVERED_EVENTS: lambda stats: {(): sum(stats.undelivered.values())},
    Metric.UPLOADER_DROPPED_EVENTS: lambda stats: {
        (reason,): stats.dropped.get(reason, 0) for reason in DROP_REASONS
    },
    Metric.UPLOADER_RETRIES: lambda stats: {(): stats.retried},
    Metric.UPLOADER_BATCHES: lambda stats: {(): stats.batches},
    Metric.UPLOADER_IN_FLIGHT_BATCHES: lambda stats: {(): stats.in_flight},
    Metric.UPLOADER_LEFT_EVENTS: lambda stats: {(): stats.left},
    Metric.UPLOADER_SPOOL_BYTES: lambda stats: {(): stats.spooled_bytes},
    Metric.UPLOADER_OLDEST_AGE: lambda stats: {(): stats.oldest_age_seconds},
}
"""All but the histogram ``UPLOADER_SEND_SECONDS``, which is ``UploaderStats.send_latency``."""
