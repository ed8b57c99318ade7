"""A workflow's output in a store: the rows of one slot, replaced as a whole.

The store knows a slot's rows by their insert IDs, which begin with the workflow's name and the
slot's start. So no column of the output has to say which slot a row is of, and several workflows
may write into one table.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from eventmill.base.clock import utc_datetime
from eventmill.schema.table import TableId

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True, order=True)
class SlotKey:
    """One slot of one workflow."""

    workflow: str
    """Name of the workflow: ``[a-z]([-a-z0-9_]{0,38}[a-z0-9])``; no slash, so that one workflow's
    insert IDs are never between those of another."""
    start_seconds: int
    end_seconds: int
    """[start, end) in whole seconds since 1970; a slot has at least one second."""

    @property
    def start(self) -> datetime:
        """Its start, an aware UTC datetime."""
        return utc_datetime(self.start_seconds)

    @property
    def end(self) -> datetime:
        """Its end, an aware UTC datetime, not part of it."""
        return utc_datetime(self.end_seconds)

    @property
    def insert_id_low(self) -> str:
        """Insert IDs of the slot's rows, and of slots within it, are at least this."""
        return _insert_id_prefix(self.workflow, self.start)

    @property
    def insert_id_high(self) -> str:
        """Insert IDs of the slot's rows, and of slots within it, are below this."""
        return _insert_id_prefix(self.workflow, self.end)

    def insert_id(self, row_index: int) -> str:
        """Return the insert ID of the slot's row number ``row_index`` (from 0)."""
        return f"{self.insert_id_low}/{row_index}"


def _insert_id_prefix(workflow: str, moment: datetime) -> str:
    # A year of four digits, so that the text sorts as the time does.
    return f"{workflow}/{moment.year:04d}{moment:%m%dT%H%M%SZ}"


@dataclass(frozen=True, slots=True)
class SlotOutcome:
    """What replacing one slot's rows did."""

    rows: int
    """Rows that the slot has now."""
    replaced_rows: int
    """Rows that it had before, which are gone."""


@runtime_checkable
class SlotStore(Protocol):
    """A store that can replace the rows of a slot."""

    def replace_slot(
        self, table: TableId, slot: SlotKey, rows: pa.Table, *, generation: int
    ) -> SlotOutcome:
        """Put ``rows`` in the place of whatever the slot had, at once.

        Promise: a query sees the rows of before or those of after, never a mixture nor none; on
        return the rows of after are as durable as acked events. Calling it again has the same
        effect. Rows of slots of the same workflow that lie within this one go too. Rows that came
        by ``put`` stay.

        Args:
            table: the output.
            slot: whose rows they are.
            rows: columns by name, of types that the table's columns can hold without loss
                (integers of another width, any time zone's timestamps, ...); a NULLABLE or
                REPEATED column may be missing. May have no rows: then the slot has none.
            generation: grows with each attempt at the slot; an attempt that was overtaken by a
                later one (its lease had ended, and it did not know) is refused.

        Raises:
            OutputError: the rows do not fit the table; nothing was changed. The message names
                each column with how many rows and one example.
            StaleAttemptError: a later generation has written the slot.
            SchemaConflictError: a longer slot of the workflow overlaps this one: the slot length
                was changed.
            TableNotFoundError: there is no such table.
            TransientError: the slot has its rows of before or those of after; call again.
        """
        ...
