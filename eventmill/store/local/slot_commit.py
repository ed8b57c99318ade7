"""The decision that a slot's rows are replaced: one transaction of the manifest."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from eventmill.base.clock import Clock
from eventmill.base.errors import TableNotFoundError
from eventmill.store.local.catalog import LiveTable
from eventmill.store.local.manifest import FileRow, Manifest
from eventmill.store.slots import SlotKey, check_attempt


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at one slot of a table."""

    live: LiveTable
    slot: SlotKey
    generation: int


@dataclass(frozen=True, slots=True)
class RowsBefore:
    """Where the rows are that are to go."""

    files: Sequence[FileRow]
    gone: Sequence[int]
    """How many rows of each file go."""


class SlotCommits:
    """Looks and commits, over a connection of its own. Safe from any thread."""

    def __init__(self, manifest: Manifest, clock: Clock) -> None:
        self._manifest = manifest
        self._clock = clock
        self._lock = threading.Lock()

    def close(self) -> None:
        """Let go of the manifest once nothing is being committed."""
        with self._lock:
            self._manifest.close()

    def listed_names(self, uid: int) -> set[str]:
        """Return the names of all files of a table that may stand on disk."""
        with self._lock:
            return self._manifest.listed_names(uid)

    def look(self, attempt: Attempt) -> RowsBefore:
        """Return what would go.

        Raises:
            StaleAttemptError, SchemaConflictError: the attempt may not (see ``check_attempt``).
            TableNotFoundError: the table was removed meanwhile.
        """
        with self._lock, self._manifest.reading():
            return self._look(attempt)

    def commit(
        self,
        attempt: Attempt,
        before: RowsBefore,
        new: Sequence[FileRow],
        heirs: Sequence[FileRow | None],
    ) -> bool:
        """Put ``new`` in the place of the slot's rows, and ``heirs`` in that of their files.

        Args:
            attempt: whose rows they are; it is judged once more.
            before: as ``look`` returned it.
            new: files with the slot's rows, which stand on disk, names synced.
            heirs: for each file of ``before`` the one with the rows that stay; None: none do.

        Returns:
            False, with nothing changed, when other files than ``before`` hold the rows now.
        """
        uid, slot, manifest = attempt.live.uid, attempt.slot, self._manifest
        with self._lock, manifest.writing():
            if self._look(attempt) != before:
                return False
            manifest.add_files(uid, [*new, *(heir for heir in heirs if heir)])
            for file in new:
                manifest.slots.add(uid, file.name, slot, file.rows)
            for old, heir in zip(before.files, heirs, strict=True):
                if heir is not None:
                    manifest.slots.inherit(uid, [old.name], heir.name, without=slot)
            manifest.remove_files(uid, [file.name for file in before.files], self._clock.now())
            manifest.count_removed(uid, replaced=sum(before.gone))
            manifest.slots.note(uid, slot, attempt.generation)
        return True

    def _look(self, attempt: Attempt) -> RowsBefore:
        table, uid, slot = attempt.live.table.id, attempt.live.uid, attempt.slot
        if self._manifest.last_ingested_us(uid) is None:
            raise TableNotFoundError(f"the table {table} was removed meanwhile")
        known = self._manifest.slots.overlapping(uid, slot)
        check_attempt(
            table, slot, attempt.generation, ((s.slot, s.generation, s.rows > 0) for s in known)
        )
        gone = self._manifest.slots.files_within(uid, slot)
        files = [file for file in self._manifest.files(uid) if file.name in gone] if gone else []
        return RowsBefore(files, [gone[file.name] for file in files])
