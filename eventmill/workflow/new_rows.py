"""Rows of an input by slot, asked of its store: those that came lately, and all of some slots."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from eventmill.base.clock import utc_datetime
from eventmill.schema.table import Granularity, TableSpec
from eventmill.store.own_columns import INGESTED_AT
from eventmill.workflow.definition import WorkflowInput
from eventmill.workflow.every_slots import EverySlots
from eventmill.workflow.input_marks import (
    PARTITION_TIME,
    InputMark,
    ask,
    partition_filter,
    slot_expression,
)
from eventmill.workflow.sql_body import sql_name
from eventmill.workflow.timetable import Slot, Timetable

if TYPE_CHECKING:
    from eventmill.store.port import Store

_PARTITION_DAYS = {
    Granularity.HOUR: 2,
    Granularity.DAY: 2,
    Granularity.MONTH: 32,
    Granularity.YEAR: 367,
}
"""How many days before a row's ``_ingested_at`` its partition may begin, and a day more."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Arrivals:
    """Rows of one slot that were taken since a moment."""

    oldest_us: int
    newest_us: int


@dataclass(frozen=True, slots=True)
class NewRows:
    """Rows of an input that were taken since a moment."""

    by_slot: dict[Slot, Arrivals]
    without_slot: int
    """Those up to the settled moment whose time is NULL."""
    newest_us: int
    """Newest ``_ingested_at`` of them; the moment itself when there are none."""


class InputRows:
    """The rows of one input of a workflow, in a store."""

    def __init__(
        self, store: Store, timetable: Timetable, entry: WorkflowInput, spec: TableSpec
    ) -> None:
        """Prepare to ask; ``spec`` is the live definition of the input's table."""
        self._store = store
        self._timetable = timetable
        self._from = sql_name(entry.table)
        self._when = slot_expression(entry, spec)
        self._where = partition_filter(spec)
        self._partitioning = spec.partitioning

    def since(self, begin_us: int, settled_us: int) -> NewRows:
        """Return the rows taken after ``begin_us``; those without a slot up to ``settled_us``."""
        sql = (
            f"SELECT {self._stretch()} AS stretch,"  # noqa: S608
            f" UNIX_MICROS(MIN({INGESTED_AT})) AS oldest,"
            f" UNIX_MICROS(MAX({INGESTED_AT})) AS newest,"
            f" COUNTIF({INGESTED_AT} <= TIMESTAMP_MICROS(@settled)) AS settled"
            f" FROM {self._from} WHERE {INGESTED_AT} > @since AND {self._where}"
            f" AND {self._recent_partitions(begin_us)} GROUP BY 1"
        )
        params = {"since": _moment(begin_us), "settled": settled_us}
        rows = list(ask(self._store, sql, params))
        placed = [row for row in rows if row["stretch"] is not None]
        by_slot: dict[Slot, Arrivals] = {}
        for row, slot in self._with_slots(placed):
            known = by_slot.setdefault(slot, Arrivals(row["oldest"], row["newest"]))
            known.oldest_us = min(known.oldest_us, row["oldest"])
            known.newest_us = max(known.newest_us, row["newest"])
        return NewRows(
            by_slot=by_slot,
            without_slot=sum(row["settled"] for row in rows if row["stretch"] is None),
            newest_us=max([begin_us, *(row["newest"] for row in rows)]),
        )

    def first_after(self, slot: Slot, seen_us: int) -> int:
        """Return the ``_ingested_at`` of a slot's first row that was taken after ``seen_us``."""
        sql = (
            f"SELECT UNIX_MICROS(MIN({INGESTED_AT})) AS first FROM {self._from}"  # noqa: S608
            f" WHERE {INGESTED_AT} > @since AND {self._when} >= @low AND {self._when} < @high"
            f" AND {self._where}"
        )
        low, high = (utc_datetime(seconds) for seconds in slot)
        (row,) = ask(self._store, sql, {"since": _moment(seen_us), "low": low, "high": high})
        # None of them: they were dropped meanwhile.
        return seen_us if row["first"] is None else int(row["first"])

    def count(self, slots: Iterable[Slot]) -> dict[Slot, InputMark]:
        """Count all that ``slots`` have now, by one query over the time that they span."""
        wanted = sorted(slots)
        sql = (
            f"SELECT {self._stretch()} AS stretch, COUNT(*) AS n,"  # noqa: S608
            f" UNIX_MICROS(MAX({INGESTED_AT})) AS newest FROM {self._from}"
            f" WHERE {self._when} >= @low AND {self._when} < @high AND {self._where} GROUP BY 1"
        )
        params = {"low": utc_datetime(wanted[0][0]), "high": utc_datetime(wanted[-1][1])}
        found = dict.fromkeys(wanted, InputMark(0, None))
        for row, slot in self._with_slots(list(ask(self._store, sql, params))):
            if slot in found:
                before = found[slot]
                newest = max(before.max_ingested_us or 0, row["newest"])
                found[slot] = InputMark(before.count + row["n"], newest)
        return found

    def _stretch(self) -> str:
        """Return GoogleSQL for the first second of the stretch of time that a row lies in.

        A stretch lies in one slot: of fixed slots it is the slot, of others a minute, in which no
        cron time falls but at its beginning.
        """
        length, anchor = 60, 0
        if isinstance(self._timetable, EverySlots):
            length, anchor = self._timetable.length_seconds, self._timetable.anchor_seconds
        seconds = f"UNIX_SECONDS({self._when})"
        # MOD has the sign of what is divided: times before 1970 too shall be rounded down.
        return f"{seconds} - MOD(MOD({seconds} - {anchor}, {length}) + {length}, {length})"

    def _recent_partitions(self, begin_us: int) -> str:
        """Return a condition that rows taken after a moment meet, by which BigQuery reads less.

        Where rows are split by the time of ingestion, it keeps that time apart from our own, and
        as NULL while they are in its buffer.
        """
        if self._partitioning is None or self._partitioning.column is not None:
            return "TRUE"
        days = _PARTITION_DAYS[self._partitioning.granularity]
        begin = _moment(begin_us) - timedelta(days=days)
        bound = f"TIMESTAMP '{begin:%Y-%m-%d %H:%M:%S}+00'"
        return f"({PARTITION_TIME} >= {bound} OR {PARTITION_TIME} IS NULL)"

    def _with_slots(self, rows: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], Slot]]:
        """Yield each row with its slot; one slot is looked for once however many lie in it."""
        slot: Slot = (0, 0)
        for row in sorted(rows, key=lambda row: int(row["stretch"])):
            if not slot[0] <= row["stretch"] < slot[1]:
                slot = self._timetable.slot_at(row["stretch"])
            yield row, slot


def _moment(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)
