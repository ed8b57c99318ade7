"""The project's workflows as a scheduler sees them: read when changed, the last good one kept."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping

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

        While nothing changes, a look costs one question about each file and each folder.
        """
        seen = {name: self._watched(name) for name in _folders(self.path)}
        gone = self._seen.keys() - seen.keys()
        for name in gone:
            self._definitions.pop(name, None)
            self._faults.pop(name, None)
        changed = [name for name in seen if self._seen.get(name) != seen[name]]
        self._seen = seen
        for name in changed:
            self._read_one(name, seen[name])
        return bool(changed or gone)

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
    except OSError:  # gone between the list and the look, as when an editor saves
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _entries(path: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as found:
            return list(found)
    except OSError:  # not there yet, or not any more
        return []
