"""Writing Parquet files of the lake: whole, synced and named before anybody hears of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from eventmill.base.errors import UnavailableError
from eventmill.schema.table import TableSpec
from eventmill.store.local.dictionaries import dictionary_columns
from eventmill.store.local.disk import Disk, disk_errors
from eventmill.store.local.manifest import FileRow
from eventmill.store.local.partition import event_time_column
from eventmill.store.own_columns import (
    INGESTED_AT,
    INSERT_ID,
    JUDGED_BY,
    WHOLE_EVENT,
    WHOLE_EVENT_FIELDS,
)
from eventmill.wire.columns_arrow import absent_array, fitted_array

ROW_GROUP_ROWS = 122_880
"""DuckDB's own row-group size: its scan hands one group to one thread."""
_UNFINISHED = ".tmp"
_HOUR_US = 3_600_000_000


class LakeWriter:
    """Writes files of one table's lake folder."""

    def __init__(self, folder: str, spec: TableSpec, version: int, disk: Disk) -> None:
        self._folder = folder
        self._spec = spec
        self._version = version
        self._disk = disk

    def write(self, name: str, partition: str, rows: pa.Table) -> FileRow:
        """Write ``rows`` (at least one) as the file ``name`` below the lake folder.

        Promise: on return the file stands under its name with all its bytes synced; the name
        itself is synced by ``sync_folder``. A file of that name is replaced: it can only be left
        from a run that died before the manifest listed it.
        """
        ahead = 0
        if WHOLE_EVENT in rows.column_names:
            ahead = rows.num_rows - rows[WHOLE_EVENT].null_count
            if not ahead:
                rows = rows.drop_columns([WHOLE_EVENT, JUDGED_BY])
        path = os.path.join(self._folder, name)
        unfinished = path + _UNFINISHED
        with disk_errors("writing to the lake"):
            self._disk.folder(os.path.dirname(path))
            _write_parquet(rows, unfinished)
            self._disk.sync_file(unfinished)
            size = os.path.getsize(unfinished)
            self._disk.rename(unfinished, path)
        event = pc.min_max(rows[event_time_column(self._spec)].cast(pa.int64()))
        ingested = pc.min_max(rows[INGESTED_AT].cast(pa.int64()))
        return FileRow(
            name=name,
            partition=partition,
            rows=rows.num_rows,
            bytes=size,
            min_event_us=event["min"].as_py(),
            max_event_us=event["max"].as_py(),
            min_ingested_us=ingested["min"].as_py(),
            max_ingested_us=ingested["max"].as_py(),
            version=self._version,
            ahead_rows=ahead,
        )

    def write_as_it_was(self, name: str, file: FileRow, rows: pa.Table) -> FileRow:
        """Write some of the rows of ``file`` as another one, by the definition that ``file`` has.

        Same promise as ``write``.

        Args:
            name: of the new file.
            file: what the rows are of.
            rows: at least one, as ``read_as_it_was`` returns them.
        """
        written = LakeWriter(self._folder, self._spec, file.version, self._disk).write(
            name, file.partition, rows
        )
        return replace(written, is_output=file.is_output)

    def sync_folder(self, name: str) -> None:
        """Wait until the names in the folder of the file ``name`` are on stable storage."""
        with disk_errors("writing to the lake"):
            self._disk.sync_folder(os.path.dirname(os.path.join(self._folder, name)))


def is_unfinished(name: str) -> bool:
    """Return whether a file in the lake folder is one whose writing was broken off."""
    return name.endswith(_UNFINISHED)


def read_insert_ids(path: str) -> pa.ChunkedArray:
    """Return the insert IDs of a lake file, as binary."""
    return pq.read_table(path, columns=[INSERT_ID], partitioning=None)[INSERT_ID].cast(pa.binary())


def read_insert_ids_by_hour(path: str) -> Iterator[tuple[float, list[bytes]]]:
    """Yield (begin of the hour of ingestion in seconds since 1970, insert IDs) of a lake file."""
    rows = pq.read_table(path, columns=[INSERT_ID, INGESTED_AT], partitioning=None)
    hours = pc.divide(rows[INGESTED_AT].cast(pa.int64()), _HOUR_US)
    ids = rows[INSERT_ID].cast(pa.binary())
    for hour in pc.unique(hours).to_pylist():
        yield hour * 3600.0, ids.filter(pc.equal(hours, hour)).to_pylist()


def read_as_it_was(path: str) -> pa.Table:
    """Return a lake file's rows with the columns that it has."""
    return pq.read_table(path, partitioning=None)


def read_rows(path: str, schema: pa.Schema, version: int) -> pa.Table:
    """Return a lake file's rows with the columns of ``schema``.

    Those that the file lacks are null, or empty lists, at every depth. ``WHOLE_EVENT`` and
    ``JUDGED_BY`` come last where the file has whole events.

    Args:
        path: of the file.
        schema: the table's columns with the store's own.
        version: of the definition that the file was written by.
    """
    rows = pq.read_table(path, partitioning=None)
    if WHOLE_EVENT in rows.column_names:
        rows = _with_judges(rows, version)
        schema = pa.schema([*schema, *WHOLE_EVENT_FIELDS])
    columns = [
        _fitted(rows[field.name], field.type)
        if field.name in rows.column_names
        else absent_array(field.type, rows.num_rows)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=pa.schema([f.with_nullable(True) for f in schema]))


def _fitted(values: pa.ChunkedArray, arrow_type: pa.DataType) -> pa.ChunkedArray:
    return pa.chunked_array([fitted_array(part, arrow_type) for part in values.chunks], arrow_type)


def read_whole_events(path: str, version: int) -> pa.Table:
    """Return the rows of a lake file that were kept with their whole event: own columns alone.

    ``version`` is that of the definition which the file was written by.
    """
    names = [INSERT_ID, INGESTED_AT, WHOLE_EVENT]
    if JUDGED_BY in pq.read_schema(path).names:
        names.append(JUDGED_BY)
    rows = pq.read_table(path, columns=names, partitioning=None)
    return _with_judges(rows.filter(pc.is_valid(rows[WHOLE_EVENT])), version)


def _with_judges(rows: pa.Table, version: int) -> pa.Table:
    """Add ``JUDGED_BY`` to the rows of a file that does not have it.

    Such a file is from before it was kept: what wrote the file has read the events by its own
    definition, as if that had judged them.
    """
    if JUDGED_BY in rows.column_names:
        return rows
    judges = pa.array([version] * rows.num_rows, pa.int32())
    return rows.append_column(JUDGED_BY, judges)


def _write_parquet(rows: pa.Table, path: str) -> None:
    try:
        pq.write_table(
            rows,
            path,
            compression="zstd",
            compression_level=1,
            row_group_size=ROW_GROUP_ROWS,
            use_dictionary=dictionary_columns(rows),
        )
    except pa.ArrowInvalid as error:
        raise UnavailableError(f"Arrow cannot write {path}: {error}") from error
