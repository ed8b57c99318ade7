"""Credentials on calls to another server than Google's, whose channel has no TLS to carry them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
from google.auth.transport.requests import Request


class Bearer(
    grpc.UnaryUnaryClientInterceptor,  # type: ignore[misc]
    grpc.StreamStreamClientInterceptor,  # type: ignore[misc]
):
    """Puts a valid token of ``credentials`` on every call. Safe from any thread."""

    def __init__(self, credentials: Any) -> None:  # noqa: ANN401 - google-auth has several classes
        self._credentials = credentials

    def intercept_unary_unary(
        self,
        continuation: Callable[..., Any],
        client_call_details: grpc.ClientCallDetails,
        request: Any,  # noqa: ANN401 - any message
    ) -> Any:  # noqa: ANN401 - gRPC's own call
        """Make a call with one request."""
        return continuation(self._with_token(client_call_details), request)

    def intercept_stream_stream(
        self,
        continuation: Callable[..., Any],
        client_call_details: grpc.ClientCallDetails,
        request_iterator: Any,  # noqa: ANN401 - as above
    ) -> Any:  # noqa: ANN401 - as above
        """Open a stream; it has the token that was valid then."""
        return continuation(self._with_token(client_call_details), request_iterator)

    def _with_token(self, details: Any) -> Any:  # noqa: ANN401 - gRPC's own class is not public
        headers: dict[str, str] = {}
        self._credentials.before_request(Request(), "POST", details.method, headers)
        pairs = [(name.lower(), value) for name, value in headers.items()]
        return details._replace(metadata=[*(details.metadata or ()), *pairs])
