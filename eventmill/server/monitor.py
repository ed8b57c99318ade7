"""What watches the server: ``/healthz``, ``/metrics``, and the page at ``/``."""

from __future__ import annotations

import math
from dataclasses import asdict

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from eventmill.base.errors import EventmillError
from eventmill.base.metrics import Metric, Metrics
from eventmill.server.access import EVERYTHING, Access, Action, principal_in
from eventmill.server.problems import problem_of
from eventmill.store.port import Store

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Eventmill</title></head><body>
<h1>Eventmill</h1>
<ul>
<li><a href="/api/v1/tables">Tables</a></li>
<li><a href="/api/v1/query?q=SELECT+1+AS+one">A query</a></li>
<li><a href="/metrics">Metrics</a></li>
<li><a href="/healthz">Health</a></li>
</ul>
</body></html>
"""


class Monitor:
    """The routes that answer about the server itself."""

    def __init__(self, store: Store, access: Access, metrics: Metrics) -> None:
        self._store = store
        self._access = access
        self._metrics = metrics

    async def page(self, request: Request) -> Response:
        """Answer with a page of links."""
        return HTMLResponse(_PAGE)

    async def health(self, request: Request) -> Response:
        """Answer 200 when the store answers, with what it promises. Needs no key."""
        try:
            tables = await run_in_threadpool(self._store.tables)
        except EventmillError as error:
            return problem_of(error)
        features = asdict(self._store.features)
        if math.isinf(features["dedup_window_seconds"]):
            features["dedup_window_seconds"] = "Infinity"
        document: dict[str, object] = {"status": "ok", "features": features}
        if self._access.sees(principal_in(request), EVERYTHING):
            document["tables"] = len(tables)
        return Response(orjson.dumps(document), media_type="application/json")

    async def metrics(self, request: Request) -> Response:
        """Answer with every metric, in Prometheus's text format."""
        self._access.require(principal_in(request), Action.MONITOR, EVERYTHING)
        await run_in_threadpool(self._observe_tables)
        return Response(self._metrics.render(), media_type="text/plain; version=0.0.4")

    def _observe_tables(self) -> None:
        gauges = (
            Metric.TABLE_ROWS,
            Metric.TABLE_LOG_BYTES,
            Metric.TABLE_LAKE_BYTES,
            Metric.TABLE_NEWEST_EVENT,
        )
        found = [(str(table.id), self._store.stats(table.id)) for table in self._store.tables()]
        for gauge in gauges:
            self._metrics.forget(gauge)
        for name, stats in found:
            self._metrics.set(Metric.TABLE_ROWS, stats.rows, name)
            self._metrics.set(Metric.TABLE_LOG_BYTES, stats.log_bytes, name)
            self._metrics.set(Metric.TABLE_LAKE_BYTES, stats.lake_bytes, name)
            if stats.newest_event_at is not None:
                self._metrics.set(Metric.TABLE_NEWEST_EVENT, stats.newest_event_at, name)
