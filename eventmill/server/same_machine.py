"""Keeps web pages of strangers away from a server that trusts its own machine.

A browser on this machine runs pages from anywhere. One of them can send requests to a loopback
address, and by pointing its own name at 127.0.0.1 (DNS rebinding) even read the answers. So the
Host must name this machine, and so must the Origin, which a browser sets and no page can forge.

Where keys are asked for, no page of a stranger has one, and the server may have any name; then an
Origin must be of the same host as the request.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from eventmill.server.problems import problem


def is_loopback_name(host: str) -> bool:
    """Tell whether ``host`` (without port) is a name or address of the machine itself."""
    host = host.strip("[]").rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost"):  # RFC 6761, 6.3: always loopback
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class SameMachineOnly:
    """Refuses requests whose Host or Origin is another machine's."""

    def __init__(self, app: ASGIApp, keys_are_required: Callable[[], bool]) -> None:
        """Stand before ``app``; ``keys_are_required`` tells whether the server asks for keys."""
        self._app = app
        self._keys_are_required = keys_are_required

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request of the application within."""
        if scope["type"] == "http":
            refusal = self._refusal(scope)
            if refusal is not None:
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        hosts = [_host_of(f"//{value}") for value in _values(scope, b"host")]
        origins = [_host_of(value) for value in _values(scope, b"origin")]
        if all(is_loopback_name(name) for name in (*hosts, *origins)):
            return None
        if not self._keys_are_required():
            if not all(map(is_loopback_name, hosts)):
                detail = "the Host is not this machine; use localhost or 127.0.0.1"
                return problem(421, "misdirected", "The request is for another host", detail)
            return _strange_page()
        is_own = all(is_loopback_name(name) or name in hosts for name in origins)
        return None if is_own else _strange_page()


def _values(scope: Scope, wanted: bytes) -> list[str]:
    return [value.decode("latin-1") for name, value in scope["headers"] if name == wanted]


def _strange_page() -> Response:
    detail = "pages of other machines may not use this server"
    return problem(403, "access", "The call is not allowed", detail)


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:  # such as an unclosed bracket
        return ""
