"""The project's workflows as a scheduler sees them: read when changed, the last good one kept."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping

from eventmill.base.errors import EventmillError
from eventmill.workflow.definition import WorkflowDefinition

_UNREAD = "tests"
"""Folder of cases, which no run depends on."""
_Stamp = tuple[int, int, int]
_Watched = tuple[tuple[str, _Stamp], ...]


class WorkflowFolder:
    """Reads workflows again when their files change. For one thread."""

    def __init__(self, path: str, read: Callable[[str], WorkflowDefinition]) -> None:
        """Look in ``path``; nothing is read before ``look``.

        Args:
            path: has a folder for each workflow; may not exist yet.
            read: reads one of them, as ``workflow.reading.read_workflow`` does.
        """
        self.path = path
        self._read = read
        self._seen: dict[str, _Watched] = {}
        self._definitions: dict[str, WorkflowDefinition] = {}
        self._faults: dict[str, str] = {}

    @property
    def definitions(self) -> Mapping[str, WorkflowDefinition]:
        """Each workflow that can be run, by name: as its folder is, or as it last was good."""
        return self._definitions

    @property
    def faults(self) -> Mapping[str, str]:
        """Why a folder cannot be used as it is now, by name."""
        return self._faults

    def look(self) -> bool:
        """Read what has changed since the last look; return whether anything has.

        While nothing changes, a look costs one question about each file and each folder. What
        cannot be read, as when a network's disk is away, is no folder that is gone: it is a fault.
        """
        try:
            names = _folders(self.path)
        except OSError as error:
            return self._note_unread(self._definitions, self.path, error)
        is_changed = False
        for name in (self._definitions.keys() | self._faults.keys()) - set(names):
            is_changed = True
            self._definitions.pop(name, None)
            self._faults.pop(name, None)
        self._seen = {name: self._seen[name] for name in names if name in self._seen}
        for name in names:
            try:
                watched = self._watched(name)
            except OSError as error:
                is_changed |= self._note_unread([name], os.path.join(self.path, name), error)
                continue
            if self._seen.get(name) != watched:
                is_changed = True
                self._seen[name] = watched
                self._read_one(name, watched)
        return is_changed

    def _note_unread(self, names: Iterable[str], path: str, error: OSError) -> bool:
        """Keep workflows as they last were good, with a fault; return whether it is a new one."""
        told = f"{path} cannot be read: {error.strerror}"
        changed = [name for name in names if self._faults.get(name) != told]
        for name in changed:
            self._faults[name] = told
            self._seen.pop(name, None)  # so that it is read when it can be
        return bool(changed)

    def _watched(self, name: str) -> _Watched:
        """Return what moves when a file of a workflow's folder changes, comes or goes."""
        known = self._seen.get(name, ())
        if known and all(_stamp(path) == stamp for path, stamp in known):
            return known
        return tuple(_walk(os.path.join(self.path, name)))

    def _read_one(self, name: str, watched: _Watched) -> None:
        folder = os.path.join(self.path, name)
        marks = {os.path.join(folder, mark) for mark in _MARKS}
        if marks.isdisjoint(path for path, _ in watched):  # it is no workflow, or no longer one
            self._definitions.pop(name, None)
            self._faults.pop(name, None)
            return
        try:
            self._definitions[name] = self._read(folder)
        except (EventmillError, OSError) as error:
            self._faults[name] = str(error)
        else:
            self._faults.pop(name, None)


_MARKS = ("workflow.toml", "query.sql", "pipeline.py")


def _folders(path: str) -> list[str]:
    return [
        entry.name for entry in _entries(path) if not entry.name.startswith(".") and entry.is_dir()
    ]


def _walk(folder: str) -> Iterator[tuple[str, _Stamp]]:
    """Yield a folder, what it holds, and what its folders hold, each with its stamp.

    The folder comes first: whatever comes or goes while it is read moves its stamp again.
    """
    stamp = _stamp(folder)
    if stamp is None:
        return
    yield folder, stamp
    for entry in _entries(folder):
        if entry.is_dir():
            if entry.name != _UNREAD and not entry.name.startswith((".", "__")):
                yield from _walk(entry.path)
        elif (found := _stamp(entry.path)) is not None:
            yield entry.path, found


def _stamp(path: str) -> _Stamp | None:
    """Return what moves when a file changes; of a folder, when a file comes or goes."""
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None  # gone between the list and the look, as when an editor saves
    return found.st_mtime_ns, found.st_size, found.st_ino


def _entries(path: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as found:
            return list(found)
    except (FileNotFoundError, NotADirectoryError):  # not there yet, or not any more
        return []
