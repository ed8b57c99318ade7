"""The demo's work, step by step: tables, flights, faults, an aggregate, and the accounts."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from google.protobuf.message import Message

from eventmill.base.clock import SYSTEM_CLOCK
from eventmill.base.errors import UnavailableError
from eventmill.cli.demo.attempts import ATTEMPTS, AlertStory, DemoWorkflows
from eventmill.cli.demo.faults import put_faults
from eventmill.cli.demo.flights import FLIGHTS_COUNT, flights_file, read_flights
from eventmill.cli.demo.own_tests import own_test_results
from eventmill.client.batch_uploader import BatchUploader
from eventmill.client.uploader import Uploader
from eventmill.schema.compile import compile_protos
from eventmill.schema.mapping import spec_from_proto
from eventmill.schema.message_type import MessageType
from eventmill.schema.table import Table
from eventmill.wire.verdict import Verdict
from eventmill.workflow.reading import SHIPPED_FOLDER, read_workflow

if TYPE_CHECKING:
    from eventmill.store.port import Store

AGAIN_COUNT = 1_000
"""Flights that are sent a second time, to be recognised."""
PROTOS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "protos")
_MESSAGES = {
    "flights.proto": "demo.Flight",
    "daily_carriers.proto": "demo.DailyCarrier",
    "test_results.proto": "ops.TestResult",
}
_PROGRESS_ROWS = 2_000
_FLUSH_SECONDS_MAX = 120.0

DAILY_CARRIERS_SQL = """\
SELECT
  TIMESTAMP(DATE(year, month, day)) AS day,
  carrier,
  COUNT(*) AS flights,
  COUNTIF(cancelled) AS cancelled,
  AVG(dep_delay) AS delay_mean_minutes,
  CAST(APPROX_QUANTILES(dep_delay, 100)[OFFSET(95)] AS FLOAT64) AS delay_p95_minutes
FROM demo.flights
GROUP BY day, carrier
ORDER BY day, carrier"""
STORM_SQL = """\
SELECT DATE(day) AS day, SUM(flights) AS flights, SUM(cancelled) AS cancelled,
  SUM(cancelled) / SUM(flights) AS cancelled_share
FROM demo.daily_carriers
WHERE DATE(day) BETWEEN '2013-02-05' AND '2013-02-12'
GROUP BY day ORDER BY day"""
CARRIERS_SQL = """\
SELECT carrier, COUNT(*) AS flights,
  APPROX_QUANTILES(dep_delay, 100)[OFFSET(95)] AS delay_p95_minutes
FROM demo.flights GROUP BY carrier ORDER BY delay_p95_minutes DESC, carrier LIMIT 8"""
ATTEMPTS_SQL = """\
SELECT cq_name, COUNT(*) AS attempts, COUNTIF(committed) AS committed, COUNTIF(failed) AS failed,
  APPROX_QUANTILES(click_to_result_sec, 100)[OFFSET(50)] / 60 AS minutes_median
FROM aggregated.cq_attempts GROUP BY cq_name ORDER BY attempts DESC, cq_name"""
QUARANTINE_SQL = """\
SELECT reason, COUNT(*) AS events, MIN(message) AS example
FROM eventmill.quarantine GROUP BY reason ORDER BY events DESC, reason"""


@dataclass(slots=True)
class Accounts:
    """What became of everything that was sent, by the word of the sender."""

    sent: int = 0
    accepted: int = 0
    duplicates: int = 0
    quarantined: int = 0

    def add(self, sent: int, accepted: int, duplicates: int, quarantined: int) -> None:
        """Count one more part of it."""
        self.sent += sent
        self.accepted += accepted
        self.duplicates += duplicates
        self.quarantined += quarantined


@dataclass(slots=True)
class Outcome:
    """Everything that the demo found; for the report."""

    accounts: Accounts = field(default_factory=Accounts)
    workflow_rows: int = 0
    """Rows of the aggregates: days of airlines, and attempts."""
    test_results: int = 0
    step_seconds: dict[str, float] = field(default_factory=dict)
    attempts: Sequence[Mapping[str, Any]] = ()
    alert: AlertStory | None = None
    storm: Sequence[Mapping[str, Any]] = ()
    carriers: Sequence[Mapping[str, Any]] = ()
    quarantine: Sequence[Mapping[str, Any]] = ()
    differences: list[str] = field(default_factory=list)
    """Where the sender's accounts and the store's own differ; empty when all is well."""


class DemoJob:
    """Does the work on one fresh store; ``run`` once."""

    def __init__(
        self,
        store: Store,
        checkout: str | None,
        progress: Callable[[str, int, int], None],
        *,
        spool_dir: str | None = None,
        workflows: DemoWorkflows | None = None,
    ) -> None:
        """Prepare.

        Args:
            store: of a server, reached over HTTP.
            checkout: root of the checkout, for the results of its own tests; None: there is none.
            progress: told (what, how many are done, of how many).
            spool_dir: where events wait to be sent; None: memory.
            workflows: of the server's store; None: none is run.
        """
        self._store = store
        self._checkout = checkout
        self._progress = progress
        self._spool_dir = spool_dir
        self._workflows = workflows
        self._tables: dict[str, Table] = {}
        self.outcome = Outcome()

    def run(self) -> Outcome:
        """Do every step, and return what was found."""
        with self._step("tables"):
            self._apply_tables()
        with self._step("flights"):
            self._send_flights()
        with self._step("faults"):
            self._send_faults()
        with self._step("workflow"):
            self._aggregate()
        if self._workflows is not None:
            with self._step("attempts"):
                self._make_attempts(self._workflows)
            with self._step("alert"):
                self._raise_alert(self._workflows)
        with self._step("test results"):
            self._send_test_results()
        with self._step("answers"):
            self.outcome.storm = list(self._store.query(STORM_SQL))
            self.outcome.carriers = list(self._store.query(CARRIERS_SQL))
            self.outcome.quarantine = list(self._store.query(QUARANTINE_SQL))
        with self._step("accounts"):
            self._compare()
        return self.outcome

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        began = SYSTEM_CLOCK.monotonic()
        self._progress(name, 0, 0)
        yield
        self.outcome.step_seconds[name] = SYSTEM_CLOCK.monotonic() - began

    def _apply_tables(self) -> None:
        files = [os.path.join(PROTOS, name) for name in _MESSAGES]
        descriptor_set = compile_protos(files)
        for message in _MESSAGES.values():
            spec = spec_from_proto(None, descriptor_set, message)
            self._tables[message] = self._store.apply(spec)

    def _send_flights(self) -> None:
        """Send all flights in the background, then the first ones once more."""
        table = self._tables["demo.Flight"]
        flight = self._message("demo.Flight")
        path = flights_file()
        again: list[tuple[str, Message]] = []
        with BatchUploader(
            self._store,
            table.id,
            spool_dir=self._spool_dir,
            durability="process" if self._spool_dir else "memory",
            block_timeout_seconds=60.0,
        ) as uploader:
            for count, (insert_id, message) in enumerate(read_flights(path, flight), start=1):
                uploader.stage(message, insert_id)
                if count <= AGAIN_COUNT:
                    again.append((insert_id, message))
                if not count % _PROGRESS_ROWS:
                    self._progress("flights", count, FLIGHTS_COUNT)
            for insert_id, message in again:
                uploader.stage(message, insert_id)
            left = uploader.flush(_FLUSH_SECONDS_MAX)
            stats = uploader.stats()
        if left or sum(stats.undelivered.values()):
            raise UnavailableError(f"{left} flights could not be sent: see the server's log")
        self.outcome.accounts.add(stats.staged, stats.accepted, stats.duplicates, stats.rejected)

    def _send_faults(self) -> None:
        table = self._tables["demo.Flight"]
        self._count(put_faults(self._store, table, self._message("demo.Flight")))

    def _aggregate(self) -> None:
        """Ask for the days of each airline, and put the answer into a table of its own."""
        rows = list(self._store.query(DAILY_CARRIERS_SQL))
        names = [f"{row['day']:%Y-%m-%d}/{row['carrier']}" for row in rows]
        table = self._tables["demo.DailyCarrier"]
        verdict = Uploader(self._store, table.id).put(rows, insert_ids=names)
        self._count(verdict)
        self.outcome.workflow_rows = verdict.accepted

    def _make_attempts(self, workflows: DemoWorkflows) -> None:
        """Send a commit queue's events, and let the workflow that ships aggregate them."""
        folder = os.path.join(SHIPPED_FOLDER, ATTEMPTS)
        (entry,) = read_workflow(folder).inputs
        if entry.spec is None:
            raise UnavailableError(f"{folder} does not say what its input is")
        table = self._store.apply(entry.spec)
        self._tables["cq.RawEvent"] = table
        self._count(Uploader(self._store, table.id).put(list(workflows.events())))
        rows = workflows.aggregate()
        stored = self._number("SELECT COUNT(*) FROM aggregated.cq_attempts")
        if stored != rows:
            self.outcome.differences.append(f"attempts made and stored: {rows:,} and {stored:,}")
        self.outcome.workflow_rows += rows
        self.outcome.attempts = list(self._store.query(ATTEMPTS_SQL))

    def _raise_alert(self, workflows: DemoWorkflows) -> None:
        story = self.outcome.alert = workflows.alert()
        for word, is_so in (("fired", bool(story.firing)), ("recovered", story.is_over)):
            if not is_so:
                self.outcome.differences.append(f"the alert of the planted fault has not {word}")

    def _send_test_results(self) -> None:
        results = own_test_results(self._checkout) if self._checkout else []
        if not results:
            return
        table = self._tables["ops.TestResult"]
        verdict = Uploader(self._store, table.id).put(
            [row for _, row in results], insert_ids=[insert_id for insert_id, _ in results]
        )
        self._count(verdict)
        self.outcome.test_results = verdict.accepted

    def _compare(self) -> None:
        """Compare the sender's accounts with what the store itself counts, in SQL."""
        accounts = self.outcome.accounts
        tables = " UNION ALL ".join(
            f"SELECT COUNT(*) AS events FROM `{table.id}`"  # noqa: S608 - names of our own
            for table in self._tables.values()
        )
        stored = self._number(f"SELECT SUM(events) FROM ({tables})")  # noqa: S608
        kept = self._number("SELECT COUNT(*) FROM eventmill.quarantine")
        settled = accounts.accepted + accounts.duplicates + accounts.quarantined
        for word, seen, told in (
            ("sent and settled", settled, accounts.sent),
            ("accepted and stored", stored, accounts.accepted),
            ("rejected and quarantined", kept, accounts.quarantined),
        ):
            if seen != told:
                self.outcome.differences.append(f"{word}: {told:,} and {seen:,}")

    def _number(self, sql: str) -> int:
        (row,) = self._store.query(sql)
        (value,) = row.values()
        return int(value)

    def _count(self, verdict: Verdict) -> None:
        self.outcome.accounts.add(
            verdict.count, verdict.accepted, verdict.duplicates, len(verdict.rejected)
        )

    def _message(self, name: str) -> type[Message]:
        spec = self._tables[name].spec
        return MessageType.load(spec.descriptor_set, spec.message).cls
