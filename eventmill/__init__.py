"""Eventmill: structured events in durably, aggregated, queried.

This module is the whole public surface. Its names are found when first used (PEP 562), so that
``import eventmill`` costs a program that only sends next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eventmill.address import connect, open_store
    from eventmill.base.errors import (
        AccessError,
        BackPressureError,
        BatchError,
        BatchTooLargeError,
        CorruptStoreError,
        EventmillError,
        PermanentError,
        QueryCancelledError,
        QueryError,
        SchemaConflictError,
        SchemaError,
        StorageFullError,
        StoreBusyError,
        TableNotFoundError,
        TransientError,
        UnavailableError,
        UnsupportedSqlError,
        UsageError,
    )
    from eventmill.client.batch_uploader import BatchUploader
    from eventmill.client.uploader import Uploader
    from eventmill.schema.problem import Reason
    from eventmill.schema.table import TableId
    from eventmill.wire.answer import QueryResult
    from eventmill.wire.verdict import Rejection, Verdict

__version__ = "0.1.0"

__all__ = [
    "AccessError",
    "BackPressureError",
    "BatchError",
    "BatchTooLargeError",
    "BatchUploader",
    "CorruptStoreError",
    "EventmillError",
    "PermanentError",
    "QueryCancelledError",
    "QueryError",
    "QueryResult",
    "Reason",
    "Rejection",
    "SchemaConflictError",
    "SchemaError",
    "StorageFullError",
    "StoreBusyError",
    "TableId",
    "TableNotFoundError",
    "TransientError",
    "UnavailableError",
    "UnsupportedSqlError",
    "Uploader",
    "UsageError",
    "Verdict",
    "__version__",
    "connect",
    "open_store",
]

_HOMES = {
    "BatchUploader": "eventmill.client.batch_uploader",
    "QueryResult": "eventmill.wire.answer",
    "Reason": "eventmill.schema.problem",
    "Rejection": "eventmill.wire.verdict",
    "TableId": "eventmill.schema.table",
    "Uploader": "eventmill.client.uploader",
    "Verdict": "eventmill.wire.verdict",
    "connect": "eventmill.address",
    "open_store": "eventmill.address",
}
"""The module of each public name; the errors, which end in ``Error``, share theirs."""


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None and name in __all__ and name.endswith("Error"):
        home = "eventmill.base.errors"
    if home is None:
        raise AttributeError(f"module 'eventmill' has no attribute {name!r}")
    value: object = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
