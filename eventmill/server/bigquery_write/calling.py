"""Who calls over gRPC, and what is noted when they are refused: here the gate's part is played."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import unquote

import grpc

from eventmill.base.errors import AccessError, UnauthenticatedError
from eventmill.base.metrics import Metric, Metrics
from eventmill.server.access import Access, Caller, Principal


class Callers:
    """Finds out who makes a call, and notes each refused one. Safe from any thread."""

    def __init__(self, access: Access, metrics: Metrics) -> None:
        self._access = access
        self._metrics = metrics

    @contextmanager
    def principal_of(self, name: str, context: grpc.ServicerContext) -> Iterator[Principal]:
        """Give who makes the call ``name``; a refusal inside is noted, and goes on.

        Raises:
            CredentialsError: the call's credentials do not hold.
            UnavailableError: the keys cannot be read now.
        """
        pairs = [(str(key), str(value)) for key, value in context.invocation_metadata()]
        principal = None
        try:
            principal = self._access.principal_of(pairs)
            yield principal
        except AccessError as error:
            is_unknown = isinstance(error, UnauthenticatedError)
            self._metrics.add(Metric.REFUSED, 1, "401" if is_unknown else "403")
            caller = Caller(_address_of(context.peer()), dict(pairs).get("user-agent", ""))
            self._access.refused(principal, f"gRPC {name}", error, caller)
            raise


def _address_of(peer: str) -> str:
    """Return the address in gRPC's word for a peer, as ``ipv6:%5B::1%5D:5000``."""
    return unquote(peer).partition(":")[2].rpartition(":")[0].strip("[]")
