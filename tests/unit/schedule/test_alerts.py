"""The engine: every rule evaluated from storage, told on every channel until it is taken."""

import dataclasses
import random

import pytest
from store_world import builds_batch, builds_spec

from eventmill.base.errors import QueryError
from eventmill.schedule import alerts
from eventmill.schedule.alert_book import AlertBook
from eventmill.schedule.alert_channels import ChannelError
from eventmill.schedule.alert_facts import WorkflowFacts
from eventmill.schedule.alert_files import AlertFiles, AlertRule, Route
from eventmill.schedule.alert_finding import AlertState, Severity
from eventmill.schedule.alert_rows import ROWS_MAX, find_rows
from eventmill.schedule.alert_setup import Alerts
from eventmill.schedule.alert_state import Notice
from eventmill.schedule.alerts import AlertEngine
from eventmill.schedule.book import RunBook
from eventmill.schema.table import Partitioning
from eventmill.store.memory import MemoryStore
from eventmill.testing.fakes import FakeClock

RULE = AlertRule(
    name="slow_builds",
    sql="SELECT builder, COUNT(*) AS n FROM ci.builds GROUP BY builder HAVING COUNT(*) >= 3",
    summary="{builder} has {n:,} builds",
    key=(),
    owner="ada@example.com",
    severity=Severity.WARNING,
    every_seconds=0.0,
    hold_seconds=0.0,
    no_data="keep",
    path="slow_builds.toml",
)


class Channel:
    def __init__(self, name):
        self.name = name
        self.told = []
        self.failures = 0

    def tell(self, message):
        if self.failures:
            self.failures -= 1
            raise ChannelError("not now")
        self.told.append((message.notice, message.finding.rule, message.finding.subject))


class World:
    def __init__(self, path):
        self.clock = FakeClock(1_790_000_000.0)
        self.store = MemoryStore(self.clock)
        self.runs = RunBook(path)
        self.book = AlertBook(path)
        self.hook = Channel("hook")
        self.files = AlertFiles({"hook": self.hook}, (), (), {})
        self.engine = self.another()

    def another(self):
        facts = WorkflowFacts(self.runs, list)
        rng = random.Random(5)
        return AlertEngine(self.store, self.book, facts, lambda: self.files, self.clock, rng)

    def rules(self, *rules):
        self.files = dataclasses.replace(self.files, rules=rules)

    def evaluate(self, seconds=30.0):
        self.clock.advance(seconds)
        return [(c.notice, c.alert.finding.subject) for c in self.engine.evaluate()]

    def states(self):
        return {alert.finding.subject: alert.state for alert in self.book.alerts()}


@pytest.fixture
def world(tmp_path):
    made = World(str(tmp_path / "schedule.db"))
    made.store.apply(builds_spec(partitioning=Partitioning()))
    yield made
    made.book.close()
    made.runs.close()
    made.store.close()


def test_rows_of_a_rule_fire_are_told_and_end(world):
    world.rules(RULE)
    assert world.evaluate() == []
    world.store.put(builds_batch(range(3)))
    assert world.evaluate() == [(Notice.FIRING, "linux")]
    assert world.engine.tell() == 0
    assert world.hook.told == [(Notice.FIRING, "slow_builds", "linux")]
    (alert,) = world.book.alerts()
    assert alert.finding.summary == "linux has 3 builds"
    assert alert.finding.labels == {"builder": "linux", "n": "3"}
    assert world.evaluate() == []
    assert world.engine.tell() == 0
    assert len(world.hook.told) == 1
    world.rules(dataclasses.replace(RULE, sql=RULE.sql.replace("3", "4")))
    assert world.evaluate() == [(Notice.RESOLVED, "linux")]
    world.engine.tell()
    assert world.hook.told[1:] == [(Notice.RESOLVED, "slow_builds", "linux")]


def test_it_is_told_again_after_four_hours(world):
    world.rules(RULE)
    world.store.put(builds_batch(range(3)))
    said = [world.evaluate(1_800.0) for _ in range(18)]
    assert [len(changes) for changes in said] == [1] + 7 * [0] + [1] + 7 * [0] + [1, 0]


def test_a_rule_that_is_asked_rarely_is_held_and_repeated_all_the_same(world):
    world.rules(dataclasses.replace(RULE, every_seconds=3_600.0, hold_seconds=60.0))
    world.store.put(builds_batch(range(3)))
    assert world.evaluate() == []
    assert world.states() == {"linux": AlertState.PENDING}
    assert world.evaluate() == []
    assert world.evaluate() == [(Notice.FIRING, "linux")]


def test_a_rule_that_cannot_be_evaluated_ends_nothing_and_is_told_after_a_while(world):
    world.rules(RULE)
    world.store.put(builds_batch(range(3)))
    world.evaluate()
    world.rules(dataclasses.replace(RULE, sql="SELECT builder FROM ci.gone"))
    assert world.evaluate() == []
    assert world.states() == {"linux": AlertState.FIRING}
    assert world.evaluate(alerts.NO_DATA_SECONDS - 1.0) == []
    assert world.evaluate(1.0) == [(Notice.FIRING, "slow_builds")]
    assert "could not be evaluated for 15m: there is no table local.ci.gone" in (
        world.book.alerts()[0].finding.summary
    )
    world.rules(RULE)
    assert world.evaluate() == [(Notice.RESOLVED, "slow_builds")]


def test_a_rule_that_must_have_data_fires_at_once_without(world):
    sql = "SELECT builder FROM ci.gone"
    world.rules(dataclasses.replace(RULE, sql=sql, no_data="firing"))
    assert world.evaluate() == [(Notice.FIRING, "slow_builds")]


def test_one_bad_rule_keeps_no_other_from_being_evaluated(world):
    world.rules(dataclasses.replace(RULE, name="bad", sql="SELECT builder FROM ci.gone"), RULE)
    world.store.put(builds_batch(range(3)))
    assert world.evaluate() == [(Notice.FIRING, "linux")]


def test_the_alerts_of_a_rule_that_is_gone_end(world):
    world.rules(RULE)
    world.store.put(builds_batch(range(3)))
    world.evaluate()
    world.rules()
    world.evaluate()
    assert world.states() == {"linux": AlertState.OK}


def test_a_broken_file_is_an_alert(world):
    world.files = dataclasses.replace(world.files, faults={"/alerts/x.toml": "x.toml is no TOML"})
    assert world.evaluate() == [(Notice.FIRING, "/alerts/x.toml")]


def test_a_dead_scheduler_is_found_from_outside(world):
    world.runs.note_workflows({"daily": ("ada", "every 1 h")}, {}, world.clock.now())
    world.runs.beat("host:1", world.clock.now())
    assert world.evaluate() == []
    assert world.evaluate(60.0) == [(Notice.FIRING, "scheduler")]


def test_a_channel_that_fails_is_tried_until_it_takes_it(world):
    world.rules(RULE)
    world.hook.failures = 5
    world.store.put(builds_batch(range(3)))
    world.evaluate()
    missed = 0
    for _ in range(100):
        missed += world.engine.tell()
        world.clock.advance(60.0)
    assert missed == 5
    assert world.hook.told == [(Notice.FIRING, "slow_builds", "linux")]
    assert world.book.queue.waiting() == []


def test_a_notice_is_given_up_after_a_day_and_said_so(world, caplog):
    world.rules(RULE)
    world.hook.failures = 10_000
    world.store.put(builds_batch(range(3)))
    world.evaluate()
    for _ in range(2 * 24 * 6):
        world.engine.tell()
        world.clock.advance(600.0)
    assert world.book.queue.waiting() == []
    assert "alert given up: hook was not told within 1d that linux has 3 builds" in caplog.text


def test_a_notice_for_a_channel_that_is_gone_waits_for_it(world):
    world.rules(RULE)
    world.store.put(builds_batch(range(3)))
    world.evaluate()
    world.files = dataclasses.replace(world.files, channels={})
    assert world.engine.tell() == 1
    assert "there is no channel hook that can be used" in world.book.queue.waiting()[0].error


def test_of_two_engines_one_tells(world):
    world.rules(RULE)
    world.store.put(builds_batch(range(3)))
    other = world.another()
    assert len(world.engine.evaluate() + other.evaluate()) == 1
    assert world.engine.tell() + other.tell() == 0
    assert len(world.hook.told) == 1


def test_without_a_route_that_takes_it_it_is_listed(world):
    route = Route(("other-*",), ("*",), ("hook",), 60.0)
    world.files = dataclasses.replace(world.files, routes=(route,))
    world.rules(RULE)
    world.store.put(builds_batch(range(3)))
    world.evaluate()
    assert world.book.queue.waiting() == []
    assert world.states() == {"linux": AlertState.FIRING}


def test_one_look_evaluates_logs_and_tells(world, tmp_path, caplog):
    caplog.set_level("INFO", "eventmill.alerts")
    folder = tmp_path / "alerts"
    folder.mkdir()
    rule = folder / "many.toml"
    rule.write_text('sql = "SELECT builder FROM ci.builds GROUP BY builder"\nsummary = "{builder}"')
    told = tmp_path / "told"
    channel = f'[[channel]]\nname = "note"\nkind = "command"\ncommand = ["tee", "{told}"]'
    (folder / "channels.toml").write_text(channel)
    world.store.put(builds_batch(range(3)))
    with Alerts(
        world.store, str(tmp_path / "schedule.db"), alert_folder=str(folder),
        workflow_folder=str(tmp_path / "workflows"), clock=world.clock,
    ) as found:  # fmt: skip
        found.look()
        assert "alert firing: many: linux" in caplog.text
        assert '"status": "firing"' in told.read_text()
        rule.unlink()
        rule.with_name("none.toml").write_text('sql = "SELECT 1 AS x LIMIT 0"')
        found.look()
        assert [alert.state for alert in found.book.alerts()] == [AlertState.OK]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"summary": "{host} is slow"}, "cannot be filled from the columns builder, n"),
        ({"summary": "{builder:,d}"}, "cannot be filled"),
        ({"summary": "{builder[host]}"}, "cannot be filled"),
        ({"key": ("host",)}, "its rows have no column host, which `key` names"),
        (
            {"sql": "SELECT 'a' AS x FROM ci.builds LIMIT 2", "summary": "x"},
            "two of its rows are a",
        ),
        (
            {"sql": "SELECT CAST(number AS STRING) AS x FROM ci.builds", "summary": "x"},
            f"more than {ROWS_MAX} rows",
        ),
    ],
)
def test_rows_that_make_no_alert(world, changes, says):
    world.store.put(builds_batch(range(ROWS_MAX + 1)))
    with pytest.raises(QueryError, match=says):
        list(find_rows(world.store, dataclasses.replace(RULE, **changes), 0.0))


def test_the_time_of_the_evaluation_is_a_parameter(world):
    rule = dataclasses.replace(RULE, sql="SELECT CAST(@now AS STRING) AS x", summary="{x}")
    (found,) = find_rows(world.store, rule, 1_790_000_000.0)
    assert found.summary.startswith("2026-09-21 14:13:20")


def test_a_fault_of_ours_in_one_rule_keeps_no_other_from_being_evaluated(
    world, monkeypatch, caplog
):
    def fail(store, now):
        raise KeyError("x")
        yield

    monkeypatch.setattr(alerts, "find_stale", fail)
    world.rules(RULE)
    world.store.put(builds_batch(range(3)))
    assert world.evaluate() == [(Notice.FIRING, "linux")]
    (rule,) = [each for each in world.book.rules() if each.failing_since]
    assert (rule.rule, rule.error) == ("table_stale", "unexpectedly, KeyError")
    assert "KeyError" in caplog.text


def test_a_rule_that_failed_once_is_asked_again_before_it_is_due(world):
    world.rules(dataclasses.replace(RULE, sql="SELECT builder FROM ci.gone", every_seconds=3_600.0))
    world.evaluate()
    world.rules(dataclasses.replace(RULE, every_seconds=3_600.0))
    world.store.put(builds_batch(range(3)))
    assert world.evaluate(59.0) == []
    assert world.evaluate(1.0) == [(Notice.FIRING, "linux")]


def test_what_rows_say_is_one_line_and_has_an_end(world):
    sql = "SELECT CONCAT('a\\x1b[0m\\n', REPEAT('x', 5000)) AS x"
    (found,) = find_rows(world.store, dataclasses.replace(RULE, sql=sql, summary="{x}"), 0.0)
    assert found.subject.startswith("a [0m xxx")
    assert found.summary == found.subject
    assert len(found.summary) < 1_100
    assert len(found.labels["x"]) < 1_100
