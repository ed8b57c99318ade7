"""DuckDB as a stateless query engine: given rows and files, it answers one statement.

It owns no data and may read none but the files it is handed: external access is off but for the
store's own folder, the configuration is locked, Python objects are not found by name.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from eventmill.base.errors import QueryError, UnavailableError
from eventmill.schema.table import TableId
from eventmill.store.engine_errors import engine_errors
from eventmill.store.googlesql import Translation, view_name
from eventmill.store.own_columns import INGESTED_AT, INSERT_ID, WHOLE_EVENT
from eventmill.store.stopping import attended, stopping
from eventmill.wire.answer import QueryResult, QueryStats

_BATCH_ROWS = 65_536
_TIMESTAMP_MIN_US = -62_135_596_800_000_000
_TIMESTAMP_MAX_US = 253_402_300_799_999_999
"""GoogleSQL's TIMESTAMP: 0001-01-01 to 9999-12-31 23:59:59.999999 UTC, in microseconds since 1970
(cloud.google.com/bigquery/docs/reference/standard-sql/data-types, looked up 2026-11-23)."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where the rows of one table are at the moment of a query."""

    rows: pa.Table
    """Rows in memory; its schema, own columns included, is the table's."""
    files: Sequence[str] = ()
    """Absolute paths of Parquet files."""
    files_in_part: Sequence[str] = ()
    """Of the files, those of which only rows without a whole event are to be read: the others
    are among ``rows``."""
    files_are_alike: bool = False
    """Whether every file has just the columns of ``rows``, with their types."""
    files_differ: bool = False
    """Whether the files were written by different definitions and must be joined by name."""
    lists_lacked: Collection[str] = ()
    """Dotted paths of repeated columns that a file may lack: there, its rows have empty lists."""
    bytes: int = 0
    """Bytes of the files and of the log behind ``rows``."""


class Engine:
    """One in-memory DuckDB of the process; each query has a cursor of its own."""

    def __init__(self, folder: str | None = None, *, memory_limit: str | None = None) -> None:
        """Start DuckDB with leave to read below ``folder`` (None: nothing at all)."""
        self._db = duckdb.connect(
            config={"autoinstall_known_extensions": False, "autoload_known_extensions": False}
        )
        if memory_limit:
            self._db.execute(f"SET memory_limit = {_text(memory_limit)}")
        if folder is not None:
            self._db.execute(f"SET allowed_directories = [{_text(os.path.join(folder, ''))}]")
            self._db.execute(f"SET temp_directory = {_text(os.path.join(folder, '.spill'))}")
        for setting in (
            # GLOBAL: a cursor does not take over what its connection has set for itself.
            "GLOBAL TimeZone = 'UTC'",
            "enable_external_access = false",
            "python_enable_replacements = false",
            "enable_progress_bar = false",
            "lock_configuration = true",
        ):
            self._db.execute(f"SET {setting}")
        self._lock = threading.Lock()
        self._closed = False

    def close(self) -> None:
        """Stop DuckDB; a second call does nothing."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._db.close()

    def run(
        self,
        translation: Translation,
        sources: Mapping[TableId, Source],
        *,
        row_limit: int | None,
        timeout_seconds: float | None,
        cancel: threading.Event | None = None,
    ) -> QueryResult:
        """Answer ``translation`` over ``sources`` (one for each of its tables).

        Raises:
            QueryCancelledError: ``timeout_seconds`` passed, or ``cancel`` was set.
            QueryError: DuckDB refuses the statement or fails in it.
            FileNotFoundError: a file of a source is gone; take a new snapshot and ask again.
        """
        began = time.perf_counter()
        with self._lock:
            if self._closed:
                raise UnavailableError("the store is closed")
            cursor = self._db.cursor()
        try:
            with stopping(cursor, timeout_seconds, cancel):
                rows, truncated = attended(
                    lambda: _answer(cursor, translation, sources, row_limit), cursor.interrupt
                )
        finally:
            cursor.close()
        return QueryResult(
            rows,
            QueryStats(
                seconds=time.perf_counter() - began,
                bytes_scanned=sum(source.bytes for source in sources.values()),
                truncated=truncated,
                row_limit=row_limit or 0,
            ),
        )

    def check(self, translation: Translation, sources: Mapping[TableId, Source]) -> QueryStats:
        """Return the statistics of a statement without running it; QueryError as in ``run``."""
        began = time.perf_counter()
        cursor = self._db.cursor()
        try:
            with engine_errors(translation.sql, _schemas(sources)):
                for table, source in sources.items():
                    _create_view(cursor, table, source, table in translation.pseudo_columns)
                cursor.execute(f"EXPLAIN {translation.sql}", translation.parameters or None)
        finally:
            cursor.close()
        scanned = sum(source.bytes for source in sources.values())
        return QueryStats(time.perf_counter() - began, scanned, False, 0)


def _answer(
    cursor: duckdb.DuckDBPyConnection,
    translation: Translation,
    sources: Mapping[TableId, Source],
    row_limit: int | None,
) -> tuple[pa.Table, bool]:
    with engine_errors(translation.sql, _schemas(sources)):
        for table, source in sources.items():
            _create_view(cursor, table, source, table in translation.pseudo_columns)
        answer = cursor.sql(translation.sql, params=translation.parameters or None)
        return _fetch(answer, row_limit)


def _schemas(sources: Mapping[TableId, Source]) -> dict[TableId, pa.Schema]:
    return {table: source.rows.schema for table, source in sources.items()}


def _create_view(
    cursor: duckdb.DuckDBPyConnection, table: TableId, source: Source, own_columns: bool
) -> None:
    name = view_name(table)
    cursor.register(f"rows of {name}", source.rows)
    columns = [
        _filled(field, source.lists_lacked)
        for field in source.rows.schema
        if own_columns or field.name not in (INSERT_ID, INGESTED_AT)
    ]
    # No part of these statements is a user's text: names and paths are quoted. The rows in memory
    # come first: their schema gives the view its columns and types.
    # Where there are none, and the files say the same, they are left out: DuckDB reads files in a
    # UNION a sixth slower than alone.
    is_spared = source.files_are_alike and not source.rows.num_rows
    parts = [] if is_spared else [_name(f"rows of {name}")]
    whole = [path for path in source.files if path not in source.files_in_part]
    if whole:
        parts.append(_lake(whole, source.files_differ))
    if source.files_in_part:
        parts.append(f"{_lake(source.files_in_part, True)} WHERE {WHOLE_EVENT} IS NULL")
    relation = " UNION ALL BY NAME ".join(f"SELECT * FROM {part}" for part in parts)  # noqa: S608
    chosen = ", ".join(columns)
    view = f"CREATE TEMP VIEW {_name(name)} AS SELECT {chosen} FROM ({relation})"  # noqa: S608
    cursor.execute(view)


def _filled(field: pa.Field, lists: Collection[str]) -> str:
    """Return a column, with an empty list where a list of ``lists`` is missing in it."""
    name = _name(field.name)
    filled = _filled_value(name, field.type, field.name, lists)
    return name if filled == name else f"{filled} AS {name}"


def _filled_value(value: str, kind: pa.DataType, path: str, lists: Collection[str]) -> str:
    if pa.types.is_list(kind):
        # One name a level: an inner function must not take the outer one's element for its own.
        element = f"x{path.count('.')}"
        filled = _filled_value(element, kind.value_type, path, lists)
        if filled != element:
            value = f"list_transform({value}, lambda {element}: {filled})"
        return f"COALESCE({value}, [])" if path in lists else value
    if not pa.types.is_struct(kind) or not any(one.startswith(f"{path}.") for one in lists):
        return value
    parts = []
    for below in kind:
        part = f"struct_extract({value}, {_text(below.name)})"
        filled = _filled_value(part, below.type, f"{path}.{below.name}", lists)
        parts.append(f"{_name(below.name)} := {filled}")
    return f"CASE WHEN {value} IS NOT NULL THEN struct_pack({', '.join(parts)}) END"


def _lake(paths: Iterable[str], by_name: bool) -> str:
    files = ", ".join(_text(path) for path in paths)
    return (
        f"read_parquet([{files}], union_by_name = {str(by_name).lower()},"
        " hive_partitioning = false)"
    )


def _fetch(answer: duckdb.DuckDBPyRelation, row_limit: int | None) -> tuple[pa.Table, bool]:
    for place, name in enumerate(answer.columns):
        if name.lower() in [before.lower() for before in answer.columns[:place]]:
            raise QueryError(f"the answer has two columns named {name}: give one another name, AS")
    reader = answer.to_arrow_reader(_BATCH_ROWS)
    batches: list[pa.RecordBatch] = []
    count = 0
    truncated = False
    for batch in reader:
        if row_limit is not None and count + batch.num_rows > row_limit:
            batches.append(batch.slice(0, row_limit - count))
            truncated = True
            break
        batches.append(batch)
        count += batch.num_rows
    rows = pa.Table.from_batches(batches, schema=reader.schema)
    _check_times(rows)
    return rows.cast(pa.schema([f.with_type(_plain(f.type)) for f in rows.schema])), truncated


def _check_times(rows: pa.Table) -> None:
    """Refuse timestamps that arithmetic has carried beyond what a TIMESTAMP can be."""
    for field in rows.schema:
        if not pa.types.is_timestamp(field.type):
            continue
        bounds = pc.min_max(rows[field.name].cast(pa.timestamp("us")).cast(pa.int64()))
        low, high = bounds["min"].as_py(), bounds["max"].as_py()
        if low is not None and not (low >= _TIMESTAMP_MIN_US and high <= _TIMESTAMP_MAX_US):
            raise QueryError(f"column {field.name} has a time outside the years 0001 to 9999")


def _plain(kind: pa.DataType) -> pa.DataType:
    """Return the type that users see: DuckDB calls UTC by another of its names."""
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        return pa.timestamp("us", tz="UTC")
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_plain(field.type)) for field in kind])
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_plain(kind.value_type)))
    return kind


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def empty_answer(stats: QueryStats) -> QueryResult:
    """Return the answer of a dry run: no rows, the statistics alone."""
    return QueryResult(pa.table({}), stats)
