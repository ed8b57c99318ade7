"""The ``Store`` port: a sink that also holds tables.

Ten members, and no more: what a program wants to know beyond them it asks in SQL.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from eventmill.schema.table import Table, TableId, TableSpec, TableStats
from eventmill.wire.answer import QueryResult
from eventmill.wire.batch import Batch
from eventmill.wire.quarantined import QuarantinedEvent
from eventmill.wire.sink import Features
from eventmill.wire.verdict import Verdict

ROW_LIMIT_DEFAULT = 100_000
"""Rows a query returns unless told otherwise; the answer says when it was cut."""


class Store(Protocol):
    """A sink that also holds tables: create, alter, query."""

    @property
    def features(self) -> Features:
        """What this store promises; constant."""
        ...

    def put(self, batch: Batch, *, timeout_seconds: float | None = None) -> Verdict:
        """Put one batch and wait for the verdict (see ``wire.sink.Sink.put``)."""
        ...

    def quarantine(self, events: Sequence[QuarantinedEvent]) -> None:
        """Keep events that were refused before they could be part of a batch.

        Promise: on return they are as durable as rows, once each however often the call is
        repeated, and ``SELECT * FROM eventmill.quarantine`` lists them.
        """
        ...

    def describe(self, table: TableId) -> Table:
        """Return the live definition of ``table``; TableNotFoundError when there is none."""
        ...

    def tables(self) -> Sequence[Table]:
        """Return every table but the store's own, ascending by name."""
        ...

    def stats(self, table: TableId) -> TableStats:
        """Return what ``table`` holds now."""
        ...

    def apply(self, spec: TableSpec, *, expected_version: int | None = None) -> Table:
        """Create the table, or change the live one to ``spec`` where that only adds.

        Calling it again with the same spec changes nothing and returns the same version.

        Args:
            spec: the wanted definition.
            expected_version: the live version that the caller has seen; 0: none may exist;
                None: whatever it is.

        Raises:
            SchemaConflictError: the live table does not allow the change, or has moved on from
                ``expected_version``.
        """
        ...

    def drop(self, table: TableId) -> None:
        """Remove a table with its rows; TableNotFoundError when there is none."""
        ...

    def query(
        self,
        sql: str,
        params: Mapping[str, Any] | None = None,
        *,
        row_limit: int | None = ROW_LIMIT_DEFAULT,
        timeout_seconds: float | None = None,
        dry_run: bool = False,
    ) -> QueryResult:
        """Answer one read-only GoogleSQL statement.

        Promise: sees every event acked before the call.

        Args:
            sql: GoogleSQL, with named parameters as ``@name``.
            params: value of each parameter.
            row_limit: rows to return at most, None: all; ``stats.truncated`` says when it cut.
            timeout_seconds: stop after this; None: the store's own limit.
            dry_run: answer with no rows and the statistics alone, having read no data.

        Raises:
            QueryError: the SQL cannot be answered, or was stopped.
            TableNotFoundError: it names a table that does not exist.
        """
        ...

    def close(self) -> None:
        """Give back what the store holds; a second call does nothing."""
        ...
