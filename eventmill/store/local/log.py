"""The log of one table: segments that are appended to, synced, rolled, and recovered.

Owned by one thread of the one process that holds the store's writer lock. The order at a roll is
what recovery relies on: the new file and its name are synced, then the manifest lists it and seals
the one before in one transaction, and only then is the first frame written.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from eventmill.base.errors import TransientError, UnavailableError
from eventmill.schema.table import TableId
from eventmill.store.local.disk import Disk, disk_errors
from eventmill.store.local.frame import Damage, Frame, is_torn_tail, scan
from eventmill.store.local.layout import Layout
from eventmill.store.local.manifest import Manifest

_logger = logging.getLogger("eventmill.store")


@dataclass(slots=True)
class _OpenSegment:
    number: int
    fd: int
    bytes: int = 0
    rows: int = 0


class TableLog:
    """Appends frames to the open segment of one table."""

    def __init__(
        self,
        table: TableId,
        uid: int,
        layout: Layout,
        manifest: Manifest,
        disk: Disk,
        segment_bytes: int,
    ) -> None:
        """Make the log's folder; call ``recover`` before the first append."""
        self._table = table
        self._uid = uid
        self._folder = layout.of(table, uid)
        self._manifest = manifest
        self._disk = disk
        self._segment_bytes = segment_bytes
        self._open: _OpenSegment | None = None
        self._must_roll = False
        self.is_broken = True
        """Whether the log must be recovered before anything is appended again."""

    @property
    def open_bytes(self) -> int:
        """Bytes in the open segment; 0 when there is none."""
        return self._open.bytes if self._open else 0

    @property
    def open_rows(self) -> int:
        """Rows in the open segment; 0 when there is none."""
        return self._open.rows if self._open else 0

    def recover(self) -> Iterator[Frame]:
        """Yield every frame of the log, oldest first, and put its segments in order.

        Promise: when the iterator is exhausted, no segment is open, torn tails are cut, files
        that the manifest does not list are listed when they hold a frame and removed otherwise,
        and damaged stretches are copied to the table's ``damaged`` folder.
        """
        self.is_broken = True
        with disk_errors("opening the log"):
            self._disk.folder(self._folder.log)
            found = set(_segment_numbers(self._folder.log))
            last = self._manifest.last_segment(self._uid)
        with self._manifest.reading():
            listed = {segment.number: segment for segment in self._manifest.segments(self._uid)}
            compacted = set(self._manifest.compacted_segments(self._uid))
        for number in sorted((found | listed.keys()) - compacted):
            if number not in found:
                self._forget_missing(number, listed[number].rows)
            elif number in listed:
                sealed = listed[number].state == "sealed"
                yield from self._recover_segment(number, sealed=sealed)
            elif number > last:
                yield from self._recover_segment(number, sealed=False)
            else:
                # Its number was given and is listed no more: its rows are in the lake, and only
                # the removal of the file was lost.
                with disk_errors("opening the log"):
                    self._disk.unlink(self._folder.segment(number))
        self.is_broken = False

    def append(self, parts: Sequence[bytes], rows: int) -> None:
        """Write ``parts``, whole frames with ``rows`` events in all, and sync.

        Promise: on return they survive a power cut. When it raises, none of them is in the log.

        Raises:
            TransientError: the disk refused; the log stands as it stood before, or, where even
                that could not be made sure of, ``is_broken`` is set.
        """
        if self._open is None or self._must_roll or self._open.bytes >= self._segment_bytes:
            self._roll()
        segment = self._open
        if segment is None:
            raise UnavailableError(f"the log of {self._table} has no open segment")
        try:
            with disk_errors("in the log"):
                size = self._disk.append(segment.fd, parts)
        except TransientError:
            self._cut_back(segment)
            raise
        segment.bytes += size
        segment.rows += rows

    def seal(self) -> bool:
        """Close the open segment for compaction; return whether there was one with rows."""
        segment = self._open
        if segment is None:
            return False
        if not segment.rows:
            return False
        with self._manifest.writing():
            self._manifest.seal_segment(self._uid, segment.number, segment.rows, segment.bytes)
        self._close_file()
        return True

    def abandon(self) -> None:
        """Let go of the open segment as it is; ``recover`` will put it in order."""
        self._close_file()

    def _roll(self) -> None:
        old = self._open
        number = self._manifest.last_segment(self._uid) + 1
        # A file of this number may be left from a roll that failed half-way. It is not touched:
        # the next recovery looks into it.
        while os.path.exists(self._folder.segment(number)):
            number += 1
        path = self._folder.segment(number)
        with disk_errors("starting a segment"):
            fd = self._disk.create(path)
        try:
            with disk_errors("starting a segment"):
                self._disk.sync_folder(self._folder.log)
            with self._manifest.writing():
                if old is not None:
                    self._end_in_manifest(old)
                self._manifest.open_segment(self._uid, number)
        except BaseException:
            os.close(fd)
            with suppress(OSError):  # empty and listed nowhere: removed now or at recovery
                self._disk.unlink(path)
            raise
        self._close_file()
        self._must_roll = False
        self._open = _OpenSegment(number, fd)

    def _end_in_manifest(self, segment: _OpenSegment) -> None:
        if segment.rows:
            self._manifest.seal_segment(self._uid, segment.number, segment.rows, segment.bytes)
        else:
            self._manifest.delete_segment(self._uid, segment.number)

    def _close_file(self) -> None:
        if self._open is not None:
            os.close(self._open.fd)
            self._open = None

    def _cut_back(self, segment: _OpenSegment) -> None:
        """Take out whatever the failed write left, so that a retry cannot store it twice."""
        # After a failed sync the kernel may have dropped pages it could not write and call the
        # next sync a success; a new segment does not depend on them.
        self._must_roll = True
        try:
            self._disk.truncate(segment.fd, segment.bytes)
            self._disk.sync(segment.fd)
        except OSError as error:
            self._close_file()
            self.is_broken = True
            raise UnavailableError(
                f"the log of {self._table} could not be cut back to its last synced frame: {error}"
            ) from error

    def _forget_missing(self, number: int, rows: int) -> None:
        with self._manifest.writing():
            missing = self._manifest.forget_missing_segment(self._uid, number)
        if missing and rows:
            _logger.error("segment %d of %s is gone with %d rows", number, self._table, rows)

    def _recover_segment(self, number: int, *, sealed: bool) -> Iterator[Frame]:
        path = self._folder.segment(number)
        try:
            with open(path, "rb") as file:
                content = file.read()
        except FileNotFoundError:
            return  # sealed, and the compactor has just taken it to the lake
        except OSError as error:
            raise UnavailableError(f"the disk failed reading {path}: {error}") from error
        rows = end = 0
        for found in scan(content):
            if isinstance(found, Damage):
                self._keep_damage(number, found, content)
                continue
            rows += found.count
            end = found.end
            yield found
        if sealed:
            return
        with disk_errors("recovering the log"):
            if end < len(content):
                self._disk.truncate(path, end)
            if rows:
                # A killed writer may have left whole frames that it had not synced yet. From
                # here on their events are answered with *duplicate*, which is an ack.
                self._disk.sync_file(path)
            else:
                self._disk.unlink(path)
        with self._manifest.writing():
            if rows:
                self._manifest.seal_segment(self._uid, number, rows, end)
            else:
                self._manifest.delete_segment(self._uid, number)

    def _keep_damage(self, number: int, damage: Damage, content: bytes) -> None:
        stretch = content[damage.offset : damage.offset + damage.size]
        if damage.offset + damage.size == len(content) and is_torn_tail(stretch):
            _logger.info(
                "cut %d bytes of an unfinished write from segment %d of %s",
                damage.size, number, self._table,
            )  # fmt: skip
            return
        folder = self._folder.damaged
        path = os.path.join(folder, f"{number:010d}-{damage.offset}.bin")
        if os.path.exists(path):
            return
        _logger.error(
            "%d bytes at %d of segment %d of %s fail their checksum; kept as %s",
            damage.size, damage.offset, number, self._table, path,
        )  # fmt: skip
        with disk_errors("keeping damaged bytes"):
            self._disk.folder(folder)
            self._disk.unlink(f"{path}.tmp")
            fd = self._disk.create(f"{path}.tmp")
            try:
                self._disk.append(fd, [stretch])
            finally:
                os.close(fd)
            self._disk.rename(f"{path}.tmp", path)
            self._disk.sync_folder(folder)


def _segment_numbers(folder: str) -> Iterator[int]:
    for name in os.listdir(folder):
        stem, dot, suffix = name.partition(".")
        if dot and suffix == "log" and stem.isdigit():
            yield int(stem)
