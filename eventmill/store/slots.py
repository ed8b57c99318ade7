"""A workflow's output in a store: the rows of one slot, replaced as a whole.

The store knows a slot's rows by their insert IDs, which begin with the workflow's name and the
slot's start. So no column of the output has to say which slot a row is of, and several workflows
may write into one table.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from eventmill.base.errors import SchemaConflictError, StaleAttemptError
from eventmill.schema.table import TableId
from eventmill.wire.slot import SlotKey, SlotOutcome

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["SlotKey", "SlotOutcome", "SlotStore", "check_attempt"]


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
            SchemaConflictError: a slot of the workflow that overlaps this one and does not lie
                within it has rows: the slot length was changed.
            TableNotFoundError: there is no such table.
            TransientError: the slot has its rows of before or those of after; call again.
        """
        ...


def check_attempt(
    table: TableId,
    slot: SlotKey,
    generation: int,
    known: Iterable[tuple[SlotKey, int, bool]],
) -> None:
    """Decide whether an attempt may replace the rows of ``slot``; every store asks here.

    Args:
        table: the output.
        slot: what is to be replaced.
        generation: of the attempt.
        known: the slots of the workflow that overlap it and were ever written: each with the
            generation that wrote it, and whether it has rows now.

    Raises:
        StaleAttemptError: a later generation has written one of them.
        SchemaConflictError: one that does not lie within ``slot`` has rows.
    """
    for other, written, has_rows in known:
        if written > generation:
            raise StaleAttemptError(
                f"generation {written} has written {other} of {table}; these rows are of generation"
                f" {generation} and are not wanted any more"
            )
        if has_rows and not slot.contains(other):
            raise SchemaConflictError(
                f"{table} has rows of the slot {other}, which does not lie within {slot}: the"
                " length of the slots was changed. Replace that longer slot with no rows and run"
                " the slots within it, or let the workflow write into another table"
            )
