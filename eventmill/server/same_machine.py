"""Keeps web pages of strangers away from a server that trusts its own machine.

A browser on this machine runs pages from anywhere. One of them can send requests to a loopback
address, and by pointing its own name at 127.0.0.1 (DNS rebinding) even read the answers. So the
Host must name this machine, and so must the Origin, which a browser sets and no page can forge.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

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

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request of the application within."""
        if scope["type"] == "http":
            for name, value in scope["headers"]:
                if name == b"host" and not _names_this_machine("//" + value.decode("latin-1")):
                    detail = "the Host is not this machine; use localhost or 127.0.0.1"
                    refusal = problem(421, "misdirected", "The request is for another host", detail)
                    await refusal(scope, receive, send)
                    return
                if name == b"origin" and not _names_this_machine(value.decode("latin-1")):
                    detail = "pages of other machines may not use this server"
                    refusal = problem(403, "access", "The call is not allowed", detail)
                    await refusal(scope, receive, send)
                    return
        await self._app(scope, receive, send)


def _names_this_machine(url: str) -> bool:
    try:
        return is_loopback_name(urlsplit(url).hostname or "")
    except ValueError:  # such as an unclosed bracket
        return False
