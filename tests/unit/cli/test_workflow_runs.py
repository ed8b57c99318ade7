"""``eventmill workflow run|runs|log|backfill|pause|resume|export`` and ``scheduler run``."""

from __future__ import annotations

import ast
import configparser
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime

import orjson
import pytest
import yaml
from schedule_project import HOUR, START, START_TEXT, sale_spec, sell, totals, write_workflow

from eventmill.base.settings import ClientSettings, Settings
from eventmill.cli.scheduler import _warn_of_a_server
from eventmill.cli.scheduling import SharedStore
from eventmill.schedule.book import RunBook
from eventmill.store.local.store import LocalStore

FAILING = """\
SELECT 1 AS hour, 2 AS pieces, CAST(item AS INT64) AS sales FROM shop.sales
WHERE sold_at < @slot_end
"""


def hour_text(hour):
    return datetime.fromtimestamp(START + hour * HOUR, UTC).isoformat()


@pytest.fixture
def project(tmp_path, call):
    """A working folder with sales in six hours, and their workflow."""
    with LocalStore.open(str(tmp_path / "eventmill-data")) as store:
        store.apply(sale_spec(tmp_path))
        for hour in range(6):
            sell(store, hour, hour + 1)
    write_workflow(tmp_path / "workflows", schedule=f'start = "{START_TEXT}"')
    return tmp_path


@pytest.fixture
def book(project):
    book = RunBook(str(project / "eventmill-data" / "schedule.db"))
    yield book
    book.close()


def output(project):
    with LocalStore.open(str(project / "eventmill-data"), writer=False) as store:
        return totals(store)


# -- run, runs, log --------------------------------------------------------------------------


def test_one_slot_is_run_and_its_result_is_json_in_a_pipe(project, call):
    answer = call("workflow", "run", "hourly", "--slot", hour_text(2))
    assert answer.code == 0, answer.err
    (told,) = answer.rows
    assert told["state"] == "succeeded"
    assert (told["input_rows"], told["output_rows"], told["replaced_rows"]) == (1, 1, 0)
    again = call("workflow", "run", "hourly", "--slot", hour_text(2), "--attempt", "3").rows[0]
    assert (again["attempt"], again["replaced_rows"], again["late_rows"]) == (3, 1, 0)
    assert output(project) == [(2, 3, 1)]


def test_the_last_slot_is_the_one_that_ended_last(project, call):
    before = time.time()
    (told,) = call("workflow", "run", "hourly", "--slot", "last").rows
    assert before - HOUR < datetime.fromisoformat(told["slot_end"]).timestamp() <= time.time()


def test_a_slot_that_failed_says_why_and_ends_with_1(project, call):
    write_workflow(project / "workflows", "broken", sql=FAILING)
    answer = call("workflow", "run", "broken", "--slot", hour_text(2))
    assert answer.code == 1
    assert answer.rows[0]["state"] == "failed"
    assert answer.rows[0]["error"] in answer.err


@pytest.mark.parametrize(
    ("slot", "told"),
    [
        ("yesterday", "is no moment"),
        (hour_text(2).replace(":00:00", ":30:00"), "that moment lies in"),
        ("2150-01-01", "has not ended"),
        ("9999-12-31T23:00Z", "from the year 2 to the end of 9998"),
        ("0001-01-01T00:00+14:00", "from the year 2 to the end of 9998"),
    ],
)
def test_a_slot_that_cannot_be_run_is_refused(project, call, slot, told):
    answer = call("workflow", "run", "hourly", "--slot", slot)
    assert answer.code == 2
    assert told in answer.err


def test_a_slot_that_somebody_runs_is_refused(project, call, book):
    from eventmill.schedule.book_claims import Claims, Runner
    from eventmill.schedule.book_rows import Origin

    slot = (START, START + HOUR)
    runner = Runner("them/1/a", Origin.COMMAND)
    held = Claims(book).claim_slot("hourly", slot, runner, time.time(), attempts_max=1)
    answer = call("workflow", "run", "hourly", "--slot", hour_text(0))
    assert answer.code == 1
    assert f"is being run by them/1/a (run {held.run_id})" in answer.err


def test_runs_slots_and_the_log_are_shown(project, call, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    for hour in (0, 1):
        call("workflow", "run", "hourly", "--slot", hour_text(hour))
    newest, first = call("workflow", "runs").rows
    assert newest["run"] > first["run"]
    assert (newest["workflow"], newest["state"], newest["input_rows"]) == ("hourly", "succeeded", 1)
    assert [row["run"] for row in call("workflow", "runs", "hourly", "-n", "1").rows] == [
        newest["run"]
    ]
    shown = call("workflow", "runs", "--format", "table").out
    assert "succeeded" in shown
    assert str(newest["run"]) in shown
    slots = call("workflow", "runs", "hourly", "--slots").rows
    assert [slot["run"] for slot in slots] == [newest["run"], first["run"]]
    by_number = call("workflow", "log", str(newest["run"])).rows
    assert by_number == call("workflow", "log", "hourly").rows
    assert any("has 1 rows" in line["text"] for line in by_number)
    assert "sql body" in call("workflow", "log", "hourly", "--format", "table").out


def test_what_the_book_does_not_have_is_a_usage_error(project, call):
    for words in (
        ["runs", "other"],
        ["log", "7"],
        ["log", "9" * 20],
        ["runs", "--slots"],
        ["resume", "other"],
    ):
        assert call("workflow", *words).code == 2


def test_a_log_is_followed_until_its_run_has_ended(project, call, book):
    from eventmill.schedule.book_claims import Claims, Ending, Runner
    from eventmill.schedule.book_rows import Origin, RunState

    claims = Claims(book)
    runner = Runner("them/1/a", Origin.COMMAND)
    slot = (START, START + HOUR)
    run_id = claims.claim_slot("hourly", slot, runner, time.time(), attempts_max=1).run_id
    claims.log(run_id, [(time.time(), "info", "first")])

    def end():
        time.sleep(0.3)
        lines = [(time.time(), "info", "last")]
        claims.finish(run_id, Ending(RunState.FAILED, error="no"), time.time(), lines)

    ending = threading.Thread(target=end)
    ending.start()
    lines = call("workflow", "log", str(run_id), "--follow").rows
    ending.join()
    assert [line["text"] for line in lines] == ["first", "last"]


# -- backfill --------------------------------------------------------------------------------


def test_a_backfill_runs_what_has_not_succeeded(project, call):
    call("workflow", "run", "hourly", "--slot", hour_text(1))
    words = ("workflow", "backfill", "hourly", "--from", hour_text(0), "--to", hour_text(6))
    (told,) = call(*words, "--parallel", "3").rows
    assert (told["slots"], told["succeeded_before"], told["succeeded"]) == (6, 1, 5)
    assert (told["failed"], told["left"], told["input_rows"]) == (0, 0, 5)
    assert output(project) == [(hour, hour + 1, 1) for hour in range(6)]
    (told,) = call(*words).rows
    assert (told["succeeded_before"], told["succeeded"]) == (6, 0)
    (told,) = call(*words, "--again").rows
    assert (told["succeeded_before"], told["succeeded"]) == (0, 6)
    assert output(project) == [(hour, hour + 1, 1) for hour in range(6)]


def test_a_backfill_with_slots_that_fail_says_so(project, call):
    schedule = 'retries = 1\nretry_base = "1ms"'
    write_workflow(project / "workflows", "broken", sql=FAILING, schedule=schedule)
    words = ("workflow", "backfill", "broken", "--from", hour_text(0), "--to", hour_text(2))
    answer = call(*words)
    assert answer.code == 1
    assert answer.rows[0]["failed"] == 2
    assert "2 slots have failed" in answer.err
    assert len(call("workflow", "runs", "broken").rows) == 4


def test_a_backfill_leaves_no_failed_slot_of_another_schedule(project, call, book):
    write_workflow(project / "workflows", "broken", sql=FAILING, schedule="retries = 0")
    words = ("workflow", "backfill", "broken", "--from", hour_text(0), "--to")
    assert call(*words, hour_text(2)).rows[0]["failed"] == 2
    toml = write_workflow(project / "workflows", "broken") / "workflow.toml"
    toml.write_text(toml.read_text().replace('every = "1h"', 'every = "30m"'))
    answer = call(*words, hour_text(1))
    assert (answer.code, answer.rows[0]["succeeded"], answer.rows[0]["failed"]) == (0, 2, 0)
    slots = {row.slot: (row.state, row.reason) for row in book.slots("broken")}
    replaced = "the schedule has other slots by now"
    assert slots.pop((START, START + HOUR)) == ("skipped", replaced)
    assert slots.pop((START + HOUR, START + 2 * HOUR))[0] == "failed"  # nobody has asked for it
    assert {state for state, _ in slots.values()} == {"succeeded"}


@pytest.mark.parametrize(
    ("bounds", "told"),
    [
        (("2150-01-01", "2151-01-01"), "no slot of hourly"),
        ((hour_text(2), hour_text(1)), "is not after"),
        (("1700-01-01", "2026-01-01"), "more than 1,000,000 slots"),
    ],
)
def test_a_stretch_without_slots_or_with_far_too_many_is_refused(project, call, bounds, told):
    answer = call("workflow", "backfill", "hourly", "--from", bounds[0], "--to", bounds[1])
    assert answer.code == 2
    assert told in answer.err


def eventmill(*words, folder, **more):
    return subprocess.Popen(
        [sys.executable, "-m", "eventmill", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **more,
    )


@pytest.mark.slow
def test_a_backfill_that_is_broken_off_goes_on_where_it_was(project, call, book):
    to = datetime.fromtimestamp(START + 38 * HOUR, UTC).isoformat()
    words = ("workflow", "backfill", "hourly", "--from", hour_text(0), "--to", to)
    child = eventmill(*words, folder=project)
    deadline = time.monotonic() + 60
    while book.count_slots("hourly", 0, 1e11, ["succeeded"]) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
    told = orjson.loads(out)
    assert told["left"] > 0  # the edge: it was broken off
    assert "goes on" in err
    assert book.count_slots("hourly", 0, 1e11, ["waiting"]) == told["left"]
    assert book.running() == []
    (rest,) = call(*words).rows
    assert rest["succeeded"] == told["left"]
    assert rest["succeeded_before"] + rest["succeeded"] == rest["slots"] == 38


# -- pause, resume, the scheduler ------------------------------------------------------------


def test_pausing_and_resuming(project, call, book):
    assert call("workflow", "pause", "hourly").code == 0
    assert book.workflow("hourly").paused_at is not None
    assert "@" in book.workflow("hourly").paused_by
    assert "paused already" in call("workflow", "pause", "hourly").err
    for words in ((), ("hourly",), ("hourly", "--slots")):
        assert "note: hourly is paused since 2" in call("workflow", "runs", *words).err
    assert call("workflow", "resume", "hourly").code == 0
    assert book.workflow("hourly").paused_at is None
    assert "was not paused" in call("workflow", "resume", "hourly").err
    assert call("workflow", "runs").err == ""


@pytest.mark.slow
@pytest.mark.parametrize("program", [("scheduler", "run"), ("serve", "--port", "0")])
def test_a_program_runs_workflows_and_ends_when_asked(project, call, book, program):
    child = eventmill(*program, folder=project)
    try:
        first = child.stdout.readline()
        assert re.match(r"scheduler \S+ runs the workflows in|listening on", first)
        deadline = time.monotonic() + 60
        while book.count_slots("hourly", 0, 1e11, ["succeeded"]) < 40:
            assert time.monotonic() < deadline, child.poll()
            time.sleep(0.05)
        # The same commands work beside it.
        assert call("workflow", "run", "hourly", "--slot", hour_text(0)).code == 0
        assert len(call("workflow", "runs", "hourly", "-n", "100").rows) >= 41
        name, at = book.heartbeat()
        assert time.time() - at < 15
    finally:
        child.send_signal(signal.SIGTERM)
        _, err = child.communicate(timeout=30)
    assert child.returncode == 0, err
    assert book.stopped_at(name) is not None
    assert output(project) == [(hour, hour + 1, 1) for hour in range(6)]


def test_a_scheduler_warns_of_the_server_that_runs_the_same_by_another_book(
    monkeypatch, tmp_path, capsys
):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    for address, told in (("http://127.0.0.1:1", True), (str(tmp_path), False)):
        _warn_of_a_server(Settings(client=ClientSettings(store=address)))
        err = capsys.readouterr().err
        assert ("the server has its own" in err and str(tmp_path) in err) is told


@pytest.mark.slow
def test_a_server_without_a_scheduler_runs_no_workflows(project, book):
    child = eventmill("serve", "--port", "0", "--no-scheduler", folder=project)
    try:
        assert child.stdout.readline().startswith("listening on")
        time.sleep(1.0)
        assert book.heartbeat() is None
    finally:
        child.send_signal(signal.SIGTERM)
        child.communicate(timeout=30)


def test_a_store_is_open_while_somebody_uses_it():
    made = []

    class Store:
        def __init__(self):
            self.is_open = True
            made.append(self)

        def close(self):
            self.is_open = False

    shared = SharedStore(Store)
    with shared() as first:
        with shared() as second:
            assert first is second
        assert first.is_open
    assert not first.is_open
    with shared() as third:
        assert third is not first
    assert len(made) == 2


# -- handing the schedule over ---------------------------------------------------------------


def export(call, target, *more, name="hourly"):
    answer = call("workflow", "export", name, "--to", target, *more)
    assert answer.code == 0, answer.err
    return answer.out


def test_handing_over_leaves_the_workflow_to_the_other_side(project, call, book):
    export(call, "cron", "--hand-over")
    assert book.workflow("hourly").handed_to == "cron"
    call("workflow", "resume", "hourly")
    assert book.workflow("hourly").handed_to == ""


def test_what_cron_is_given_runs_the_slot(project, call):
    line = export(call, "cron").splitlines()[-1]
    assert line.startswith("0 * * * * ")
    command = line.split(maxsplit=5)[5]
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert orjson.loads(done.stdout)["state"] == "succeeded"


def test_values_are_quoted_for_each_format(project, call, monkeypatch):
    odd = project / 'it\'s 100% {{odd}} $HOME "dir"'
    odd.mkdir()
    monkeypatch.chdir(odd)
    os.rename(project / "eventmill-data", odd / "eventmill-data")
    os.rename(project / "workflows", odd / "workflows")
    expected = ["workflow", "run", "hourly", "--workflows", str(odd / "workflows"), "--store",
                str(odd / "eventmill-data"), "--slot", "last"]  # fmt: skip

    cron = export(call, "cron").splitlines()[-1].split(maxsplit=5)[5]
    assert re.search(r"(?<!\\)%", cron) is None
    words = shlex.split(cron.replace("\\%", "%"))
    assert words[:3] == ["cd", str(odd), "&&"]
    assert words[4:] == expected

    manifest = yaml.safe_load(export(call, "kubernetes", "--image", "registry/eventmill:1"))
    (container,) = manifest["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["eventmill", *expected]
    assert container["workingDir"] == str(odd)

    unit = export(call, "systemd")
    (command,) = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    said = [word.replace("%%", "%").replace("$$", "$") for word in shlex.split(command)]
    assert said[1:] == expected

    tree = ast.parse(export(call, "airflow"))
    (template,) = [
        node.value.value for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "COMMAND"
    ]  # fmt: skip
    assert "{{odd}}" not in template
    rendered = template.replace("{{ '{' }}", "{")
    assert shlex.split(rendered)[4:] == expected[:-1]


def test_kubernetes_is_given_a_cron_job(project, call):
    write_workflow(project / "workflows", "a_daily")
    path = project / "workflows" / "a_daily" / "workflow.toml"
    text = path.read_text().replace('every = "1h"', 'cron = "30 2 * * 5-7"')
    path.write_text(text + 'timezone = "Europe/Berlin"\nretries = 2\ntimeout = "10m"\n')
    answer = call("workflow", "export", "a_daily", "--to", "kubernetes")
    assert answer.code == 2
    assert "--image" in answer.err
    given = yaml.safe_load(export(call, "kubernetes", "--image", "x", name="a_daily"))
    assert given["kind"] == "CronJob"
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", given["metadata"]["name"])
    spec = given["spec"]
    assert (spec["schedule"], spec["timeZone"]) == ("30 2 * * 0,5,6", "Europe/Berlin")
    assert spec["concurrencyPolicy"] == "Forbid"
    assert spec["startingDeadlineSeconds"] >= 60
    assert spec["jobTemplate"]["spec"]["backoffLimit"] == 2
    claim = spec["jobTemplate"]["spec"]["template"]["spec"]["volumes"][0]["persistentVolumeClaim"]
    assert claim == {"claimName": "eventmill-data"}


def test_systemd_is_given_a_service_and_a_timer(project, call):
    text = export(call, "systemd")
    service, timer = text.split("# /etc/systemd/system/eventmill-hourly.timer")
    for unit in (service, timer):
        parsed = configparser.ConfigParser(interpolation=None)
        parsed.read_string(unit)
    assert parsed["Timer"]["OnCalendar"] == "*-*-* *:00:00 UTC"
    assert parsed["Timer"]["Persistent"] == "true"


def test_airflow_is_given_data_intervals(project, call):
    text = export(call, "airflow")
    calls = {
        ast.unparse(node.func): {key.arg: ast.unparse(key.value) for key in node.keywords}
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call)
    }
    assert calls["CronDataIntervalTimetable"] == {"timezone": "'UTC'"}
    assert calls["DAG"]["catchup"] == "True"
    assert calls["DAG"]["max_active_runs"] == "1"
    assert calls["BashOperator"]["retries"] == "3"
    assert "{{ data_interval_start.isoformat() }}" in text
