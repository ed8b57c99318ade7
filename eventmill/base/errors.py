"""The error tree: one root, one fork, and every error knows on which side it stands.

::

    EventmillError
    ├── TransientError            put again: any of the events may or may not have been stored
    │   ├── UnavailableError      the other end cannot be reached or does not answer in time
    │   ├── BackPressureError     the other end is alive and asks for a pause
    │   │   └── QuotaError            the key or the table has used up what it may append
    │   ├── StorageFullError      no space left; reads go on, acks resume when space returns
    │   └── StoreBusyError        another process holds the store for writing
    └── PermanentError            the same call would fail the same way: nothing was stored
        ├── SchemaError           a .proto or a table definition that cannot be used
        ├── SchemaConflictError   a change that the live table does not allow, or a stale plan
        ├── TableNotFoundError    no such table in this store
        ├── BatchError            bytes that are not a batch
        │   └── BatchTooLargeError    a batch or an event over a stated limit
        ├── QueryError            SQL that cannot be answered
        │   ├── UnsupportedSqlError   GoogleSQL outside the written subset
        │   └── QueryCancelledError   stopped by its time limit or by its caller
        ├── CorruptStoreError     stored bytes that fail their checksum where they must not
        ├── AccessError           the credentials do not allow it
        │   └── UnauthenticatedError  there are none, or none that hold
        └── UsageError            an argument or a setting that makes no sense

What became of one event is a value (``wire.verdict.Verdict``), never an exception.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType


class EventmillError(Exception):
    """Root of every error that this package raises on purpose."""

    progress: object | None = None
    """How far the call came that raised this, where the call keeps account; None where it does
    not. Its type is the call's own, so read it through the call's room, as
    ``client.uploader.progress_of`` does for ``Uploader.put``."""
    facts: Mapping[str, object] = MappingProxyType({})
    """What a program may want to know beside the words; over HTTP, members of their own in the
    problem document."""


class TransientError(EventmillError):
    """A failure that time may mend.

    Promise: any of the events may have been stored. Put the same batch again, with the same
    insert IDs: within the deduplication window nothing is stored twice.
    """

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds
        """How long the other end asks to wait, in seconds; None when it did not say."""


class UnavailableError(TransientError):
    """The other end cannot be reached, broke off, or did not answer in time."""


class BackPressureError(TransientError):
    """The other end is alive and asks for a pause (HTTP 429)."""


class QuotaError(BackPressureError):
    """A key or a table has appended as much as its quota allows for now (HTTP 429)."""


class StorageFullError(TransientError):
    """No space is left for the log (HTTP 507); nothing of the batch was acked."""


class StoreBusyError(TransientError):
    """Another process holds the store's writer lock."""


class PermanentError(EventmillError):
    """A failure that the same call would meet again; nothing was stored."""


class SchemaError(PermanentError):
    """A .proto file or a table definition that cannot be used; the message names the place."""


class SchemaConflictError(PermanentError):
    """A change that the live table does not allow, or one planned on an older version."""


class OutputError(PermanentError):
    """Rows of a workflow that its output table cannot hold; the message names the columns."""


class StaleAttemptError(PermanentError):
    """A later attempt has written the same slot; the rows of this one are not wanted any more."""


class TableNotFoundError(PermanentError):
    """The store has no table of that name."""


class BatchError(PermanentError):
    """The bytes are not a well-formed batch; no event in them was looked at."""


class BatchTooLargeError(BatchError):
    """A batch or an event over a stated limit (HTTP 413); the message names the limit."""


class QueryError(PermanentError):
    """SQL that cannot be answered: a syntax error, an unknown name, a type that does not fit."""


class UnsupportedSqlError(QueryError):
    """GoogleSQL outside the supported subset; the message names the construct."""


class QueryCancelledError(QueryError):
    """The query was stopped by its time limit or by its caller."""


class CorruptStoreError(PermanentError):
    """Stored bytes fail their checksum in a place where no crash can explain it."""


class AccessError(PermanentError):
    """The credentials are missing or do not allow the call (HTTP 401, 403)."""


class UnauthenticatedError(AccessError):
    """The call has no credentials, or some that are unknown, expired or revoked (HTTP 401)."""


class UsageError(PermanentError):
    """An argument or a setting that makes no sense; the message says what would."""
