"""Whose folders alerts go by, and what holds while the files are being changed."""

import pytest
from store_world import builds_batch, builds_spec

from eventmill.base.errors import UsageError
from eventmill.schedule import alert_setup
from eventmill.schedule.alert_finding import AlertState
from eventmill.schedule.alert_setup import Alerts, choose_place, own_place
from eventmill.store.memory import MemoryStore
from eventmill.testing.fakes import FakeClock

RULE = 'sql = "SELECT builder FROM ci.builds GROUP BY builder"\nsummary = "{builder}"\n'
NOTHING = 'sql = "SELECT builder FROM ci.builds LIMIT 0"\nsummary = "{builder}"\n'


class Project:
    def __init__(self, path):
        self.path, self.told = path, path / "told"
        self.alerts = path / "alerts"
        self.alerts.mkdir()
        self.book = str(path / "schedule.db")
        self.clock = FakeClock(1_790_000_000.0)
        self.store = MemoryStore(self.clock)
        self.store.apply(builds_spec())
        self.store.put(builds_batch(range(3)))

    def write(self, **files):
        for name, text in files.items():
            (self.alerts / f"{name}.toml").write_text(text)

    def channels(self, extra=""):
        script = f"cat >> {self.told}; echo >> {self.told}"
        self.write(
            channels='[[channel]]\nname = "note"\nkind = "command"\n'
            f'command = ["sh", "-c", "{script}"]\n{extra}'
        )

    def notices(self):
        lines = self.told.read_text().splitlines() if self.told.exists() else []
        return ["resolved" if '"status": "resolved"' in line else "firing" for line in lines]

    def open(self, holder="host/1", held=120.0, **given):
        return Alerts(
            self.store, self.book, alert_folder=str(self.alerts),
            workflow_folder=str(self.path / "workflows"), clock=self.clock, holder=holder,
            held_seconds=held, **given,
        )  # fmt: skip


@pytest.fixture
def project(tmp_path):
    made = Project(tmp_path)
    yield made
    made.store.close()


def states(alerts, rule):
    return [a.state for a in alerts.book.alerts() if a.finding.rule == rule]


def test_a_rule_file_that_is_broken_while_it_is_edited_ends_nothing(project):
    project.channels()
    project.write(many=RULE)
    with project.open() as alerts:
        alerts.look()
        project.write(many=RULE + "sqll = 3\n")
        alerts.look()
        assert states(alerts, "many") == [AlertState.FIRING]
        assert states(alerts, "alert_file_broken") == [AlertState.FIRING]
        project.write(many=RULE)
        alerts.look()
    assert project.notices() == ["firing", "firing", "resolved"]


def test_a_renamed_rule_is_told_the_end_of_under_its_old_name(project):
    project.channels()
    project.write(many=RULE)
    with project.open() as alerts:
        alerts.look()
        (project.alerts / "many.toml").rename(project.alerts / "much.toml")
        alerts.look()
        assert states(alerts, "many") == [AlertState.OK]
        assert states(alerts, "much") == [AlertState.FIRING]
    assert sorted(project.notices()) == ["firing", "firing", "resolved"]


def test_while_channels_are_broken_the_last_good_ones_are_told(project):
    project.channels()
    with project.open() as alerts:
        alerts.look()
        project.channels("[[chanel]]\n")
        alerts.look()
    assert project.notices() == ["firing"]  # that its own file is broken


def test_what_fires_before_channels_could_ever_be_read_is_told_later(project):
    project.channels("[[chanel]]\n")
    project.write(many=RULE)
    with project.open() as alerts:
        alerts.look()
        assert project.notices() == []
        project.channels()
        alerts.look()
        alerts.look()
    assert project.notices().count("firing") == 2


def test_a_channel_without_its_secret_silences_no_other(project):
    project.channels('[[channel]]\nname = "x"\nkind = "webhook"\nurl_env = "NO_SUCH_VARIABLE"\n')
    project.write(many=RULE)
    with project.open() as alerts:
        alerts.look()
        assert project.notices() == ["firing", "firing"]
        assert {n.channel for n in alerts.book.queue.waiting()} == {"x"}


def test_two_schedulers_with_other_folders_do_not_end_each_other_s_alerts(
    project, tmp_path_factory, caplog
):
    project.write(many=RULE)
    other = Project(tmp_path_factory.mktemp("other"))
    with project.open() as ours:
        ours.look()
        with Alerts(
            project.store, project.book, alert_folder=str(other.alerts),
            workflow_folder=str(other.path), clock=project.clock, holder="host/2",
            held_seconds=120.0,
        ) as theirs:  # fmt: skip
            theirs.look()
            theirs.look()
            assert states(ours, "many") == [AlertState.FIRING]
            assert caplog.text.count("another scheduler of this run book goes by other") == 1
            project.clock.advance(121.0)
            theirs.look()
            assert states(ours, "many") == [AlertState.OK]
    other.store.close()


def test_a_command_goes_by_the_folders_of_the_scheduler(project, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    own = own_place(str(tmp_path / "elsewhere" / "alerts"), str(tmp_path / "elsewhere" / "flows"))
    now = project.clock.now()
    assert choose_place(project.book, own, is_meant=False, now=now) == own
    with project.open() as alerts:
        alerts.look()
        chosen = choose_place(project.book, own, is_meant=False, now=now)
        assert chosen.is_same(alerts.place)
        with pytest.raises(UsageError, match=r"evaluated by host/1, with the rules and channels"):
            choose_place(project.book, own, is_meant=True, now=now)
    # It has said that it ends.
    assert choose_place(project.book, own, is_meant=True, now=now + 1.0) == own
    assert choose_place(project.book, own, is_meant=False, now=now + 1.0).is_same(alerts.place)
    project.alerts.rmdir()  # the project has moved
    assert choose_place(project.book, own, is_meant=False, now=now + 1.0) == own


def test_a_command_and_a_server_tell_an_end_once_however_rarely_a_rule_is_asked(project):
    project.channels()
    project.write(many=RULE + 'every = "1h"\n')
    with project.open() as server:
        server.look()
        project.write(many=NOTHING + 'every = "1h"\n')
        project.clock.advance(30.0)
        with project.open("", 0.0) as command:
            command.engine.evaluate()
        for _ in range(5):
            project.clock.advance(30.0)
            server.look()
    assert project.notices() == ["firing", "resolved"]


def test_how_many_fire_is_counted(project):
    counted = []
    project.write(many=RULE, few=RULE + 'severity = "warning"\n')
    with project.open(on_firing=lambda counts: counted.append(dict(counts))) as alerts:
        alerts.look()
        project.write(many=NOTHING)
        project.clock.advance(60.0)
        alerts.look()
    assert counted == [{"critical": 1, "warning": 1}, {"warning": 1}]


def test_what_is_queued_is_told_though_the_rules_cannot_be_evaluated(project, monkeypatch):
    project.channels()
    project.write(many=RULE)
    with project.open() as alerts:
        alerts.engine.evaluate()

        def fail():
            raise RuntimeError("no")

        monkeypatch.setattr(alerts.engine, "evaluate_workflows", fail)
        with pytest.raises(RuntimeError):
            alerts.look()
    assert project.notices() == ["firing"]


def test_the_log_says_that_nobody_is_told_and_is_one_line(project, caplog):
    project.write(many='sql = "SELECT \'a\\\\x1b[0m\\\\nb\' AS x"\nsummary = "{x}"\n')
    with project.open() as alerts:
        alerts.look()
    (line,) = [r.getMessage() for r in caplog.records if "many" in r.getMessage()]
    assert line == "alert firing: many: a [0m b (no channel is told)"


def test_slow_rules_do_not_use_up_the_period(project, monkeypatch):
    names = [f"r{index}" for index in range(8)]
    project.write(**dict.fromkeys(names, RULE))
    asked = []
    query = project.store.query

    def slow(sql, *args, **given):
        if "GROUP BY builder" in sql:
            asked.append(project.clock.now())
            project.clock.advance(4.0)
        return query(sql, *args, **given)

    monkeypatch.setattr(project.store, "query", slow)
    with project.open() as alerts:
        began = project.clock.now()
        alerts.look()
        assert project.clock.now() - began <= alert_setup.STORE_SECONDS_MAX + 4.0
        assert len(asked) == 3
        alerts.look()
        alerts.look()
        # Those that had no turn come first at the next look.
        assert len([a for a in alerts.book.alerts() if a.state is AlertState.FIRING]) == 8
        # A command that is called once asks all.
        with project.open("", 0.0) as command:
            asked.clear()
            command.engine.evaluate()
            assert len(asked) == 8
