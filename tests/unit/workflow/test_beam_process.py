"""Child processes: their lines are told as they come, and they end when they have to."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest
from beam_world import is_running

from eventmill.workflow.beam.process import LINE_LENGTH_MAX, run_child

pytestmark = pytest.mark.slow
ENVIRON = {"PATH": os.environ["PATH"]}


def run(script, **more):
    """Run a shell script; return how it ended, its lines, and how long it took."""
    lines = []
    began = time.monotonic()
    more.setdefault("log", lines.append)
    end = run_child(["sh", "-c", script], "the job", environ=ENVIRON, **more)
    return end, lines, time.monotonic() - began


def test_lines_of_both_streams_are_told_and_the_document_arrives():
    end, lines, _ = run('read job; echo "got $job"; echo err >&2; exit 3')
    assert (end.code, end.why) == (3, "itself")
    assert lines == ["got the job", "err"]


def test_lines_are_told_while_it_runs():
    heard = threading.Event()
    told = []

    def log(line):
        told.append(line)
        heard.set()

    runner = threading.Thread(
        target=run,
        args=("echo now; read job; read more",),
        kwargs={"log": log, "timeout_seconds": 2},
    )
    runner.start()
    assert heard.wait(10)
    assert runner.is_alive()
    runner.join(20)
    assert told == ["now"]


def test_a_child_that_reads_nothing_and_says_much_is_no_trouble():
    end, lines, _ = run("exec 0<&-; i=0; while [ $i -lt 3000 ]; do echo $i; i=$((i+1)); done")
    assert end.code == 0
    assert lines == [str(number) for number in range(3000)]


def test_a_long_line_is_cut_and_bytes_that_are_no_text_are_shown():
    long = f"head -c {LINE_LENGTH_MAX + 5} /dev/zero | tr '\\0' x"
    _, lines, _ = run(f"{long}; echo; printf 'a\\377b'")
    assert [len(lines[0]), lines[1]] == [LINE_LENGTH_MAX, "a\ufffdb"]


def test_after_its_time_a_child_is_asked_to_end():
    end, lines, spent = run(
        "trap 'echo asked; exit 9' TERM; while :; do sleep 0.05; done", timeout_seconds=0.3
    )
    assert (end.code, end.why) == (9, "timeout")
    assert lines[-1] == "asked"
    assert 0.3 <= spent < 5


def test_one_that_does_not_end_is_killed_with_all_that_it_started():
    script = "trap '' TERM; sleep 300 & echo $!; while :; do sleep 0.05; done"
    end, lines, spent = run(script, timeout_seconds=0.3, grace_seconds=0.3)
    assert (end.code, end.why) == (-signal.SIGKILL, "timeout")
    assert spent < 8
    time.sleep(0.2)
    assert not is_running(int(lines[0]))


def test_what_a_child_leaves_behind_is_killed_when_it_ends_by_itself():
    end, lines, spent = run("sleep 300 & echo $!")
    assert (end.code, end.why) == (0, "itself")
    assert spent < 8
    time.sleep(0.2)
    assert not is_running(int(lines[0]))


def test_cancelling_ends_it():
    cancel = threading.Event()
    timer = threading.Timer(0.2, cancel.set)
    timer.start()
    end, _, spent = run("sleep 300", cancel=cancel, timeout_seconds=100)
    timer.join()
    assert (end.code, end.why) == (-signal.SIGTERM, "cancel")
    assert spent < 8


def test_a_log_that_fails_ends_the_child():
    pids = []

    def log(line):
        pids.append(int(line))
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        run("echo $$; sleep 300", log=log)
    assert not is_running(pids[0])
