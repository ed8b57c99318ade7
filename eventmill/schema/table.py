"""The words for a table: its name, its columns, and how it is kept.

Pure values, no protobuf here; ``schema.mapping`` makes them from descriptors.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from eventmill.base.errors import UsageError

DEFAULT_PROJECT = "local"
"""The project of a server or folder when a table name has only two parts."""

# BigQuery: dataset and table IDs hold letters, numbers and underscores, at most 1,024
# characters; projects are lower-case with hyphens (cloud.google.com/bigquery/docs/tables and
# /docs/datasets, looked up 2026-11-23). A folder name may have 255 bytes on common file
# systems, and ours is made of all three parts, hence the tighter bounds.
_PROJECT = re.compile(r"[a-z][a-z0-9-]{0,61}[a-z0-9]")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,79}")


@dataclass(frozen=True, slots=True, order=True)
class TableId:
    """The name of a table: ``project.dataset.table``."""

    project: str
    dataset: str
    table: str

    def __str__(self) -> str:
        return f"{self.project}.{self.dataset}.{self.table}"

    @classmethod
    def parse(cls, text: str, default_project: str = DEFAULT_PROJECT) -> TableId:
        """Read ``project.dataset.table`` or ``dataset.table``.

        Raises:
            UsageError: the text is not a table name; the message says which part and why.
        """
        parts = text.strip().strip("`").split(".")
        if len(parts) == 2:
            parts.insert(0, default_project)
        if len(parts) != 3:
            raise UsageError(
                f"{text!r} is not a table name: write dataset.table or project.dataset.table"
            )
        project, dataset, table = parts
        if not _PROJECT.fullmatch(project):
            raise UsageError(
                f"project {project!r} in {text!r}: use 2-63 lower-case letters, digits and"
                " hyphens, starting with a letter"
            )
        for word, name in (("dataset", dataset), ("table", table)):
            if not _NAME.fullmatch(name):
                raise UsageError(
                    f"{word} {name!r} in {text!r}: use at most 80 letters, digits and"
                    " underscores, not starting with a digit"
                )
        return cls(project, dataset, table)


class ColumnType(StrEnum):
    """Column types as BigQuery's API prints them."""

    INTEGER = "INTEGER"
    FLOAT = "FLOAT"
    BOOLEAN = "BOOLEAN"
    STRING = "STRING"
    BYTES = "BYTES"
    TIMESTAMP = "TIMESTAMP"
    DATE = "DATE"
    TIME = "TIME"
    DATETIME = "DATETIME"
    NUMERIC = "NUMERIC"
    BIGNUMERIC = "BIGNUMERIC"
    JSON = "JSON"
    GEOGRAPHY = "GEOGRAPHY"
    RECORD = "RECORD"


class Mode(StrEnum):
    """Whether a column must, may, or may more than once have a value."""

    REQUIRED = "REQUIRED"
    NULLABLE = "NULLABLE"
    REPEATED = "REPEATED"


@dataclass(frozen=True, slots=True)
class Column:
    """One column; a RECORD has ``fields``."""

    name: str
    type: ColumnType
    mode: Mode = Mode.NULLABLE
    description: str = ""
    fields: tuple[Column, ...] = ()
    default_value: str = ""
    """Default value expression of a ``bqschema`` option, kept for BigQuery; empty for none."""

    def walk(self, prefix: str = "") -> Iterator[tuple[str, Column]]:
        """Yield this column and all below it as (dotted path, column), parents first."""
        path = f"{prefix}{self.name}"
        yield path, self
        for below in self.fields:
            yield from below.walk(f"{path}.")


class Granularity(StrEnum):
    """The length of one partition."""

    HOUR = "HOUR"
    DAY = "DAY"
    MONTH = "MONTH"
    YEAR = "YEAR"


@dataclass(frozen=True, slots=True)
class Partitioning:
    """How a table's rows are split by time."""

    granularity: Granularity = Granularity.DAY
    column: str | None = None
    """A top-level TIMESTAMP column; None: the time at which the store took the event. Rows
    without a value stand in the partition ``__NULL__``."""
    expiration_seconds: float | None = None
    """Age, counted from the partition's end, after which its rows are removed; None: never."""


@dataclass(frozen=True, slots=True)
class TableSpec:
    """What a table should be: everything that is said about it before it exists."""

    table: TableId
    descriptor_set: bytes
    """Serialized ``FileDescriptorSet`` with imports and source info, imports before importers."""
    message: str
    """Full name of the table's message type in ``descriptor_set``."""
    columns: tuple[Column, ...]
    fingerprint: str
    """Names the wire meaning of the message type; see ``schema.message_type``."""
    partitioning: Partitioning | None = field(default_factory=Partitioning)
    """None: one partition for all rows."""
    clustering: tuple[str, ...] = ()
    require_partition_filter: bool = False
    description: str = ""
    owner: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    freshness_seconds: float | None = None
    """Promise: the newest event is never older than this; None: no promise."""

    def walk(self) -> Iterator[tuple[str, Column]]:
        """Yield every column of every level as (dotted path, column)."""
        for column in self.columns:
            yield from column.walk()


@dataclass(frozen=True, slots=True)
class TableStats:
    """What a table holds, at one moment. Rows are counted exactly."""

    log_rows: int = 0
    lake_rows: int = 0
    expired_rows: int = 0
    deduplicated_rows: int = 0
    """Rows that compaction removed as duplicates older than the deduplication window."""
    replaced_rows: int = 0
    """Rows that a workflow made and replaced when it ran the same slot again."""
    ahead_rows: int = 0
    """Rows whose event has fields that the table lacks or cannot hold: kept whole, and shown with
    those fields once a definition is applied that has a place for them. Counted in ``rows`` too."""
    log_bytes: int = 0
    lake_bytes: int = 0
    newest_event_at: float | None = None
    """Seconds since 1970 of the newest row (partition column, else ingestion); None: no rows."""

    @property
    def rows(self) -> int:
        """Rows that a query sees."""
        return self.log_rows + self.lake_rows

    @property
    def accepted(self) -> int:
        """Rows ever accepted: in log, in lake, expired, removed as late duplicates, replaced."""
        return self.rows + self.expired_rows + self.deduplicated_rows + self.replaced_rows


@dataclass(frozen=True, slots=True)
class Table:
    """A live table: its definition, and the version that a later change must name."""

    spec: TableSpec
    version: int
    """Counts from 1, one up with each applied change; serves as the ETag."""
    created_at: float
    updated_at: float
    """Seconds since 1970."""

    @property
    def id(self) -> TableId:
        """The table's name."""
        return self.spec.table
