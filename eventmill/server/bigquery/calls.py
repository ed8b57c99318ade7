"""One call of the surface: from a request to an endpoint, and from what it says to an answer."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from eventmill.base.errors import AccessError, EventmillError, UsageError
from eventmill.schema.table import TableId
from eventmill.server.access import REFUSAL, Principal, Resource
from eventmill.server.bigquery.errors import ApiError, answer, api_error_of, invalid
from eventmill.server.bigquery.guard import Guard
from eventmill.server.body import BodyBudget, read_body

REQUEST_BYTES_MAX = 10_485_760
"""Bytes of one request, inflated (cloud.google.com/bigquery/quotas, "Streaming inserts", looked up
2026-11-24: 10 MB for insertAll; the other calls are smaller)."""


@dataclass(frozen=True, slots=True)
class Call:
    """What an endpoint is asked."""

    path: Mapping[str, str]
    """Parts of the address: ``project``, ``dataset``, ``table``, ``job``."""
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """By name in lower case."""
    principal: Principal
    base_url: str
    """Where the surface is, for links: ``http://127.0.0.1:8484``."""
    raw: bytes = b""
    """The body, inflated."""

    @property
    def project(self) -> str:
        """The project of the address."""
        return self.path["project"]

    @property
    def dataset(self) -> Resource:
        """The dataset of the address."""
        return Resource.dataset(self.path["dataset"], self.project)

    @property
    def table(self) -> TableId:
        """The table of the address; a name that no table can have is refused."""
        return table_of(self.project, self.path["dataset"], self.path["table"])

    def document(self) -> dict[str, Any]:
        """Return the body as a JSON object; an empty one where there is no body."""
        if not self.raw:
            return {}
        try:
            document = orjson.loads(self.raw)
        except orjson.JSONDecodeError as error:
            raise ApiError(400, "parseError", f"the body is not JSON: {error}") from None
        if not isinstance(document, dict):
            raise ApiError(400, "parseError", "the body is not a JSON object")
        return document

    def number(self, key: str, default: int) -> int:
        """Return a whole number of the query part, at least 0."""
        text = self.query.get(key)
        if text is None:
            return default
        if not (text.isascii() and text.isdigit()):
            raise invalid(f"{key} {text!r} is not a whole number from 0", key)
        return int(text)

    def flag(self, key: str) -> bool:
        """Return whether the query part says ``key=true``."""
        return self.query.get(key, "").lower() == "true"


@dataclass(frozen=True, slots=True)
class Reply:
    """What an endpoint answers, where it is more than a JSON object with status 200."""

    document: Mapping[str, Any] | bytes | None
    """None: no body; bytes: JSON that is encoded already."""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


Answer: TypeAlias = Reply | dict[str, Any]
Endpoint: TypeAlias = Callable[..., Answer] | Callable[..., Awaitable[Answer]]
"""Takes a Call. A plain function runs in a thread; a coroutine function runs on the event loop,
and one that takes the Request too reads the body by itself."""


def table_of(project: object, dataset: object, table: object) -> TableId:
    """Return the table's name, or refuse one that no table here can have."""
    try:
        return TableId.parse(f"{project}.{dataset}.{table}")
    except UsageError as error:
        if "$" in str(table):
            raise ApiError(
                400,
                "notImplemented",
                f"the partition decorator in {table!r} is not supported by this server: name the"
                " table, its rows go into the partition that their time says",
            ) from None
        raise invalid(f"Invalid table ID: {error}") from None


class Address:
    """An ASGI application for one address: its methods, and its refusals in Google's form."""

    def __init__(self, endpoints: Mapping[str, Endpoint], guard: Guard, budget: BodyBudget) -> None:
        self._endpoints = {
            method: (endpoint, len(inspect.signature(endpoint).parameters) == 2)
            for method, endpoint in endpoints.items()
        }
        self._guard = guard
        self._budget = budget

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        try:
            response = _response(await self._answer(request))
        except ApiError as error:
            response = answer(error)
        except EventmillError as error:
            if isinstance(error, AccessError):
                scope[REFUSAL] = error
            response = answer(api_error_of(error))
        except HTTPException as error:
            response = answer(ApiError(error.status_code, "invalid", str(error.detail)))
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Answer:
        method = request.method
        if method == "POST":  # some clients cannot send PATCH
            method = request.headers.get("x-http-method-override", method).upper()
        found = self._endpoints.get("GET" if method == "HEAD" else method)
        if found is None:
            allowed = ", ".join(sorted(self._endpoints))
            message = f"{request.url.path} does not take {method}, only {allowed}"
            raise ApiError(405, "httpMethodNotAllowed", message, headers={"Allow": allowed})
        endpoint, reads_itself = found
        principal = self._guard.principal_in(request)
        call = Call(
            request.path_params,
            dict(request.query_params),
            request.headers,
            principal,
            f"{request.url.scheme}://{request.url.netloc}",
        )
        if reads_itself:
            return await _awaited(endpoint(call, request))
        async with read_body(request, self._budget, bytes_max=REQUEST_BYTES_MAX) as body:
            call = Call(call.path, call.query, call.headers, principal, call.base_url, body.content)
            if inspect.iscoroutinefunction(endpoint):
                return await _awaited(endpoint(call))
            return cast("Answer", await run_in_threadpool(endpoint, call))


async def _awaited(answer: Answer | Awaitable[Answer]) -> Answer:
    return await answer if inspect.isawaitable(answer) else answer


def _response(said: Answer) -> Response:
    reply = said if isinstance(said, Reply) else Reply(said)
    headers = dict(reply.headers)
    if reply.document is None:
        return Response(status_code=reply.status, headers=headers)
    document = reply.document
    content = document if isinstance(document, bytes) else orjson.dumps(document)
    if not isinstance(document, bytes) and "etag" in document:
        headers.setdefault("ETag", str(document["etag"]))
    return Response(content, reply.status, headers, media_type="application/json")


def no_such_address(call: Call) -> Answer:
    """Refuse an address that this surface does not have."""
    raise ApiError(
        404,
        "notFound",
        "this server has no such call of BigQuery's API; docs/bigquery-clients.md lists those"
        " that it has",
    )
