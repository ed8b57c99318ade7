"""What .proto files say beside their fields: the options of a column and of a table.

Options are read from their encoded bytes by number, with messages made here; so it does not
matter which file declared the extension, or whether generated code for it is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.message import DecodeError

from eventmill.base.errors import SchemaError
from eventmill.schema.dynamic import DynamicMessage, holder_of
from eventmill.schema.table import Granularity, Partitioning

FIELD_OPTIONS_NUMBER = 74700
"""Extension of ``google.protobuf.FieldOptions`` that files written for the reference tool
declare as ``bqschema.options``."""
TABLE_OPTIONS_NUMBER = 51974
"""Extension of ``google.protobuf.MessageOptions``, ours: see ``protos/eventmill/options.proto``.
protobuf leaves 50000-99999 to organisations for their own use."""

_SECONDS_A_DAY = 86_400.0
_SECONDS_A_MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class ColumnOptions:
    """Options of one field; empty text: not given."""

    bq_type: str = ""
    default_value: str = ""


@dataclass(frozen=True, slots=True)
class TableOptions:
    """Options of one message; None: the file does not say it."""

    id: str | None = None
    partitioning: Partitioning | None = None
    has_partitioning: bool = False
    """Whether the file says how to partition; ``partitioning`` None then means: not at all."""
    clustering: tuple[str, ...] | None = None
    require_partition_filter: bool | None = None
    owner: str | None = None
    labels: Mapping[str, str] | None = None
    freshness_seconds: float | None = None
    description: str | None = None

    def as_overrides(self) -> dict[str, Any]:
        """Return what the file says, under the names that ``mapping.spec_from_proto`` takes."""
        said: dict[str, Any] = {
            name: value
            for name in (
                "clustering",
                "require_partition_filter",
                "owner",
                "labels",
                "freshness_seconds",
                "description",
            )
            if (value := getattr(self, name)) is not None
        }
        if self.has_partitioning:
            said["partitioning"] = self.partitioning
        return said


@dataclass(frozen=True, slots=True)
class OptionConflict:
    """A thing that the file and the caller say differently; the caller's word holds."""

    name: str
    in_file: Any
    given: Any

    def __str__(self) -> str:
        return f"{self.name}: the .proto says {self.in_file!r}, overridden by {self.given!r}"


def option_conflicts(options: TableOptions, given: Mapping[str, Any]) -> list[OptionConflict]:
    """Return what ``given`` (arguments of ``mapping.spec_from_proto``) overrides differently."""
    said = options.as_overrides()
    conflicts = []
    for name, value in given.items():
        if name in said and said[name] != (tuple(value) if name == "clustering" else value):
            conflicts.append(OptionConflict(name, said[name], value))
    return conflicts


def column_options(field_descriptor: FieldDescriptor) -> ColumnOptions:
    """Return the ``bqschema`` options of a field.

    Raises:
        SchemaError: extension 74700 is there but is not ``bqschema.FieldOptions``.
    """
    if not field_descriptor.has_options:
        return ColumnOptions()
    place = f"field {field_descriptor.full_name} in {holder_of(field_descriptor).file.name}"
    view = _parse("FieldView", field_descriptor.GetOptions().SerializeToString(), place)
    return ColumnOptions(view.options.bq_type, view.options.default_value)


def encoded_column_options(options: ColumnOptions) -> bytes:
    """Return the bytes of ``google.protobuf.FieldOptions`` that say ``options``."""
    view = _VIEW_CLASSES["FieldView"]()
    view.options.bq_type = options.bq_type
    view.options.default_value = options.default_value
    encoded: bytes = view.SerializeToString()
    return encoded


def table_options(descriptor: Descriptor) -> TableOptions:
    """Return the ``eventmill.table`` options of a message.

    Raises:
        SchemaError: an option has a value that makes no sense; the message says which.
    """
    if not descriptor.has_options:
        return TableOptions()
    place = f"message {descriptor.full_name} in {descriptor.file.name}"
    view = _parse("MessageView", descriptor.GetOptions().SerializeToString(), place)
    if not view.HasField("table"):
        return TableOptions()
    table = view.table
    if not 0 <= table.freshness_minutes < float("inf"):
        raise SchemaError(f"{place}: freshness_minutes must be a positive number")
    has_partition = table.HasField("partition")
    return TableOptions(
        id=table.id or None,
        partitioning=_partitioning(table.partition, place) if has_partition else None,
        has_partitioning=has_partition,
        clustering=tuple(table.clustering) or None,
        require_partition_filter=table.require_partition_filter or None,
        owner=table.owner or None,
        labels={entry.key: entry.value for entry in table.labels} or None,
        freshness_seconds=table.freshness_minutes * _SECONDS_A_MINUTE or None,
        description=table.description or None,
    )


def _partitioning(partition: DynamicMessage, place: str) -> Partitioning | None:
    if partition.none:
        if partition.field or partition.granularity or partition.expiration_days:
            raise SchemaError(f"{place}: partition.none excludes the other partition options")
        return None
    word = partition.granularity or Granularity.DAY.value
    if word.upper() not in Granularity.__members__:
        raise SchemaError(
            f"{place}: partition.granularity {word!r} is none of {', '.join(Granularity)}"
        )
    if not 0 <= partition.expiration_days < float("inf"):
        raise SchemaError(f"{place}: partition.expiration_days must be a positive number")
    return Partitioning(
        granularity=Granularity(word.upper()),
        column=partition.field or None,
        expiration_seconds=partition.expiration_days * _SECONDS_A_DAY or None,
    )


@dataclass(frozen=True, slots=True)
class _ViewField:
    name: str
    number: int
    type: int
    message: str = ""
    is_repeated: bool = False


@dataclass(frozen=True, slots=True)
class _View:
    name: str
    fields: tuple[_ViewField, ...] = field(default=())


_P = FieldDescriptorProto
_VIEWS = (
    _View(
        "Column",
        (_ViewField("bq_type", 1, _P.TYPE_STRING), _ViewField("default_value", 2, _P.TYPE_STRING)),
    ),
    _View("Label", (_ViewField("key", 1, _P.TYPE_STRING), _ViewField("value", 2, _P.TYPE_STRING))),
    _View(
        "Partition",
        (
            _ViewField("field", 1, _P.TYPE_STRING),
            _ViewField("granularity", 2, _P.TYPE_STRING),
            _ViewField("expiration_days", 3, _P.TYPE_DOUBLE),
            _ViewField("none", 4, _P.TYPE_BOOL),
        ),
    ),
    _View(
        "Table",
        (
            _ViewField("id", 1, _P.TYPE_STRING),
            _ViewField("partition", 2, _P.TYPE_MESSAGE, "Partition"),
            _ViewField("clustering", 3, _P.TYPE_STRING, is_repeated=True),
            _ViewField("require_partition_filter", 4, _P.TYPE_BOOL),
            _ViewField("owner", 5, _P.TYPE_STRING),
            _ViewField("labels", 6, _P.TYPE_MESSAGE, "Label", is_repeated=True),
            _ViewField("freshness_minutes", 7, _P.TYPE_DOUBLE),
            _ViewField("description", 8, _P.TYPE_STRING),
        ),
    ),
    _View("FieldView", (_ViewField("options", FIELD_OPTIONS_NUMBER, _P.TYPE_MESSAGE, "Column"),)),
    _View("MessageView", (_ViewField("table", TABLE_OPTIONS_NUMBER, _P.TYPE_MESSAGE, "Table"),)),
)


def _view_classes() -> dict[str, Any]:
    """Make the messages that see, of all options, only the two extensions read here."""
    package = "eventmill.options_view"
    file = FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    for view in _VIEWS:
        message = file.message_type.add(name=view.name)
        for f in view.fields:
            message.field.add(
                name=f.name,
                number=f.number,
                type=f.type,
                label=_P.LABEL_REPEATED if f.is_repeated else _P.LABEL_OPTIONAL,
                type_name=f".{package}.{f.message}" if f.message else None,
            )
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return {
        view.name: message_factory.GetMessageClass(
            pool.FindMessageTypeByName(f"{package}.{view.name}")
        )
        for view in _VIEWS
    }


_VIEW_CLASSES = _view_classes()


def _parse(view: str, encoded: bytes, place: str) -> DynamicMessage:
    try:
        return _VIEW_CLASSES[view].FromString(encoded)
    except DecodeError as error:
        raise SchemaError(
            f"{place}: extension {FIELD_OPTIONS_NUMBER} or {TABLE_OPTIONS_NUMBER} of its options"
            " is used for something else; remove it or declare it as bqschema.FieldOptions or"
            " eventmill.TableOptions"
        ) from error
