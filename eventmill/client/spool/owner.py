"""The folder of one process and uploader: who owns it, its segments, how far they are acked.

::

    SPOOL/TABLE/NAME/lock           locked (flock) as long as the owner lives
                     acked          the checkpoint: segment and offset before which all is acked
                     0000000001.seg records

A folder whose lock can be had belongs to a process that has ended: it is adopted by whoever
takes the lock, and removed when everything in it is acked.
"""

from __future__ import annotations

import errno
import os
import secrets
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress

from eventmill.base.errors import UnavailableError, UsageError
from eventmill.client.spool.dead import DEAD_FOLDER, UNFINISHED
from eventmill.client.spool.segment import FileSegment, salt_of, sync_folder, sync_folders_above

try:
    import fcntl
except ImportError:  # Windows, where there is no spool
    fcntl = None  # type: ignore[assignment]

_CHECKPOINT = struct.Struct("<IQI")
_BEYOND_ALL = (1 << 32) - 1
"""A checkpoint at a segment that no folder ever has."""
_SUFFIX = ".seg"
UNFINISHED_SECONDS_MAX = 3600.0
"""Older than that, nobody is at work any more on what takes less than a second to make."""
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)


class OwnerFolder:
    """A folder whose lock this process holds."""

    def __init__(self, path: str, lock: int, checkpoint: int) -> None:
        """Use ``create`` or ``adopt``."""
        self.path = path
        self._lock = lock
        self._checkpoint = checkpoint
        self._salt = salt_of(os.path.basename(path))
        self._is_noted = False
        """Whether the folder's own name survives a power cut."""

    @classmethod
    def create(cls, parent: str, name: str) -> OwnerFolder:
        """Make the folder ``name`` below ``parent``, which is made as well, and lock it.

        Raises:
            OSError: there is no room for it.
            UnavailableError: this process may not open one more file.
            UsageError: it cannot be made in that place.
        """
        try:
            return cls._create(parent, name)
        except OSError as error:
            if error.errno in _NO_SPACE:
                raise
            what = f"the spool {parent} cannot be made ({error.strerror or error})"
            if error.errno in _NO_DESCRIPTOR:
                raise UnavailableError(
                    f"{what}, so the event was not taken: close files, or raise the limit (ulimit"
                    " -n)"
                ) from error
            raise UsageError(
                f"{what}: give a spool_dir in which this user may make folders, or"
                " durability='memory'"
            ) from error

    @classmethod
    def _create(cls, parent: str, name: str) -> OwnerFolder:
        os.makedirs(parent, mode=0o700, exist_ok=True)
        unfinished = _unfinished(parent, name)
        path = os.path.join(parent, name)
        opened: list[int] = []
        try:
            os.mkdir(unfinished, 0o700)
            lock = _lock(os.path.join(unfinished, "lock"), create=True)
            if lock is None:
                raise BlockingIOError(f"{unfinished} is locked by another process")
            opened.append(lock)
            opened.append(_open_checkpoint(unfinished))
            # Under its name it is seen by others only with its lock taken.
            os.rename(unfinished, path)
            return cls(path, *opened)
        except BaseException:  # Ctrl-C as well, for a folder half made would be in the way
            _undo(path if _is_of(path, opened) else unfinished, opened)
            raise

    @classmethod
    def adopt(cls, path: str) -> OwnerFolder | None:
        """Take over the folder at ``path``; None when its owner lives, or it is gone.

        Raises:
            OSError: it is left as it was, as something in it cannot be opened.
        """
        try:
            lock = _lock(os.path.join(path, "lock"), create=False)
        except OSError:
            return None
        if lock is None:
            return None
        if not os.fstat(lock).st_nlink:  # somebody else had it meanwhile, and is done with it
            os.close(lock)
            return None
        try:
            return cls(path, lock, _open_checkpoint(path))
        except OSError:
            os.close(lock)
            raise

    @property
    def is_deleted(self) -> bool:
        """Whether somebody has deleted the folder under its owner."""
        return not os.fstat(self._lock).st_nlink and not os.path.exists(self.path)

    def add_segment(self, number: int) -> FileSegment:
        """Make an empty segment; OSError when there is no room for it."""
        return FileSegment(self._segment(number), number, self._salt, create=True)

    def move_in(self, path: str) -> None:
        """Make the file at ``path`` the folder's only segment, and sync the folder.

        Its checksums must begin with the folder's name, see ``salt_of``. It is in one of the two
        places at any moment, or after a power cut.

        Raises:
            OSError: it was not moved, or is not synced; FileNotFoundError: somebody else took it.
        """
        if self.read_checkpoint() != (0, 0):
            # It is of a segment that was here before, and would pass over this one.
            os.ftruncate(self._checkpoint, 0)
            os.fsync(self._checkpoint)
        os.rename(path, self._segment(1))
        self.sync()
        sync_folder(os.path.dirname(path))

    def segments(self) -> list[FileSegment]:
        """Open the segments that are here, ascending by number; OSError when one cannot be."""
        opened: list[FileSegment] = []
        try:
            for number in segment_numbers(self.path):
                path = self._segment(number)
                opened.append(FileSegment(path, number, self._salt, create=False))
        except OSError:
            for segment in opened:
                segment.close()
            raise
        return opened

    def read_checkpoint(self) -> tuple[int, int]:
        """Return (segment number, offset) before which all is acked; (0, 0) when not known."""
        return _checkpoint_in(os.pread(self._checkpoint, _CHECKPOINT.size, 0))

    def write_checkpoint(self, number: int, offset: int) -> None:
        """Note that everything before ``offset`` of segment ``number`` is acked.

        Lost at a power cut, it costs sending some events twice under the same insert IDs.
        """
        checksum = zlib.crc32(b"%d %d" % (number, offset))
        os.pwrite(self._checkpoint, _CHECKPOINT.pack(number, offset, checksum), 0)

    def sync(self) -> None:
        """Return when the names of the folder's files survive a power cut."""
        sync_folder(self.path)
        if not self._is_noted:
            sync_folders_above(self.path)
            self._is_noted = True

    def release(self) -> None:
        """Leave the folder as it is, to be adopted; a second call does nothing."""
        if self._lock >= 0:
            # Forgotten before they are closed: their numbers may be another file's at once.
            descriptors = (self._checkpoint, self._lock)
            self._checkpoint = self._lock = -1
            for descriptor in descriptors:
                os.close(descriptor)

    def remove(self) -> None:
        """Delete the folder, in which nothing is left to send, and let go of the lock."""
        if self._lock < 0:
            return
        with suppress(OSError):  # what cannot be noted costs repeats
            # A segment that cannot be unlinked must not be sent by everybody who adopts it.
            self.write_checkpoint(_BEYOND_ALL, 0)
        with suppress(OSError):  # what cannot be removed is adopted, found empty, and removed then
            for number in segment_numbers(self.path):
                os.unlink(self._segment(number))
            # Without a lock nobody would adopt it; what is unfinished is found by its name.
            unfinished = _unfinished(*os.path.split(self.path))
            os.rename(self.path, unfinished)
            for name in ("acked", "lock"):
                os.unlink(os.path.join(unfinished, name))
            os.rmdir(unfinished)
        self.release()

    def _segment(self, number: int) -> str:
        return _segment_path(self.path, number)


def orphans(parent: str) -> Iterator[str]:
    """Yield the paths of owner folders below ``parent``, those of living owners included."""
    try:
        names = sorted(os.listdir(parent))
    except OSError:
        return
    for name in names:
        path = os.path.join(parent, name)
        if not name.startswith(".") and _has_lock(path):
            yield path


def remove_unfinished(parent: str, now: float) -> None:
    """Remove what crashes have left of owner folders and dead letters that came or went.

    No event is in them alone. What is younger than ``UNFINISHED_SECONDS_MAX``, or locked, is left.

    Args:
        parent: folder of a table's spool.
        now: seconds since 1970.
    """
    for folder in (parent, os.path.join(parent, DEAD_FOLDER)):
        with suppress(OSError):  # there is no such folder
            for name in os.listdir(folder):
                if name.startswith(UNFINISHED):
                    _remove_when_old(os.path.join(folder, name), now)


def unacked(path: str) -> Iterator[tuple[FileSegment, int]]:
    """Yield the segments of the folder at ``path`` that may hold events which are not acked.

    Needs no lock: a segment that its owner removes meanwhile is passed over.

    Yields:
        The segment, open until the next is asked for, and the offset before which all is acked.

    Raises:
        OSError: something in it cannot be read.
    """
    number, offset = 0, 0
    with suppress(FileNotFoundError), open(os.path.join(path, "acked"), "rb") as file:
        number, offset = _checkpoint_in(file.read())
    try:
        numbers = segment_numbers(path)
    except FileNotFoundError:  # its owner was done with it meanwhile
        return
    for each in numbers:
        if each < number:
            continue
        try:
            segment = FileSegment(
                _segment_path(path, each), each, salt_of(os.path.basename(path)), create=False
            )
        except FileNotFoundError:
            continue
        try:
            yield segment, offset if each == number else 0
        finally:
            segment.close()


def is_locked(path: str) -> bool:
    """Return whether the owner of the folder at ``path`` lives."""
    try:
        # Shared: those who ask at the same time do not take each other for the owner.
        lock = _lock(os.path.join(path, "lock"), create=False, shared=True)
    except OSError:
        return False
    if lock is None:
        return True
    os.close(lock)
    return False


def segment_numbers(path: str) -> list[int]:
    """Return the numbers of the segments in the folder at ``path``, ascending."""
    stems = (name.removesuffix(_SUFFIX) for name in os.listdir(path) if name.endswith(_SUFFIX))
    return sorted(int(stem) for stem in stems if stem.isdigit())


def _segment_path(path: str, number: int) -> str:
    return os.path.join(path, f"{number:010d}{_SUFFIX}")


def _unfinished(parent: str, name: str) -> str:
    """Return where the folder ``name`` comes into being or goes: nobody else has the same place.

    What a crash has left there must not stand in the way of the next attempt.
    """
    return os.path.join(parent, f"{UNFINISHED}{name}-{secrets.token_hex(4)}")


def _has_lock(path: str) -> bool:
    try:
        os.stat(os.path.join(path, "lock"))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:  # a folder of another user: who opens it is told so
        return True
    return True


def _remove_when_old(path: str, now: float) -> None:
    with suppress(OSError):  # somebody else was quicker
        if now - os.stat(path).st_mtime <= UNFINISHED_SECONDS_MAX or is_locked(path):
            return
        if os.path.isdir(path):
            _undo(path, [])
        else:
            os.unlink(path)


def _open_checkpoint(path: str) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    return os.open(os.path.join(path, "acked"), flags, 0o600)


def _is_of(path: str, opened: list[int]) -> bool:
    """Return whether the lock of the folder at ``path`` is the first of ``opened``."""
    try:
        return os.path.samestat(os.stat(os.path.join(path, "lock")), os.fstat(opened[0]))
    except (OSError, IndexError):
        return False


def _undo(unfinished: str, opened: list[int]) -> None:
    """Take back a folder that could not be made, so that it can be tried again."""
    for descriptor in opened:
        os.close(descriptor)
    for name in ("lock", "acked"):  # not listed: there may be no descriptor left to list with
        with suppress(OSError):
            os.unlink(os.path.join(unfinished, name))
    with suppress(OSError):
        os.rmdir(unfinished)


def _checkpoint_in(content: bytes) -> tuple[int, int]:
    if len(content) < _CHECKPOINT.size:
        return 0, 0
    number, offset, checksum = _CHECKPOINT.unpack(content)
    if zlib.crc32(b"%d %d" % (number, offset)) != checksum:
        return 0, 0
    return number, offset


def _lock(path: str, *, create: bool, shared: bool = False) -> int | None:
    """Open and lock the file at ``path``; None when another process holds it."""
    flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if create else 0)
    fd = os.open(path, flags, 0o600)
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    except OSError:  # a file system without locks
        os.close(fd)
        raise
    return fd
