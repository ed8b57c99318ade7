"""What a batch uploader does when its process ends or forks."""

import json
import os
import subprocess
import sys

import pytest

from eventmill.schema.document import table_to_json
from eventmill.schema.table import Table
from eventmill.testing.events import BUILDS, build_spec
from eventmill.wire.batch import Batch
from eventmill.wire.verdict import Verdict
from eventmill.wire.verdict_json import verdict_to_json

PREAMBLE = """
import os, sys, threading
from eventmill.client.batch_uploader import BatchUploader
from eventmill.schema.table import Table
from eventmill.testing.events import build_spec, build_type
from eventmill.wire.verdict import Verdict
Build = build_type().cls

class Printing:
    def put(self, batch, *, timeout_seconds=None):
        for event in batch.events:
            os.write(1, build_type().parse(event).name.encode() + b"\\n")
        return Verdict(batch.count)
    def describe(self, table):
        return Table(build_spec(), 1, 0.0, 0.0)

events = BatchUploader(Printing(), "contract.builds", flush_interval_seconds=3600.0)
"""


def output_of(program):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PREAMBLE + program],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.slow
def test_an_exit_without_close_sends_what_is_left():
    assert output_of("events.stage(Build(name='a'))") == ["a"]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_fork_sends_the_parents_events_once_and_the_childs_as_well():
    program = """
events.stage(Build(name='parent'))
with events._lock:  # as another thread may hold it at this moment
    child = os.fork()
if not child:
    assert events.stats().staged == 0
    events.stage(Build(name='child'))
    assert events.flush(10) == 0
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
os.write(1, b"-\\n")
events.close()
"""
    program = program.replace("with events._lock:", "if events._lock.acquire():").replace(
        "if not child:\n", "if not child:\n    pass\n"
    )
    program = program.replace("assert os.waitpid", "events._lock.release()\nassert os.waitpid")
    assert output_of(program) == ["child", "-", "parent"]


FORKING = """
import os, sys, threading, time
import eventmill

url, spool_dir, late = sys.argv[1:]

class Slow:
    "Holds up the import of one module in the thread that sends."
    def __init__(self):
        self.begun = threading.Event()

    def find_spec(self, name, path, target=None):
        if name == late and threading.current_thread() is not threading.main_thread():
            self.begun.set()
            time.sleep(0.3)

slow = Slow()
sys.meta_path.insert(0, slow)
events = eventmill.BatchUploader(eventmill.connect(url), "contract.builds", spool_dir=spool_dir)
events.stage({"name": "parent"})
assert slow.begun.wait(10), "is imported earlier"
child = os.fork()
if not child:
    events.stage({"name": "child"})
    os._exit(events.flush(5))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), events.flush(5))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize(
    "late", ["eventmill.schema.mapping", "eventmill.schema.rows", "encodings.idna"]
)
def test_a_child_that_is_forked_while_a_thread_imports_sends(script, tmp_path, late):
    def answer(request):
        if request.command == "GET":
            document = table_to_json(Table(build_spec(), 1, 0.0, 0.0))
        else:
            document = verdict_to_json(Verdict(Batch(BUILDS, "", request.body).count))
        return (200, {}, json.dumps(document).encode())

    script.answer = answer
    done = subprocess.run(
        [sys.executable, "-c", FORKING, script.url, str(tmp_path / "spool"), late],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("0 0\n", "")
