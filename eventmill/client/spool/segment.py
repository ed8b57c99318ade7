"""A run of records in one place, a file or memory, that is appended to and read behind."""

from __future__ import annotations

import errno
import os
import zlib
from typing import Protocol


def sync_folder(path: str) -> None:
    """Return when the names in the folder at ``path`` survive a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def salt_of(name: str) -> int:
    """Return the salt of segments in the folder, or in the file, of that ``name``."""
    return zlib.crc32(name.encode())


class Segment(Protocol):
    """Bytes that only grow at their end."""

    number: int
    salt: int
    """Begins the checksums of its records."""
    size: int
    """Bytes in it."""

    def append(self, record: bytes) -> None:
        """Add ``record`` whole, or raise OSError and add nothing."""
        ...

    def read(self, start: int, size: int) -> bytes:
        """Return at most ``size`` bytes from ``start`` on."""
        ...

    def sync(self) -> None:
        """Return when what was appended is on stable storage, where there is such a thing."""
        ...

    def close(self) -> None:
        """Let go of it; it stays where it is."""
        ...

    def remove(self) -> None:
        """Let go of it and of what it holds."""
        ...


class FileSegment:
    """A segment that outlives the process: each append is one ``write(2)``."""

    def __init__(self, path: str, number: int, salt: int, *, create: bool) -> None:
        """Open the file at ``path``.

        Raises:
            OSError: it cannot be opened or, with ``create``, exists already.
        """
        self.number = number
        self.salt = salt
        self._path = path
        flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
        self._fd = os.open(path, flags | (os.O_CREAT | os.O_EXCL if create else 0), 0o600)
        self.size = os.fstat(self._fd).st_size

    def append(self, record: bytes) -> None:
        """Add ``record``; it survives the end of the process from here on."""
        written = os.write(self._fd, record)
        if written != len(record):
            # Part of it fitted on the disk; the next one must not follow half a record.
            try:
                os.ftruncate(self._fd, self.size)
            except OSError:
                self.size += written  # then it stays, and is found damaged
                raise
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._path)
        self.size += written

    def read(self, start: int, size: int) -> bytes:
        """Return at most ``size`` bytes from ``start`` on."""
        return os.pread(self._fd, size, start)

    def sync(self) -> None:
        """Return when what was appended survives a power cut."""
        os.fdatasync(self._fd)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self._fd >= 0:
            descriptor, self._fd = self._fd, -1
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
        self._content = bytearray()

    def append(self, record: bytes) -> None:
        """Add ``record``."""
        self._content += record
        self.size += len(record)

    def read(self, start: int, size: int) -> bytes:
        """Return at most ``size`` bytes from ``start`` on."""
        return bytes(self._content[start : start + size])

    def sync(self) -> None:
        """Return at once: nothing here survives anything."""

    def close(self) -> None:
        """Do nothing: there is nothing to let go of."""

    def remove(self) -> None:
        """Give the memory back."""
        self._content = bytearray()
