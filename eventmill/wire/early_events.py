"""Events that an earlier definition of their table judged, as the table's rows of today.

An event is read by the first definition that has a place for all of it: by the one that judged it,
and where it has fields that this one lacks or cannot hold, by the first one after it that does
not. What that definition does not have is NULL. So the answer is the same as that of a store that
had made the row when the event came, and had read it again at each change that had a place for
more of it: it does not depend on when that was done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from eventmill.schema.late_reading import LateReading
from eventmill.schema.reading_type import reading_type
from eventmill.schema.table import TableSpec
from eventmill.schema.unknown import UnknownFields
from eventmill.wire.columns import ColumnReader

Definition = Callable[[int], TableSpec]
"""What a table was at an earlier version."""


@dataclass(frozen=True, slots=True)
class _Stage:
    """One definition, and what it makes of some events."""

    version: int
    places: list[int]
    """Of the events that are to be read by it."""
    events: list[bytes]
    """Those events, without what it cannot hold."""
    ahead: set[int]
    """Places of all events that have fields which it lacks or cannot hold."""


class EarlyReader:
    """Reads events of one table, whichever definition judged them. Safe from any thread."""

    def __init__(
        self, spec: TableSpec, version: int, definition: Definition, *, fast: bool | None = None
    ) -> None:
        """Read into the columns of ``spec``.

        Args:
            spec: the table as it is.
            version: of ``spec``.
            definition: the table's earlier definitions, by version from 1.
            fast: as for ``ColumnReader``.
        """
        self._spec = spec
        self._version = version
        self._definition = definition
        self._is_fast = fast
        self._specs = {version: spec}
        self._judges: dict[int, tuple[UnknownFields, LateReading]] = {}
        self._readers: dict[tuple[int, int], ColumnReader] = {}

    def read(
        self, events: pa.BinaryArray, judged_by: int, *, after: int = 0
    ) -> tuple[pa.RecordBatch, list[int]]:
        """Return one row an event, in order, and the places of those that are still ahead.

        Args:
            events: encoded messages, without nulls.
            judged_by: version of the definition that found them good.
            after: version of the last definition by which all of them are known to be ahead.
        """
        batches: list[pa.RecordBatch] = []
        order: list[int] = []
        encoded = events.to_pylist()
        stage = _Stage(0, [], [], set())
        for stage in self._stages(encoded, judged_by, after):
            if stage.places:
                are_all = stage.events == encoded
                part = events if are_all else pa.array(stage.events, pa.binary())
                batches.append(self._reader(stage.version, judged_by).read(part))
                order += stage.places
        if len(batches) == 1:
            return batches[0], sorted(stage.ahead)
        place_of = {place: at for at, place in enumerate(order)}
        rows = pa.Table.from_batches(batches).combine_chunks()
        rows = rows.take(pa.array([place_of[place] for place in range(len(events))], pa.int64()))
        return rows.combine_chunks().to_batches()[0], sorted(stage.ahead)

    def count_ahead(self, events: Sequence[bytes], judged_by: int) -> int:
        """Return how many of ``events`` have fields that the table lacks or cannot hold."""
        count = 0
        for stage in self._stages(events, judged_by, 0):
            count = len(stage.ahead)
        return count

    def _stages(self, events: Sequence[bytes], judged_by: int, after: int) -> Iterator[_Stage]:
        """Yield the definitions that read some of ``events``; the last one takes all that are left.

        There is always one, and ``ahead`` of the last are those which no definition has read whole.
        """
        waiting = list(range(len(events)))
        for version in range(max(judged_by, after + 1), self._version + 1):
            is_last = version == self._version
            if not is_last and version > judged_by and self._reads_alike(version - 1, version):
                continue
            unknown, late = self._judge(version)
            left = [events[place] for place in waiting]
            parts = late.parts(left) if version > judged_by else {}
            left = [parts.get(at, event) for at, event in enumerate(left)]
            ahead = {*unknown.places(left), *parts}
            reads = [at for at in range(len(left)) if is_last or at not in ahead]
            yield _Stage(
                version,
                [waiting[at] for at in reads],
                [left[at] for at in reads],
                {waiting[at] for at in ahead},
            )
            waiting = [waiting[at] for at in sorted(ahead)]
            if not waiting:
                return

    def _reads_alike(self, earlier: int, later: int) -> bool:
        one, other = self._spec_of(earlier), self._spec_of(later)
        return (one.fingerprint, one.columns) == (other.fingerprint, other.columns)

    def _spec_of(self, version: int) -> TableSpec:
        if version not in self._specs:
            self._specs[version] = self._definition(version)
        return self._specs[version]

    def _judge(self, version: int) -> tuple[UnknownFields, LateReading]:
        if version not in self._judges:
            message_type = reading_type(self._spec_of(version))
            self._judges[version] = UnknownFields(message_type), LateReading(message_type)
        return self._judges[version]

    def _reader(self, version: int, judged_by: int) -> ColumnReader:
        key = version, judged_by
        if key not in self._readers:
            judged = None if version == judged_by else self._spec_of(judged_by).columns
            self._readers[key] = ColumnReader(
                self._spec_of(version),
                fast=self._is_fast,
                columns=self._spec.columns,
                judged_by=judged,
            )
        return self._readers[key]
