import re
import threading
from pathlib import Path

import pytest

from eventmill.base.metrics import BUCKETS_SECONDS, CATALOGUE, Kind, Metric, Metrics

ROOT = Path(__file__).parents[3]


def test_every_metric_is_described_and_named_by_the_rules():
    assert set(CATALOGUE) == set(Metric)
    for metric, description in CATALOGUE.items():
        assert re.fullmatch(r"eventmill_[a-z_]+", metric.value)
        assert metric.value.endswith("_total") == (description.kind is Kind.COUNTER)
        assert description.help.endswith(".")


def test_every_metric_is_used_somewhere():
    code = "\n".join(
        path.read_text() for path in (ROOT / "eventmill").rglob("*.py") if path.name != "metrics.py"
    )
    unused = [metric.name for metric in Metric if f"Metric.{metric.name}" not in code]
    assert unused == []


def test_the_reference_page_lists_exactly_the_catalogue():
    page = (ROOT / "docs" / "reference" / "metrics.md").read_text()
    rows = dict(re.findall(r"^\| `(eventmill_\w+)` \| (.*) \|$", page, re.MULTILINE))
    expected = {
        metric.value: " | ".join(
            (d.kind.value, d.unit, ", ".join(f"`{label}`" for label in d.labels) or "none", d.help)
        )
        for metric, d in CATALOGUE.items()
    }
    assert rows == expected


def test_a_counter_counts_by_its_labels():
    metrics = Metrics()
    metrics.add(Metric.EVENTS, 2, "a.b", "accepted")
    metrics.add(Metric.EVENTS, 3, "a.b", "accepted")
    assert metrics.value(Metric.EVENTS, "a.b", "accepted") == 5
    assert 'eventmill_events_total{table="a.b",outcome="accepted"} 5\n' in metrics.render()


def test_labels_that_the_catalogue_does_not_name_are_refused():
    with pytest.raises(ValueError, match="labels"):
        Metrics().add(Metric.EVENTS, 1, "only-one")


def test_label_values_are_escaped():
    metrics = Metrics()
    metrics.add(Metric.BATCHES, 1, 'a"b\\c\nd')
    assert r'{table="a\"b\\c\nd"}' in metrics.render()


def test_a_histogram_has_cumulative_buckets_a_sum_and_a_count():
    metrics = Metrics()
    for value in (0.001, 0.002, 100.0):
        metrics.observe(Metric.PUT_SECONDS, value)
    text = metrics.render()
    assert 'eventmill_put_seconds_bucket{le="0.001"} 1\n' in text
    assert 'eventmill_put_seconds_bucket{le="0.0025"} 2\n' in text
    assert f'eventmill_put_seconds_bucket{{le="{BUCKETS_SECONDS[-1]:g}"}} 2\n' in text
    assert 'eventmill_put_seconds_bucket{le="+Inf"} 3\n' in text
    assert "eventmill_put_seconds_sum 100.003\n" in text.replace("100.00300000000000", "100.003")
    assert "eventmill_put_seconds_count 3\n" in text


def test_a_forgotten_gauge_is_gone():
    metrics = Metrics()
    metrics.set(Metric.TABLE_ROWS, 1, "a.b")
    metrics.forget(Metric.TABLE_ROWS)
    assert "eventmill_table_rows{" not in metrics.render()


def test_no_count_is_lost_between_threads():
    metrics = Metrics()

    def count():
        for _ in range(2000):
            metrics.add(Metric.ERRORS)
            metrics.observe(Metric.PUT_SECONDS, 0.1)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert metrics.value(Metric.ERRORS) == metrics.value(Metric.PUT_SECONDS) == 8000
