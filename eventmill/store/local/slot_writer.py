"""Replacing the rows of a slot: new files into the lake, old ones out, in one transaction.

The order is that of compaction: write, sync, rename, sync the folder, one transaction of the
manifest, and long after it unlink. The rows do not pass through the log: an output may be larger
than it, and is repeated by running its slot again.

The compactor, a process of its own, may put files together meanwhile. Whoever commits looks, inside
the transaction, whether the files that it read are still the live ones, and if not begins anew.
Files that are written here have names of their own, which the compactor does not take for what an
unfinished run of its own has left; what a dead writer has left is removed before the next slot of
the table is replaced.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.compute as pc

from eventmill.base.errors import CorruptStoreError, UnavailableError
from eventmill.store.local.catalog import LiveTable
from eventmill.store.local.disk import Disk, disk_errors
from eventmill.store.local.ingest_times import IngestTimes
from eventmill.store.local.lake import LakeWriter, read_as_it_was
from eventmill.store.local.layout import Layout
from eventmill.store.local.manifest import FileRow
from eventmill.store.local.output_files import is_written_file, written_name
from eventmill.store.local.partition import partition_folder, split
from eventmill.store.local.slot_commit import Attempt, SlotCommits
from eventmill.store.own_columns import INSERT_ID, slot_rows
from eventmill.store.slots import SlotKey, SlotOutcome
from eventmill.wire.output_rows import fit_output

_logger = logging.getLogger("eventmill.store")
_TRIES = 20
"""Times that compaction may have put the slot's files together meanwhile before giving up."""


@dataclass(slots=True)
class _TableTurn:
    """What is kept of a table whose slots are replaced, one at a time."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    is_swept: bool = False
    """Whether no file is left that the manifest does not list."""


class SlotWriter:
    """Replaces slots in the tables of one process's store. Safe from any thread."""

    def __init__(self, layout: Layout, disk: Disk, commits: SlotCommits) -> None:
        self._layout = layout
        self._disk = disk
        self._commits = commits
        self._turns: dict[int, _TableTurn] = {}
        self._turns_lock = threading.Lock()

    def close(self) -> None:
        """Let go of the manifest once no slot is being committed."""
        self._commits.close()

    @contextmanager
    def turn(self, uid: int) -> Iterator[None]:
        """Keep the slots of a table from being replaced while the block runs."""
        with self._turn(uid).lock:
            yield

    def replace(
        self, live: LiveTable, times: IngestTimes, slot: SlotKey, rows: pa.Table, generation: int
    ) -> SlotOutcome:
        """Put ``rows`` in the place of the slot's (see ``SlotStore.replace_slot``).

        Args:
            live: the table.
            times: of the table's rows.
            slot: whose rows they are.
            rows: as the workflow made them.
            generation: of the attempt.
        """
        attempt = Attempt(live, slot, generation)
        turn = self._turn(live.uid)
        with turn.lock:
            self._commits.look(attempt)  # what may not be is better known before the work
            fitted = fit_output(rows, live.table.spec)
            if not turn.is_swept:
                self._sweep(live)
            turn.is_swept = False
            # One at a time, so that no slot shows up with a time before that of another which a
            # reader has seen already.
            outcome = self._replace(attempt, fitted, times.next_us())
            turn.is_swept = True
            return outcome

    def _replace(self, attempt: Attempt, fitted: pa.Table, at_us: int) -> SlotOutcome:
        files = _SlotFiles(self._layout, self._disk, attempt, at_us)
        new = files.write(fitted)
        for _ in range(_TRIES):
            before = self._commits.look(attempt)
            heirs: list[FileRow | None] = []
            try:
                for file, gone in zip(before.files, before.gone, strict=True):
                    heirs.append(files.without_slot(file, gone) if gone < file.rows else None)
                files.sync_names([*new, *(heir for heir in heirs if heir)])
                if self._commits.commit(attempt, before, new, heirs):
                    return SlotOutcome(fitted.num_rows, sum(before.gone))
            except FileNotFoundError:
                _logger.info("a file of %s has gone meanwhile", attempt.live.table.id)
            files.remove([heir for heir in heirs if heir])
        raise UnavailableError(
            f"files of {attempt.live.table.id} were put together again and again meanwhile"
        )

    def _turn(self, uid: int) -> _TableTurn:
        with self._turns_lock:
            return self._turns.setdefault(uid, _TableTurn())

    def _sweep(self, live: LiveTable) -> None:
        """Remove files that were written for a transaction which was never made."""
        listed = self._commits.listed_names(live.uid)
        lake = self._layout.of(live.table.id, live.uid).lake
        with disk_errors("removing unfinished files"):
            for folder, _, names in os.walk(lake):
                for name in names:
                    path = os.path.join(folder, name)
                    if is_written_file(name) and os.path.relpath(path, lake) not in listed:
                        _logger.info("removing %s, left by an unfinished run", path)
                        self._disk.unlink(path)


class _SlotFiles:
    """Writes the files of one replacement; for one thread."""

    def __init__(self, layout: Layout, disk: Disk, attempt: Attempt, at_us: int) -> None:
        table = attempt.live.table
        self._folder = layout.of(table.id, attempt.live.uid)
        self._disk = disk
        self._table = table
        self._slot = attempt.slot
        self._at_us = at_us
        self._writer = LakeWriter(self._folder.lake, table.spec, table.version, disk)
        self._count = 0

    def write(self, fitted: pa.Table) -> list[FileRow]:
        """Write the slot's new rows, a file a partition."""
        if not fitted.num_rows:
            return []
        rows = slot_rows(fitted, self._slot, self._at_us)
        return [
            replace(self._writer.write(self._name(partition), partition, part), is_output=True)
            for partition, part in split(rows, self._table.spec)
        ]

    def without_slot(self, file: FileRow, gone: int) -> FileRow:
        """Write a file anew without the ``gone`` rows of the slot."""
        rows = read_as_it_was(self._folder.lake_file(file.name))
        ids = rows[INSERT_ID]
        is_before = pc.less(ids, self._slot.insert_id_low)
        is_after = pc.greater_equal(ids, self._slot.insert_id_high)
        left = rows.filter(pc.or_(is_before, is_after))
        if left.num_rows != file.rows - gone:
            raise CorruptStoreError(
                f"{file.name} of {self._table.id} has {file.rows - left.num_rows:,} rows of"
                f" {self._slot}, the manifest lists {gone:,}"
            )
        return self._writer.write_as_it_was(self._name(file.partition), file, left)

    def sync_names(self, files: Sequence[FileRow]) -> None:
        """Wait until the names of ``files`` are on stable storage."""
        for name in {os.path.dirname(file.name): file.name for file in files}.values():
            self._writer.sync_folder(name)

    def remove(self, files: Sequence[FileRow]) -> None:
        """Remove files that were written in vain."""
        with disk_errors("removing unfinished files"):
            for file in files:
                self._disk.unlink(self._folder.lake_file(file.name))

    def _name(self, partition: str) -> str:
        self._count += 1
        name = written_name(self._at_us, self._count)
        return f"{partition_folder(self._table.spec, partition)}/{name}"
