"""The HTTP surface of a store: which address leads to which room."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from eventmill.base.errors import EventmillError
from eventmill.base.metrics import Metric, Metrics
from eventmill.base.settings import ServerSettings
from eventmill.server.access import NO_QUOTA, Access, AccessUpkeep, Gate, Quota
from eventmill.server.bigquery.surface import Surface, refusing
from eventmill.server.body import BodyBudget
from eventmill.server.ingest import Ingest
from eventmill.server.keys_api import Keys
from eventmill.server.monitor import Monitor
from eventmill.server.oauth import TokenEndpoint
from eventmill.server.problems import (
    LastResort,
    answer_eventmill_error,
    answer_http_exception,
    refuse,
)
from eventmill.server.putting import StorePutter
from eventmill.server.query import Queries
from eventmill.server.same_machine import SameMachineOnly
from eventmill.server.slots import Slots
from eventmill.server.tables import Tables
from eventmill.store.port import Store

UPKEEP_STOP_SECONDS = 5.0
"""How long the end waits for what is still to be noted in the audit."""

Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]


def make_app(
    store: Store,
    settings: ServerSettings,
    metrics: Metrics | None = None,
    access: Access | None = None,
) -> Starlette:
    """Return the ASGI application that serves ``store``.

    Store and access stay the caller's: open before, and closed after, the application.

    Args:
        store: where events go and queries are answered.
        settings: limits; host and port are of no meaning here.
        metrics: registry to count in; None: a new one.
        access: who may do what; None: a server of its own without keys.
    """
    metrics = metrics or Metrics()
    is_own = access is None
    access = access or Access.in_memory(table_quota=table_quota(settings))
    budget = BodyBudget(settings.in_flight_bytes_max, metrics)
    putter = StorePutter(store, metrics)
    ingest = Ingest(store, access, putter, budget, metrics)
    tables = Tables(store, access, budget)
    slots = Slots(store, access)
    queries = Queries(store, access, settings, budget, metrics)
    monitor = Monitor(store, access, metrics)
    keys = Keys(access, budget)
    token = TokenEndpoint(access, budget)
    upkeep = AccessUpkeep(access, store)
    surface = Surface(store, access, putter, settings, budget, metrics)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        upkeep.start()
        await run_in_threadpool(surface.start)
        yield
        queries.close()
        await run_in_threadpool(surface.close)
        await run_in_threadpool(upkeep.stop, UPKEEP_STOP_SECONDS)
        if is_own:
            access.close()

    table = "/api/v1/tables/{table}"
    app = Starlette(
        routes=[
            _route(f"{table}/events", POST=ingest.post),
            _route(f"{table}/slots/{{workflow}}/{{start}}/{{end}}", PUT=slots.put),
            _route(f"{table}/stats", GET=tables.stats),
            _route(table, GET=tables.get, PUT=tables.put, DELETE=tables.delete),
            _route("/api/v1/tables", GET=tables.list),
            _route("/api/v1/quarantine", POST=tables.quarantine),
            _route("/api/v1/query", GET=queries.get, POST=queries.post),
            _route("/api/v1/keys", GET=keys.list, POST=keys.post),
            _route("/api/v1/keys/{name}", DELETE=keys.delete),
            _route("/token", POST=token.post),
            _route("/metrics", GET=monitor.metrics),
            _route("/healthz", GET=monitor.health),
            _route("/", GET=monitor.page),
            *surface.routes,
        ],
        middleware=[
            Middleware(_Counted, metrics),
            Middleware(LastResort, metrics),
            Middleware(SameMachineOnly, lambda: access.is_required),
            Middleware(Gate, access, refusing(refuse), metrics),
        ],
        exception_handlers={
            EventmillError: answer_eventmill_error,
            HTTPException: answer_http_exception,
        },
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # an address with a slash too many is no address
    app.state.store = store
    app.state.access = access
    app.state.bigquery = surface
    app.state.metrics = metrics
    return app


def table_quota(settings: ServerSettings) -> Quota:
    """Return what each table may take from all keys together."""
    if settings.table_events_per_second is None and settings.table_bytes_per_day is None:
        return NO_QUOTA
    return Quota(settings.table_events_per_second, settings.table_bytes_per_day)


def _route(path: str, **endpoints: Endpoint) -> Route:
    """Make one route of all methods of a path, so that a 405 can name every one of them."""

    async def answer(request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        return await endpoints[method](request)

    return Route(path, answer, methods=list(endpoints))


class _Counted:
    """Counts each request by its route, never by the address that a stranger wrote."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request of the application within."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun_at = time.perf_counter()
        status = 0

        async def noting_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting_send)
        finally:
            # The router leaves the route that matched in the scope (Starlette 1.x).
            route = str(getattr(scope.get("route"), "path", "none"))
            self._metrics.add(Metric.REQUESTS, 1, route, str(status))
            self._metrics.observe(Metric.REQUEST_SECONDS, time.perf_counter() - begun_at, route)
