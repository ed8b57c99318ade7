"""The calls of Chrome Infrastructure's ``bqh`` (BigQueryHelper), so that its callers go on.

::

    from eventmill.compat import bqh

    bqh.send_rows(client, "ci", "builds", rows)

``client`` is what ``eventmill.connect`` or ``eventmill.open_store`` returns, or the
``google.cloud.bigquery.Client`` that the caller has already. What differs is told in
``docs/integrations.md``: a row has one identity over all attempts, errors name the row of the call
and not of some batch, a bad row does not stop its neighbours, and no table is looked up twice.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, cast

from google.protobuf.message import Message

from eventmill.base.errors import EventmillError, PermanentError, UsageError
from eventmill.base.renewed_lock import RenewedLock
from eventmill.client.encode import Event, EventEncoder, as_insert_id
from eventmill.client.uploader import TIMEOUT_SECONDS, PutProgress, Uploader, progress_of
from eventmill.compat import google_rows
from eventmill.compat.google_rows import GoogleClient, insert_error
from eventmill.compat.row_dict import row_dict
from eventmill.schema.table import TableId
from eventmill.wire.batch import BATCH_EVENTS_MAX
from eventmill.wire.insert_id import InsertIdSource
from eventmill.wire.sink import Catalog, Sink
from eventmill.wire.verdict import Verdict, join_verdicts

INSERT_ROWS_SCOPE = "https://www.googleapis.com/auth/bigquery.insertdata"
"""OAuth 2.0 scope that Google's service asks of who inserts rows."""
BATCH_SIZE = 500
"""Rows in one request when the caller does not say."""

_insert_ids = InsertIdSource()
_Row: TypeAlias = Event | tuple[object, ...]


class BigQueryInsertError(PermanentError):
    """Some rows were refused; all others are stored.

    The message has a line a refusal. Refused rows are in the store's quarantine where it has one.
    """

    def __init__(self, insert_errors: Sequence[Mapping[str, Any]]) -> None:
        super().__init__("".join(_lines(insert_errors)))
        self.insert_errors = list(insert_errors)
        """For each refused row ``index`` (its place in the call), ``insert_id``, and ``errors``:
        dicts of ``reason``, ``location`` (the field) and ``message``."""

    def __reduce__(self) -> tuple[type[BigQueryInsertError], tuple[object]]:
        return type(self), (self.insert_errors,)  # so that it comes through a process pool whole


class UnsupportedTypeError(UsageError):
    """Something among the rows is no row; nothing was sent."""

    def __init__(self, row_type: str) -> None:
        super().__init__(
            f"unsupported row type for send_rows: {row_type}; give protobuf messages of the"
            " table's type, or dicts"
        )
        self.row_type = row_type

    def __reduce__(self) -> tuple[type[UnsupportedTypeError], tuple[object]]:
        return type(self), (self.row_type,)


def message_to_dict(message: Message) -> dict[str, Any] | None:
    """Return the row of ``message`` as a dict that JSON can hold; None for a type without fields.

    It is what the table would have, by the project's one mapping: see ``docs/tables.md``. What
    is NULL or an empty list there is left out.

    Raises:
        UnsupportedTypeError: it is no message.
        EventProblem: a value has no place in its column; names the field.
        SchemaError: the message does not fit a table, as one that contains itself does not.
    """
    if not isinstance(message, Message):
        raise UnsupportedTypeError(type(message).__name__)
    return row_dict(message) if message.DESCRIPTOR.fields else None


def send_rows(
    client: Sink | GoogleClient,
    dataset_id: str,
    table_id: str,
    rows: Iterable[_Row],
    batch_size: int = BATCH_SIZE,
    *,
    insert_ids: Sequence[str] | None = None,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> None:
    """Send rows, and return when each of them is stored.

    Promise: every row is sent under one insert ID over all attempts, so that none is stored twice
    within the deduplication window. A refused row does not hold back the others. ``rows`` is
    neither changed nor read twice.

    Args:
        client: what ``eventmill.connect`` or ``open_store`` returns, or a client of Google's.
        dataset_id: of the table; ``project.dataset`` where it is not the client's own project.
        table_id: its name.
        rows: protobuf messages of the table's type, or dicts of its columns. Tuples, in the order
            of the columns, are taken from callers that still have them.
        batch_size: rows in one request, at most 10,000; 0 or less: 500. A request is also cut at
            9,000,000 bytes.
        insert_ids: identity of each row; with the same ones the call can be made again, whatever
            became of it. None: new ones.
        timeout_seconds: for one batch, retries included; of one attempt with a client of Google's.

    Raises:
        UnsupportedTypeError: something in ``rows`` is no row; nothing was sent.
        BigQueryInsertError: rows were refused; it names each one.
        TransientError: the time was spent on retries. ``eventmill.progress_of(error)`` has what
            was judged and the insert IDs to make the same call again. Google's client raises
            errors of its own.
        PermanentError: there is no such table, or the key does not allow it.
    """
    events = _checked(rows)
    ids = _identities(insert_ids, len(events))
    size = min(batch_size, BATCH_EVENTS_MAX) if batch_size > 0 else BATCH_SIZE
    name = f"{dataset_id}.{table_id}"
    if not events:
        return
    if isinstance(client, GoogleClient):
        google = client
        errors = google_rows.insert(
            google,
            name,
            _named(events, lambda: google_rows.column_names(google, name)),
            ids,
            batch_size=size,
            timeout_seconds=timeout_seconds,
        )
    elif hasattr(client, "put"):
        table = TableId.parse(name)
        sink = client
        named = _named(events, lambda: _column_names(sink, table))
        verdict = _put(sink, table, named, ids, size, timeout_seconds)
        errors = [insert_error(r.index, r.insert_id, r) for r in verdict.rejected]
    else:
        raise UsageError(
            f"{client!r} takes no rows: give what eventmill.connect returns, or a"
            " google.cloud.bigquery.Client"
        )
    if errors:
        raise BigQueryInsertError(errors)


def _checked(rows: Iterable[_Row]) -> list[_Row]:
    events = list(rows)
    for event in events:
        if not isinstance(event, (Message, Mapping, tuple)):
            raise UnsupportedTypeError(type(event).__name__)
    return events


def _identities(given: Sequence[str] | None, count: int) -> list[str]:
    if given is None:
        return [_insert_ids.next().decode() for _ in range(count)]
    if isinstance(given, str) or len(given) != count:
        raise UsageError(f"insert_ids must have one text for each of {count} rows")
    for insert_id in given:
        as_insert_id(insert_id)
    return list(given)


def _named(rows: Sequence[_Row], columns: Callable[[], list[str]]) -> list[Event]:
    """Return ``rows`` with each tuple as a dict; ``columns`` is asked only where there is one."""
    if not any(isinstance(row, tuple) for row in rows):
        return cast(list[Event], rows)
    names = columns()
    named: list[Event] = []
    for index, row in enumerate(rows):
        if not isinstance(row, tuple):
            named.append(row)
        elif len(row) != len(names):
            raise UsageError(
                f"row {index}, counted from 0, has {len(row)} values for {len(names)} columns"
                f" ({', '.join(names)}): give a message or a dict"
            )
        else:
            named.append(dict(zip(names, row, strict=True)))
    return named


def _column_names(sink: Sink, table: TableId) -> list[str]:
    if not isinstance(sink, Catalog):
        raise UsageError(f"{sink!r} cannot say what {table} is: give messages or dicts, no tuples")
    return [column.name for column in sink.describe(table).spec.columns]


def _put(
    sink: Sink,
    table: TableId,
    events: Sequence[Event],
    ids: Sequence[str],
    batch_size: int,
    timeout_seconds: float,
) -> Verdict:
    """Put all events, batch by batch; an error says how far the whole call came."""
    key = (table, type(events[0]))
    with _guard.lock:
        encoder = _known_of(sink).setdefault(key, EventEncoder(table))
    uploader = Uploader(sink, table, timeout_seconds=timeout_seconds, encoder=encoder)
    verdicts: list[Verdict] = []
    for start in range(0, len(events), batch_size):
        stop = start + batch_size
        try:
            verdicts.append(uploader.put(events[start:stop], insert_ids=ids[start:stop]))
        except EventmillError as error:
            if isinstance(error, PermanentError):
                # What is known of the table may be out of date: the next call asks again.
                with _guard.lock:
                    _known_of(sink).pop(key, None)
            progress = progress_of(error)
            if progress is not None:
                verdicts.append(progress.verdict)
            error.progress = PutProgress(join_verdicts(verdicts), tuple(ids))
            raise
    return join_verdicts(verdicts)


# What a table is does not have to be asked at each call: it is remembered as long as its client
# lives, for each type of events by itself, as an encoder takes one version of a message type.
_Known: TypeAlias = dict[tuple[TableId, type], EventEncoder]
_known: weakref.WeakKeyDictionary[Sink, _Known] = weakref.WeakKeyDictionary()
_guard = RenewedLock()


def _known_of(sink: Sink) -> _Known:
    try:
        return _known.setdefault(sink, {})
    except TypeError:  # a sink of the caller's own, to which nothing can refer weakly
        return {}


def _lines(insert_errors: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for row in insert_errors:
        for error in row.get("errors") or ():
            yield f"Error inserting row {row.get('index')}: {error}\n"
