"""The shape of a message type as columns: what each field becomes, decided once.

Everything that knows the mapping is built on the shape: the table's columns, the judgement on
events, rows to messages, messages to values, event bytes to Arrow. None of them looks at options
or well-known types again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from eventmill.base.errors import SchemaError, UsageError
from eventmill.base.renewed_lock import RenewedLock
from eventmill.schema.dynamic import holder_of, message_of
from eventmill.schema.kinds import WRAPPERS, Kind, is_map, kinds_of
from eventmill.schema.message_type import MessageType
from eventmill.schema.options import column_options
from eventmill.schema.table import Column, ColumnType, Mode
from eventmill.schema.type_names import column_type

# BigQuery: 15 levels of nested RECORD, 10,000 columns, 300 characters a name, and the prefixes
# and characters of names (cloud.google.com/bigquery/quotas and /docs/schemas, looked up
# 2026-11-23).
RECORD_LEVELS_MAX = 15
COLUMNS_MAX = 10_000
COLUMN_NAME_CHARACTERS_MAX = 300
_REFUSED_PREFIXES = (
    "_TABLE_",
    "_FILE_",
    "_PARTITION",
    "_ROW_TIMESTAMP",
    "__ROOT__",
    "_COLIDENTIFIER",
)
# The query engine's decimals have 38 digits; a BIGNUMERIC has up to 77.
_REFUSED_TYPES = {ColumnType.BIGNUMERIC: "has more digits than a query here can count with"}
OWN_COLUMNS = ("_insert_id", "_ingested_at", "_whole_event", "_whole_event_version")
"""Columns that stored rows have beside those of their message."""


@dataclass(frozen=True, slots=True)
class FieldShape:
    """One field that has a column."""

    field: FieldDescriptor
    name: str
    kind: Kind
    type: ColumnType
    mode: Mode
    default_value: str = ""
    fields: tuple[FieldShape, ...] = ()
    wrapped: FieldDescriptor | None = None
    """The ``value`` field of a wrapper message; None: the field holds its value itself."""

    @property
    def scalar(self) -> FieldDescriptor:
        """The field that holds the scalar: inside the wrapper where there is one."""
        return self.wrapped or self.field


_shapes: WeakKeyDictionary[MessageType, tuple[FieldShape, ...]] = WeakKeyDictionary()
_guard = RenewedLock()


def shape_of(message_type: MessageType) -> tuple[FieldShape, ...]:
    """Return the fields of ``message_type`` that have columns, in declaration order.

    Raises:
        SchemaError: the message does not fit a table; names the field, its file and the remedy.
    """
    with _guard.lock:
        found = _shapes.get(message_type)
        if found is None:
            found = _ShapeReader(message_type.descriptor).read()
            _shapes[message_type] = found
        return found


class _ShapeReader:
    """Walks one message type from its root down, keeping count of what a table may have."""

    def __init__(self, root: Descriptor) -> None:
        self._root = root
        self._columns = 0

    def read(self) -> tuple[FieldShape, ...]:
        for field in self._root.fields:
            if field.name.lower() in OWN_COLUMNS:
                raise self._error(
                    field, field.name, f"{field.name} is a column that every table has; rename it"
                )
        shapes = self._message(self._root, "", (self._root,))
        if not shapes:
            raise SchemaError(
                f"message {self._root.full_name} in {self._root.file.name} has no field that"
                " becomes a column: give it one"
            )
        return shapes

    def _message(
        self, message: Descriptor, prefix: str, above: tuple[Descriptor, ...]
    ) -> tuple[FieldShape, ...]:
        shapes: list[FieldShape] = []
        seen: dict[str, str] = {}
        for field in message.fields:
            shape = self._field(field, prefix, above)
            if shape is None:
                continue
            path = f"{prefix}{shape.name}"
            self._check_name(field, path, shape.name)
            twin = seen.setdefault(shape.name.lower(), shape.name)
            if twin != shape.name:
                raise self._error(
                    field, path, f"{twin} and {shape.name} differ only in case; rename one"
                )
            shapes.append(shape)
        return tuple(shapes)

    def _field(
        self, field: FieldDescriptor, prefix: str, above: tuple[Descriptor, ...]
    ) -> FieldShape | None:
        path = f"{prefix}{field.name}"
        if field.type == FieldDescriptor.TYPE_GROUP:
            raise self._error(field, path, "groups are not supported; use a message field")
        options = column_options(field)
        allowed = kinds_of(field)
        type_, kind = next(iter(allowed.items()))
        if options.bq_type:
            type_ = self._bq_type(field, path, options.bq_type, allowed)
            kind = allowed[type_]
        self._columns += 1
        if self._columns > COLUMNS_MAX:
            raise self._error(
                field, path, f"the table would have over {COLUMNS_MAX:,} columns; split the message"
            )
        message = field.message_type
        is_list = field.is_repeated and not (kind is Kind.JSON and is_map(field))
        shape = FieldShape(
            field=field,
            name=field.name,
            kind=kind,
            type=type_,
            mode=Mode.REPEATED
            if is_list
            else Mode.REQUIRED
            if field.is_required
            else Mode.NULLABLE,
            default_value=options.default_value,
        )
        if message is not None and message.full_name in WRAPPERS:
            return replace(shape, wrapped=message.fields_by_name["value"])
        if kind in (Kind.RECORD, Kind.MAP):
            below = self._below(field, path, above)
            if not below:
                self._columns -= 1
                return None
            return replace(shape, fields=below)
        return shape

    def _below(
        self, field: FieldDescriptor, path: str, above: tuple[Descriptor, ...]
    ) -> tuple[FieldShape, ...]:
        message = message_of(field)
        if message in above:
            raise self._error(field, path, self._cycle(path, message, above))
        fields = self._message(message, f"{path}.", (*above, message))
        # The root is above too, so that 15 levels of RECORD are 16 messages on the way down. A
        # message without columns is no RECORD, at whatever level it is.
        if fields and len(above) > RECORD_LEVELS_MAX:
            raise self._error(
                field,
                path,
                f"it would be the {len(above)}th level of RECORD and BigQuery takes"
                f' {RECORD_LEVELS_MAX}; flatten the messages, or set bq_type "JSON" or "STRING"'
                " on a field above it",
            )
        return fields

    def _cycle(self, path: str, message: Descriptor, above: tuple[Descriptor, ...]) -> str:
        names = path.split(".")
        loop = names[above.index(message) :]
        cycle = ".".join([*loop, loop[0]])
        return (
            f"{message.full_name} contains itself ({cycle}), and a table's columns cannot; set"
            f' (bqschema.options).bq_type = "JSON" or "STRING" on the field to keep what is'
            " below it as JSON text"
        )

    def _bq_type(
        self,
        field: FieldDescriptor,
        path: str,
        text: str,
        allowed: dict[ColumnType, Kind],
    ) -> ColumnType:
        try:
            wanted = column_type(text)
        except UsageError as error:
            raise self._error(field, path, f"bq_type {error}") from error
        if wanted not in allowed:
            why = _REFUSED_TYPES.get(wanted, "does not fit the field's type")
            raise self._error(field, path, f"bq_type {text} {why}; it can be {', '.join(allowed)}")
        return wanted

    def _check_name(self, field: FieldDescriptor, path: str, name: str) -> None:
        if len(name) > COLUMN_NAME_CHARACTERS_MAX:
            raise self._error(
                field,
                path,
                f"the name has {len(name)} characters; a column's has at most"
                f" {COLUMN_NAME_CHARACTERS_MAX}",
            )
        if not (name.isascii() and name.isidentifier()):
            raise self._error(
                field, path, "a column's name has letters, digits and underscores; rename it"
            )
        for prefix in _REFUSED_PREFIXES:
            if name.upper().startswith(prefix):
                raise self._error(
                    field, path, f"BigQuery keeps names that begin with {prefix}; rename it"
                )

    def _error(self, field: FieldDescriptor, path: str, text: str) -> SchemaError:
        message = holder_of(field)
        return SchemaError(f"field {path} ({message.full_name} in {message.file.name}): {text}")


def pair_columns(
    columns: Iterable[Column], shapes: Iterable[FieldShape]
) -> list[tuple[Column, FieldShape | None]]:
    """Return each column of one level with the field that fills it; None: no field does.

    Raises:
        SchemaError: a field's column is of another type, or repeated where the column is not.
    """
    by_name = {shape.name: shape for shape in shapes}
    pairs: list[tuple[Column, FieldShape | None]] = []
    for column in columns:
        shape = by_name.get(column.name)
        if shape is not None and (
            shape.type is not column.type
            or (shape.mode is Mode.REPEATED) is not (column.mode is Mode.REPEATED)
        ):
            raise SchemaError(
                f"column {column.name} is {column.mode} {column.type} in the table and"
                f" {shape.mode} {shape.type} by field {shape.field.full_name}: apply a .proto"
                " that keeps the column's type"
            )
        pairs.append((column, shape))
    return pairs
