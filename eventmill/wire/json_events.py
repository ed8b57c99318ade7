"""JSON at the edge: text from people and curl, judged line by line, turned into batches. Pure.

Whoever takes JSON does the same four steps, over HTTP as at the command line::

    judged = reader.read(body, is_lines=True)
    store.quarantine(judged.refused)  # where there are any
    verdict = judged.verdict([store.put(batch) for batch in judged.batches()])

The originals of what is refused are kept as text, so that quarantine shows what was sent.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from eventmill.base.errors import BatchError, BatchTooLargeError
from eventmill.schema.problem import EventProblem, Reason
from eventmill.schema.table import Table
from eventmill.wire.batch import (
    BATCH_EVENTS_MAX,
    INSERT_ID_CHARACTERS_MAX,
    Batch,
)
from eventmill.wire.event_limits import event_size_problem
from eventmill.wire.insert_id import InsertIdSource
from eventmill.wire.quarantined import QuarantinedEvent
from eventmill.wire.split import cut
from eventmill.wire.verdict import Rejection, Verdict, join_verdicts

_UNREAD = object()
"""Stands for a row whose text has not been read yet."""


@dataclass(slots=True)
class JudgedEvents:
    """What became of the lines of one request before a store has seen them."""

    table: Table
    client: str
    """Who sends, by its own word."""
    count: int = 0
    insert_ids: list[bytes] = field(default_factory=list)
    events: list[bytes] = field(default_factory=list)
    indexes: list[int] = field(default_factory=list)
    """Place in the request of each of ``events``."""
    refused: list[QuarantinedEvent] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)

    def batches(self) -> Iterator[Batch]:
        """Yield ``events`` as batches that keep to the limits; none when all were refused.

        A request may be small as JSON and too large for one batch encoded: ``0,`` is two bytes,
        and the double that it stands for eight.
        """
        fingerprint = self.table.spec.fingerprint
        for part in cut(self.insert_ids, self.events):
            ids = self.insert_ids[part.start : part.stop]
            events = self.events[part.start : part.stop]
            yield Batch.build(self.table.id, fingerprint, ids, events, client=self.client)

    def verdict(self, of_batches: Iterable[Verdict]) -> Verdict:
        """Return the verdict of the whole request, with each event's place in the request.

        Args:
            of_batches: the store's verdicts of ``batches``, in their order.
        """
        of_good = join_verdicts(of_batches)
        return of_good.placed(self.count, self.indexes, self.rejections)


class JsonReader:
    """Judges the events of one request; used once, by one thread."""

    def __init__(
        self,
        table: Table,
        encode: Callable[[Mapping[str, Any]], bytes],
        insert_ids: InsertIdSource,
        *,
        insert_id_field: str | None,
        client: str,
        name_refused: Callable[[int, bytes], bytes] | None = None,
    ) -> None:
        """Prepare to read.

        Args:
            table: the live table.
            encode: makes an event of a row, or raises EventProblem.
            insert_ids: gives events an ID that have none.
            insert_id_field: key whose text is the event's insert ID; None: the server makes
                one, and then a request that is repeated is stored twice.
            client: who sends, by its own word.
            name_refused: gives an ID, from its index and its text, to an event that is refused
                and has none that can be read; None: ``insert_ids`` does.
        """
        self._table = table
        self._encode = encode
        self._insert_ids = insert_ids
        self._id_field = insert_id_field
        self._keep_id = any(column.name == insert_id_field for column in table.spec.columns)
        self._client = client
        self._name_refused = name_refused or self._name_anew

    def read(self, body: bytes, *, is_lines: bool, at_start: bool = True) -> JudgedEvents:
        """Judge every event in ``body``.

        Args:
            body: one JSON object a line; or with ``is_lines`` False an array or one object.
            is_lines: which of them.
            at_start: whether the input begins with ``body``; a byte order mark there is no part
                of the first event.

        Raises:
            BatchError: no event at all, or the array is not JSON.
            BatchTooLargeError: more events than a batch may have.
        """
        judged = JudgedEvents(self._table, self._client)
        if at_start:
            body = without_bom(body)
        for text, row in _lines(body) if is_lines else _items(body):
            if judged.count == BATCH_EVENTS_MAX:
                raise BatchTooLargeError(
                    f"the body has more than {BATCH_EVENTS_MAX:,} events, the limit: send it in"
                    " smaller parts"
                )
            self._judge(judged, text, row)
            judged.count += 1
        if not judged.count:
            raise BatchError("the body has no events")
        return judged

    def _judge(self, judged: JudgedEvents, text: bytes, row: object) -> None:
        insert_id = b""
        try:
            _check_size(len(text))
            if row is _UNREAD:
                row = _parse(text)
            if not isinstance(row, dict):
                raise EventProblem(
                    Reason.MALFORMED_JSON, "", f"a JSON {_kind(row)} where an object is wanted"
                )
            insert_id = self._insert_id(row)
            event = self._encode(row)
            _check_size(len(event))
        except EventProblem as problem:
            insert_id = insert_id or self._name_refused(judged.count, text)
            self._refuse(judged, text, insert_id, problem)
            return
        judged.indexes.append(judged.count)
        judged.insert_ids.append(insert_id)
        judged.events.append(event)

    def _name_anew(self, _index: int, _text: bytes) -> bytes:
        return self._insert_ids.next()

    def _insert_id(self, row: dict[str, Any]) -> bytes:
        if self._id_field is None:
            return self._insert_ids.next()
        given = row.get(self._id_field) if self._keep_id else row.pop(self._id_field, None)
        if isinstance(given, int) and not isinstance(given, bool):
            given = str(given)
        if not isinstance(given, str) or not 0 < len(given) <= INSERT_ID_CHARACTERS_MAX:
            message = f"the insert ID must be a text of 1 to {INSERT_ID_CHARACTERS_MAX} characters"
            raise EventProblem(Reason.BAD_INSERT_ID, self._id_field, message)
        return given.encode()

    def _refuse(
        self, judged: JudgedEvents, text: bytes, insert_id: bytes, problem: EventProblem
    ) -> None:
        name = insert_id.decode()
        judged.rejections.append(Rejection.of(judged.count, name, problem))
        judged.refused.append(
            QuarantinedEvent(
                table=self._table.id,
                insert_id=name,
                payload=text,
                is_json=True,
                reason=problem.reason,
                field=problem.field,
                message=problem.message,
                client=self._client,
                fingerprint=self._table.spec.fingerprint,
            )
        )


def without_bom(beginning: bytes) -> bytes:
    """Return the beginning of an input without UTF-8's byte order mark, if it has one."""
    return beginning.removeprefix(BOM_UTF8)


def _lines(body: bytes) -> Iterator[tuple[bytes, object]]:
    for line in body.split(b"\n"):
        line = line.strip()
        if line:
            yield line, _UNREAD


def _items(body: bytes) -> Iterator[tuple[bytes, object]]:
    try:
        whole = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BatchError(f"the body is not JSON: {error}") from error
    for item in whole if isinstance(whole, list) else [whole]:
        # The object before its insert ID is taken out is what quarantine should show.
        yield orjson.dumps(item), item


def _parse(text: bytes) -> object:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        try:
            text.decode()
        except UnicodeDecodeError as fault:
            raise EventProblem(
                Reason.INVALID_UTF8, "", f"byte {fault.start} of the line is not UTF-8"
            ) from error
        raise EventProblem(
            Reason.MALFORMED_JSON, "", f"not JSON: {error.msg}, at character {error.colno}"
        ) from error


def _check_size(size: int) -> None:
    problem = event_size_problem(size)
    if problem is not None:
        raise problem


def _kind(value: object) -> str:
    kinds = {list: "array", str: "string", bool: "boolean", int: "number", float: "number"}
    return kinds.get(type(value), "null")
