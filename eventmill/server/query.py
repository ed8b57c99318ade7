"""``GET|POST /api/v1/query``: one statement in, rows out, stopped when nobody waits any more."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from eventmill.base.errors import (
    BackPressureError,
    QueryCancelledError,
    TableNotFoundError,
    UsageError,
)
from eventmill.base.metrics import Metric, Metrics
from eventmill.base.settings import ServerSettings
from eventmill.schema.table import TableId
from eventmill.server.access import EVERYTHING, Access, Action, ForbiddenError, principal_in
from eventmill.server.body import BodyBudget, read_body
from eventmill.server.tables import parse_json
from eventmill.store.googlesql import translate
from eventmill.store.port import ROW_LIMIT_DEFAULT, Store
from eventmill.wire.answer import QueryResult
from eventmill.wire.cancel import as_cancellable
from eventmill.wire.parameters import parameter_from_json
from eventmill.wire.rows import Format, encode_rows

QUERIES_WAITING_MAX = 32
"""Queries that wait for their turn; one more is answered with 429."""
QUERY_BODY_BYTES_MAX = 10_000_000
"""Bytes of a query with its parameters."""

_FORMATS_BY_TYPE = {form.content_type.partition(";")[0]: form for form in Format}
_PARAM_PREFIX = "param."

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Question:
    """What a request asks."""

    sql: str
    params: Mapping[str, Any]
    row_limit: int | None = ROW_LIMIT_DEFAULT
    timeout_seconds: float | None = None
    dry_run: bool = False


class Queries:
    """Runs queries in a few threads of their own, so that they cannot starve ingest."""

    def __init__(
        self,
        store: Store,
        access: Access,
        settings: ServerSettings,
        budget: BodyBudget,
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._access = access
        self._cancellable = as_cancellable(store)
        self._seconds_max = settings.query_seconds_max
        self._running_max = settings.queries_running_max
        self._budget = budget
        self._metrics = metrics
        self._pool = ThreadPoolExecutor(settings.queries_running_max, thread_name_prefix="query")
        self._lock = threading.Lock()
        self._cancels: set[threading.Event] = set()
        """One for each query that runs or waits."""

    def close(self) -> None:
        """Stop every query; those that cannot be stopped end by their time limit."""
        with self._lock:
            for cancel in self._cancels:
                cancel.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def get(self, request: Request) -> Response:
        """Answer ``?q=SQL`` with ``param.NAME[:TYPE]=VALUE`` for each parameter."""
        return await self._answer(request, _question_of_address(request))

    async def post(self, request: Request) -> Response:
        """Answer ``{"sql", "params", "row_limit", "timeout_seconds", "dry_run"}``."""
        async with read_body(request, self._budget, bytes_max=QUERY_BODY_BYTES_MAX) as body:
            document = parse_json(body.content)
        return await self._answer(request, _question_of_document(document))

    async def _answer(self, request: Request, question: Question) -> Response:
        form = _wanted_format(request)
        tables = await self._checked(request, question)
        cancel = threading.Event()
        future = self._begin(question, cancel)
        gone = asyncio.create_task(_until_gone(request))
        answered = asyncio.create_task(_result_of(future))
        try:
            await asyncio.wait({gone, answered}, return_when=asyncio.FIRST_COMPLETED)
            if not answered.done():
                raise HTTPException(499, "the client went away")
            result = _seen(answered, tables)
        finally:
            # Also when this very request is cancelled: a query that nobody waits for must stop.
            cancel.set()
            future.cancel()
            gone.cancel()
            answered.cancel()
        return StreamingResponse(encode_rows(result, form), media_type=form.content_type)

    async def _checked(self, request: Request, question: Question) -> tuple[TableId, ...] | None:
        """Raise ForbiddenError unless the caller may read every table that the statement names.

        Returns:
            The tables; None: the caller may read all that there are, and none was looked for.

        The names are those of the translation that the store runs, not of the text: behind an
        alias, in a subquery or in WITH, each table that is read is among them.
        """
        principal = principal_in(request)
        if self._access.reads_everything(principal):
            return None
        tables = await run_in_threadpool(tables_of, question.sql, question.params)
        self._access.require_query(principal, tables)
        if not tables and not self._access.allows_somewhere(principal, Action.READ):
            raise ForbiddenError(principal.name, Action.READ, EVERYTHING)
        return tables

    def _begin(self, question: Question, cancel: threading.Event) -> Future[QueryResult]:
        with self._lock:
            if len(self._cancels) >= self._running_max + QUERIES_WAITING_MAX:
                raise BackPressureError(
                    f"{self._running_max} queries run and {QUERIES_WAITING_MAX} wait, the most"
                    " that the server takes on; ask again",
                    retry_after_seconds=1.0,
                )
            self._cancels.add(cancel)
            self._metrics.add(Metric.QUERIES_WAITING)
        future = self._pool.submit(self._run, question, cancel)
        future.add_done_callback(lambda done: self._settle(done, cancel))
        return future

    def _settle(self, future: Future[QueryResult], cancel: threading.Event) -> None:
        with self._lock:
            self._cancels.discard(cancel)
        if future.cancelled():
            self._metrics.add(Metric.QUERIES_WAITING, -1)

    def _run(self, question: Question, cancel: threading.Event) -> QueryResult:
        self._metrics.add(Metric.QUERIES_WAITING, -1)
        self._metrics.add(Metric.QUERIES_RUNNING)
        begun_at = time.perf_counter()
        outcome = "failed"
        try:
            if cancel.is_set():
                raise QueryCancelledError("the query was stopped before it began")
            limits: dict[str, Any] = {
                "row_limit": question.row_limit,
                "timeout_seconds": self._seconds(question.timeout_seconds),
                "dry_run": question.dry_run,
            }
            if self._cancellable is not None:
                result = self._cancellable.query(
                    question.sql, question.params, cancel=cancel, **limits
                )
            else:
                result = self._store.query(question.sql, question.params, **limits)
            outcome = "answered"
            self._metrics.add(Metric.QUERY_SCANNED_BYTES, result.stats.bytes_scanned)
            return result
        except QueryCancelledError:
            outcome = "stopped"
            raise
        finally:
            self._metrics.add(Metric.QUERIES_RUNNING, -1)
            self._metrics.observe(Metric.QUERY_SECONDS, time.perf_counter() - begun_at, outcome)

    def _seconds(self, wanted: float | None) -> float:
        """Return the time limit: the wanted one, never more than the server's own."""
        return self._seconds_max if wanted is None else min(wanted, self._seconds_max)


def _seen(answered: asyncio.Task[QueryResult], tables: tuple[TableId, ...] | None) -> QueryResult:
    """Return the answer; an error names no table that the caller may not know of."""
    try:
        return answered.result()
    except TableNotFoundError:
        if tables is None:
            raise
    named = ", ".join(str(table) for table in tables)
    raise TableNotFoundError(f"not all tables of the query exist; it names {named}")


def tables_of(sql: str, params: Mapping[str, Any] | None = None) -> tuple[TableId, ...]:
    """Return every table that a statement reads; QueryError when it is none."""
    return translate(sql, params).tables


async def _result_of(future: Future[_T]) -> _T:
    """Wait for a future of another thread with one wake-up, and return its result.

    ``asyncio.wrap_future`` chains the two futures in both directions, at twice the cost.
    """
    if not future.done():
        loop = asyncio.get_running_loop()
        woken = asyncio.Event()
        future.add_done_callback(_waker(loop, woken.set))
        await woken.wait()
    return future.result()


def _waker(
    loop: asyncio.AbstractEventLoop, wake: Callable[[], None]
) -> Callable[[Future[_T]], None]:
    def call(_: Future[_T]) -> None:
        if not loop.is_closed():  # the server may have stopped waiting
            loop.call_soon_threadsafe(wake)

    return call


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _wanted_format(request: Request) -> Format:
    named = request.query_params.get("format")
    if named is not None:
        try:
            return Format(named)
        except ValueError:
            allowed = ", ".join(Format)
            raise UsageError(f"format {named!r} is not known; the formats are {allowed}") from None
    accept = request.headers.get("accept", "*/*")
    for part in accept.split(","):
        media_type = part.partition(";")[0].strip().lower()
        if media_type in ("*/*", "application/*"):
            return Format.JSON
        if media_type in _FORMATS_BY_TYPE:
            return _FORMATS_BY_TYPE[media_type]
    types = ", ".join(_FORMATS_BY_TYPE)
    raise HTTPException(406, f"an answer can be {types}; or name one by format={Format.JSON}")


def _question_of_address(request: Request) -> Question:
    params: dict[str, Any] = {}
    given: dict[str, str] = {}
    for key, value in request.query_params.multi_items():
        if key.startswith(_PARAM_PREFIX):
            name, _, kind = key.removeprefix(_PARAM_PREFIX).partition(":")
            params[name] = parameter_from_json({"type": kind, "value": value} if kind else value)
        elif key in given:
            raise UsageError(f"{key} is given twice")
        else:
            given[key] = value
    document: dict[str, Any] = {"sql": given.get("q")}
    if "row_limit" in given:
        document["row_limit"] = _number(given, "row_limit", int)
    if "timeout_seconds" in given:
        document["timeout_seconds"] = _number(given, "timeout_seconds", float)
    if "dry_run" in given:
        document["dry_run"] = given["dry_run"].lower() in ("1", "true", "yes")
    unknown = given.keys() - {"q", "format", "row_limit", "timeout_seconds", "dry_run"}
    if unknown:
        raise UsageError(f"unknown in the address: {', '.join(sorted(unknown))}")
    return _checked(document, params)


def _number(given: Mapping[str, str], key: str, kind: type[int] | type[float]) -> float:
    try:
        return kind(given[key])
    except ValueError:
        raise UsageError(f"{key} {given[key]!r} is not a number") from None


def _question_of_document(document: object) -> Question:
    if not isinstance(document, dict):
        raise UsageError('the body must be a JSON object, such as {"sql": "SELECT 1"}')
    allowed = {"sql", "params", "row_limit", "timeout_seconds", "dry_run"}
    unknown = document.keys() - allowed
    if unknown:
        names, known = ", ".join(sorted(map(str, unknown))), ", ".join(sorted(allowed))
        raise UsageError(f"unknown in the body: {names}; it takes {known}")
    params = document.get("params")
    params = {} if params is None else params
    if not isinstance(params, dict):
        raise UsageError("params must be a JSON object of a value for each name")
    return _checked(document, {n: parameter_from_json(value) for n, value in params.items()})


def _checked(document: Mapping[str, Any], params: Mapping[str, Any]) -> Question:
    sql = document.get("sql")
    if not isinstance(sql, str):
        raise UsageError("there is no SQL: give q in the address, or sql in the body")
    row_limit = document.get("row_limit", ROW_LIMIT_DEFAULT)
    if row_limit is not None and (
        not isinstance(row_limit, int) or isinstance(row_limit, bool) or row_limit < 0
    ):
        raise UsageError(f"row_limit {row_limit!r} must be a whole number from 0, or null for all")
    seconds = document.get("timeout_seconds")
    if seconds is not None and (
        not isinstance(seconds, (int, float)) or isinstance(seconds, bool) or not seconds > 0
    ):
        raise UsageError(f"timeout_seconds {seconds!r} must be a number above 0, or null")
    return Question(sql, params, row_limit, seconds, bool(document.get("dry_run")))
