"""DuckDB as a stateless query engine: given rows and files, it answers one statement.

It owns no data and may read none but the files it is handed: external access is off but for the
store's own folder, the configuration is locked, Python objects are not found by name.
"""

from __future__ import annotations

import difflib
import os
import re
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from eventmill.base.errors import QueryCancelledError, QueryError, UnavailableError
from eventmill.schema.table import TableId
from eventmill.store.googlesql import Translation, view_name
from eventmill.store.own_columns import INGESTED_AT, INSERT_ID, WHOLE_EVENT
from eventmill.wire.answer import QueryResult, QueryStats

_BATCH_ROWS = 65_536
_STOP_POLL_SECONDS = 0.05
_TIMESTAMP_MIN_US = -62_135_596_800_000_000
_TIMESTAMP_MAX_US = 253_402_300_799_999_999
"""GoogleSQL's TIMESTAMP: 0001-01-01 to 9999-12-31 23:59:59.999999 UTC, in microseconds since 1970
(cloud.google.com/bigquery/docs/reference/standard-sql/data-types, looked up 2026-11-23)."""
_UNKNOWN_COLUMN = re.compile(
    r'Column "(?P<a>[^"]+)" referenced that exists in the SELECT|'
    r'Referenced column "(?P<b>[^"]+)" not found|'
    r'does not have a column named "(?P<c>[^"]+)"|'
    r'Could not find key "(?P<d>[^"]+)" in struct'
)


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
    files_differ: bool = False
    """Whether the files were written by different definitions and must be joined by name."""
    files_older: bool = False
    """Whether a file may lack columns that the table has got since."""
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
            with _stopping(cursor, timeout_seconds, cancel), _engine_errors(sources):
                for table, source in sources.items():
                    _create_view(cursor, table, source, table in translation.pseudo_columns)
                answer = cursor.sql(translation.sql, params=translation.parameters or None)
                rows, truncated = _fetch(answer, row_limit)
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
            with _engine_errors(sources):
                for table, source in sources.items():
                    _create_view(cursor, table, source, table in translation.pseudo_columns)
                cursor.execute(f"EXPLAIN {translation.sql}", translation.parameters or None)
        finally:
            cursor.close()
        scanned = sum(source.bytes for source in sources.values())
        return QueryStats(time.perf_counter() - began, scanned, False, 0)


def _create_view(
    cursor: duckdb.DuckDBPyConnection, table: TableId, source: Source, own_columns: bool
) -> None:
    name = view_name(table)
    cursor.register(f"rows of {name}", source.rows)
    columns = [
        _filled(field) if source.files_older else _name(field.name)
        for field in source.rows.schema
        if own_columns or field.name not in (INSERT_ID, INGESTED_AT)
    ]
    # No part of these statements is a user's text: names and paths are quoted. The rows in memory
    # come first: their schema gives the view its columns and types.
    parts = [_name(f"rows of {name}")]
    whole = [path for path in source.files if path not in source.files_in_part]
    if whole:
        parts.append(_lake(whole, source.files_differ))
    if source.files_in_part:
        parts.append(f"{_lake(source.files_in_part, True)} WHERE {WHOLE_EVENT} IS NULL")
    relation = " UNION ALL BY NAME ".join(f"SELECT * FROM {part}" for part in parts)  # noqa: S608
    chosen = ", ".join(columns)
    view = f"CREATE TEMP VIEW {_name(name)} AS SELECT {chosen} FROM ({relation})"  # noqa: S608
    cursor.execute(view)


def _filled(field: pa.Field) -> str:
    """Return a column, where it is repeated with an empty list for rows from before it."""
    name = _name(field.name)
    return f"COALESCE({name}, []) AS {name}" if pa.types.is_list(field.type) else name


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


@contextmanager
def _engine_errors(sources: Mapping[TableId, Source]) -> Iterator[None]:
    try:
        yield
    except duckdb.InterruptException:
        raise
    except duckdb.IOException as error:
        if "No such file" in str(error) or "No files found" in str(error):
            raise FileNotFoundError(str(error)) from error
        raise QueryError(f"the query failed: {error}") from error
    except duckdb.Error as error:
        raise QueryError(_readable(str(error), sources)) from error
    except pa.ArrowException as error:
        raise QueryError(f"the answer cannot be shown: {error}") from error


@contextmanager
def _stopping(
    cursor: duckdb.DuckDBPyConnection,
    timeout_seconds: float | None,
    cancel: threading.Event | None,
) -> Iterator[None]:
    """Interrupt ``cursor`` when the time is up or ``cancel`` is set, and say which it was."""
    if timeout_seconds is None and cancel is None:
        yield
        return
    finished = threading.Event()
    reason: list[str] = []

    def watch() -> None:
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        step = _STOP_POLL_SECONDS if cancel is not None else timeout_seconds
        while not finished.wait(step):
            if cancel is not None and cancel.is_set():
                reason.append("the query was cancelled")
            elif deadline is not None and time.monotonic() >= deadline:
                reason.append(
                    f"the query was stopped after {timeout_seconds:g} s: narrow its time range,"
                    " or allow it more time"
                )
            if reason:
                # DuckDB forgets an interrupt that comes between two statements: repeat it.
                while not finished.wait(_STOP_POLL_SECONDS / 10):
                    cursor.interrupt()
                return

    watcher = threading.Thread(target=watch, name="query watch", daemon=True)
    watcher.start()
    try:
        yield
    except (duckdb.InterruptException, QueryError) as error:
        if reason or isinstance(error, duckdb.InterruptException):
            why = reason[0] if reason else "the query was interrupted"
            raise QueryCancelledError(why) from error
        raise
    finally:
        finished.set()
        watcher.join()


def _readable(message: str, sources: Mapping[TableId, Source]) -> str:
    """Return DuckDB's message without the advice that only its own users can follow."""
    unknown = _UNKNOWN_COLUMN.search(message)
    if unknown:
        return _no_such_column(next(filter(None, unknown.groups())), sources)
    first, _, rest = message.partition("\n")
    kept = [line for line in rest.splitlines() if line.strip() and "^" not in line]
    kept = [line for line in kept if not line.startswith(("LINE ", "Use TRY", "Candidate", "\t"))]
    text = " ".join([first, *kept]).strip()
    return text.split(" Use TRY(")[0].split(", or SET ")[0]


def _no_such_column(name: str, sources: Mapping[TableId, Source]) -> str:
    known = sorted({path for source in sources.values() for path in _paths(source.rows.schema)})
    near = difflib.get_close_matches(name, known, n=3)
    near += [path for path in known if path.endswith(f".{name}")]
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    tables = ", ".join(str(table) for table in sources)
    return f"there is no column {name} in {tables or 'this query'}{hint}"


def _paths(fields: Iterable[pa.Field], prefix: str = "") -> Iterator[str]:
    for field in fields:
        yield prefix + field.name
        if pa.types.is_struct(field.type):
            yield from _paths(field.type, f"{prefix}{field.name}.")


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def empty_answer(stats: QueryStats) -> QueryResult:
    """Return the answer of a dry run: no rows, the statistics alone."""
    return QueryResult(pa.table({}), stats)
