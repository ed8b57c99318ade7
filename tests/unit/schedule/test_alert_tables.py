"""The rules about tables, on a store whose clock is told."""

import dataclasses

import pytest
from store_world import builds_batch, builds_spec

from eventmill.schedule.alert_finding import Severity
from eventmill.schedule.alert_tables import (
    QUARANTINE_WINDOW_SECONDS,
    TABLES_A_QUERY,
    VolumeWatch,
    find_quarantined,
    find_stale,
)
from eventmill.schema.problem import Reason
from eventmill.schema.table import Partitioning, TableId
from eventmill.store.memory import MemoryStore
from eventmill.testing.fakes import FakeClock
from eventmill.wire.quarantined import QuarantinedEvent

HOUR = 3_600.0
DAY = 86_400.0
START = 1_790_000_000.0 - 1_790_000_000.0 % HOUR


@pytest.fixture
def clock():
    return FakeClock(START)


@pytest.fixture
def store(clock):
    made = MemoryStore(clock)
    yield made
    made.close()


def make_table(store, **changes):
    changes = {"owner": "ada@example.com", "partitioning": Partitioning(), **changes}
    freshness = changes.pop("freshness_seconds", None)
    filtered = changes.pop("require_partition_filter", False)
    spec = dataclasses.replace(
        builds_spec(**changes),
        freshness_seconds=freshness,
        require_partition_filter=filtered,
    )
    return store.apply(spec)


def quarantine(store, count, table="local.ci.builds", reason=Reason.WRONG_TYPE):
    for number in range(count):
        payload = f"{store} {number} {table} {reason} {store._clock.now()}".encode()
        store.quarantine(
            [
                QuarantinedEvent(
                    table=make_id(table), insert_id=f"q{number}", payload=payload, is_json=True,
                    reason=reason, field="number", message="no", client="test", fingerprint="",
                )
            ]
        )  # fmt: skip


def make_id(name):
    from eventmill.schema.table import TableId

    return TableId.parse(name)


def test_a_table_is_stale_once_its_promise_is_broken(store, clock):
    make_table(store, freshness_seconds=600.0)
    store.put(builds_batch(range(1)))
    clock.advance(600.0)
    assert list(find_stale(store, clock.now())) == []
    clock.advance(1.0)
    (found,) = find_stale(store, clock.now())
    assert (found.rule, found.subject) == ("table_stale", "local.ci.builds")
    assert found.owner == "ada@example.com"
    assert "promised is one every 10m" in found.summary
    store.put(builds_batch(range(1, 2)))
    assert list(find_stale(store, clock.now())) == []


def test_a_table_that_never_had_a_row_is_stale_from_its_making_on(store, clock):
    make_table(store, freshness_seconds=600.0)
    clock.advance(601.0)
    (found,) = find_stale(store, clock.now())
    assert "has no row;" in found.summary


def test_a_table_without_a_promise_breaks_none(store, clock):
    make_table(store)
    clock.advance(365 * DAY)
    assert list(find_stale(store, clock.now())) == []


@pytest.mark.parametrize(("accepted", "fires"), [(989, True), (990, False)])
def test_more_than_one_in_a_hundred_quarantined(store, clock, accepted, fires):
    make_table(store)
    store.put(builds_batch(range(accepted)))
    quarantine(store, 10)
    found = list(find_quarantined(store, clock.now()))
    assert len(found) == fires
    if fires:
        assert found[0].labels == {"table": "local.ci.builds", "reason": "wrong_type"}
        assert "1.0% of the events" in found[0].summary
        assert "10 of 999" in found[0].summary


def test_a_few_are_no_rate_and_old_ones_are_history(store, clock):
    make_table(store)
    quarantine(store, 9)
    assert list(find_quarantined(store, clock.now())) == []
    clock.advance(1.0)
    quarantine(store, 10)
    assert len(list(find_quarantined(store, clock.now()))) == 1
    clock.advance(QUARANTINE_WINDOW_SECONDS)
    assert list(find_quarantined(store, clock.now())) == []


def test_events_for_a_table_that_is_not_there_are_all_of_them(store, clock):
    quarantine(store, 10, table="local.ci.gone", reason=Reason.UNKNOWN_FIELD)
    (found,) = find_quarantined(store, clock.now())
    assert found.subject == "local.ci.gone"
    assert "100.0%" in found.summary


def week(store, clock, before, rows):
    """Have ``before`` rows in an hour, and ``rows`` in the same hour a week later."""
    store.put(builds_batch(range(before), prefix="before"))
    clock.advance(7 * DAY)
    if rows:
        store.put(builds_batch(range(rows), prefix="after"))
    clock.advance(HOUR)


@pytest.mark.parametrize(
    ("before", "rows", "fires"),
    [(100, 49, True), (100, 50, False), (99, 0, False), (1_000, 0, True)],
)
def test_less_than_half_of_last_week(store, clock, before, rows, fires):
    make_table(store)
    clock.advance(2 * HOUR)
    week(store, clock, before, rows)
    found = list(VolumeWatch(store, lambda: ()).find(clock.now() + 1.0))
    assert len(found) == fires
    if fires:
        assert found[0].severity is Severity.WARNING
        assert f"got {rows:,} rows in the hour from 2026-09-28 16:00 UTC" in found[0].summary


def test_outputs_of_workflows_and_young_tables_are_left_out(store, clock):
    clock.advance(1.0)
    table = make_table(store)
    week(store, clock, 1_000, 0)
    assert list(VolumeWatch(store, lambda: ()).find(clock.now())) == []  # made within that hour
    clock.advance(HOUR)
    store.put(builds_batch(range(1_000), prefix="more"))
    clock.advance(7 * DAY)
    clock.advance(HOUR)
    assert len(list(VolumeWatch(store, lambda: ()).find(clock.now()))) == 1
    assert list(VolumeWatch(store, lambda: {table.id}).find(clock.now())) == []


def test_a_table_that_wants_a_filter_is_asked_with_one(store, clock):
    make_table(store, partitioning=Partitioning(column="ended_at"), require_partition_filter=True)
    quarantine(store, 10)
    store.put(builds_batch(range(10)))
    (found,) = find_quarantined(store, clock.now())
    assert "10 of 20" in found.summary


def test_hundreds_of_tables_are_counted_a_few_at_a_time_and_once_an_hour(store, clock, monkeypatch):
    for number in range(60):
        table = TableId.parse(f"local.ci.t{number:02}")
        store.apply(dataclasses.replace(builds_spec(), table=table))
    clock.advance(8 * 86_400.0)
    asked, query = [], store.query

    def counted(sql, *args, **given):
        asked.append(sql.count("COUNT(*)"))
        return query(sql, *args, **given)

    monkeypatch.setattr(store, "query", counted)
    watch = VolumeWatch(store, lambda: ())
    left = []
    for _ in range(5):
        assert list(watch.find(clock.now(), TABLES_A_QUERY)) == []
        left.append(len(watch.unjudged()))
    assert left == [35, 10, 0, 0, 0]
    assert asked == [25, 25, 10]
    clock.advance(3_600.0)
    list(watch.find(clock.now()))
    assert sum(asked) == 120


def test_a_table_that_goes_while_it_is_counted_hides_no_other(store, clock, monkeypatch):
    made = [make_table(store)]
    gone = dataclasses.replace(made[0], spec=dataclasses.replace(
        made[0].spec, table=TableId.parse("local.ci.gone")))  # fmt: skip
    clock.advance(2 * HOUR)
    week(store, clock, 200, 0)
    monkeypatch.setattr(store, "tables", lambda: [gone, *made])
    assert len(list(VolumeWatch(store, lambda: ()).find(clock.now()))) == 1
