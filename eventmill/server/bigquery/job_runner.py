"""Runs jobs in threads of their own, and lets others wait for them."""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from eventmill.base.errors import (
    BackPressureError,
    EventmillError,
    QueryCancelledError,
)
from eventmill.server.access import Principal
from eventmill.server.bigquery.errors import ApiError, Fault, api_error_of
from eventmill.server.bigquery.job_book import Job, JobBook, JobState, failed
from eventmill.server.bigquery.query_settings import QuerySettings
from eventmill.server.bigquery.rooms import Rooms

WAITING_MAX = 100
"""Jobs that wait for their turn; one more is answered with 429."""
BEGUN_MAX = 3
"""How often a job is begun that the server's end has cut short."""

_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Attempt:
    """One run of a job, in the thread that does it."""

    job: Job
    principal: Principal | None
    """Who asked for it; None: it goes on after the server was started anew."""
    cancel: threading.Event
    save: Callable[[Job], None]
    """Writes how far the job is."""
    settings: QuerySettings | None = None
    """The query, where it has been made ready when it was asked for."""
    at_end: list[Callable[[], None]] = field(default_factory=list)
    """Called once the end of the job is written, however it ended."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a job that did not fail has come to."""

    statistics: Mapping[str, Any]
    said: Mapping[str, Any] = field(default_factory=dict)
    """To be remembered, beside what was said before."""
    warnings: tuple[Fault, ...] = ()


Work = Callable[[Attempt], Outcome]
"""Does a job of one kind; ApiError and EventmillError are how it fails."""


@dataclass(slots=True)
class _Running:
    future: Future[None]
    cancel: threading.Event


class JobRunner:
    """The jobs of one server. Safe from any thread."""

    def __init__(
        self, rooms: Rooms, book: JobBook, works: Mapping[str, Work], threads: int
    ) -> None:
        """Prepare to run jobs.

        Args:
            rooms: the store and the time.
            book: where jobs are entered.
            works: what does a job, by its kind.
            threads: queries that run at one time, and jobs that write.
        """
        self._rooms = rooms
        self._book = book
        self._works = works
        self._threads = threads
        # Apart: jobs that write wait for each other, and questions must not wait for them.
        self._readers = ThreadPoolExecutor(threads, thread_name_prefix="bigquery-query")
        self._writers = ThreadPoolExecutor(threads, thread_name_prefix="bigquery-write")
        self._lock = threading.Lock()
        self._running: dict[tuple[str, str], _Running] = {}
        self._closing = False

    def close(self) -> None:
        """Stop every job; those that write go on when the server is started again."""
        with self._lock:
            self._closing = True
            running = list(self._running.values())
        for one in running:
            one.cancel.set()
        for pool in (self._readers, self._writers):
            pool.shutdown(wait=True, cancel_futures=True)

    def resume(self) -> int:
        """Begin again what the end of the server has cut short; return how many jobs."""
        jobs = self._book.unfinished()
        for job in jobs:
            if not writes(job) or job.begun >= BEGUN_MAX:
                # Clients repeat a query that failed for this reason by themselves.
                fault = Fault("jobBackendError", "the server ended while the job ran")
                self._book.write(failed(job, [fault], self._rooms.now_ms()))
            else:
                self._submit(job, None)
        return len(jobs)

    def begin(self, job: Job, principal: Principal, settings: QuerySettings | None = None) -> bool:
        """Enter a job and run it when its turn comes; return False when its ID is taken.

        Args:
            job: new, or failed already, which is entered and not run.
            principal: who asks for it.
            settings: its query, made ready.

        Raises:
            BackPressureError: too many jobs wait already.
        """
        with self._lock:
            if len(self._running) >= self._threads + WAITING_MAX:
                raise BackPressureError(
                    f"{WAITING_MAX} jobs wait for their turn already; ask again",
                    retry_after_seconds=1.0,
                )
        if not self._book.add(job):
            return False
        if not job.is_done:
            self._submit(job, principal, settings)
        return True

    def cancel(self, job: Job) -> None:
        """Stop a job soon; one that is done stays as it is."""
        with self._lock:
            running = self._running.get((job.project, job.job_id))
        if running is not None:
            running.cancel.set()

    def keys(self) -> frozenset[str]:
        """Return the keys of all jobs that are not done."""
        return frozenset(job.key for job in self._book.unfinished())

    async def wait(self, job: Job, seconds: float) -> Job:
        """Return the job once it is done, or as it is after ``seconds``."""
        with self._lock:
            running = self._running.get((job.project, job.job_id))
        if running is not None and seconds > 0:
            await asyncio.wait([asyncio.wrap_future(running.future)], timeout=seconds)
        return self._book.find(job.project, job.job_id) or job

    def _submit(
        self, job: Job, principal: Principal | None, settings: QuerySettings | None = None
    ) -> None:
        cancel = threading.Event()
        attempt = Attempt(job, principal, cancel, self._book.write, settings)
        future: Future[None] = Future()
        name = (job.project, job.job_id)
        with self._lock:
            self._running[name] = _Running(future, cancel)
        try:
            pool = self._writers if writes(job) else self._readers
            pool.submit(self._run, attempt, future)
        except RuntimeError:  # the server is stopping: the entry is found when it starts again
            with self._lock:
                del self._running[name]
            future.set_result(None)

    def _run(self, attempt: Attempt, future: Future[None]) -> None:
        name = (attempt.job.project, attempt.job.job_id)
        try:
            self._attempt(attempt)
        finally:
            with self._lock:
                self._running.pop(name, None)
            future.set_result(None)

    def _attempt(self, attempt: Attempt) -> None:
        job, cancel = attempt.job, attempt.cancel
        attempt.job = job = replace(
            job,
            state=JobState.RUNNING,
            started_ms=job.started_ms or self._rooms.now_ms(),
            begun=job.begun + 1,
        )
        if writes(job):
            self._book.write(job)  # a query that only reads is not begun again: save the writing
        try:
            if cancel.is_set():
                raise QueryCancelledError("it was stopped before it began")
            outcome = self._works[job.kind](attempt)
        except (ApiError, EventmillError) as error:
            if self._closing and cancel.is_set():
                return  # not asked for by a client: the entry stays as it is, to go on from
            self._end(attempt, failed(attempt.job, [_fault(error)], self._rooms.now_ms()))
        except BaseException:
            error_id = secrets.token_hex(4)
            fault = Fault("jobBackendError", f"the server failed; its log has it as {error_id}")
            self._end(attempt, failed(attempt.job, [fault], self._rooms.now_ms()))
            _logger.exception("error %s in job %s:%s", error_id, job.project, job.job_id)
            raise
        else:
            done = replace(
                attempt.job,
                state=JobState.DONE,
                ended_ms=self._rooms.now_ms(),
                statistics=outcome.statistics,
                said={**attempt.job.said, **outcome.said},
                faults=outcome.warnings,
            )
            self._end(attempt, done)

    def _end(self, attempt: Attempt, job: Job) -> None:
        self._book.write(job)
        for act in attempt.at_end:
            act()


def writes(job: Job) -> bool:
    """Tell whether a job stores rows in a table."""
    return job.kind != "query" or bool(job.said.get("writes"))


def _fault(error: ApiError | EventmillError) -> Fault:
    if isinstance(error, ApiError):
        return error.fault
    if isinstance(error, QueryCancelledError):
        return Fault("stopped", f"Job execution was cancelled: {error}")
    return api_error_of(error).fault
