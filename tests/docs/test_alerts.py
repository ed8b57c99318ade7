"""The page on alerts: its rules are those of the code, its files are read, its numbers hold."""

from __future__ import annotations

import re
from pathlib import Path

from eventmill.base.settings import AlertSettings
from eventmill.schedule import (
    alert_book,
    alert_channels,
    alert_rows,
    alert_tables,
    alert_teller,
    alert_workflows,
    alerts,
)
from eventmill.schedule.alert_files import REPEAT_SECONDS, read_alert_files
from eventmill.schedule.alert_finding import Finding

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "alerts.md").read_text("utf-8")
CHANNELS, RULE = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
ENVIRONMENT = {
    "ONCALL_URL": "https://alerts.example.com", "ONCALL_TOKEN": "x", "MAIL_PASSWORD": "x",
    "CHAT_URL": "json://chat.example.com",
}  # fmt: skip


def test_every_built_in_rule_is_on_the_page_and_no_other():
    told = set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))
    tables = {alert_tables.TABLE_STALE, alert_tables.QUARANTINE_RATE, alert_tables.VOLUME_DROP}
    assert told == {
        *alert_workflows.WORKFLOW_RULES,
        *tables,
        alerts.RULE_NO_DATA,
        alerts.ALERT_FILE_BROKEN,
    }


def test_the_files_of_the_page_are_read(tmp_path):
    (tmp_path / "channels.toml").write_text(CHANNELS)
    (tmp_path / "failing_builders.toml").write_text(RULE)
    files = read_alert_files(str(tmp_path), ENVIRONMENT)
    assert files.faults == {}
    assert list(files.channels) == ["oncall", "mail", "pager", "chat"]
    assert [rule.name for rule in files.rules] == ["failing_builders"]
    nightly = Finding("workflow_failed", "dataflow-workflow-nightly", "", aliases=("nightly",))
    assert files.route(nightly).channels == ("oncall", "mail")
    assert files.route(Finding("table_stale", "local.ci.builds", "")).channels == ("mail",)


def test_the_numbers_are_those_of_the_code():
    assert f"every {AlertSettings().every_seconds:g} seconds (`alert.every_seconds`)" in PAGE
    assert f"begun {alert_workflows.BEGUN_WITHIN_SECONDS / 60:g} minutes after" in PAGE
    assert alert_workflows.SILENT_SECONDS_MAX == 60.0
    assert f"within {alert_tables.QUARANTINE_WINDOW_SECONDS / 60:g} minutes" in PAGE
    assert f"{alert_tables.QUARANTINED_MIN} events or more" in PAGE
    assert f"over {alert_tables.QUARANTINE_SHARE_MAX * 100:g} % of those sent" in PAGE
    assert alert_tables.VOLUME_SHARE_MIN == 0.5
    assert f"which had {alert_tables.VOLUME_ROWS_MIN} at least" in PAGE
    assert f"not be evaluated for {alerts.NO_DATA_SECONDS / 60:g} minutes" in PAGE
    assert REPEAT_SECONDS == 4 * 3_600
    assert f"with {alert_rows.ROWS_MAX} rows at most, within {alert_rows.SECONDS_MAX:g}" in PAGE
    assert alerts.BILLED_EVERY_SECONDS == 600.0
    assert alerts.STORE_SECONDS_MAX == 10.0
    assert alert_book.FLAPS_MAX == 3
    assert f"been gone for {alert_book.FLAP_KEEP_SECONDS / 60:g} minutes" in PAGE
    assert f"{alert_channels.TIMEOUT_SECONDS:g} s unless said" in PAGE
    assert f"{alert_channels.TIMEOUT_SECONDS_MAX:g} s at most" in PAGE
    assert f"it failed {alert_workflows.LOOK_BACK_SECONDS / 86_400:g} days ago" in PAGE
    assert alert_teller.GIVE_UP_SECONDS == 86_400.0
