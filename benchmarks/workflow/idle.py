"""What a scheduler costs that has nothing to do, and how fast it does much at once."""

from __future__ import annotations

import random
import resource
import tempfile
import time
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.pairs import Measure
from eventmill.client.uploader import Uploader
from eventmill.schedule.alert_setup import Alerts
from eventmill.schedule.book import RunBook
from eventmill.schedule.book_claims import Claim, Claims, Ending, Runner
from eventmill.schedule.book_plan import Planning
from eventmill.schedule.book_rows import Origin, RunState
from eventmill.schedule.chore import Chore
from eventmill.schedule.due import DueHeap
from eventmill.schedule.late_look import LateLook
from eventmill.schedule.scheduler import Scheduler
from eventmill.schedule.workflow_folder import WorkflowFolder
from eventmill.schema.compile import compile_protos
from eventmill.schema.mapping import spec_from_proto
from eventmill.schema.table import TableId
from eventmill.store.local.store import LocalStore
from eventmill.workflow.every_slots import EverySlots
from eventmill.workflow.reading import read_workflow
from eventmill.workflow.touched import MARGIN_SECONDS, Touched

WORKFLOWS = 1_000
INPUTS = 50
CATCH_UP_SLOTS = 19_500
LOOK_SECONDS, ALERT_SECONDS = 60.0, 30.0
"""As the settings are by default."""
IDLE_SECONDS, QUICK_SECONDS = 61.0, 31.0
"""Six beats, two evaluations of the alerts and a look for late rows; or half of them."""
CLAIMS = 300
_HOUR = 3_600
_INPUT = 'syntax = "proto3";\npackage bench;\nmessage Event { int64 n = 1; }\n'
_OUTPUT = 'syntax = "proto3";\npackage bench;\nmessage Row { int64 n = 1; }\n'
_TOML = """\
name = "{name}"
owner = "bench@example.com"
[[input]]
table = "bench.events_{input}"
[output]
table = "bench.{name}"
proto = "out.proto"
message = "bench.Row"
[schedule]
every = "1d"
"""
_SQL = "SELECT COUNT(*) AS n FROM bench.events_{input} WHERE _ingested_at < @slot_end"


@dataclass
class Result:
    """A slot that is done."""

    input_rows: int = 1
    output_rows: int = 1
    replaced_rows: int = 0
    seconds: float = 0.0
    marks: dict = field(default_factory=dict)


class SteadyClock:
    """Real time, moved so that no slot ends while it is looked at."""

    def __init__(self):
        self.shift = time.time() // 86_400 * 86_400 + 8 * _HOUR - time.time()

    def now(self):
        return time.time() + self.shift

    def monotonic(self):
        return time.monotonic()

    def sleep(self, seconds):
        time.sleep(seconds)


def measures(*, quick=False):
    """Return the measures of the scheduler, as ``benchmarks.pairs`` wants them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        definitions = _write_workflows(path / "workflows")
        return [
            _idle(path, definitions, QUICK_SECONDS if quick else IDLE_SECONDS),
            _tick(path, definitions),
            _catch_up(path, definitions),
            _claims(path),
        ]


def _write_workflows(path):
    for index in range(WORKFLOWS):
        folder = path / f"flow_{index:04d}"
        folder.mkdir(parents=True)
        table = index % INPUTS
        (folder / "workflow.toml").write_text(_TOML.format(name=folder.name, input=table))
        (folder / "query.sql").write_text(_SQL.format(input=table))
        (folder / "out.proto").write_text(_OUTPUT)
    folder = WorkflowFolder(str(path), read_workflow)
    folder.look()
    assert len(folder.definitions) == WORKFLOWS, next(iter(folder.faults.values()))
    return list(folder.definitions.values())


def _idle(path, definitions, seconds):
    """Measure the share of a core that a scheduler takes while no slot is due, alerts included."""
    clock = SteadyClock()
    finds = []

    def find(definition, store, **given):
        finds.append(definition.name)  # what it asks of the inputs is no part of being idle
        return Touched((), {}, {}, {})

    folder = _folder(path, definitions)
    with ExitStack() as ends:
        store = ends.enter_context(LocalStore.open(str(path / "data"), clock=clock))
        for index in range(INPUTS):
            _fill(store, path, index)
        book = ends.enter_context(closing(RunBook(str(path / "data" / "schedule.db"))))
        late = LateLook(book, lambda: nullcontext(store), clock=clock, find=find)
        late.look(definitions)
        clock.shift += 2 * MARGIN_SECONDS
        late.look(definitions)  # for the last time while nothing comes
        alerts = Alerts(
            store,
            book.file.path,
            alert_folder=str(path / "alerts"),
            workflow_folder=str(path / "workflows"),
            clock=clock,
        )
        ends.enter_context(alerts)
        chores = [
            Chore(
                "late", LOOK_SECONDS, lambda: late.look(list(folder.definitions.values())),
                clock=clock,
            ),
            Chore("alerts", ALERT_SECONDS, alerts.engine.evaluate, clock=clock),
        ]  # fmt: skip
        scheduler = Scheduler(book, folder, _unexpected, clock=clock, chores=chores)
        scheduler.start()
        while not all(chore.turns for chore in chores):  # every folder has been read by both
            time.sleep(0.1)
        turns = sum(chore.turns for chore in chores)
        before, began = _cpu_seconds(), time.monotonic()
        time.sleep(seconds)
        share = (_cpu_seconds() - before) / (time.monotonic() - began)
        assert sum(chore.turns for chore in chores) > turns, "nothing fell into the time"
        assert len(finds) == 2 * WORKFLOWS
        assert scheduler.stop(10)
    percent = 100 * share
    return Measure(
        f"idle scheduler with {WORKFLOWS:,} workflows and alerts", percent, "% of a core",
        against=1.0, ratio=round(percent, 3), target="at most 1 %", holds=percent <= 1.0,
    )  # fmt: skip


def _folder(path, definitions):
    """Return the folder of the workflows, which have been read already."""
    read = {one.folder: one for one in definitions}
    return WorkflowFolder(str(path / "workflows"), read.__getitem__)


def _fill(store, path, index):
    proto = path / "events.proto"
    proto.write_text(_INPUT)
    table = TableId.parse(f"bench.events_{index}")
    store.apply(spec_from_proto(table, compile_protos([str(proto)]), "bench.Event"))
    assert Uploader(store, table=str(table)).put([{"n": index}]).accepted == 1


def _unexpected(*_, **__):
    raise AssertionError("a slot was run while none is due")


def _cpu_seconds():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _tick(path, definitions):
    """Measure a turn of the scheduler between two beats, with nothing due."""
    book = RunBook(str(path / "tick.db"))
    folder = _folder(path, definitions)
    scheduler = Scheduler(book, folder, _unexpected, clock=SteadyClock())
    scheduler.turn()
    scheduler.turn()
    rounds = 20_000
    began = time.perf_counter()
    for _ in range(rounds):
        assert scheduler.turn() > 0
    micros = (time.perf_counter() - began) / rounds * 1e6
    book.close()
    return Measure(
        f"tick with nothing due, {WORKFLOWS:,} workflows", micros, "us",
        against=1_000.0, ratio=round(micros / 1_000, 6), target="below 1 ms", holds=micros < 1_000,
    )  # fmt: skip


def _catch_up(path, definitions):
    """Measure the entering of the slots that a pause of hours has left behind."""
    book = RunBook(str(path / "catch_up.db"))
    each = CATCH_UP_SLOTS // WORKFLOWS
    extra = CATCH_UP_SLOTS - each * WORKFLOWS
    now = time.time() // 60 * 60 + 59.0
    heap = DueHeap()
    book.note_workflows({one.name: ("", "") for one in definitions}, {}, now)
    for index, definition in enumerate(definitions):
        count = each + (index < extra)
        flow = replace(definition, timetable=EverySlots(60), delay_seconds=0.0)
        end = int(now // 60 * 60)
        heap.await_slot(flow, (end - 60 * count, end - 60 * (count - 1)))
    began = time.perf_counter()
    entered = Planning(book).enter((plan for _, plan in heap.take(now)), now)
    millis = (time.perf_counter() - began) * 1e3
    assert entered == CATCH_UP_SLOTS, entered
    book.close()
    return Measure(f"catch-up of {CATCH_UP_SLOTS:,} missed slots, durable", millis, "ms")


def _claims(path):
    """Measure a claim and its end: two transactions, each synced."""
    book = RunBook(str(path / "catch_up.db"))
    claims = Claims(book)
    runner = Runner("bench", Origin.SCHEDULE)
    now = time.time()
    names = book.workflows()
    taken = []
    for index in range(CLAIMS):
        began = time.perf_counter()
        claim = claims.claim_next(names[index].name, runner, now + 60, attempts_max=4)
        assert isinstance(claim, Claim)
        claims.finish(claim.run_id, Ending(RunState.SUCCEEDED, marks={}), now)
        taken.append(time.perf_counter() - began)
    book.close()
    random.Random(1).shuffle(taken)
    return Measure("claim and finish of a slot, median", sorted(taken)[CLAIMS // 2] * 1e3, "ms")


if __name__ == "__main__":
    for measure in measures(quick=True):
        print(measure)
