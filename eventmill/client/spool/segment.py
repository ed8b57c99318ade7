"""A run of records in one place, a file or memory, that is appended to and read behind."""

from __future__ import annotations

import errno
import os
import threading
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Protocol


def sync_folder(path: str) -> None:
    """Return when the names in the folder at ``path`` survive a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_folders_above(path: str) -> None:
    """Return when the name of the folder at ``path``, and of each above it, survives a power cut.

    Who has made them, and when, is not known; those that this user may not read are left out.
    """
    path = os.path.abspath(path)  # a folder's name may have been given as it is seen from here
    while (above := os.path.dirname(path)) != path:
        with suppress(PermissionError):
            sync_folder(above)
        path = above


def salt_of(name: str) -> int:
    """Return the salt of segments in the folder, or in the file, of that ``name``."""
    return zlib.crc32(name.encode())


class Segment(Protocol):
    """Bytes that only grow at their end."""

    number: int
    salt: int
    """Begins the checksums of its records."""
    size: int
    """Bytes in it, those included that ``write`` is about to bring."""

    @property
    def content(self) -> bytearray | None:
        """What a segment in memory holds; None: it is a file."""
        ...

    @property
    def write(self) -> Callable[[bytes, int], int]:
        """What writes a record of a file at an offset, and tells how much of it.

        For a caller who cannot have a signal strike between its own notes and the write. It is
        not written in Python, which therefore runs no signal's function before it has returned;
        the same holds for ``content += record``. The caller adds to ``size`` before, and takes
        it back when the write fails.
        """
        ...

    def append(self, record: bytes) -> None:
        """Add ``record`` whole, or raise OSError and add nothing."""
        ...

    def cut(self) -> None:
        """Give back what lies beyond ``size``: the beginning of a record that did not fit."""
        ...

    def read(self, start: int, size: int) -> bytes:
        """Return at most ``size`` bytes from ``start`` on."""
        ...

    def sync(self, size: int) -> None:
        """Return when the first ``size`` bytes are on stable storage, where there is such a thing.

        Raises:
            OSError: the disk failed; another call tries again, and does not take the kernel's word
                that there was nothing left to write.
        """
        ...

    def close(self) -> None:
        """Let go of it; it stays where it is."""
        ...

    def remove(self) -> None:
        """Let go of it and of what it holds."""
        ...


class FileSegment:
    """A segment that outlives the process: each record is one ``pwrite(2)``."""

    def __init__(self, path: str, number: int, salt: int, *, create: bool) -> None:
        """Open the file at ``path``.

        Raises:
            OSError: it cannot be opened or, with ``create``, exists already.
        """
        self.number = number
        self.salt = salt
        self._path = path
        flags = os.O_RDWR | os.O_CLOEXEC
        self._fd = os.open(path, flags | (os.O_CREAT | os.O_EXCL if create else 0), 0o600)
        self.write: Callable[[bytes, int], int] = partial(os.pwrite, self._fd)
        self.content = None
        self.size = os.fstat(self._fd).st_size
        self._syncing = threading.RLock()
        self._synced_to = 0
        self._has_failed = False
        """Whether the latest sync has."""

    def append(self, record: bytes) -> None:
        """Add ``record``; it survives the end of the process from here on."""
        written = self.write(record, self.size)
        if written != len(record):
            self.cut()
            raise no_space(self._path)
        self.size += written

    def cut(self) -> None:
        """Give back what lies beyond ``size``."""
        with suppress(OSError):  # then it stays until the next record is written over it
            os.ftruncate(self._fd, self.size)

    def read(self, start: int, size: int) -> bytes:
        """Return at most ``size`` bytes from ``start`` on."""
        return os.pread(self._fd, size, start)

    def sync(self, size: int) -> None:
        """Return when the first ``size`` bytes survive a power cut."""
        with self._syncing:
            if self._has_failed:
                # The kernel takes those pages for clean now. Written once more they are not.
                start = self._synced_to
                os.pwrite(self._fd, self.read(start, size - start), start)
            self._has_failed = True
            os.fdatasync(self._fd)
            self._has_failed = False
            self._synced_to = max(self._synced_to, size)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self._fd >= 0:
            descriptor, self._fd = self._fd, -1
            self.write = partial(os.pwrite, -1)  # its number may be another file's at once
            os.close(descriptor)

    def remove(self) -> None:
        """Close and delete the file."""
        self.close()
        os.unlink(self._path)


class MemorySegment:
    """A segment that ends with the process."""

    def __init__(self, number: int, salt: int) -> None:
        self.number = number
        self.salt = salt
        self.size = 0
        self.content = bytearray()

    def write(self, record: bytes, start: int) -> int:
        """Add ``record``, which is to stand at ``start``."""
        self.content += record
        return len(record)

    def append(self, record: bytes) -> None:
        """Add ``record``."""
        self.size += self.write(record, self.size)

    def cut(self) -> None:
        """Do nothing: memory takes a record whole."""

    def read(self, start: int, size: int) -> bytes:
        """Return at most ``size`` bytes from ``start`` on."""
        return bytes(self.content[start : start + size])

    def sync(self, size: int) -> None:
        """Return at once: nothing here survives anything."""

    def close(self) -> None:
        """Do nothing: there is nothing to let go of."""

    def remove(self) -> None:
        """Give the memory back."""
        self.content = bytearray()


def no_space(path: str) -> OSError:
    """Return the error that a write deserves of which only a part was carried out."""
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
