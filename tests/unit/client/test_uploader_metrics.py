"""What a batch uploader counts, and how Prometheus and OpenTelemetry see it."""

import os
import re
import subprocess
import sys
import weakref

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from eventmill.base.errors import TableNotFoundError, UnavailableError, UsageError
from eventmill.base.metrics import BUCKETS_SECONDS, CATALOGUE, Kind, Metric, Metrics, Origin
from eventmill.client import live, opentelemetry
from eventmill.client.async_uploader import AsyncBatchUploader
from eventmill.client.batch_uploader import BatchUploader
from eventmill.client.delivery import attempt_observers
from eventmill.client.opentelemetry import observe_with_opentelemetry
from eventmill.client.prometheus import prometheus_text
from eventmill.client.room import _WORDS
from eventmill.client.tally import DROP_REASONS
from eventmill.testing.events import build_type
from eventmill.testing.fakes import FakeClock
from eventmill.wire.verdict import Rejection, Verdict

Build = build_type().cls
WAIT = 10.0
TABLE = "local.contract.builds"
OURS = {metric for metric, about in CATALOGUE.items() if about.origin is Origin.UPLOADER}


@pytest.fixture(autouse=True)
def nobody_else(monkeypatch):
    """Let the process have no uploaders but the test's own, and no observers."""
    monkeypatch.setattr(live, "_open", weakref.WeakSet())
    monkeypatch.setattr(live, "_ended", {})
    monkeypatch.setattr(opentelemetry, "_observed", [])
    before = list(attempt_observers)
    yield
    attempt_observers[:] = before


@pytest.fixture
def uploader_of(sink):
    made = []

    def make(table="contract.builds", **options):
        options = {"retry_base_seconds": 0.001, "retry_cap_seconds": 0.01, **options}
        made.append(BatchUploader(sink, table, **options))
        return made[-1]

    yield make
    sink.gate.set()
    for uploader in made:
        uploader.close(WAIT)


class SlowSink:
    """Takes seconds of a clock that nobody waits for."""

    def __init__(self, sink, clock, *seconds):
        self.sink = sink
        self.clock = clock
        self.seconds = list(seconds)

    def put(self, batch, *, timeout_seconds=None):
        self.clock.advance(self.seconds.pop(0))
        return self.sink.put(batch, timeout_seconds=timeout_seconds)

    def describe(self, table):
        return self.sink.describe(table)


def samples(text):
    """Return value by (name, labels) of a text in Prometheus's format."""
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, labels, value = re.fullmatch(r"(\w+)\{(.*)\} (\S+)", line).groups()
            key = (name, *re.findall(r'(\w+)="([^"]*)"', labels))
            assert key not in found
            found[key] = float(value)
    return found


def value_of(found, metric, **labels):
    return found[(metric.value, ("table", TABLE), *labels.items())]


def test_each_event_is_counted_where_it_has_come_to(uploader_of, sink):
    events = uploader_of()
    sink.errors = [UnavailableError("down"), None, TableNotFoundError("gone")]
    for number in range(3):
        events.stage(Build(name=str(number)), insert_id=f"i-{number % 2}")
    assert events.flush(WAIT) == 0
    events.stage(Build(name="not taken"))
    assert events.flush(WAIT) == 0
    stats = events.stats()
    assert (stats.staged, stats.accepted, stats.duplicates) == (4, 2, 1)
    assert (stats.sent, stats.retried, stats.acked) == (3 + 3 + 1, 1, 3)
    assert stats.undelivered == {"TableNotFoundError": 1}
    assert stats.batches == 2
    assert stats.send_latency.count == 3
    assert stats.send_latency.seconds == stats.send_seconds > 0


def test_staged_bytes_are_those_of_the_events_and_not_of_the_spools_headers(uploader_of):
    events = uploader_of()
    assert events.stats().staged_bytes == 0
    events.stage(Build(name="x" * 1000), insert_id="i")
    one = events.stats().staged_bytes
    assert 1000 < one < 1100
    events.stage(Build(name="x" * 1000), insert_id="i")
    assert events.flush(WAIT) == 0
    assert events.stats().staged_bytes == 2 * one


def test_what_was_rejected_is_in_quarantine(uploader_of, sink, monkeypatch):
    def put(batch, *, timeout_seconds=None):
        return Verdict(batch.count, (), (Rejection(0, "i-0", "wrong_type", "name", "no"),))

    monkeypatch.setattr(sink, "put", put)
    events = uploader_of()
    events.stage(Build(name="a"), insert_id="i-0")
    events.stage(Build(name="b"), insert_id="i-1")
    assert events.flush(WAIT) == 0
    assert events.stats().quarantined == events.stats().rejected == 1
    found = samples(prometheus_text(events))
    assert value_of(found, Metric.UPLOADER_QUARANTINED_EVENTS) == 1
    assert value_of(found, Metric.UPLOADER_ACKED_EVENTS, outcome="rejected") == 1
    assert value_of(found, Metric.UPLOADER_ACKED_EVENTS, outcome="accepted") == 1


def test_latency_is_counted_by_attempt_in_the_catalogues_buckets(sink):
    clock = FakeClock()
    sink.errors = [UnavailableError("down")]
    with BatchUploader(
        SlowSink(sink, clock, 0.3, 0.002, 100.0),
        "contract.builds",
        clock=clock,
        retry_base_seconds=0.0,
    ) as events:
        for _ in range(2):
            events.stage(Build())
            assert events.flush(None) == 0
    latency = events.stats().send_latency
    expected = dict.fromkeys((*BUCKETS_SECONDS, None), 0) | {0.5: 1, 0.0025: 1, None: 1}
    assert dict(zip((*latency.bounds, None), latency.counts, strict=True)) == expected
    assert latency.seconds == pytest.approx(100.302)


def test_the_text_has_every_metric_of_the_catalogue_with_labels_from_it(uploader_of):
    events = uploader_of()
    events.stage(Build())
    assert events.flush(WAIT) == 0
    text = prometheus_text(events)
    found = samples(text)
    for metric in OURS:
        about = CATALOGUE[metric]
        assert (
            f"# HELP {metric.value} {about.help}\n# TYPE {metric.value} {about.kind.value}\n"
            in text
        )
        suffix = "_count" if about.kind is Kind.HISTOGRAM else ""
        keys = [key for key in found if key[0] == metric.value + suffix]
        assert keys, metric
        assert {tuple(name for name, _ in key[1:]) for key in keys} == {about.labels}
    assert value_of(found, Metric.UPLOADER_STAGED_EVENTS) == 1
    assert {key[-1][1] for key in found if key[0] == Metric.UPLOADER_DROPPED_EVENTS} == {
        *DROP_REASONS
    }


def test_every_reason_for_a_drop_is_known():
    assert set(DROP_REASONS) == set(_WORDS)


def test_the_server_and_the_uploaders_show_their_own_metrics_and_no_others():
    assert "eventmill_uploader" not in Metrics().render()
    assert "eventmill_requests" not in prometheus_text()
    with pytest.raises(ValueError, match="uploader's"):
        Metrics().add(Metric.UPLOADER_STAGED_EVENTS, 1, TABLE)


def test_what_waits_and_what_was_dropped_is_seen_while_the_sink_hangs(uploader_of, sink):
    clock = FakeClock()
    events = uploader_of(
        spool_bytes_max=2_000_000,
        on_full="drop_newest",
        flush_interval_seconds=0.0,
        clock=clock,
    )
    sink.gate.clear()
    events.stage(Build(name="x" * 900_000))
    assert sink.arrived.wait(WAIT)
    clock.advance(60)
    assert events.stage(Build(name="x" * 900_000))
    assert not events.stage(Build(name="x" * 900_000))
    found = samples(prometheus_text(events))
    assert value_of(found, Metric.UPLOADER_LEFT_EVENTS) == 2
    assert value_of(found, Metric.UPLOADER_IN_FLIGHT_BATCHES) == 1
    assert value_of(found, Metric.UPLOADER_OLDEST_AGE) == 60
    assert value_of(found, Metric.UPLOADER_SPOOL_BYTES) > 1_800_000
    assert value_of(found, Metric.UPLOADER_DROPPED_EVENTS, reason="newest") == 1
    assert value_of(found, Metric.UPLOADER_DROPPED_EVENTS, reason="oldest") == 0
    assert value_of(found, Metric.UPLOADER_SENT_EVENTS) == 0


def test_uploaders_of_one_table_are_added_up_and_tables_told_apart(uploader_of, sink):
    first, second, other = uploader_of(), uploader_of(), uploader_of("contract.others")
    sink.gate.clear()
    for uploader, count in ((first, 1), (second, 2), (other, 4)):
        for _ in range(count):
            uploader.stage(Build())
    found = samples(prometheus_text())
    assert value_of(found, Metric.UPLOADER_STAGED_EVENTS) == 3
    assert found[(Metric.UPLOADER_STAGED_EVENTS, ("table", "local.contract.others"))] == 4
    assert value_of(samples(prometheus_text(second)), Metric.UPLOADER_LEFT_EVENTS) == 2
    other.close(0)


def test_no_counter_of_the_process_goes_back_when_an_uploader_is_closed(uploader_of):
    events = uploader_of()
    events.stage(Build())
    assert events.close(WAIT) == 0
    later = uploader_of()
    later.stage(Build())
    assert later.flush(WAIT) == 0
    del events
    found = samples(prometheus_text())
    assert value_of(found, Metric.UPLOADER_STAGED_EVENTS) == 2
    assert value_of(found, Metric.UPLOADER_ACKED_EVENTS, outcome="accepted") == 2
    assert found[("eventmill_uploader_send_seconds_count", ("table", TABLE))] == 2


def test_what_a_closed_uploader_has_left_is_not_counted_as_waiting_here(
    uploader_of, sink, tmp_path
):
    sink.gate.clear()
    events = uploader_of(spool_dir=str(tmp_path))
    events.stage(Build())
    assert events.close(0.01) == 1
    found = samples(prometheus_text())
    assert value_of(found, Metric.UPLOADER_LEFT_EVENTS) == 0
    assert value_of(found, Metric.UPLOADER_SPOOL_BYTES) == 0
    assert value_of(found, Metric.UPLOADER_STAGED_EVENTS) == 1


def test_an_async_uploader_is_counted_as_well(sink):
    events = AsyncBatchUploader(sink, "contract.builds")
    events.stage(Build())
    assert value_of(samples(prometheus_text(events)), Metric.UPLOADER_STAGED_EVENTS) == 1
    assert value_of(samples(prometheus_text()), Metric.UPLOADER_STAGED_EVENTS) == 1
    events._uploader.close(WAIT)


def collected(reader):
    """Return (points by name, unit by name) of what a reader collects."""
    data = reader.get_metrics_data()
    metrics = [
        metric
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    ]
    assert len({metric.name for metric in metrics}) == len(metrics)
    return {metric.name: metric for metric in metrics}


def point(metric, **attributes):
    (found,) = [p for p in metric.data.data_points if dict(p.attributes) == attributes]
    return found


@pytest.fixture
def reader():
    reader = InMemoryMetricReader()
    reader.provider = MeterProvider([reader], shutdown_on_exit=False)
    yield reader
    reader.provider.shutdown()


def test_opentelemetry_collects_what_prometheus_scrapes(uploader_of, sink, reader):
    observe_with_opentelemetry(reader.provider.get_meter("test"))
    events = uploader_of()
    sink.errors = [UnavailableError("down")]
    for number in range(3):
        events.stage(Build(), insert_id=f"i-{number % 2}")
    assert events.flush(WAIT) == 0
    found = collected(reader)
    assert set(found) == {m.value.removesuffix("_total").replace("_", ".", 2) for m in OURS}
    acked = found["eventmill.uploader.acked_events"]
    assert point(acked, table=TABLE, outcome="accepted").value == 2
    assert point(acked, table=TABLE, outcome="duplicate").value == 1
    assert acked.unit == "{event}"
    assert acked.data.is_monotonic
    assert point(found["eventmill.uploader.retries"], table=TABLE).value == 1
    left = found["eventmill.uploader.left_events"]
    assert point(left, table=TABLE).value == 0
    assert not left.data.is_monotonic
    assert found["eventmill.uploader.oldest_age_seconds"].unit == "s"
    assert found["eventmill.uploader.staged_bytes"].unit == "By"
    scraped = samples(prometheus_text())
    for metric in OURS - {Metric.UPLOADER_SEND_SECONDS, Metric.UPLOADER_OLDEST_AGE}:
        name = metric.value.removesuffix("_total").replace("_", ".", 2)
        for each in found[name].data.data_points:
            labels = {k: v for k, v in each.attributes.items() if k != "table"}
            assert value_of(scraped, metric, **labels) == each.value


def test_opentelemetry_has_the_latency_of_each_attempt_as_a_histogram(sink, reader):
    observe_with_opentelemetry(reader.provider.get_meter("test"))
    clock = FakeClock()
    sink.errors = [UnavailableError("down")]
    with BatchUploader(
        SlowSink(sink, clock, 0.3, 0.002),
        "contract.builds",
        clock=clock,
        retry_base_seconds=0.0,
    ) as events:
        events.stage(Build())
        assert events.flush(None) == 0
    histogram = point(collected(reader)["eventmill.uploader.send_seconds"], table=TABLE)
    assert tuple(histogram.explicit_bounds) == BUCKETS_SECONDS
    assert tuple(histogram.bucket_counts) == events.stats().send_latency.counts
    assert (histogram.count, histogram.sum) == (2, pytest.approx(0.302))


def test_observing_twice_is_observing_once(uploader_of, reader, caplog):
    meter = reader.provider.get_meter("test")
    observe_with_opentelemetry(meter)
    observe_with_opentelemetry(meter)
    events = uploader_of()
    events.stage(Build())
    assert events.flush(WAIT) == 0
    assert point(collected(reader)["eventmill.uploader.staged_events"], table=TABLE).value == 1
    assert point(collected(reader)["eventmill.uploader.send_seconds"], table=TABLE).count == 1
    assert caplog.text == ""


def test_an_observer_that_fails_stops_no_event(uploader_of, sink, caplog):
    def fails(table, seconds):
        raise RuntimeError("broken observer")

    attempt_observers.append(fails)
    events = uploader_of()
    events.stage(Build())
    assert events.flush(WAIT) == 0
    assert len(sink.rows) == 1
    assert "broken observer" in caplog.text


def test_without_opentelemetry_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(UsageError, match="opentelemetry-api"):
        observe_with_opentelemetry()


def output_of(program):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


PREAMBLE = """
import os, threading, eventmill
from eventmill.client import live
from eventmill.testing.events import build_type
from eventmill.wire.verdict import Verdict
Build = build_type().cls

class Taking:
    def put(self, batch, *, timeout_seconds=None):
        return Verdict(batch.count)

def staged():
    lines = eventmill.prometheus_text().splitlines()
    return [line.split()[-1] for line in lines if line.startswith("eventmill_uploader_staged_ev")]

def uploader():
    return eventmill.BatchUploader(Taking(), "contract.builds")
"""


@pytest.mark.slow
def test_the_global_meter_may_be_set_later():
    program = """
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
eventmill.observe_with_opentelemetry()
reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([reader]))
events = uploader()
events.stage(Build())
assert events.flush(10) == 0
(scope,) = reader.get_metrics_data().resource_metrics[0].scope_metrics
for metric in sorted(scope.metrics, key=lambda metric: metric.name):
    if metric.name.endswith((".staged_events", ".send_seconds")):
        (point,) = metric.data.data_points
        print(metric.name, getattr(point, "value", None) or point.count)
"""
    assert output_of(PREAMBLE + program).split() == [
        "eventmill.uploader.send_seconds", "1", "eventmill.uploader.staged_events", "1",
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_counts_from_0():
    program = """
ended, events = uploader(), uploader()
ended.stage(Build())
events.stage(Build())
events.stage(Build())
assert events.flush(10) == ended.close() == 0
assert staged() == ["3"], staged()
held, release = threading.Event(), threading.Event()

def hold():
    with live._guard:
        held.set()
        release.wait(30)

holder = threading.Thread(target=hold, daemon=True)
holder.start()
assert held.wait(10)
child = os.fork()
if not child:
    assert staged() == ["0"], staged()
    stats = events.stats()
    assert (stats.sent, stats.acked, stats.batches, stats.send_latency.count) == (0, 0, 0, 0)
    assert (stats.staged_bytes, stats.send_seconds) == (0, 0.0)
    events.stage(Build())
    assert events.flush(10) == 0
    assert staged() == ["1"], staged()
    os._exit(0)
release.set()
holder.join()
assert os.waitpid(child, 0)[1] == 0
assert staged() == ["3"], staged()
"""
    assert output_of(PREAMBLE + program) == ""
