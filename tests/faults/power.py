"""A disk that remembers each thing done to a folder, and what of it a power cut would leave.

Only what was synced is sure to be there: the bytes of a file up to its last ``fdatasync``, and the
names in a folder up to its last ``fsync``. Each later write or name is there or is not, as chance
says or as the test wants, and a file may have grown without its bytes.
"""

import errno
import itertools
import os
from dataclasses import dataclass, field
from pathlib import Path

FUNCTIONS = (
    *("open", "close", "write", "pwrite", "ftruncate", "fsync", "fdatasync"),
    *("mkdir", "rmdir", "rename", "unlink"),
)


@dataclass
class _File:
    """A file as it is after a power cut: what is sure, and what may be."""

    sure: bytearray = field(default_factory=bytearray)
    writes: list = field(default_factory=list)

    def apply(self, write):
        start, content = write
        if content is None:
            del self.sure[start:]
        else:
            self.sure.extend(bytes(max(0, start - len(self.sure))))
            self.sure[start : start + len(content)] = content


@dataclass
class _Folder:
    sure: dict = field(default_factory=dict)
    """Name to number of a file or folder."""
    changes: list = field(default_factory=list)

    def apply(self, change):
        name, number = change
        if number is None:
            self.sure.pop(name, None)
        else:
            self.sure[name] = number


class RecordedDisk:
    """Within its ``with`` block, everything done below ``root``, which must be there, is noted."""

    def __init__(self, root):
        self.root = str(root)
        self.log = []
        """What was done, as tuples; anything else is a mark of the test."""
        self.syncs_to_fail = 0
        """So many calls of ``fdatasync`` fail from now on, as with a disk that has lost a write."""
        self.happened_failures = 0
        self._numbers = itertools.count(1)
        self._by_path = {self.root: 0}
        self._by_descriptor = {}
        self._real = {}

    def __enter__(self):
        for name in FUNCTIONS:
            self._real[name] = getattr(os, name)
            setattr(os, name, getattr(self, f"_{name}"))
        return self

    def __exit__(self, *exc):
        for name, real in self._real.items():
            setattr(os, name, real)

    def mark(self, what):
        """Note that the test has seen something at this moment."""
        self.log.append(what)

    # -- what is done ---------------------------------------------------------------------------

    def _open(self, path, flags, *args, **options):
        path = os.fspath(path)
        is_inside = path.startswith(self.root)
        is_new = is_inside and bool(flags & os.O_CREAT) and not os.path.lexists(path)
        descriptor = self._real["open"](path, flags, *args, **options)
        if is_inside:
            if is_new:
                self._add(path)
            self._by_descriptor[descriptor] = self._by_path[path]
        return descriptor

    def _close(self, descriptor):
        self._by_descriptor.pop(descriptor, None)
        self._real["close"](descriptor)

    def _write(self, descriptor, content):
        assert descriptor not in self._by_descriptor, "where would that be?"
        return self._real["write"](descriptor, content)

    def _pwrite(self, descriptor, content, start):
        written = self._real["pwrite"](descriptor, content, start)
        if descriptor in self._by_descriptor:
            number = self._by_descriptor[descriptor]
            self.log.append(("write", number, start, bytes(content[:written])))
        return written

    def _ftruncate(self, descriptor, size):
        self._real["ftruncate"](descriptor, size)
        if descriptor in self._by_descriptor:
            self.log.append(("write", self._by_descriptor[descriptor], size, None))

    def _fsync(self, descriptor):
        self._real["fsync"](descriptor)
        if descriptor in self._by_descriptor:
            self.log.append(("sync", self._by_descriptor[descriptor]))

    def _fdatasync(self, descriptor):
        number = self._by_descriptor.get(descriptor)
        if number is not None and self.syncs_to_fail:
            self.syncs_to_fail -= 1
            self.happened_failures += 1
            # The pages count as clean from here on: the next call has nothing to write.
            self.log.append(("forget", number))
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._fsync(descriptor)

    def _mkdir(self, path, *args, **options):
        self._real["mkdir"](path, *args, **options)
        if str(path).startswith(self.root):
            self._add(path)
            self.log.append(("folder", self._by_path[path]))

    def _rmdir(self, path):
        self._real["rmdir"](path)
        self._remove(path)

    def _unlink(self, path):
        self._real["unlink"](path)
        self._remove(path)

    def _rename(self, source, target):
        self._real["rename"](source, target)
        if not str(source).startswith(self.root):
            return
        number = self._by_path[source]
        for path in [path for path in self._by_path if path.startswith(f"{source}/")]:
            self._by_path[target + path.removeprefix(source)] = self._by_path.pop(path)
        self._remove(source)
        self._add(target, number)

    def _add(self, path, number=None):
        self._by_path[path] = number = number or next(self._numbers)
        above, name = os.path.split(path)
        self.log.append(("name", self._by_path[above], name, number))

    def _remove(self, path):
        if path in self._by_path:
            above, name = os.path.split(path)
            self.log.append(("name", self._by_path[above], name, None))
            del self._by_path[path]

    # -- the power cut --------------------------------------------------------------------------

    def after_cut(self, at, folder, keep):
        """Make ``folder`` what is found below the root after a power cut at ``log[at]``.

        Args:
            at: so many entries of the log have happened.
            folder: is made.
            keep: called for each thing that was not synced; tells whether it is there all the same.

        Returns:
            The marks before the cut.
        """
        files, folders, marks = {}, {0: _Folder()}, []
        for entry in self.log[:at]:
            if not isinstance(entry, tuple):
                marks.append(entry)
                continue
            kind, number, *rest = entry
            if kind == "folder":
                folders.setdefault(number, _Folder())
            elif kind == "name":
                folders.setdefault(number, _Folder()).changes.append(tuple(rest))
            elif kind == "write":
                files.setdefault(number, _File()).writes.append(tuple(rest))
            elif kind == "forget":
                files.setdefault(number, _File()).writes.clear()
            else:
                self._settle(files.get(number), folders.get(number))
        for each in files.values():
            each.writes = [write for write in each.writes if keep()]
        for each in folders.values():
            each.changes = [change for change in each.changes if keep()]
        for number in {*files, *folders}:
            self._settle(files.get(number), folders.get(number))
        self._build(Path(folder), 0, files, folders)
        return marks

    @staticmethod
    def _settle(file, folder):
        if file is not None:
            for write in file.writes:
                file.apply(write)
            file.writes = []
        if folder is not None:
            for change in folder.changes:
                folder.apply(change)
            folder.changes = []

    def _build(self, path, number, files, folders):
        path.mkdir()
        for name, below in folders[number].sure.items():
            if below in folders:
                self._build(path / name, below, files, folders)
            else:
                (path / name).write_bytes(files.get(below, _File()).sure)
