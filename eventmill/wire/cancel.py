"""Stores whose queries can be stopped from outside."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Mapping
from typing import Any, Protocol, cast

from eventmill.wire.answer import QueryResult


class CancellableStore(Protocol):
    """A store whose ``query`` also takes ``cancel``."""

    def query(
        self,
        sql: str,
        params: Mapping[str, Any] | None = None,
        *,
        row_limit: int | None = ...,
        timeout_seconds: float | None = None,
        dry_run: bool = False,
        cancel: threading.Event | None = None,
    ) -> QueryResult:
        """Answer as ``Store.query`` does; QueryCancelledError soon after ``cancel`` is set."""
        ...


def as_cancellable(store: object) -> CancellableStore | None:
    """Return ``store`` when its queries can be cancelled, else None.

    The parameter is looked for, not an attribute: every store has ``query``, so that a
    runtime-checkable protocol could not tell them apart.
    """
    query = getattr(store, "query", None)
    if query is None or "cancel" not in inspect.signature(query).parameters:
        return None
    return cast("CancellableStore", store)
