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
        QuotaError,
        SchemaConflictError,
        SchemaError,
        StorageFullError,
        StoreBusyError,
        TableNotFoundError,
        TransientError,
        UnauthenticatedError,
        UnavailableError,
        UnsupportedSqlError,
        UsageError,
    )
    from eventmill.client.async_uploader import AsyncBatchUploader
    from eventmill.client.batch_uploader import BatchUploader
    from eventmill.client.delivery import UndeliveredEvent
    from eventmill.client.flush_after import flush_after
    from eventmill.client.opentelemetry import observe_with_opentelemetry
    from eventmill.client.prometheus import prometheus_text
    from eventmill.client.tally import UploaderStats
    from eventmill.client.uploader import PutProgress, Uploader, progress_of
    from eventmill.compat.log_handler import EventLogHandler
    from eventmill.compat.structlog_processor import EventProcessor
    from eventmill.schema.problem import EventProblem, Reason
    from eventmill.schema.table import TableId
    from eventmill.store.ensure import ensure_table
    from eventmill.wire.answer import QueryResult
    from eventmill.wire.verdict import Rejection, Verdict

__version__ = "0.1.0"

__all__ = [
    "AccessError",
    "AsyncBatchUploader",
    "BackPressureError",
    "BatchError",
    "BatchTooLargeError",
    "BatchUploader",
    "CorruptStoreError",
    "EventLogHandler",
    "EventProblem",
    "EventProcessor",
    "EventmillError",
    "PermanentError",
    "PutProgress",
    "QueryCancelledError",
    "QueryError",
    "QueryResult",
    "QuotaError",
    "Reason",
    "Rejection",
    "SchemaConflictError",
    "SchemaError",
    "StorageFullError",
    "StoreBusyError",
    "TableId",
    "TableNotFoundError",
    "TransientError",
    "UnauthenticatedError",
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
    "flush_after",
    "observe_with_opentelemetry",
    "open_store",
    "progress_of",
    "prometheus_text",
]

_HOMES = {
    "AsyncBatchUploader": "eventmill.client.async_uploader",
    "BatchUploader": "eventmill.client.batch_uploader",
    "EventLogHandler": "eventmill.compat.log_handler",
    "EventProblem": "eventmill.schema.problem",
    "EventProcessor": "eventmill.compat.structlog_processor",
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
    "flush_after": "eventmill.client.flush_after",
    "observe_with_opentelemetry": "eventmill.client.opentelemetry",
    "open_store": "eventmill.address",
    "progress_of": "eventmill.client.uploader",
    "prometheus_text": "eventmill.client.prometheus",
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
