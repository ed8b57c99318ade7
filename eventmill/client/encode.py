"""Events as people hand them over (messages and dicts) made into bytes, once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from google.protobuf.message import EncodeError, Message

from eventmill.base.errors import UsageError
from eventmill.client.spool.forking import fork_pause
from eventmill.schema.message_type import MessageType
from eventmill.schema.problem import EventProblem, Reason
from eventmill.schema.table import Table, TableId
from eventmill.wire.batch import EVENT_BYTES_MAX, INSERT_ID_CHARACTERS_MAX
from eventmill.wire.event_limits import event_size_problem, insert_id_problem
from eventmill.wire.quarantined import QuarantinedEvent

if TYPE_CHECKING:
    from eventmill.schema.rows import RowEncoder

Row: TypeAlias = Mapping[str, object]
Event: TypeAlias = Message | Row
"""What an uploader takes: a protobuf message of the table's type, or a dict of its columns."""


class EventEncoder:
    """Encodes events for one table, and refuses what is not of its type.

    Belongs to one uploader; safe from any thread. The table is learned later than the first
    messages come: until then all messages must be of the first one's type, and afterwards they
    must be of the table's.
    """

    def __init__(self, table_id: TableId) -> None:
        self._table_id = table_id
        self._message_class: type[Message] | None = None
        self._message_name: str | None = None
        self._table: Table | None = None
        self._rows: RowEncoder | None = None
        self.message_fingerprint = ""
        """Of the messages' type; empty before the first message."""
        self._foreign: dict[str, str] = {}

    @property
    def table(self) -> Table | None:
        """The live table; None until ``learn``."""
        return self._table

    @property
    def row_fingerprint(self) -> str:
        """Fingerprint of what ``encode_row`` makes: the table's own."""
        return self._table.spec.fingerprint if self._table else ""

    def learn(self, table: Table) -> None:
        """Take note of what the table is.

        Raises:
            UsageError: messages of another type have been encoded for it already.
        """
        if self._table is None or self._table.spec.fingerprint != table.spec.fingerprint:
            self._rows = None
        self._table = table
        if self._message_name not in (None, table.spec.message):
            wrong = self._wrong_type(self._message_name, table.spec.message)
            self._foreign[self.message_fingerprint] = wrong
            self._message_class = self._message_name = None
            self.message_fingerprint = ""
            raise UsageError(wrong)

    def check_own(self, fingerprint: str) -> None:
        """Raise UsageError when events of ``fingerprint`` turned out to be of another type.

        The bytes of one type often parse as another: sent on, they would become wrong rows.
        """
        wrong = self._foreign.get(fingerprint)
        if wrong is not None:
            raise UsageError(wrong)

    def encode_message(self, message: Message) -> bytes:
        """Return the bytes of ``message``.

        Raises:
            UsageError: it is not of the table's type.
            EventProblem: a required field is not set, or it is over the size of one event.
        """
        if type(message) is not self._message_class:
            self._adopt(message)
        try:
            event = message.SerializeToString()
        except EncodeError as error:
            missing: list[str] = cast(Any, message).FindInitializationErrors()
            fields = ", ".join(missing)
            raise EventProblem(
                Reason.MISSING_REQUIRED, fields, f"required and not set: {fields}"
            ) from error
        return event if len(event) <= EVENT_BYTES_MAX else _checked(event)

    def encode_row(self, row: Row) -> bytes:
        """Return the bytes of a dict; the table must have been learned.

        Raises:
            EventProblem: the dict does not fit the table.
        """
        if self._rows is None:
            with fork_pause.lock:
                from eventmill.schema.rows import RowEncoder  # who sends messages needs none

            if self._table is None:
                raise UsageError(f"the schema of {self._table_id} is not known yet")
            spec = self._table.spec
            message_type = MessageType.load(spec.descriptor_set, spec.message)
            self._rows = RowEncoder(message_type, rules=False)
        return _checked(self._rows.encode(row))

    def _adopt(self, message: Message) -> None:
        name = message.DESCRIPTOR.full_name
        expected = self._table.spec.message if self._table else self._message_name
        if expected is not None and name != expected:
            raise UsageError(self._wrong_type(name, expected))
        fingerprint = MessageType.of(message).fingerprint
        if self.message_fingerprint not in ("", fingerprint):
            raise UsageError(
                f"two versions of {name} in one uploader; use one uploader for each of them"
            )
        self.message_fingerprint = fingerprint
        self._message_name = name
        self._message_class = type(message)

    def _wrong_type(self, given: str | None, expected: str) -> str:
        return f"a message of type {given} for {self._table_id}, which takes {expected}"


def as_events(events: Event | Iterable[Event]) -> list[Event]:
    """Return what an uploader was given as a list: one event, or an iterable of events.

    Raises:
        UsageError: something in it is neither a message nor a dict; of several, its index is
            named.
    """
    if isinstance(events, (Message, Mapping)):
        return [events]
    try:
        listed = list(events)
    except TypeError:
        raise UsageError(_no_event(events)) from None
    for index, event in enumerate(listed):
        if not isinstance(event, (Message, Mapping)):
            raise UsageError(_no_event(event, index if len(listed) > 1 else None))
    return listed


def as_insert_id(insert_id: str | bytes) -> bytes:
    """Return an insert ID that a caller gave, as bytes.

    Raises:
        UsageError: it is empty, too long, or not text.
    """
    if not isinstance(insert_id, (str, bytes)):
        raise UsageError(
            f"insert ID {insert_id!r}: a text of 1 to {INSERT_ID_CHARACTERS_MAX} characters is"
            " wanted"
        )
    # A lone surrogate passes here, to be named by the one judge of insert IDs.
    raw = insert_id.encode("utf-8", "surrogatepass") if isinstance(insert_id, str) else insert_id
    problem = insert_id_problem(raw)
    if problem is not None:
        raise UsageError(f"insert ID {insert_id!r}: {problem.message}")
    return raw


def quarantined_row(
    table: TableId, insert_id: bytes, row: Row, problem: EventProblem, fingerprint: str
) -> QuarantinedEvent:
    """Return a dict that cannot be encoded, whole, as quarantine keeps it."""
    return QuarantinedEvent(
        table=table,
        insert_id=insert_id.decode(),
        # str() for what JSON cannot say: the row is refused already, and a person reads it.
        payload=json.dumps(dict(row), default=str, skipkeys=True).encode(),
        is_json=True,
        reason=problem.reason,
        field=problem.field,
        message=problem.message,
        client="",
        fingerprint=fingerprint,
    )


def _no_event(given: object, index: int | None = None) -> str:
    at = "" if index is None else f"event {index}, counted from 0: "
    return (
        f"{at}a {type(given).__name__} is no event: give a protobuf message of the table's type"
        " or a dict, or an iterable of those"
    )


def _checked(event: bytes) -> bytes:
    problem = event_size_problem(len(event))
    if problem is not None:
        raise problem
    return event
