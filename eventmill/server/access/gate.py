"""The gate: every request's credentials are looked at before any route sees it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from eventmill.base.errors import AccessError, EventmillError, UnauthenticatedError
from eventmill.base.metrics import Metric, Metrics
from eventmill.server.access.access import Access
from eventmill.server.access.audit import Caller
from eventmill.server.access.bearer import refuse_in_address
from eventmill.server.access.principal import ANONYMOUS, NOBODY, Principal

PRINCIPAL = "eventmill.principal"
"""Key of the ASGI scope under which the gate leaves who calls."""
REFUSAL = "eventmill.refusal"
"""Key under which whoever answers with a refusal leaves its error, for the audit; without it, the
audit has an answer 401 or 403 by its route alone."""
OPEN_PATHS = frozenset({"/healthz", "/token"})
"""What needs no key: whether the server answers, and the way to a key's short-lived token."""

Refuse = Callable[[Scope, EventmillError], Response]
"""Makes the answer to a request that does not pass, in the form that its path promises."""


def principal_in(request: HTTPConnection) -> Principal:
    """Return who calls, as the gate found it."""
    principal: Principal = request.scope[PRINCIPAL]
    return principal


class Gate:
    """ASGI middleware in front of every route: finds out who calls, and notes who was refused.

    What the caller may do is asked by the routes, which know what it is about.
    """

    def __init__(self, app: ASGIApp, access: Access, refuse: Refuse, metrics: Metrics) -> None:
        """Stand before ``app``.

        Args:
            app: the application within.
            access: who may do what.
            refuse: makes the answer to a request without valid credentials.
            metrics: counts refusals.
        """
        self._app = app
        self._access = access
        self._refuse = refuse
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request of the application within."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            scope[PRINCIPAL] = self._principal_of(scope)
        except EventmillError as error:
            self._note(None, scope, error)
            await self._refuse(scope, error)(scope, receive, send)
            return

        async def noting_send(message: Message) -> None:
            if message["type"] == "http.response.start" and (
                message["status"] in (401, 403) or REFUSAL in scope
            ):
                self._note(scope[PRINCIPAL], scope, scope.get(REFUSAL))
            await send(message)

        await self._app(scope, receive, noting_send)

    def _principal_of(self, scope: Scope) -> Principal:
        refuse_in_address(scope["query_string"])
        if scope["path"] in OPEN_PATHS:
            return NOBODY if self._access.is_required else ANONYMOUS
        return self._access.principal_of(scope["headers"])

    def _note(
        self, principal: Principal | None, scope: Scope, error: EventmillError | None
    ) -> None:
        error = error or AccessError("the answer says why")
        if not isinstance(error, AccessError):
            return  # the keys could not be read: a fault of the server's, not of the caller's
        status = "401" if isinstance(error, UnauthenticatedError) else "403"
        self._metrics.add(Metric.REFUSED, 1, status)
        self._access.refused(principal, _route_of(scope), error, _caller(scope))


def _route_of(scope: Mapping[str, Any]) -> str:
    """Return method and template of the route that a request is for, never its own address."""
    found = getattr(scope.get("route"), "path", None)
    if found is None:
        # Not routed yet: only refused requests are worth looking it up.
        for route in scope["app"].router.routes:
            if route.matches(scope)[0] is not Match.NONE:
                found = getattr(route, "path", None)
                break
    return f"{_method(scope)} {found or 'none'}"


def _method(scope: Mapping[str, Any]) -> str:
    method = str(scope["method"])
    return method if method in _METHODS else "OTHER"


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def _caller(scope: Mapping[str, Any]) -> Caller:
    client = scope.get("client")
    agent = b""
    for name, value in scope["headers"]:
        if name == b"user-agent":
            agent = value
    return Caller(str(client[0]) if client else "", agent.decode("latin-1"))
