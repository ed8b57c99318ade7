"""The folder of alerts: channels, routes, rules, and what is said of a bad one."""

import textwrap

import pytest

from eventmill.schedule.alert_channels import (
    AppriseChannel,
    CommandChannel,
    MailChannel,
    WebhookChannel,
)
from eventmill.schedule.alert_files import REPEAT_SECONDS, AlertRule, read_alert_files
from eventmill.schedule.alert_finding import Finding, Severity

CHANNELS = """
    [[channel]]
    name = "oncall"
    kind = "webhook"
    url = "https://alerts.example.com/hook"
    bearer_env = "HOOK_TOKEN"
    timeout = "3s"

    [[channel]]
    name = "mail"
    kind = "smtp"
    host = "mail.example.com"
    from = "mill@example.com"
    user = "mill"
    password_env = "MAIL_PASSWORD"

    [[channel]]
    name = "pager"
    kind = "command"
    command = ["page", "--now"]

    [[channel]]
    name = "chat"
    kind = "apprise"
    urls = ["slack://a/b/c"]

    [[route]]
    match = "dataflow-workflow-*"
    channels = ["oncall", "mail"]

    [[route]]
    match = ["*daily*", "local.ci.*"]
    rules = ["table_*", "workflow_*"]
    channels = ["mail", "pager"]
    repeat = "30m"
"""
RULE = """
    owner = "ada@example.com"
    severity = "warning"
    every = "5m"
    for = "10m"
    key = ["builder"]
    no_data = "firing"
    summary = "{builder}: {share:.0%} of its builds fail"
    sql = "SELECT builder, 0.5 AS share FROM ci.builds WHERE started_at > @now GROUP BY builder"
"""
ENVIRONMENT = {"HOOK_TOKEN": "secret", "MAIL_PASSWORD": "sesame"}


@pytest.fixture
def read(tmp_path):
    def read(**files):
        for name, text in files.items():
            (tmp_path / f"{name}.toml").write_text(textwrap.dedent(text))
        return read_alert_files(str(tmp_path), ENVIRONMENT)

    return read


def fault_of(files):
    assert len(files.faults) == 1
    return next(iter(files.faults.values()))


def test_without_a_folder_there_is_nobody_to_tell_and_no_fault(tmp_path):
    files = read_alert_files(str(tmp_path / "none"), {})
    assert (files.channels, files.routes, files.rules, files.faults) == ({}, (), (), {})
    assert files.route(Finding("a", "b", "")).channels == ()


def test_every_kind_of_channel_is_read(read):
    files = read(channels=CHANNELS)
    assert files.faults == {}
    assert files.channels == {
        "oncall": WebhookChannel("oncall", "https://alerts.example.com/hook", "secret", 3.0),
        "mail": MailChannel(
            "mail", "mail.example.com", 587, "mill@example.com", ("{owner}",), "starttls",
            "mill", "sesame",
        ),
        "pager": CommandChannel("pager", ("page", "--now")),
        "chat": AppriseChannel("chat", ("slack://a/b/c",)),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("finding", "channels", "repeat_seconds"),
    [
        (Finding("workflow_failed", "dataflow-workflow-x", ""), ("oncall", "mail"), REPEAT_SECONDS),
        (
            Finding("workflow_failed", "dataflow-workflow-daily", "", aliases=("daily",)),
            ("oncall", "mail", "pager"),
            1_800.0,
        ),
        (Finding("table_stale", "local.ci.builds", ""), ("mail", "pager"), 1_800.0),
        (Finding("quarantine_rate", "local.ci.builds", ""), (), REPEAT_SECONDS),
        (Finding("table_stale", "local.Ci.builds", ""), (), REPEAT_SECONDS),
    ],
)
def test_routes(read, finding, channels, repeat_seconds):
    routing = read(channels=CHANNELS).route(finding)
    assert (routing.channels, routing.repeat_seconds) == (channels, repeat_seconds)


def test_without_a_route_every_channel_is_told(read):
    files = read(channels=CHANNELS.partition("[[route]]")[0])
    assert files.route(Finding("a", "b", "")).channels == ("oncall", "mail", "pager", "chat")


def test_a_rule_is_read(read, tmp_path):
    (rule,) = read(failing_builders=RULE).rules
    assert rule == AlertRule(
        name="failing_builders",
        sql="SELECT builder, 0.5 AS share FROM ci.builds WHERE started_at > @now GROUP BY builder",
        summary="{builder}: {share:.0%} of its builds fail",
        key=("builder",),
        owner="ada@example.com",
        severity=Severity.WARNING,
        every_seconds=300.0,
        hold_seconds=600.0,
        no_data="firing",
        path=str(tmp_path / "failing_builders.toml"),
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sql = 5", "sql: a whole number is given: write a text"),
        ("every = '5m'", "sql: it is missing: one GoogleSQL statement"),
        ("sql = 'SELECT FROM WHERE'", "sql: "),
        ("sql = 'SELECT SOUNDS_LIKE(1)'", "SOUNDS_LIKE"),
        ("sql = 'SELECT 1'\nevery = 'often'", "every: 'often' is not a length of time"),
        ("sql = 'SELECT 1'\nseverity = 'dire'", "severity: 'dire' is not one of critical, warning"),
        (
            "sql = 'SELECT 1'\nwhen = '5m'\nfro = 1",
            "when: no such key: allowed are name, sql, no_data",
        ),
        ("sql = 'SELECT 1'\nname = 'No Name'", "name: 'No Name': use at most 63 small letters"),
        ("sql = ", "is not TOML"),
    ],
)
def test_a_bad_rule_is_named_and_hides_no_other(read, text, says):
    files = read(bad=text, good=RULE, channels=CHANNELS)
    assert says in fault_of(files)
    assert "bad.toml" in fault_of(files)
    assert [rule.name for rule in files.rules] == ["good"]
    assert len(files.channels) == 4


def test_two_rules_of_one_name(read):
    files = read(a="name = 'x'\nsql = 'SELECT 1'", b="name = 'x'\nsql = 'SELECT 2'")
    assert fault_of(files).endswith("a.toml has the name x")
    assert [rule.sql for rule in files.rules] == ["SELECT 1"]


HOOK = "[[channel]]\nname = 'a'\nkind = 'webhook'\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "[[channels]]\nname = 'a'",
            "channels: no such key: allowed are channel, route; did you mean channel?",
        ),
        ("[[channel]]\nkind = 'webhook'", "channel[0].name: it is missing"),
        ("[[channel]]\nname = 'a'\nkind = 'pigeon'", "kind: 'pigeon' is not one of webhook, smtp"),
        (HOOK, "channel[0].url: it is missing"),
        (HOOK + "url = 'ftp://x'", "channel[0].url: it must begin with http"),
        (
            HOOK + "url = 'http://x'\nbearer_env = 'NO'",
            "bearer_env: the environment has no NO: set",
        ),
        (
            HOOK + "url = 'http://x'\n" + HOOK + "url = 'http://x'",
            "channel[1].name: a is there twice",
        ),
        (
            HOOK + "url = 'http://x'\n[[route]]\nchannels = ['b']",
            "route[0].channels: there is no channel b",
        ),
        (HOOK + "url = 'http://x'\n[[route]]\nmatch = '*'", "route[0].channels: it is missing"),
        (HOOK + "url = 'http://x'\nretries = 3", "channel[0].retries: no such key"),
        (
            "[[channel]]\nname='a'\nkind='smtp'\nhost='h'\nfrom='f'\nport=0",
            "channel[0].port: 0 is not from 1 to 65,535",
        ),
        (
            "[[channel]]\nname='a'\nkind='command'\ncommand=[]",
            "channel[0].command: it names no program",
        ),
        ("channel = 3", "channel: a whole number is given: write a list"),
    ],
)
def test_bad_channels_are_named(read, text, says):
    files = read(channels=text, good=RULE)
    assert says in fault_of(files)
    assert "channels.toml" in fault_of(files)
    assert [rule.name for rule in files.rules] == ["good"]


def test_a_rule_may_not_have_the_name_of_one_that_is_built_in(tmp_path):
    (tmp_path / "workflow_failed.toml").write_text('sql = "SELECT 1 AS x"')
    (tmp_path / "other.toml").write_text('name = "rule_no_data"\nsql = "SELECT 1 AS x"')
    files = read_alert_files(str(tmp_path), {})
    assert files.rules == ()
    assert all("is a rule that is built in" in fault for fault in files.faults.values())
    assert len(files.faults) == 2


def test_one_bad_channel_leaves_the_others_and_the_routes(tmp_path):
    text = CHANNELS.replace("[[channel]]", "[[channel]]", 1)
    (tmp_path / "channels.toml").write_text(textwrap.dedent(text))
    files = read_alert_files(str(tmp_path), {"MAIL_PASSWORD": "x"})
    assert list(files.channels) == ["mail", "pager", "chat"]
    (fault,) = files.faults.values()
    assert "the environment has no HOOK_TOKEN" in fault
    daily = Finding("workflow_failed", "dataflow-workflow-daily", "")
    # What is for the bad one waits for it.
    assert files.route(daily).channels == ("oncall", "mail", "pager")


@pytest.mark.parametrize(
    "url",
    [
        "https://mill:T0K3N@example.com/x",
        "https://example.com/T0K3N x",
        "https://example.com:T0K3N/x",
        "https://[T0K3N/x",
        "ftp://example.com/T0K3N",
    ],
)
def test_a_url_that_cannot_be_posted_to_is_refused_without_a_word_of_it(tmp_path, url):
    (tmp_path / "channels.toml").write_text(
        '[[channel]]\nname = "hook"\nkind = "webhook"\nurl_env = "URL"\n'
    )
    files = read_alert_files(str(tmp_path), {"URL": url})
    (fault,) = files.faults.values()
    assert "channel[0].url: it" in fault or "url: it" in fault
    assert "T0K3N" not in fault
    assert files.channels == {}


def test_a_timeout_longer_than_a_lease_is_refused(tmp_path):
    (tmp_path / "channels.toml").write_text(
        '[[channel]]\nname = "x"\nkind = "command"\ncommand = ["x"]\ntimeout = "2m"\n'
    )
    (fault,) = read_alert_files(str(tmp_path), {}).faults.values()
    assert "a channel may take 30 s at most" in fault


def test_a_folder_that_cannot_be_read_is_a_fault(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("os.listdir", refuse)
    files = read_alert_files(str(tmp_path), {})
    assert "cannot be read: Permission denied" in files.faults[str(tmp_path)]
    assert files.route(Finding("r", "s", "")).channels is None
