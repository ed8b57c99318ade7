"""One writer a store: an flock that dies with its process, and a note of who holds it."""

from __future__ import annotations

import fcntl
import json
import os
from typing import Any

from eventmill.base.clock import SYSTEM_CLOCK
from eventmill.base.errors import StoreBusyError, UsageError
from eventmill.store.local.layout import Layout

_LOOKS = 5


class FileLock:
    """An exclusive lock on a file, with a JSON note in it that others may read."""

    def __init__(self, path: str, purpose: str) -> None:
        """Take the lock at once.

        Raises:
            StoreBusyError: another process holds it; the message names the process.
            UsageError: this process holds it itself.
        """
        self._path = path
        self._fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
        try:
            self._take()
        except OSError as error:
            os.close(self._fd)
            self._fd = -1
            note = read_note(path)
            if note.get("pid") == os.getpid():
                raise UsageError(
                    f"this process has {os.path.dirname(path)} open already: use that one, or close"
                    " it first"
                ) from None
            holder = f"process {note['pid']}" if note.get("pid") else "another process"
            raise StoreBusyError(
                f"{holder} is {purpose} {os.path.dirname(path)}: wait for it, stop it, or send to"
                " its server",
                retry_after_seconds=0.2,
            ) from error
        self.write_note({"pid": os.getpid()})

    def _take(self) -> None:
        # Whoever only looks (``is_held``) holds the lock for an instant: look again before
        # calling it busy.
        for _ in range(_LOOKS):
            try:
                return fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                SYSTEM_CLOCK.sleep(0.01)
        return fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def write_note(self, note: dict[str, Any], *, for_owner_alone: bool = False) -> None:
        """Replace the note; only for the eyes of others, hence not synced.

        ``for_owner_alone`` closes the file to everybody else before anything is written.
        """
        if for_owner_alone:
            os.fchmod(self._fd, 0o600)
        text = json.dumps(note).encode()
        os.pwrite(self._fd, text, 0)
        os.truncate(self._fd, len(text))

    def release(self) -> None:
        """Let go; a second call does nothing."""
        if self._fd >= 0:
            self.write_note({})
            os.close(self._fd)
            self._fd = -1


def read_note(path: str) -> dict[str, Any]:
    """Return the note in a lock file; empty when there is none or it is being written."""
    try:
        with open(path, "rb") as file:
            note = json.loads(file.read() or b"{}")
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def is_held(path: str) -> bool:
    """Return whether a process holds the lock at ``path`` now."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def server_url(path: str) -> str | None:
    """Return the URL of the server that runs on the store in ``path``; None when none does."""
    return _noted(path, "url")


def server_key(path: str) -> str | None:
    """Return the key by which the folder's owner reaches the server on ``path``; None: none."""
    return _noted(path, "key")


def _noted(path: str, word: str) -> str | None:
    lock = Layout.at(path).writer_lock
    if not is_held(lock):
        return None
    value = read_note(lock).get(word)
    return value if isinstance(value, str) else None
