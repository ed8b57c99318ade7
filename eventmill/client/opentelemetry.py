"""The metrics of batch uploaders as OpenTelemetry instruments, where that API is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from eventmill.base.errors import UsageError
from eventmill.base.metrics import BUCKETS_SECONDS, CATALOGUE, Description, Kind, Metric
from eventmill.base.renewed_lock import RenewedLock
from eventmill.client import live
from eventmill.client.delivery import attempt_observers
from eventmill.client.measures import MEASURES
from eventmill.schema.table import TableId

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Meter, Observation

_UNITS = {
    "attempts": "{attempt}",
    "batches": "{batch}",
    "bytes": "By",
    "events": "{event}",
    "seconds": "s",
}
"""By the catalogue's unit: the one of UCUM, which OpenTelemetry writes."""

_guard = RenewedLock()
_observed: list[Meter | None] = []


def observe_with_opentelemetry(meter: Meter | None = None) -> None:
    """Have every batch uploader of this process observed, present and future ones.

    The instruments are those of ``prometheus_text``, named ``eventmill.uploader.staged_events`` and
    so on, with the same attributes. All but one are observed when the reader collects; the
    histogram of attempts counts from here on. A second call for the same meter does nothing.

    Args:
        meter: where the instruments are made; None: a meter of the global provider, whether that
            is set before or after the call.

    Raises:
        UsageError: the API of OpenTelemetry is not installed.
    """
    try:
        from opentelemetry import metrics as api
    except ImportError as error:
        raise UsageError(
            "OpenTelemetry is not installed: install opentelemetry-api, or use prometheus_text"
        ) from error
    with _guard.lock:
        if any(known is meter for known in _observed):
            return
        _observed.append(meter)
    _make_instruments(meter or api.get_meter("eventmill"), api.Observation)


def _make_instruments(meter: Meter, observation: Callable[..., Observation]) -> None:
    for metric in MEASURES:
        about = CATALOGUE[metric]
        make = meter.create_observable_up_down_counter  # levels that add up over processes
        if about.kind is Kind.COUNTER:
            make = meter.create_observable_counter  # type: ignore[assignment]  # the same call
        elif about.unit == "seconds":
            make = meter.create_observable_gauge  # type: ignore[assignment]
        make(
            _name_of(metric),
            callbacks=[_observer_of(metric, about, observation)],
            unit=_UNITS[about.unit],
            description=about.help,
        )
    about = CATALOGUE[Metric.UPLOADER_SEND_SECONDS]
    histogram = meter.create_histogram(
        _name_of(Metric.UPLOADER_SEND_SECONDS),
        unit=_UNITS[about.unit],
        description=about.help,
        explicit_bucket_boundaries_advisory=BUCKETS_SECONDS,
    )

    def record(table: TableId, seconds: float) -> None:
        histogram.record(seconds, {"table": str(table)})

    attempt_observers.append(record)


def _observer_of(
    metric: Metric, about: Description, observation: Callable[..., Observation]
) -> Callable[[CallbackOptions], Iterator[Observation]]:
    def observe(options: CallbackOptions) -> Iterator[Observation]:
        for table, stats in live.stats_by_table().items():
            for labels, value in MEASURES[metric](stats).items():
                attributes = dict(zip(about.labels, (str(table), *labels), strict=True))
                yield observation(value, attributes)

    return observe


def _name_of(metric: Metric) -> str:
    """Return a name from which exporters make the one that Prometheus knows."""
    return metric.value.removesuffix("_total").replace("_", ".", 2)
