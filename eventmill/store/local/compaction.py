"""Compaction: sealed segments become Parquet, small files become larger, old partitions go.

The order that makes a crash between any two steps harmless: write, sync, rename, sync the folder,
one manifest transaction, and only then unlink. Before the transaction the new files are strangers
that the next run sweeps away; after it the old ones are.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import attrgetter

import pyarrow as pa
import pyarrow.compute as pc

from eventmill.base.clock import SYSTEM_CLOCK, Clock
from eventmill.base.errors import EventmillError, UnavailableError
from eventmill.base.settings import StoreSettings
from eventmill.schema.table import Table, TableId
from eventmill.store.local.catalog import read_definition, read_tables
from eventmill.store.local.decode import FrameDecoder
from eventmill.store.local.disk import DISK, Disk, disk_errors
from eventmill.store.local.frame import Frame, scan
from eventmill.store.local.lake import LakeWriter, is_unfinished, read_insert_ids, read_rows
from eventmill.store.local.layout import Layout
from eventmill.store.local.lock import FileLock
from eventmill.store.local.manifest import FileRow, Manifest, SegmentRow
from eventmill.store.local.output_files import is_written_file, merged_name
from eventmill.store.local.partition import expires_at, partition_folder, split
from eventmill.store.own_columns import INGESTED_AT, INSERT_ID, JUDGED_BY, WHOLE_EVENT

_logger = logging.getLogger("eventmill.compaction")

ROUND_BYTES = 64_000_000
"""Segments taken in one go: bounds the memory (about six times this) and the size of one file."""
MERGE_FILES_MIN = 8
"""So many small files in one partition are worth rewriting as one."""
SMALL_FILE_BYTES = 16_000_000
MERGE_BYTES_MAX = 128_000_000


@dataclass(slots=True)
class CompactionReport:
    """What one pass over the store did."""

    segments: int = 0
    rows: int = 0
    files: int = 0
    merged_files: int = 0
    ahead_rows: int = 0
    """Rows compacted with their whole event, for it has fields that the table lacks."""
    caught_up_files: int = 0
    """Files written anew because the table has got fields that their events had before."""
    expired_rows: int = 0
    deduplicated_rows: int = 0
    segment_bytes: int = 0
    lake_bytes: int = 0
    tables: list[str] = field(default_factory=list)
    """Tables in which something was done."""
    errors: list[str] = field(default_factory=list)
    """Tables that were put off, and why."""

    def count_work(self) -> int:
        """Return a number that grows with everything that is done."""
        return self.segments + self.merged_files + self.caught_up_files + self.expired_rows


def compact_once(
    path: str,
    *,
    options: StoreSettings | None = None,
    clock: Clock = SYSTEM_CLOCK,
    disk: Disk = DISK,
    progress: Callable[[CompactionReport], None] | None = None,
) -> CompactionReport:
    """Compact what is sealed in the store at ``path``, merge, and expire; then return.

    Promise: on return each row is where it was or in the lake, once. Safe beside a writer and
    any number of readers.

    Raises:
        StoreBusyError: another process is compacting this store.
    """
    layout = Layout.at(path)
    lock = FileLock(layout.compactor_lock, "compacting")
    try:
        compactor = Compactor(layout, options or StoreSettings(), clock, disk)
        try:
            return compactor.run(progress)
        finally:
            compactor.close()
    finally:
        lock.release()


class Compactor:
    """Does the work of one process; whoever makes it holds the compactor lock."""

    def __init__(self, layout: Layout, options: StoreSettings, clock: Clock, disk: Disk) -> None:
        self._layout = layout
        self._options = options
        self._clock = clock
        self._disk = disk
        self._manifest = Manifest(layout.database)
        with disk_errors("opening the store"):
            # SQLite makes its WAL anew when no other process has it open; a transaction in it
            # must not be lost with the file's name, for segments are unlinked on its word.
            disk.sync_folder(layout.root)
        self._tables: dict[int, Table] = {}

    def close(self) -> None:
        """Let go of the manifest."""
        self._manifest.close()

    def run(self, progress: Callable[[CompactionReport], None] | None = None) -> CompactionReport:
        """Make one pass over all tables."""
        report = CompactionReport()
        self._tables = read_tables(self._manifest, self._tables)
        for uid, table in self._tables.items():
            before = report.count_work()
            try:
                self._run_table(uid, table, report, progress)
            except Exception as error:
                # One table that cannot be compacted must not keep the others waiting.
                report.errors.append(f"{table.id}: {error}")
                _logger.warning(
                    "compacting %s is put off: %s", table.id, error,
                    exc_info=not isinstance(error, EventmillError),
                )  # fmt: skip
            if before != report.count_work():
                report.tables.append(str(table.id))
        return report

    def _run_table(
        self,
        uid: int,
        table: Table,
        report: CompactionReport,
        progress: Callable[[CompactionReport], None] | None,
    ) -> None:
        self._sweep(uid, table.id)
        for segments in self._rounds(uid):
            # As it is now that the segments are sealed: it knows every column in them.
            self._tables = read_tables(self._manifest, self._tables)
            table = self._tables.get(uid, table)
            self._compact(uid, table, segments, report)
            if progress:
                progress(report)
        self._catch_up(uid, table, report)
        self._merge(uid, table, report)
        self._expire(uid, table, report)

    # -- segments to files ----------------------------------------------------------------

    def _rounds(self, uid: int) -> Iterator[list[SegmentRow]]:
        sealed = [s for s in self._manifest.segments(uid) if s.state == "sealed"]
        taken: list[SegmentRow] = []
        size = 0
        for segment in sealed:
            if taken and size + segment.bytes > ROUND_BYTES:
                yield taken
                taken, size = [], 0
            taken.append(segment)
            size += segment.bytes
        if taken:
            yield taken

    def _compact(
        self, uid: int, table: Table, segments: Sequence[SegmentRow], report: CompactionReport
    ) -> None:
        decoder = self._decoder(uid, table)
        rows = decoder.decode(self._frames(uid, table, segments), for_lake=True)
        if WHOLE_EVENT in rows.column_names:
            _logger.warning(
                "events of %s have fields that the table lacks or cannot hold, such as %s: they are"
                " kept whole, and appear once a .proto is applied that has a place for them",
                table.id, decoder.name_unknown(rows),
            )  # fmt: skip
        last = segments[-1].number
        writer = LakeWriter(
            self._layout.of(table.id, uid).lake, table.spec, table.version, self._disk
        )
        files: list[FileRow] = []
        deduplicated = 0
        if rows.num_rows:
            for partition, part in split(rows, table.spec):
                fresh = self._without_late_duplicates(uid, table, partition, part)
                deduplicated += part.num_rows - fresh.num_rows
                if fresh.num_rows:
                    folder = partition_folder(table.spec, partition)
                    name = f"{folder}/{last:010d}-m0.parquet"
                    files.append(writer.write(name, partition, fresh))
        for file in files:
            writer.sync_folder(file.name)
        with self._manifest.writing():
            self._manifest.add_files(uid, files)
            for segment in segments:
                self._manifest.compact_segment(uid, segment.number)
            if deduplicated:
                self._manifest.count_removed(uid, deduplicated=deduplicated)
        self._drop_segments(uid, table.id, [segment.number for segment in segments])
        report.segments += len(segments)
        report.rows += rows.num_rows
        report.files += len(files)
        report.ahead_rows += sum(file.ahead_rows for file in files)
        report.deduplicated_rows += deduplicated
        report.segment_bytes += sum(segment.bytes for segment in segments)
        report.lake_bytes += sum(file.bytes for file in files)

    def _decoder(self, uid: int, table: Table) -> FrameDecoder:
        return FrameDecoder(table, lambda version: read_definition(self._manifest, uid, version))

    def _frames(self, uid: int, table: Table, segments: Sequence[SegmentRow]) -> Iterator[Frame]:
        folder = self._layout.of(table.id, uid)
        for segment in segments:
            path = folder.segment(segment.number)
            with disk_errors("reading the log"), open(path, "rb") as file:
                content = file.read()
            # Damaged stretches were copied aside and reported when the log was recovered.
            for found in scan(content):
                if not isinstance(found, Frame):
                    continue
                if found.version > table.version:
                    raise UnavailableError(
                        "the table was changed meanwhile: the next round reads it"
                    )
                yield found

    def _without_late_duplicates(
        self, uid: int, table: Table, partition: str, rows: pa.Table
    ) -> pa.Table:
        """Leave out rows whose insert ID the partition got longer ago than the window looks."""
        if not self._options.dedup_window_seconds:
            return rows
        newest = pc.max(rows[INGESTED_AT].cast(pa.int64())).as_py()
        horizon = newest - int(self._options.dedup_window_seconds * 1e6)
        old = [
            file
            for file in self._manifest.files(uid)
            if file.partition == partition
            and file.min_ingested_us < horizon
            and not file.is_output  # its rows were never put
        ]
        if not old:
            return rows
        ids = rows[INSERT_ID].cast(pa.binary())
        repeated = pa.chunked_array([pa.repeat(pa.scalar(False), rows.num_rows)])
        for file in old:
            known = read_insert_ids(self._layout.of(table.id, uid).lake_file(file.name))
            repeated = pc.or_(repeated, pc.is_in(ids, value_set=known.combine_chunks()))
        return rows.filter(pc.invert(repeated))

    # -- small files to larger ones -------------------------------------------------------

    def _merge(self, uid: int, table: Table, report: CompactionReport) -> None:
        small = [f for f in self._manifest.files(uid) if f.bytes < SMALL_FILE_BYTES]
        # Rows of slots stay apart, so that replacing a slot has no other rows to look at.
        key = attrgetter("partition", "version", "is_output")
        for (partition, version, _), group in groupby(sorted(small, key=key), key):
            # Files of an older definition stay as they are: they hold what was sent, and reading
            # them adds the newer columns.
            if version != table.version:
                continue
            chosen = _up_to(list(group), MERGE_BYTES_MAX)
            is_worth = len(chosen) >= MERGE_FILES_MIN
            if is_worth and self._merge_files(uid, table, partition, chosen):
                report.merged_files += len(chosen)

    def _merge_files(
        self, uid: int, table: Table, partition: str, files: Sequence[FileRow]
    ) -> bool:
        schema = self._decoder(uid, table).schema
        rows = pa.concat_tables(
            [read_rows(self._layout.of(table.id, uid).lake_file(file.name), schema, file.version)
             for file in files],
            promote_options="default",  # only some may have whole events
        )  # fmt: skip
        return self._replace(uid, table, partition, files, rows)

    def _catch_up(self, uid: int, table: Table, report: CompactionReport) -> None:
        """Write files anew whose events had fields before their table had them.

        A query reads such rows from their whole events from the moment of the change on; this
        spares it the work. A file whose events still have other fields more is done as well, or
        it would be tried again and again.
        """
        files = self._manifest.files(uid)
        behind = [file for file in files if file.ahead_rows and file.version < table.version]
        if not behind:
            return
        decoder = self._decoder(uid, table)
        for file in behind:
            path = self._layout.of(table.id, uid).lake_file(file.name)
            rows = read_rows(path, decoder.schema, file.version)
            is_ahead = pc.is_valid(rows[WHOLE_EVENT])
            plain = rows.filter(pc.invert(is_ahead)).drop_columns([WHOLE_EVENT, JUDGED_BY])
            again = decoder.decode_again(rows.filter(is_ahead), file.version)
            both = pa.concat_tables([plain, again], promote_options="permissive")
            if self._replace(uid, table, file.partition, [file], both):
                report.caught_up_files += 1

    def _replace(
        self, uid: int, table: Table, partition: str, files: Sequence[FileRow], rows: pa.Table
    ) -> bool:
        """Put one file with ``rows`` in the place of ``files``.

        Returns:
            False when some of ``files`` are not in the lake any more, as a slot was replaced
            meanwhile: the next round looks again, and sweeps away what was written in vain.
        """
        if table.spec.clustering:
            rows = rows.sort_by([(name, "ascending") for name in table.spec.clustering])
        writer = LakeWriter(
            self._layout.of(table.id, uid).lake, table.spec, table.version, self._disk
        )
        merged = writer.write(_merged_name(table, partition, files), partition, rows)
        merged = replace(merged, is_output=files[0].is_output)
        writer.sync_folder(merged.name)
        names = [file.name for file in files]
        with self._manifest.writing():
            if not self._manifest.are_live(uid, names):
                _logger.info("%s: files were replaced meanwhile; merging is put off", table.id)
                return False
            self._manifest.add_files(uid, [merged])
            self._manifest.slots.inherit(uid, names, merged.name)
            self._manifest.remove_files(uid, names, self._clock.now())
        return True

    # -- what is no longer needed ---------------------------------------------------------

    def _expire(self, uid: int, table: Table, report: CompactionReport) -> None:
        partitioning = table.spec.partitioning
        if partitioning is None or partitioning.expiration_seconds is None:
            return
        now = self._clock.now()

        def old_files() -> list[FileRow]:
            return [
                file
                for file in self._manifest.files(uid)
                if (at := expires_at(file.partition, partitioning)) is not None and at <= now
            ]

        if not old_files():
            return
        with self._manifest.writing():
            gone = old_files()  # those that are there now: a slot may have been replaced meanwhile
            rows = sum(file.rows for file in gone)
            self._manifest.remove_files(uid, [file.name for file in gone], now)
            self._manifest.count_removed(uid, expired=rows)
        report.expired_rows += rows

    def _sweep(self, uid: int, table: TableId) -> None:
        """Remove what an earlier run left: segments in the lake, files nobody lists or reads."""
        self._drop_segments(uid, table, self._manifest.compacted_segments(uid))
        before = self._clock.now() - self._options.file_grace_seconds
        removed = self._manifest.removed_files(uid, before)
        lake = self._layout.of(table, uid).lake
        if removed:
            with disk_errors("removing old files"):
                for name in removed:
                    self._disk.unlink(os.path.join(lake, name))
            with self._manifest.writing():
                self._manifest.forget_files(uid, removed)
        listed = self._manifest.listed_names(uid)
        with disk_errors("removing unfinished files"):
            for name in _files_below(lake):
                # Files of slots are swept by whoever writes them: they may be on their way.
                if not is_written_file(name) and (is_unfinished(name) or name not in listed):
                    _logger.info("removing %s, left by an unfinished run", name)
                    self._disk.unlink(os.path.join(lake, name))

    def _drop_segments(self, uid: int, table: TableId, numbers: Sequence[int]) -> None:
        if not numbers:
            return
        folder = self._layout.of(table, uid)
        with disk_errors("removing compacted segments"):
            for number in numbers:
                self._disk.unlink(folder.segment(number))
            # Only with the names gone for good may the manifest forget that they were compacted.
            self._disk.sync_folder(folder.log)
        with self._manifest.writing():
            for number in numbers:
                self._manifest.delete_segment(uid, number)


def _merged_name(table: Table, partition: str, files: Sequence[FileRow]) -> str:
    folder = partition_folder(table.spec, partition)
    if files[0].is_output:
        return f"{folder}/{merged_name(file.name for file in files)}"
    # The newest segment and the depth of merging name a file of a partition uniquely: only one
    # live file holds the rows of a segment, and each merge that takes it in goes one deeper.
    numbers, depths = zip(*(_segment_and_depth(file.name) for file in files), strict=True)
    newest, depth = max(numbers), max(depths)
    return f"{folder}/{newest:010d}-m{depth + 1}.parquet"


def _segment_and_depth(name: str) -> tuple[int, int]:
    stem = os.path.basename(name).removesuffix(".parquet")
    segment, _, depth = stem.partition("-m")
    return int(segment), int(depth)


def _up_to(files: Sequence[FileRow], size: int) -> list[FileRow]:
    chosen: list[FileRow] = []
    for file in files:
        size -= file.bytes
        if size < 0:
            break
        chosen.append(file)
    return chosen


def _files_below(folder: str) -> Iterator[str]:
    for root, _, names in os.walk(folder):
        for name in names:
            yield os.path.relpath(os.path.join(root, name), folder)
