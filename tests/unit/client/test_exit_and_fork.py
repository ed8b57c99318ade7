"""What a batch uploader does when its process ends or forks."""

import os
import subprocess
import sys

import pytest

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
