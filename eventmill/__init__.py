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
    from eventmill.client.delivery import UndeliveredEvent
    from eventmill.client.tally import UploaderStats
    from eventmill.client.uploader import PutProgress, Uploader, progress_of
    from eventmill.schema.problem import EventProblem, Reason
    from eventmill.schema.table import TableId
    from eventmill.store.ensure import ensure_table
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
    "EventProblem",
    "EventmillError",
    "PermanentError",
    "PutProgress",
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
    "UndeliveredEvent",
    "UnsupportedSqlError",
    "Uploader",
    "UploaderStats",
    "UsageError",
    "Verdict",
    "__version__",
    "connect",
    "ensure_table",
    "open_store",
    "progress_of",
]

_HOMES = {
    "BatchUploader": "eventmill.client.batch_uploader",
    "EventProblem": "eventmill.schema.problem",
    "PutProgress": "eventmill.client.uploader",
    "QueryResult": "eventmill.wire.answer",
    "Reason": "eventmill.schema.problem",
    "Rejection": "eventmill.wire.verdict",
    "TableId": "eventmill.schema.table",
    "UndeliveredEvent": "eventmill.client.delivery",
    "Uploader": "eventmill.client.uploader",
    "UploaderStats": "eventmill.client.tally",
    "Verdict": "eventmill.wire.verdict",
    "connect": "eventmill.address",
    "ensure_table": "eventmill.store.ensure",
    "open_store": "eventmill.address",
    "progress_of": "eventmill.client.uploader",
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
