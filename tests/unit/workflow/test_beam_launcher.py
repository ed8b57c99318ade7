"""The launcher with real Beam in a process of its own: rows come back, or one clear error."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest
from beam_world import BEAM_PYTHON, PIPELINE, SLOT, build_rows, definition, is_running
from store_world import BUILDS, build_event, build_type, builds_spec

from eventmill.store.local.store import LocalStore
from eventmill.store.slots import SlotKey
from eventmill.wire.batch import Batch
from eventmill.workflow.beam import (
    BeamOptions,
    PipelineCancelledError,
    PipelineError,
    PipelineTimeoutError,
    run_beam_on_rows,
    run_beam_slot,
)

pytestmark = pytest.mark.slow
BEAM = BeamOptions(python=str(BEAM_PYTHON))
ROWS = [(1, "a", 0), (2, "b", 5), (3, "a", 3599), (4, "a", 3600), (5, None, 7), (6, "broken", 8)]
MANY_PROCESSES = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")


def on_rows(folder, pipeline=PIPELINE, rows=ROWS, **more):
    more.setdefault("options", BEAM)
    more.setdefault("log", print)
    made = definition(folder / "workflow", pipeline)
    return run_beam_on_rows(made, {"ci.builds": build_rows(rows)}, SLOT, **more)


def test_rows_of_the_slot_come_back_and_all_others_are_accounted_for(tmp_path):
    lines = []
    found = on_rows(tmp_path, log=lines.append)
    assert sorted(found.rows.to_pylist(), key=str) == [
        {"builder": "a", "builds": 2, "numbers": [1, 3]},
        {"builder": "b", "builds": 1, "numbers": [2]},
    ]
    assert found.counters == {
        "rows_dead": 1,
        "rows_read": 5,
        "rows_skipped": 1,
        "rows_written": 2,
    }
    assert [(letter.step, letter.message) for letter in found.dead_letters] == [
        ("PerBuilder.key", "a broken builder")
    ]
    assert any(found.job_name in line for line in lines)


def test_workers_in_processes_of_their_own_get_the_code_with_the_pipeline(tmp_path):
    options = BeamOptions(python=str(BEAM_PYTHON), pipeline_options=MANY_PROCESSES)
    found = on_rows(tmp_path, options=options)
    assert sorted(row["builder"] for row in found.rows.to_pylist()) == ["a", "b"]


STORE_PIPELINE = """
from beside import named

def build(pipeline, inputs, slot):
    sql = (
        "SELECT builder, COUNT(*) AS builds, ARRAY_AGG(number) AS numbers FROM ci.builds"
        " WHERE ended_at < @slot_end GROUP BY builder"
    )
    return named(inputs.read("ci.builds", sql=sql))
"""


def test_a_slot_is_read_from_the_folder_of_this_process_and_replaced(tmp_path):
    store = LocalStore.open(str(tmp_path / "data"))
    store.apply(builds_spec())
    made = definition(tmp_path / "workflow")
    store.apply(made.output)
    put(store, range(10))
    options = BeamOptions(python=str(BEAM_PYTHON), dead_letters=str(tmp_path / "dead"))
    found = run_beam_slot(made, store, SLOT, generation=1, log=print, options=options)
    assert found.input_rows == 10
    key = SlotKey(made.name, *SLOT)
    store.replace_slot(made.output.table, key, found.rows, generation=1)
    rows = store.query("SELECT builder, builds FROM agg.builders")
    assert [tuple(row.values()) for row in rows] == [("linux", 10)]
    put(store, range(10, 12), builder="broken")
    (tmp_path / "workflow" / "beside.py").write_text("def named(rows):\n    return rows\n")
    (tmp_path / "workflow" / "pipeline.py").write_text(STORE_PIPELINE)
    again = run_beam_slot(made, store, SLOT, generation=2, log=print, options=options)
    assert sorted((row["builder"], row["builds"]) for row in again.rows.to_pylist()) == [
        ("broken", 2),
        ("linux", 10),
    ]
    assert again.job_name != found.job_name
    (tmp_path / "workflow" / "pipeline.py").write_text(PIPELINE)
    last = run_beam_slot(made, store, SLOT, generation=3, log=print, options=options)
    assert last.counters["rows_dead"] == 2
    (kept,) = (tmp_path / "dead" / made.name).iterdir()
    assert len(kept.read_text().splitlines()) == 2
    store.close()


def put(store, numbers, **more):
    events = []
    for number in numbers:
        event = build_type().cls.FromString(build_event(number, **more))
        event.ended_at.seconds = SLOT[0] + number
        events.append(event.SerializeToString())
    ids = [f"b-{number}".encode() for number in numbers]
    store.put(Batch.build(BUILDS, build_type().fingerprint, ids, events))


FAILING = """
    import apache_beam as beam
    class Parse(beam.DoFn):
        def process(self, row):
            try:
                yield {"builder": int(row["builder"])}
            except ValueError as error:
                raise KeyError("no such builder") from error
    def build(pipeline, inputs, slot):
        return inputs["ci.builds"] | "parse" >> beam.ParDo(Parse())
"""


def test_a_failure_is_one_error_with_the_innermost_cause(tmp_path):
    with pytest.raises(PipelineError) as caught:
        on_rows(tmp_path, FAILING)
    assert str(caught.value).endswith(
        "ended in the state FAILED: KeyError: 'no such builder'; caused by ValueError: invalid"
        " literal for int() with base 10: 'a'; at pipeline.py:6, process; in the step 'parse'"
    )


def test_a_process_that_ends_without_a_word_is_told_by_its_last_lines(tmp_path):
    with pytest.raises(PipelineError, match=r"ended with 7 without a result; .*:\n  before"):
        on_rows(tmp_path, "import os\nprint('before the end', flush=True)\nos._exit(7)\n")


WAITING = """
import os, time
from pathlib import Path
def build(pipeline, inputs, slot):
    print("waiting", os.getpid(), flush=True)
    time.sleep(300)
"""


WAITING_WORKER = """
import os, time
import apache_beam as beam
class Wait(beam.DoFn):
    def process(self, row):
        print("waiting", os.getpid(), flush=True)
        time.sleep(300)
        yield row
def build(pipeline, inputs, slot):
    return inputs["ci.builds"] | beam.ParDo(Wait())
"""


def pid_in(lines):
    return next((int(line.split()[1]) for line in lines if line.startswith("waiting")), None)


def test_a_pipeline_that_takes_too_long_is_ended(tmp_path):
    lines = []
    with pytest.raises(PipelineTimeoutError, match="longer than 10 s"):
        on_rows(tmp_path, WAITING, timeout_seconds=10, log=lines.append)
    assert pid_in(lines) is not None
    assert not is_running(pid_in(lines))


def test_a_pipeline_is_cancelled_while_a_worker_is_busy(tmp_path):
    lines = []
    cancel = threading.Event()

    def log(line):
        lines.append(line)
        if line.startswith("waiting"):
            cancel.set()

    with pytest.raises(PipelineCancelledError):
        on_rows(tmp_path, WAITING_WORKER, cancel=cancel, log=log)
    assert not is_running(pid_in(lines))


LAUNCH = """
import sys
sys.path[:0] = sys.argv[1].split(":")
from pathlib import Path
from test_beam_launcher import on_rows, WAITING
on_rows(Path(sys.argv[2]), WAITING, log=lambda line: print(line, flush=True))
"""


def test_a_pipeline_ends_when_its_launcher_is_killed(tmp_path):
    here = os.path.dirname(__file__)
    places = f"{here}:{os.path.dirname(os.path.dirname(here))}"
    launcher = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(LAUNCH), places, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
    )
    with launcher:
        pid = pid_in(iter(launcher.stdout.readline, ""))
        assert pid is not None
        assert is_running(pid)
        launcher.send_signal(signal.SIGKILL)
    patience = time.monotonic() + 15
    while is_running(pid) and time.monotonic() < patience:
        time.sleep(0.05)
    assert not is_running(pid)
