"""Every error answer of the server, in one place: problem documents after RFC 9457."""

from __future__ import annotations

import difflib
import logging
import math
import secrets
from collections.abc import Mapping

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from eventmill.base.errors import (
    AccessError,
    EventmillError,
    TableNotFoundError,
    TransientError,
    UnauthenticatedError,
)
from eventmill.base.metrics import Metric, Metrics
from eventmill.server.access import REFUSAL, Access, Principal, principal_in
from eventmill.store.port import Store
from eventmill.wire.error_code import PROBLEM_CONTENT_TYPE, PROBLEM_TYPE_PREFIX, code_of

_logger = logging.getLogger(__name__)

_HTTP_CODES = {
    404: ("not_found", "There is no such resource"),
    405: ("method_not_allowed", "The resource has no such method"),
    406: ("not_acceptable", "No form of the answer is acceptable"),
    412: ("schema_conflict", "The table has changed since"),
    415: ("unsupported_media_type", "The body has a form that is not taken here"),
    421: ("misdirected", "The request is for another host"),
    403: ("access", "The call is not allowed"),
    408: ("query_cancelled", "The request was stopped"),
    499: ("client_gone", "The client went away"),
}
"""Code and title of answers that stand for no class of the error tree."""


def problem(
    status: int,
    code: str,
    title: str,
    detail: str,
    headers: Mapping[str, str] | None = None,
    facts: Mapping[str, object] | None = None,
) -> Response:
    """Return one problem document as an answer; ``facts`` are members of it beside the usual."""
    document = {
        "type": PROBLEM_TYPE_PREFIX + code,
        "title": title,
        "status": status,
        "detail": detail,
    }
    document = {**document, **(facts or {}), **document}  # facts stand behind, and replace none
    return Response(
        orjson.dumps(document), status, dict(headers or {}), media_type=PROBLEM_CONTENT_TYPE
    )


def problem_of(error: EventmillError) -> Response:
    """Return the answer that stands for an error of the tree."""
    entry = code_of(error)
    return problem(
        entry.status, entry.code, entry.title, str(error), headers_of(error), error.facts
    )


def refuse(scope: Scope, error: EventmillError) -> Response:
    """Return the answer to a request that the gate does not let pass."""
    return problem_of(error)


def headers_of(error: EventmillError) -> dict[str, str]:
    """Return the headers that an answer to ``error`` has, whatever the form of its body."""
    if isinstance(error, TransientError):
        # Retry-After counts whole seconds (RFC 9110, 10.2.3); less than one would be none.
        return {"Retry-After": str(max(1, math.ceil(error.retry_after_seconds or 1.0)))}
    if isinstance(error, UnauthenticatedError):
        # Without credentials the challenge stands alone (RFC 6750, 3.1).
        is_missing = error.facts.get("reason") == "no_credentials"
        fault = "" if is_missing else ', error="invalid_token"'
        return {"WWW-Authenticate": f'Bearer realm="eventmill"{fault}'}
    return {}


async def answer_eventmill_error(request: Request, error: Exception) -> Response:
    """Answer an error of the tree; one about an unknown table offers the names that are near."""
    if not isinstance(error, EventmillError):
        raise error
    if isinstance(error, AccessError):
        request.scope[REFUSAL] = error
    if isinstance(error, TableNotFoundError) and "table" in request.path_params:
        named, state = request.path_params["table"], request.app.state
        near = await run_in_threadpool(
            near_tables, state.store, state.access, principal_in(request), named
        )
        hint = f"did you mean {' or '.join(near)}?" if near else "GET /api/v1/tables lists all"
        error = TableNotFoundError(f"there is no table {named}: {hint}")
    return problem_of(error)


async def answer_http_exception(request: Request, error: Exception) -> Response:
    """Answer what the router and the routes refuse by status."""
    if not isinstance(error, HTTPException):
        raise error
    code, title = _HTTP_CODES.get(error.status_code, ("usage", "The request makes no sense"))
    detail = error.detail
    if error.status_code == 404:
        detail = f"there is nothing at {request.url.path}; GET / lists what there is"
    elif error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "others")
        detail = f"{request.url.path} does not take {request.method}, only {allowed}"
    return problem(error.status_code, code, title, detail, error.headers)


def near_tables(store: Store, access: Access, principal: Principal, name: str) -> list[str]:
    """Return up to three names of tables that resemble ``name``, the nearest first.

    Only of those that ``principal`` may know of.
    """
    short = name.removeprefix("local.")
    seen = [table.id for table in store.tables() if access.sees(principal, table.id)]
    names = {str(table).removeprefix("local."): str(table) for table in seen}
    found = difflib.get_close_matches(short, names, n=3, cutoff=0.6)
    last = short.rpartition(".")[2]
    found += [near for near in names if near.rpartition(".")[2] == last and near not in found]
    return [names[near] for near in found[:3]]


class LastResort:
    """Answers 500 to what nobody foresaw, under an ID that the log has with the traceback."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request of the application within."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def noting_send(message: Message) -> None:
            nonlocal begun
            begun = begun or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, noting_send)
        except Exception:  # the edge: told to the log in full, and to the caller by its ID
            error_id = secrets.token_hex(4)
            self._metrics.add(Metric.ERRORS)
            _logger.exception("error %s at %s %s", error_id, scope["method"], scope["path"])
            if begun:
                raise  # half an answer cannot be mended: the connection must break
            detail = f"an error that was not foreseen; the server's log has it as {error_id}"
            answer = problem(500, "internal", "The server failed", detail)
            await answer(scope, receive, send)
