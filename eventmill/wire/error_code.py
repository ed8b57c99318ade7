"""The error tree over HTTP: each class, its name in a problem document, and its status.

Both sides of the hop read this one table, so that an error a store raises behind a server is the
same error in the client's program.
"""

from __future__ import annotations

from dataclasses import dataclass

from eventmill.base.errors import (
    AccessError,
    BackPressureError,
    BatchError,
    BatchTooLargeError,
    CorruptStoreError,
    EventmillError,
    OutputError,
    PermanentError,
    QueryCancelledError,
    QueryError,
    QuotaError,
    SchemaConflictError,
    SchemaError,
    StaleAttemptError,
    StorageFullError,
    StoreBusyError,
    TableNotFoundError,
    TransientError,
    UnauthenticatedError,
    UnavailableError,
    UnsupportedSqlError,
    UsageError,
)

PROBLEM_CONTENT_TYPE = "application/problem+json"
"""Media type of an error's document (RFC 9457)."""
PROBLEM_TYPE_PREFIX = "urn:eventmill:problem:"
"""What stands before a code in a problem's ``type``."""


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """One class of error as it crosses the hop."""

    code: str
    status: int
    title: str
    error: type[EventmillError]


ERROR_CODES = (
    ErrorCode("quota", 429, "A quota is used up", QuotaError),
    ErrorCode("back_pressure", 429, "The server asks for a pause", BackPressureError),
    ErrorCode("storage_full", 507, "The server has no space left", StorageFullError),
    ErrorCode("store_busy", 503, "Another process holds the store", StoreBusyError),
    ErrorCode("unavailable", 503, "The server cannot answer now", UnavailableError),
    ErrorCode("transient", 503, "The server cannot answer now", TransientError),
    ErrorCode("table_not_found", 404, "There is no such table", TableNotFoundError),
    ErrorCode("schema_conflict", 409, "The live table does not allow it", SchemaConflictError),
    ErrorCode("output", 422, "The rows do not fit the table", OutputError),
    ErrorCode("stale_attempt", 409, "A later attempt has written the slot", StaleAttemptError),
    ErrorCode("schema", 400, "The schema cannot be used", SchemaError),
    ErrorCode("batch_too_large", 413, "The batch is over a limit", BatchTooLargeError),
    ErrorCode("batch", 400, "The body is not a batch", BatchError),
    ErrorCode("unsupported_sql", 400, "The SQL is outside the subset", UnsupportedSqlError),
    ErrorCode("query_cancelled", 408, "The query was stopped", QueryCancelledError),
    ErrorCode("query", 400, "The query cannot be answered", QueryError),
    ErrorCode("corrupt_store", 500, "Stored bytes are damaged", CorruptStoreError),
    ErrorCode("unauthenticated", 401, "The call needs a key", UnauthenticatedError),
    ErrorCode("access", 403, "The call is not allowed", AccessError),
    ErrorCode("usage", 400, "The request makes no sense", UsageError),
    ErrorCode("permanent", 400, "The request cannot be carried out", PermanentError),
)
"""Every class of the tree that is raised; a subclass stands before its parent."""

_BY_CODE = {entry.code: entry for entry in ERROR_CODES}
_STATUS_ERRORS: dict[int, type[EventmillError]] = {
    401: UnauthenticatedError,
    403: AccessError,
    408: UnavailableError,  # of a proxy that has waited too long for the body
    413: BatchTooLargeError,
    425: UnavailableError,  # of a proxy that would like to be asked once more
    429: BackPressureError,
    507: StorageFullError,
}


def code_of(error: EventmillError) -> ErrorCode:
    """Return the entry of an error's class, or of the nearest class above it."""
    for entry in ERROR_CODES:
        if isinstance(error, entry.error):
            return entry
    return _BY_CODE["permanent"]


def error_of(
    status: int, problem_type: str, detail: str, retry_after_seconds: float | None
) -> EventmillError:
    """Return the error that an answer stands for.

    Args:
        status: HTTP status, 300 or more.
        problem_type: ``type`` of the problem document; empty when the answer is none, such as
            that of a proxy in between.
        detail: a sentence for a person.
        retry_after_seconds: what the answer asks to wait; None when it says nothing.
    """
    entry = _BY_CODE.get(problem_type.removeprefix(PROBLEM_TYPE_PREFIX))
    if entry is not None:
        error = entry.error
    elif status >= 500:
        error = _STATUS_ERRORS.get(status, UnavailableError)
    else:
        error = _STATUS_ERRORS.get(status, UsageError)
    if issubclass(error, TransientError):
        return error(detail, retry_after_seconds=retry_after_seconds)
    return error(detail)
