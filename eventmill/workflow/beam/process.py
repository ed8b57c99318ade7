"""A child process that tells its lines as it goes and ends when it is told to, or must."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import IO, Literal, cast

from eventmill.base.clock import SYSTEM_CLOCK, Clock

GRACE_SECONDS = 10.0
"""How long a process that was asked to end may take: a job on another machine is cancelled by
a request."""
LINE_LENGTH_MAX = 10_000
"""Characters of a line that are told; the rest is dropped."""
_LOOK_SECONDS = 0.1
_LAST_LINES_SECONDS = 5.0
"""A process that has left the group may hold stdout open for ever."""


@dataclass(frozen=True, slots=True)
class ChildEnd:
    """How a child process ended."""

    code: int
    """Its exit code; negative: the number of the signal that ended it."""
    why: Literal["itself", "timeout", "cancel"]


def run_child(
    command: Sequence[str],
    document: str,
    *,
    environ: Mapping[str, str],
    log: Callable[[str], None],
    cancel: threading.Event | None = None,
    timeout_seconds: float | None = None,
    grace_seconds: float = GRACE_SECONDS,
    clock: Clock = SYSTEM_CLOCK,
) -> ChildEnd:
    """Run ``command`` in a process group of its own until it ends; return how it did.

    Promise: on return no process of the group runs any more, unless it has left the group.

    Args:
        command: the program and its arguments.
        document: one line for its stdin, which stays open after it: the child knows by its end
            that this process is gone.
        environ: its environment.
        log: told each line of its stdout and stderr, in this thread.
        cancel: when set, the child is asked to end.
        timeout_seconds: after which the child is asked to end; None: never.
        grace_seconds: between asking and killing.
        clock: time, given so that tests can set it.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(environ),
        text=True,
        errors="replace",
        start_new_session=True,
    )
    lines: SimpleQueue[str | None] = SimpleQueue()
    stdin, stdout = cast("IO[str]", process.stdin), cast("IO[str]", process.stdout)
    reader = threading.Thread(target=_read, args=(stdout, lines), daemon=True)
    reader.start()
    try:
        with contextlib.suppress(BrokenPipeError):  # it has ended already; its lines say why
            stdin.write(document + "\n")
            stdin.flush()
        why = _attend(process, lines, log, cancel, timeout_seconds, grace_seconds, clock)
    finally:
        _signal_group(process, signal.SIGKILL)
        process.wait()
        reader.join(_LAST_LINES_SECONDS)
        with contextlib.suppress(OSError):  # what was not handed over is of no use now
            stdin.close()
    with contextlib.suppress(Empty):
        while (line := lines.get_nowait()) is not None:
            log(line)
    return ChildEnd(process.returncode, why)


def _attend(
    process: subprocess.Popen[str],
    lines: SimpleQueue[str | None],
    log: Callable[[str], None],
    cancel: threading.Event | None,
    timeout_seconds: float | None,
    grace_seconds: float,
    clock: Clock,
) -> Literal["itself", "timeout", "cancel"]:
    """Tell lines until the process has ended; end it when it has to."""
    deadline = None if timeout_seconds is None else clock.monotonic() + timeout_seconds
    why: Literal["itself", "timeout", "cancel"] = "itself"
    kill_at: float | None = None
    while process.poll() is None:
        now = clock.monotonic()
        if kill_at is not None:
            if now >= kill_at:
                _signal_group(process, signal.SIGKILL)
        elif (cancelled := cancel is not None and cancel.is_set()) or (
            deadline is not None and now >= deadline
        ):
            why = "cancel" if cancelled else "timeout"
            kill_at = now + grace_seconds
            _signal_group(process, signal.SIGTERM)
        with contextlib.suppress(Empty):
            line = lines.get(timeout=_LOOK_SECONDS)
            if line is None:  # it has closed its stdout, and will end now
                lines.put(None)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_LOOK_SECONDS)
            else:
                log(line)
    return why


def _read(pipe: IO[str], lines: SimpleQueue[str | None]) -> None:
    with pipe:
        for line in pipe:
            lines.put(line.rstrip("\n")[:LINE_LENGTH_MAX])
    lines.put(None)


def _signal_group(process: subprocess.Popen[str], number: signal.Signals) -> None:
    # The group has the number of its first process, also after that has ended.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
