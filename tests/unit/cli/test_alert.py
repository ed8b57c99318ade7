"""``eventmill alert``: what fires, by which exit code, and whom it reaches."""

import json
import textwrap

import pytest
from store_world import builds_batch, builds_spec

from eventmill.base.clock import SYSTEM_CLOCK
from eventmill.schedule.alert_book import AlertBook, AlertPlace
from eventmill.schedule.book import RunBook
from eventmill.store.local.store import LocalStore

RULE = """
    sql = "SELECT builder, COUNT(*) AS n FROM ci.builds GROUP BY builder"
    summary = "{builder} has {n} builds"
    owner = "ada@example.com"
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with LocalStore.open("eventmill-data") as store:
        store.apply(builds_spec())
        store.put(builds_batch(range(3)))
    return tmp_path


def write(project, **files):
    (project / "alerts").mkdir(exist_ok=True)
    for name, text in files.items():
        (project / "alerts" / f"{name}.toml").write_text(textwrap.dedent(text))


@pytest.fixture
def alert(call):
    return lambda *arguments: call("alert", *arguments)


def test_check_without_any_set_up_finds_nothing_wrong(project, alert):
    result = alert("check")
    assert (result.code, result.out) == (0, "")
    assert alert("check", "--format", "table").out == "no alert\n"


def test_a_folder_that_is_named_and_not_there_is_refused_and_not_remembered(project, alert):
    write(project, many=RULE)
    for word in ("check", "list"):
        result = alert(word, "--alerts", "alrets")
        assert (result.code, result.out) == (2, "")
        assert f"there is no folder {project}/alrets" in result.err
    assert alert("check").code == 4


def test_check_ends_with_4_when_a_rule_fires(project, alert):
    write(project, many=RULE)
    result = alert("check")
    assert result.code == 4
    (row,) = result.rows
    assert {name: row[name] for name in ("state", "severity", "rule", "subject", "owner")} == {
        "state": "firing",
        "severity": "critical",
        "rule": "many",
        "subject": "linux",
        "owner": "ada@example.com",
    }
    assert row["summary"] == "linux has 3 builds"
    (project / "alerts" / "many.toml").unlink()
    assert alert("check").code == 0
    assert [row["state"] for row in alert("list", "--all").rows] == ["ok"]
    assert alert("list").rows == []


def test_check_finds_a_scheduler_that_is_dead(project, alert):
    book = RunBook("eventmill-data/schedule.db")
    book.note_workflows({"daily": ("ada", "every 1 h")}, {}, 1_790_000_000.0)
    book.beat("host:1", 1_790_000_000.0)
    book.close()
    result = alert("check")
    assert result.code == 4
    assert "scheduler_dead" in [row["rule"] for row in result.rows]


def test_a_rule_that_cannot_be_evaluated_is_said(project, alert):
    write(project, gone='sql = "SELECT 1 AS x FROM ci.gone"', many=RULE)
    result = alert("list")
    assert result.code == 0
    assert [row["rule"] for row in result.rows] == ["many"]
    assert "the rule gone cannot be evaluated" in result.err
    assert "there is no table local.ci.gone" in result.err


def test_what_is_held_is_pending(project, alert):
    write(project, many=RULE + '    for = "1h"\n')
    assert alert("check").code == 0
    assert [row["state"] for row in alert("list").rows] == ["pending"]


def test_check_tells_when_it_is_asked_to(project, alert):
    channel = f"""
        [[channel]]
        name = "note"
        kind = "command"
        command = ["tee", "{project}/told.json"]
    """
    write(project, many=RULE, channels=channel)
    assert alert("check").code == 4
    assert not (project / "told.json").exists()
    assert alert("check", "--tell").code == 4
    document = json.loads((project / "told.json").read_text())
    assert document["alerts"][0]["annotations"]["summary"] == "linux has 3 builds"


def test_a_notice_that_is_not_taken_is_said(project, alert):
    channel = '[[channel]]\nname = "note"\nkind = "command"\ncommand = ["false"]\n'
    write(project, many=RULE, channels=channel)
    result = alert("check", "--tell")
    assert result.code == 4
    assert "warning: 1 notices were not taken" in result.err
    assert "note has not taken that linux is firing: it ended with 1" in alert("list").err


def test_test_says_of_each_channel_whether_it_took_it(project, alert):
    write(
        project,
        channels="""
            [[channel]]
            name = "good"
            kind = "command"
            command = ["true"]
            [[channel]]
            name = "bad"
            kind = "command"
            command = ["false"]
        """,
    )
    result = alert("test")
    assert result.code == 1
    assert result.out == "taken   good\nfailed  bad: it ended with 1: and said nothing\n"
    assert alert("test", "--channel", "good").code == 0
    result = alert("test", "--channel", "ugly")
    assert result.code == 1
    assert "there is no channel ugly: ./alerts/channels.toml has good, bad" in result.err


def test_test_without_a_channel_says_what_to_do(tmp_path, monkeypatch, alert):
    monkeypatch.chdir(tmp_path)
    result = alert("test")
    assert result.code == 1
    assert "nobody is told. Write one into ./alerts/channels.toml" in result.err


def test_a_folder_that_cannot_be_read_is_an_error_of_one_line(project, alert):
    write(project, channels="[[chanel]]\n")
    result = alert("test")
    assert result.code == 1
    assert "chanel: no such key: allowed are channel, route; did you mean channel?" in result.err
    assert alert("check").code == 4  # the broken file is an alert itself


def test_check_that_cannot_evaluate_a_rule_does_not_say_that_all_is_well(project, alert):
    write(project, gone='sql = "SELECT 1 AS x FROM ci.gone"')
    result = alert("check")
    assert result.code == 1
    assert "the rule gone cannot be evaluated" in result.err


def test_check_of_a_server_says_that_it_sees_no_run_book(project, alert, monkeypatch):
    # Whether the server is there is no matter: its run book is not.
    monkeypatch.setenv("XDG_STATE_HOME", str(project / "state"))
    result = alert("check", "--store", "http://127.0.0.1:1")
    assert "nothing is known here of the workflows of http://127.0.0.1:1" in result.err
    assert "call this on the server's machine\n  with --store FOLDER" in result.err
    assert result.code == 1  # and what could not be asked is not well


def test_a_check_from_another_folder_ends_nothing_and_swallows_no_notice(
    project, alert, tmp_path_factory, monkeypatch
):
    note = f'[[channel]]\nname = "note"\nkind = "command"\ncommand = ["tee", "{project}/told"]\n'
    write(project, many=RULE, channels=note)
    assert alert("check").code == 4
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    result = alert("check", "--tell", "--store", str(project / "eventmill-data"))
    assert result.code == 4
    assert [row["rule"] for row in result.rows] == ["many"]
    assert f"the rules and channels are those of {project}/alerts" in result.err
    assert (project / "told").exists()


def test_folders_that_a_living_scheduler_does_not_go_by_are_refused(project, alert):
    book = AlertBook("eventmill-data/schedule.db")
    until = SYSTEM_CLOCK.now() + 60.0
    book.hold(AlertPlace("/srv/alerts", "/srv/workflows", "host/1", until), until - 60.0)
    book.close()
    write(project, many=RULE)
    result = alert("check", "--alerts", "alerts")
    assert result.code == 2
    assert "evaluated by host/1, with the rules and channels of /srv/alerts" in result.err


def test_what_data_says_cannot_paint_the_terminal(project, alert):
    sql = "SELECT 'a\\\\x1b[31mb' AS x, 1 AS gone FROM ci.builds LIMIT 1"
    write(project, many=f'sql = "{sql}"\nsummary = "{{x}}"\n')
    result = alert("list", "--format", "table")
    assert "\x1b[31mb" not in result.out
    assert "many: a [31mb" in result.out
