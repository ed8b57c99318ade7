"""How a running query is stopped: when its time is over, when it is cancelled, by Ctrl-C."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

import duckdb

from eventmill.base.errors import QueryCancelledError, QueryError

_Result = TypeVar("_Result")
_STOP_POLL_SECONDS = 0.05


@contextmanager
def stopping(
    cursor: duckdb.DuckDBPyConnection,
    timeout_seconds: float | None,
    cancel: threading.Event | None,
) -> Iterator[None]:
    """Interrupt ``cursor`` when the time is up or ``cancel`` is set, and say which it was."""
    if timeout_seconds is None and cancel is None:
        yield
        return
    finished = threading.Event()
    reason: list[str] = []

    def watch() -> None:
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        step = _STOP_POLL_SECONDS if cancel is not None else timeout_seconds
        while not finished.wait(step):
            if cancel is not None and cancel.is_set():
                reason.append("the query was cancelled")
            elif deadline is not None and time.monotonic() >= deadline:
                reason.append(
                    f"the query was stopped after {timeout_seconds:g} s: narrow its time range,"
                    " or allow it more time"
                )
            if reason:
                # DuckDB forgets an interrupt that comes between two statements: repeat it.
                while not finished.wait(_STOP_POLL_SECONDS / 10):
                    cursor.interrupt()
                return

    watcher = threading.Thread(target=watch, name="query watch", daemon=True)
    watcher.start()
    try:
        yield
    except (duckdb.InterruptException, QueryError) as error:
        if reason or isinstance(error, duckdb.InterruptException):
            why = reason[0] if reason else "the query was interrupted"
            raise QueryCancelledError(why) from error
        raise
    finally:
        finished.set()
        watcher.join()


def attended(work: Callable[[], _Result], interrupt: Callable[[], None]) -> _Result:
    """Return what ``work`` does, and let a signal end it in the main thread.

    Python hears of a signal between two of its own steps, and inside DuckDB there are none until
    the answer is there. So the main thread gives the work to another one and waits: a wait ends
    with Ctrl-C.

    Args:
        work: asks DuckDB.
        interrupt: makes DuckDB give up.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="query") as worker:
        done = worker.submit(work)
        try:
            return done.result()
        finally:
            # DuckDB forgets an interrupt that comes between two statements: repeat it.
            while not done.done():
                interrupt()
                wait([done], timeout=_STOP_POLL_SECONDS / 10)
