"""What the program counts of itself: a closed catalogue, and a registry that Prometheus reads.

A metric that is not in ``CATALOGUE`` cannot be counted, so a dashboard can rely on the names. The
server's and the uploaders' are counted in different programs, so each prints only its own;
``docs/reference/metrics.md`` lists the same ones, and a test holds the two together. Labels are
closed as well: only values that the program knows (a route, an existing table) become one, so a
stranger's requests cannot grow the registry.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from itertools import accumulate


class Kind(Enum):
    """How a metric moves."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Origin(Enum):
    """Which program counts a metric; each prints its own and no other's."""

    SERVER = "server"
    UPLOADER = "uploader"


class Metric(StrEnum):
    """Every metric. The value is its name in Prometheus."""

    REQUESTS = "eventmill_requests_total"
    REQUEST_SECONDS = "eventmill_request_seconds"
    EVENTS = "eventmill_events_total"
    BATCHES = "eventmill_batches_total"
    RECEIVED_BYTES = "eventmill_received_bytes_total"
    BODY_BYTES_IN_FLIGHT = "eventmill_body_bytes_in_flight"
    PUT_SECONDS = "eventmill_put_seconds"
    QUERIES_RUNNING = "eventmill_queries_running"
    QUERIES_WAITING = "eventmill_queries_waiting"
    QUERY_SECONDS = "eventmill_query_seconds"
    QUERY_SCANNED_BYTES = "eventmill_query_scanned_bytes_total"
    ERRORS = "eventmill_unexpected_errors_total"
    REFUSED = "eventmill_refused_requests_total"
    TABLE_ROWS = "eventmill_table_rows"
    TABLE_LOG_BYTES = "eventmill_table_log_bytes"
    TABLE_LAKE_BYTES = "eventmill_table_lake_bytes"
    TABLE_NEWEST_EVENT = "eventmill_table_newest_event_timestamp_seconds"
    ALERTS_FIRING = "eventmill_alerts_firing"
    UPLOADER_STAGED_EVENTS = "eventmill_uploader_staged_events_total"
    UPLOADER_STAGED_BYTES = "eventmill_uploader_staged_bytes_total"
    UPLOADER_ADOPTED_EVENTS = "eventmill_uploader_adopted_events_total"
    UPLOADER_SENT_EVENTS = "eventmill_uploader_sent_events_total"
    UPLOADER_ACKED_EVENTS = "eventmill_uploader_acked_events_total"
    UPLOADER_QUARANTINED_EVENTS = "eventmill_uploader_quarantined_events_total"
    UPLOADER_UNDELIVERED_EVENTS = "eventmill_uploader_undelivered_events_total"
    UPLOADER_DROPPED_EVENTS = "eventmill_uploader_dropped_events_total"
    UPLOADER_RETRIES = "eventmill_uploader_retries_total"
    UPLOADER_BATCHES = "eventmill_uploader_batches_total"
    UPLOADER_SEND_SECONDS = "eventmill_uploader_send_seconds"
    UPLOADER_IN_FLIGHT_BATCHES = "eventmill_uploader_in_flight_batches"
    UPLOADER_LEFT_EVENTS = "eventmill_uploader_left_events"
    UPLOADER_SPOOL_BYTES = "eventmill_uploader_spool_bytes"
    UPLOADER_OLDEST_AGE = "eventmill_uploader_oldest_age_seconds"


@dataclass(frozen=True, slots=True)
class Description:
    """What a metric means."""

    kind: Kind
    unit: str
    help: str
    labels: tuple[str, ...] = ()
    origin: Origin = Origin.SERVER


CATALOGUE: Mapping[Metric, Description] = {
    Metric.REQUESTS: Description(
        Kind.COUNTER, "requests", "HTTP requests answered.", ("route", "status")
    ),
    Metric.REQUEST_SECONDS: Description(
        Kind.HISTOGRAM, "seconds", "Time from a request's head to its whole answer.", ("route",)
    ),
    Metric.EVENTS: Description(
        Kind.COUNTER,
        "events",
        "Events judged, by outcome: accepted, duplicate, rejected.",
        ("table", "outcome"),
    ),
    Metric.BATCHES: Description(Kind.COUNTER, "batches", "Batches acked.", ("table",)),
    Metric.RECEIVED_BYTES: Description(
        Kind.COUNTER, "bytes", "Bytes of request bodies read for ingest, as they came in."
    ),
    Metric.BODY_BYTES_IN_FLIGHT: Description(
        Kind.GAUGE, "bytes", "Bytes of request bodies held now."
    ),
    Metric.PUT_SECONDS: Description(
        Kind.HISTOGRAM, "seconds", "Time the store took from a batch to its verdict."
    ),
    Metric.QUERIES_RUNNING: Description(Kind.GAUGE, "queries", "Queries running now."),
    Metric.QUERIES_WAITING: Description(Kind.GAUGE, "queries", "Queries waiting for their turn."),
    Metric.QUERY_SECONDS: Description(
        Kind.HISTOGRAM, "seconds", "Time a query took in the store.", ("outcome",)
    ),
    Metric.QUERY_SCANNED_BYTES: Description(
        Kind.COUNTER, "bytes", "Bytes of files that queries had to open."
    ),
    Metric.ERRORS: Description(
        Kind.COUNTER, "errors", "Answers with status 500 for which no error was foreseen."
    ),
    Metric.REFUSED: Description(
        Kind.COUNTER,
        "requests",
        "Requests refused: 401 without a key that holds, 403 for what the key may not do.",
        ("status",),
    ),
    Metric.TABLE_ROWS: Description(
        Kind.GAUGE, "rows", "Rows that a query of the table sees.", ("table",)
    ),
    Metric.TABLE_LOG_BYTES: Description(
        Kind.GAUGE, "bytes", "Bytes of the table in the log.", ("table",)
    ),
    Metric.TABLE_LAKE_BYTES: Description(
        Kind.GAUGE, "bytes", "Bytes of the table in the lake.", ("table",)
    ),
    Metric.TABLE_NEWEST_EVENT: Description(
        Kind.GAUGE, "seconds", "Time of the table's newest event, since 1970.", ("table",)
    ),
    Metric.ALERTS_FIRING: Description(
        Kind.GAUGE, "alerts", "Alerts that fire, by severity: critical, warning.", ("severity",)
    ),
    Metric.UPLOADER_STAGED_EVENTS: Description(
        Kind.COUNTER,
        "events",
        "Events that `stage` took.",
        ("table",),
        Origin.UPLOADER,
    ),
    Metric.UPLOADER_STAGED_BYTES: Description(
        Kind.COUNTER,
        "bytes",
        "Bytes of those events as they are spooled: event, insert ID and frame.",
        ("table",),
        Origin.UPLOADER,
    ),
    Metric.UPLOADER_ADOPTED_EVENTS: Description(
        Kind.COUNTER,
        "events",
        "Events taken over from processes that had ended.",
        ("table",),
        Origin.UPLOADER,
    ),
    Metric.UPLOADER_SENT_EVENTS: Description(
        Kind.COUNTER,
        "events",
        "Events put to the sink; one that is put again counts again.",
        ("table",),
        Origin.UPLOADER,
    ),
    Metric.UPLOADER_ACKED_EVENTS: Description(
        Kind.COUNTER,
        "events",
        "Events with a verdict, by outcome: accepted, duplicate, rejected.",
        ("table", "outcome"),
        Origin.UPLOADER,
    ),
    Metric.UPLOADER_QUARANTINED_EVENTS: Description(
        Kind.COUNTER,
        "events",
        "Events in the sink's quarantine: the rejected ones.",
        ("table",),
        Origin.UPLOADER,
    ),
    Metric.UPLOADER_UNDELIVERED_EVENTS: Description(
        Kind.COUNTER,
        "events",
        "Events that the sink will not take: dead letters, or handed to `on_undelivered`.",
        ("table",),
        Origin.UPLOADER,
    ),
    Metric.UPLOADER_DROPPED_EVENTS: Description(
        Kind.COUNTER,
        "events",
        "Events dropped, by reason: oldest, newest, timeout, disk, damaged.",
        ("table", "reason"),
        Origin.UPLOADER,
    ),
    Metric.UPLOADER_RETRIES: Description(
        Kind.COUNTER,
        "attempts",
        "Attempts that were made again, of batches.",
        ("table",),
        Origin.UPLOADER,
    ),
    Metric.UPLOADER_BATCHES: Description(
        Kind.COUNTER,
        "batches",
        "Batches that something has become of.",
        ("table",),
        Origin.UPLOADER,
    ),
    Metric.UPLOADER_SEND_SECONDS: Description(
        Kind.HISTOGRAM,
        "seconds",
        "Time of one attempt to put a batch, whatever its end.",
        ("table",),
        Origin.UPLOADER,
    ),
    Metric.UPLOADER_IN_FLIGHT_BATCHES: Description(
        Kind.GAUGE,
        "batches",
        "Batches being sent now.",
        ("table",),
        Origin.UPLOADER,
    ),
    Metric.UPLOADER_LEFT_EVENTS: Description(
        Kind.GAUGE,
        "events",
        "Events staged by this process that nothing has become of yet.",
        ("table",),
        Origin.UPLOADER,
    ),
    Metric.UPLOADER_SPOOL_BYTES: Description(
        Kind.GAUGE,
        "bytes",
        "Bytes that the spool takes on disk or in memory, adopted segments included.",
        ("table",),
        Origin.UPLOADER,
    ),
    Metric.UPLOADER_OLDEST_AGE: Description(
        Kind.GAUGE,
        "seconds",
        "Age of the oldest event left; 0 when none is.",
        ("table",),
        Origin.UPLOADER,
    ),
}

BUCKETS_SECONDS = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
)
"""Upper bounds of the histograms' buckets: from a group commit to the longest wait of a client."""

_Key = tuple[Metric, tuple[str, ...]]


class Histogram:
    """Values counted by their size, in the buckets of ``BUCKETS_SECONDS``; callers hold a lock."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS_SECONDS) + 1)
        """Values in each bucket, not cumulated; the last is of those above every bound."""
        self.total = 0.0
        """Their sum."""

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(BUCKETS_SECONDS, value)] += 1
        self.total += value

    def add(self, counts: Iterable[int], total: float) -> None:
        """Add what another has counted."""
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, counts, strict=True)]
        self.total += total


class Metrics:
    """The registry of one program. Safe from any thread; one lock, held for nanoseconds."""

    def __init__(self, origin: Origin = Origin.SERVER) -> None:
        """Begin empty; ``origin`` says whose metrics are counted and printed here."""
        self._origin = origin
        self._lock = threading.Lock()
        self._values: dict[_Key, float] = {}
        self._histograms: dict[_Key, Histogram] = {}

    def add(self, metric: Metric, amount: float = 1.0, *labels: str) -> None:
        """Add to a counter or a gauge.

        Args:
            metric: a counter or a gauge.
            amount: not negative for a counter.
            labels: values in the order of the metric's labels in the catalogue.
        """
        key = self._key(metric, labels)
        with self._lock:
            self._values[key] = self._values.get(key, 0.0) + amount

    def set(self, metric: Metric, value: float, *labels: str) -> None:
        """Set a gauge."""
        key = self._key(metric, labels)
        with self._lock:
            self._values[key] = value

    def observe(self, metric: Metric, value: float, *labels: str) -> None:
        """Count ``value`` in a histogram."""
        key = self._key(metric, labels)
        with self._lock:
            self._histogram(key).observe(value)

    def add_histogram(
        self, metric: Metric, counts: Iterable[int], total: float, *labels: str
    ) -> None:
        """Add to a histogram what was counted elsewhere, in the same buckets."""
        key = self._key(metric, labels)
        with self._lock:
            self._histogram(key).add(counts, total)

    def forget(self, metric: Metric) -> None:
        """Drop every value of ``metric``, such as a gauge of tables that may be gone."""
        with self._lock:
            for key in [key for key in self._values if key[0] is metric]:
                del self._values[key]

    def value(self, metric: Metric, *labels: str) -> float:
        """Return a counter or gauge; for a histogram, how many values it has counted."""
        key = self._key(metric, labels)
        with self._lock:
            histogram = self._histograms.get(key)
            return sum(histogram.counts) if histogram else self._values.get(key, 0.0)

    def render(self) -> str:
        """Return all values in Prometheus's text format, version 0.0.4."""
        with self._lock:
            values = dict(self._values)
            histograms = {k: (list(h.counts), h.total) for k, h in self._histograms.items()}
        lines: list[str] = []
        for metric, description in CATALOGUE.items():
            if description.origin is not self._origin:
                continue
            lines.append(f"# HELP {metric.value} {description.help}")
            lines.append(f"# TYPE {metric.value} {description.kind.value}")
            lines.extend(
                f"{metric.value}{_labels(*key)} {values[key]:.17g}"
                for key in sorted(key for key in values if key[0] is metric)
            )
            for key in sorted(key for key in histograms if key[0] is metric):
                lines.extend(_histogram_lines(key, *histograms[key]))
        return "\n".join(lines) + "\n"

    def _histogram(self, key: _Key) -> Histogram:
        histogram = self._histograms.get(key)
        if histogram is None:
            histogram = self._histograms[key] = Histogram()
        return histogram

    def _key(self, metric: Metric, labels: tuple[str, ...]) -> _Key:
        description = CATALOGUE[metric]
        if len(labels) != len(description.labels) or description.origin is not self._origin:
            raise ValueError(
                f"{metric.value} is the {description.origin.value}'s and has the labels"
                f" {description.labels}: {labels}"
            )
        return metric, labels


def _labels(metric: Metric, values: tuple[str, ...], extra: str = "") -> str:
    pairs = [
        f'{name}="{_escape(value)}"'
        for name, value in zip(CATALOGUE[metric].labels, values, strict=True)
    ]
    if extra:
        pairs.append(extra)
    return "{" + ",".join(pairs) + "}" if pairs else ""


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _histogram_lines(key: _Key, counts: list[int], total: float) -> list[str]:
    name = key[0].value
    sums = list(accumulate(counts))
    bounds = [f"{bound:g}" for bound in BUCKETS_SECONDS] + ["+Inf"]
    lines = []
    for bound, count in zip(bounds, sums, strict=True):
        labels = _labels(*key, extra=f'le="{bound}"')
        lines.append(f"{name}_bucket{labels} {count}")
    lines.append(f"{name}_sum{_labels(*key)} {total:.17g}")
    lines.append(f"{name}_count{_labels(*key)} {sums[-1]}")
    return lines
