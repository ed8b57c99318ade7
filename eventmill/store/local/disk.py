"""Every change that the embedded store makes to a file goes through one object, ``Disk``.

So the order of operations that durability rests on can be read in one place, and a test can stop
the program between any two of them or say that no space is left.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from eventmill.base.errors import StorageFullError, UnavailableError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_NOT_SUPPORTED = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)
_JOINED_BYTES_MAX = 262_144
"""Up to this, copying parts together costs less than handing them to the kernel one by one."""
_PARTS_MAX = 512
"""Parts of one vectored write; Linux takes 1,024 (IOV_MAX in limits.h, looked up 2026-11-23)."""
_DSYNC: int = getattr(os, "RWF_DSYNC", 0)
"""Linux: this write is to be on stable storage when it returns, as by fdatasync."""


class Disk:
    """The machine's own file system. Stateless; safe from any thread."""

    def create(self, path: str) -> int:
        """Create a file that must not exist; return a descriptor that only appends."""
        return os.open(path, os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC)

    def append(self, fd: int, parts: Sequence[bytes]) -> int:
        """Append ``parts`` and wait until they are on stable storage; return how many bytes.

        May leave a prefix behind when it raises.
        """
        if sum(map(len, parts)) <= _JOINED_BYTES_MAX:
            parts = [b"".join(parts)]
        size = 0
        for at in range(0, len(parts), _PARTS_MAX):
            size += _append_synced(fd, list(parts[at : at + _PARTS_MAX]))
        return size

    def sync(self, fd: int) -> None:
        """Wait until the file's bytes and length are on stable storage."""
        os.fdatasync(fd)

    def sync_file(self, path: str) -> None:
        """Wait until a file written by somebody else is on stable storage."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def sync_folder(self, path: str) -> None:
        """Wait until the names in a folder (created, renamed, removed) are on stable storage."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def truncate(self, fd_or_path: int | str, size: int) -> None:
        """Cut a file to ``size`` bytes."""
        os.truncate(fd_or_path, size)

    def rename(self, source: str, target: str) -> None:
        """Give a file its final name, replacing what stood there."""
        os.replace(source, target)

    def unlink(self, path: str) -> bool:
        """Remove a file; return False when it was gone already."""
        try:
            os.unlink(path)
        except FileNotFoundError:
            return False
        return True

    def folder(self, path: str) -> None:
        """Make a folder and those above it, their names synced; no change when it exists."""
        if os.path.isdir(path):
            return
        above = os.path.dirname(path)
        if above and above != path:
            self.folder(above)
        try:
            os.mkdir(path)
        except FileExistsError:
            return
        self.sync_folder(above or ".")


def _append_synced(fd: int, parts: list[bytes]) -> int:
    """Append and sync, in one system call where the kernel has one.

    One call and not two, because Python lets other threads run around each: a committer that has
    to win its turn back between write and sync waits for whole judgements of other batches.
    """
    size = left = sum(map(len, parts))
    is_dsync = bool(_DSYNC)
    while left:
        if is_dsync:
            try:
                # The descriptor appends (O_APPEND), which makes Linux ignore the offset.
                written = os.pwritev(fd, parts, 0, _DSYNC)
            except OSError as error:
                if error.errno not in _NOT_SUPPORTED:
                    raise
                is_dsync = False
                continue
        else:
            written = os.writev(fd, parts)
        left -= written
        while parts and written >= len(parts[0]):
            written -= len(parts.pop(0))
        if written:
            parts[0] = parts[0][written:]
    if not is_dsync:
        os.fdatasync(fd)
    return size


DISK = Disk()


@contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """Turn the operating system's refusals inside the block into ours.

    Raises:
        StorageFullError: no space or quota is left.
        UnavailableError: any other failure of the disk.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFullError(
                f"no space is left {what}: free some, and sending resumes by itself",
                retry_after_seconds=5.0,
            ) from error
        raise UnavailableError(f"the disk failed {what}: {error}") from error
