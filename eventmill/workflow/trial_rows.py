"""Rows of files and cases into the tables of a trial, judged by a .proto or by their own types."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time
from typing import Any

import orjson

from eventmill.base.errors import UsageError
from eventmill.schema.from_fields import message_from_columns
from eventmill.schema.mapping import spec_from_proto
from eventmill.schema.message_type import MessageType
from eventmill.schema.problem import EventProblem
from eventmill.schema.rows import RowEncoder
from eventmill.schema.table import Column, ColumnType, Mode, TableId, TableSpec
from eventmill.schema.text_values import read_date, read_timestamp
from eventmill.store.port import Store
from eventmill.wire.batch import Batch
from eventmill.wire.json_events import without_bom
from eventmill.wire.split import cut

_ROWS_A_CHUNK = 10_000


@dataclass(frozen=True, slots=True)
class TrialRow:
    """One row of a file or a case, not judged yet."""

    place: str
    """Where it stands, for a person: ``rows.ndjson line 3``, ``input."cq.raw_events"[2]``."""
    values: Mapping[str, Any] | str
    """By column; a text says why it is no row at all."""


@dataclass(frozen=True, slots=True)
class RowFault:
    """A row that its table cannot take."""

    place: str
    reason: str

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


def read_ndjson(path: str) -> Iterator[TrialRow]:
    """Yield the rows of a file, one JSON object a line; blank lines are left out.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                text = without_bom(line) if number == 1 else line
                if text.strip():
                    yield TrialRow(f"{path} line {number}", _object(text))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error


def _object(text: bytes) -> Mapping[str, Any] | str:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return f"not JSON: {error}"
    return value if isinstance(value, dict) else "it is not a JSON object"


def put_rows(store: Store, spec: TableSpec, rows: Iterable[TrialRow]) -> list[RowFault]:
    """Put rows into the table of ``spec``, which the store has; return those that do not fit.

    Insert IDs are ``row-N``, in order.
    """
    encoder = RowEncoder(MessageType.load(spec.descriptor_set, spec.message))
    faults: list[RowFault] = []
    chunk: list[tuple[bytes, bytes, str]] = []
    for count, row in enumerate(rows):
        if isinstance(row.values, str):
            faults.append(RowFault(row.place, row.values))
            continue
        try:
            chunk.append((b"row-%d" % count, encoder.encode(row.values), row.place))
        except EventProblem as problem:
            faults.append(RowFault(row.place, _told(problem.field, problem.message)))
        if len(chunk) >= _ROWS_A_CHUNK:
            faults += _put(store, spec, chunk)
            chunk = []
    return faults + _put(store, spec, chunk)


def _put(store: Store, spec: TableSpec, rows: Sequence[tuple[bytes, bytes, str]]) -> list[RowFault]:
    faults = []
    for part in cut([one[0] for one in rows], [one[1] for one in rows]):
        ids, events, places = zip(*rows[part.start : part.stop], strict=True)
        verdict = store.put(Batch.build(spec.table, spec.fingerprint, ids, events))
        faults += [
            RowFault(places[found.index], _told(found.field, found.message))
            for found in verdict.rejected
        ]
    return faults


def _told(field: str, message: str) -> str:
    return f"{field}: {message}" if field else message


def spec_of_columns(table: TableId, columns: Sequence[Column]) -> TableSpec:
    """Return the definition of a table that has just these columns, in which NULL is not zero.

    Raises:
        SchemaError: a column has a type that cannot be tried.
    """
    descriptor_set, message = message_from_columns(table, columns)
    return spec_from_proto(table, descriptor_set, message, partitioning=None)


def without_required(columns: Iterable[Column]) -> tuple[Column, ...]:
    """Return the columns such that a row may leave out any of them."""
    return tuple(
        replace(
            column,
            mode=Mode.NULLABLE if column.mode is Mode.REQUIRED else column.mode,
            fields=without_required(column.fields),
            default_value="",
        )
        for column in columns
    )


def inferred_columns(rows: Iterable[TrialRow]) -> tuple[Column, ...]:
    """Return columns that the values of ``rows`` fit into.

    Text that is a time with its zone in every row is a TIMESTAMP, such as ``2026-01-31`` a DATE.

    Raises:
        UsageError: the values of a column are of types that have none in common.
    """
    fields: dict[str, _Guess] = {}
    for row in rows:
        if isinstance(row.values, str):
            continue
        for name, value in row.values.items():
            fields.setdefault(name, _Guess(name)).take(value)
    return tuple(guess.column() for guess in fields.values())


class _Guess:
    """What the values of one column have been so far."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._type: ColumnType | None = None
        self._is_list: bool | None = None
        self._fields: dict[str, _Guess] = {}

    def take(self, value: object) -> None:
        """Look at one more value."""
        if value is None:
            return
        is_list = isinstance(value, list | tuple)
        if self._is_list not in (None, is_list):
            self._refuse("a list", "one value")
        self._is_list = is_list
        for element in value if isinstance(value, list | tuple) else [value]:
            self._take_one(element)

    def _take_one(self, value: object) -> None:
        if value is None:
            return
        self._type = self._joined(_type_of(value))
        if isinstance(value, Mapping):
            for name, below in value.items():
                self._fields.setdefault(name, _Guess(f"{self._path}.{name}")).take(below)

    def _joined(self, new: ColumnType) -> ColumnType:
        if self._type is None or self._type is new:
            return new
        both = {self._type, new}
        if both == {ColumnType.INTEGER, ColumnType.FLOAT}:
            return ColumnType.FLOAT
        if both <= {ColumnType.STRING, ColumnType.TIMESTAMP, ColumnType.DATE}:
            return ColumnType.STRING
        self._refuse(str(self._type), str(new))
        raise AssertionError("unreachable")

    def _refuse(self, first: str, second: str) -> None:
        raise UsageError(
            f"column {self._path} has values of {first} and of {second}, so that its type cannot be"
            " told: give the input its .proto, by the key proto of [[input]] in workflow.toml"
        )

    def column(self) -> Column:
        """Return the column that fits them all."""
        return Column(
            self._path.rpartition(".")[2],
            self._type or ColumnType.STRING,
            Mode.REPEATED if self._is_list else Mode.NULLABLE,
            fields=tuple(guess.column() for guess in self._fields.values()),
        )


def _type_of(value: object) -> ColumnType:
    if isinstance(value, str):
        return _type_of_text(value)
    for kind, column_type in _TYPES:
        if isinstance(value, kind):
            return column_type
    if isinstance(value, datetime):
        return ColumnType.TIMESTAMP if value.tzinfo else ColumnType.DATETIME
    return ColumnType.DATE if isinstance(value, date) else ColumnType.TIME


_TYPES: tuple[tuple[type, ColumnType], ...] = (
    (bool, ColumnType.BOOLEAN),
    (int, ColumnType.INTEGER),
    (float, ColumnType.FLOAT),
    (Mapping, ColumnType.RECORD),
    (time, ColumnType.TIME),
)


def _type_of_text(text: str) -> ColumnType:
    for read, column_type in ((read_date, ColumnType.DATE), (read_timestamp, ColumnType.TIMESTAMP)):
        try:
            read(text)
        except ValueError:
            continue
        return column_type
    return ColumnType.STRING
