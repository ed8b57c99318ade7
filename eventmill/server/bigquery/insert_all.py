"""``tabledata.insertAll``: rows in, judged one by one, stored once by their insert IDs.

A row that is refused is handed back to the caller by its index, as the protocol has it; it is not
kept in quarantine, whose purpose is that nobody has to answer for an event any more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from starlette.concurrency import run_in_threadpool

from eventmill.base.errors import EventmillError
from eventmill.base.metrics import Metric, Metrics
from eventmill.schema.problem import EventProblem, Reason
from eventmill.schema.table import Table, TableId
from eventmill.server.access import Action
from eventmill.server.bigquery.calls import Answer, Call, table_of
from eventmill.server.bigquery.dialect import KnownNames, bigquery_encoder
from eventmill.server.bigquery.errors import ApiError, Fault, fault_of, invalid
from eventmill.server.bigquery.rooms import Rooms, is_own, shown
from eventmill.server.putting import StorePutter, count_events
from eventmill.store.own_columns import INGESTED_AT, INSERT_ID
from eventmill.wire.batch import Batch
from eventmill.wire.event_limits import event_size_problem, insert_id_problem
from eventmill.wire.insert_id import InsertIdSource
from eventmill.wire.split import cut
from eventmill.wire.verdict import Verdict, join_verdicts

ROWS_MAX = 50_000
"""Rows of one request (cloud.google.com/bigquery/quotas, "Streaming inserts", looked up
2026-11-24)."""
_INLINE_BYTES_MAX = 32_768
"""Bodies up to this size are judged on the event loop: that takes less than moving to a thread."""
_KIND = "bigquery#tableDataInsertAllResponse"
_TAKEN = frozenset(
    ("kind", "rows", "skipInvalidRows", "ignoreUnknownValues", "templateSuffix", "traceId")
)


@dataclass(slots=True)
class Judged:
    """What became of the rows of one request before the store has seen them."""

    count: int = 0
    insert_ids: list[bytes] = field(default_factory=list)
    events: list[bytes] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    """Place in the request of each of ``events``."""
    faults: dict[int, Fault] = field(default_factory=dict)
    """By place in the request."""


class InsertAll:
    """The call that streams rows into a table."""

    def __init__(self, rooms: Rooms, putter: StorePutter, metrics: Metrics) -> None:
        self._rooms = rooms
        self._putter = putter
        self._metrics = metrics
        self._insert_ids = InsertIdSource()

    async def insert_all(self, call: Call) -> Answer:
        """Store the rows of the body, and name those that cannot be stored."""
        if len(call.raw) <= _INLINE_BYTES_MAX and not self._waits_for_disk(call.raw):
            table, judged, keep_good = self._judge(call)
        else:
            table, judged, keep_good = await run_in_threadpool(self._judge, call)
        self._metrics.add(Metric.RECEIVED_BYTES, len(call.raw))
        if judged.faults and not keep_good:
            stopped = Fault("stopped", "")
            faults = {place: judged.faults.get(place, stopped) for place in range(judged.count)}
            self._count(table.id, Verdict(0), len(faults))
            return _answer(faults)
        verdict = Verdict(0)
        if judged.events:
            verdict = await self._put(call, table, judged)
            for rejection in verdict.rejected:
                judged.faults[judged.places[rejection.index]] = Fault(
                    "invalid", rejection.message, rejection.field
                )
        self._count(table.id, verdict, len(judged.faults))
        return _answer(judged.faults)

    def _waits_for_disk(self, raw: bytes) -> bool:
        """Tell whether judging the rows may make or drop a table, which the loop must not."""
        return b"templateSuffix" in raw or self._rooms.has_expired()

    async def _put(self, call: Call, table: Table, judged: Judged) -> Verdict:
        size = sum(map(len, judged.events)) + sum(map(len, judged.insert_ids))
        charge = self._rooms.guard.charge(call.principal, table.id, len(judged.events), size)
        client = call.headers.get("user-agent", "")
        verdicts = []
        try:
            for part in cut(judged.insert_ids, judged.events):
                batch = Batch.build(
                    table.id,
                    table.spec.fingerprint,
                    judged.insert_ids[part.start : part.stop],
                    judged.events[part.start : part.stop],
                    client=client,
                )
                verdicts.append(await self._putter.put(batch))
        except EventmillError:
            charge.give_back()
            raise
        return join_verdicts(verdicts)

    def _judge(self, call: Call) -> tuple[Table, Judged, bool]:
        """Return the table, its rows as events, and whether good rows go in beside bad ones."""
        document = call.document()
        unknown = document.keys() - _TAKEN
        if unknown:
            raise invalid(f"Unknown name {min(unknown)!r} in the request")
        table = self._table(call, document.get("templateSuffix"))
        rows = document.get("rows")
        if not isinstance(rows, list) or not rows:
            raise invalid("No rows present in the request.")
        if len(rows) > ROWS_MAX:
            raise invalid(
                f"too many rows present in the request, limit: {ROWS_MAX} row count: {len(rows)}."
            )
        encoder = bigquery_encoder(table.spec.descriptor_set, table.spec.message)
        encode: Callable[[Mapping[str, Any]], bytes] = encoder.encode
        if document.get("ignoreUnknownValues"):
            known = KnownNames(table.spec.columns)
            encode = lambda row: encoder.encode(known.of(row))  # noqa: E731
        judged = self._judge_rows(rows, encode)
        return table, judged, bool(document.get("skipInvalidRows"))

    def _judge_rows(
        self, rows: Sequence[Any], encode: Callable[[Mapping[str, Any]], bytes]
    ) -> Judged:
        judged = Judged(count=len(rows))
        next_id = self._insert_ids.next
        add_id, add_event = judged.insert_ids.append, judged.events.append
        add_place = judged.places.append
        for place, entry in enumerate(rows):
            try:
                row = entry["json"]
                given = _insert_id(entry)
                if INSERT_ID in row or INGESTED_AT in row:
                    row, own_id = without_own(row)
                    given = given or own_id
                insert_id = given or next_id()
                event = encode(row)
                problem = event_size_problem(len(event))
                if problem is not None:
                    raise problem
            except EventProblem as problem:
                judged.faults[place] = fault_of(problem)
                continue
            except (KeyError, TypeError, AttributeError):
                # An entry that is no object, or has no row; anything else is a fault of ours.
                if isinstance(entry, Mapping) and isinstance(entry.get("json"), Mapping):
                    raise
                judged.faults[place] = Fault("invalid", "the entry has no row under json", "json")
                continue
            add_id(insert_id)
            add_event(event)
            add_place(place)
        return judged

    def _table(self, call: Call, suffix: object) -> Table:
        base = call.table
        guard = self._rooms.guard
        if is_own(base):
            raise ApiError(403, "accessDenied", f"{shown(base)} is kept by the server itself")
        if suffix is None or suffix == "":
            guard.require(call.principal, Action.APPEND, base)
            guard.charge(call.principal, base, 0, 0)  # before rows are read, is anything left?
            return self._rooms.describe(base)
        if not isinstance(suffix, str):
            raise invalid("templateSuffix must be a text", "templateSuffix")
        table = table_of(base.project, base.dataset, base.table + suffix)
        guard.require(call.principal, Action.APPEND, table)
        template = self._rooms.describe(base).spec
        try:
            return self._rooms.describe(table)
        except ApiError as error:
            if error.status != 404:
                raise
        guard.require(call.principal, Action.APPLY, table)
        guard.require(call.principal, Action.DESCRIBE, base)
        made = self._rooms.store.apply(replace(template, table=table))
        guard.record(call.principal, "table_created", table, f"from the template {base}")
        return made

    def _count(self, table: TableId, stored: Verdict, rejected: int) -> None:
        count_events(
            self._metrics,
            table,
            accepted=stored.accepted,
            duplicates=stored.duplicates,
            rejected=rejected,
        )


def without_own(row: Mapping[str, Any]) -> tuple[Mapping[str, Any], bytes]:
    """Return a row without the columns that every table has, and the insert ID among them.

    A warehouse that keeps an event's identity in a column sends it here as one.
    """
    rest = {name: value for name, value in row.items() if name not in (INSERT_ID, INGESTED_AT)}
    return rest, _insert_id({"insertId": row.get(INSERT_ID)})


def _insert_id(entry: Mapping[str, Any]) -> bytes:
    """Return the insert ID that the client has given the row; empty for none."""
    given = entry.get("insertId")
    if given is None or given == "":
        return b""
    if not isinstance(given, str):
        raise EventProblem(Reason.BAD_INSERT_ID, "insertId", "the insert ID must be a text")
    raw = given.encode("utf-8", "surrogatepass")
    problem = insert_id_problem(raw, "insertId")
    if problem is not None:
        raise problem
    return raw


def _answer(faults: Mapping[int, Fault]) -> Answer:
    if not faults:
        return {"kind": _KIND}
    entries = [
        {
            "index": place,
            "errors": [{"debugInfo": "", "location": fault.location, **fault.to_json()}],
        }
        for place, fault in sorted(faults.items())
    ]
    return {"kind": _KIND, "insertErrors": entries}
