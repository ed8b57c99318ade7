"""Where the run book lies: with the store it belongs to, or in a state folder of the user."""

from __future__ import annotations

import hashlib
import os
import re

from eventmill.base.environment import environment
from eventmill.base.errors import UsageError
from eventmill.schedule.book_file import BOOK_FILE

STATE_FOLDER = ".local/state"
"""Folder of programs' state below the home folder, unless ``XDG_STATE_HOME`` names another."""
_SHORT = 40


def book_path(address: str, folder: str | None, *, is_folder: bool) -> str:
    """Return the path of the run book of a store.

    Args:
        address: of the store.
        folder: the setting ``schedule.folder``; None: the store's own place.
        is_folder: whether the address is that of a data folder. Of any other store the book lies
            below the user's state folder, by the store's address: one for each store.

    Raises:
        UsageError: the user has no home folder, and no setting says where else.
    """
    if folder is not None:
        return os.path.join(os.path.abspath(os.path.expanduser(folder)), BOOK_FILE)
    if is_folder:
        return os.path.join(os.path.abspath(os.path.expanduser(address)), BOOK_FILE)
    return os.path.join(_state_home(), "eventmill", "schedule", _name(address), BOOK_FILE)


def _state_home() -> str:
    given = environment().get("XDG_STATE_HOME", "")
    if os.path.isabs(given):
        return given
    home = os.path.expanduser("~")
    if home == "~":
        raise UsageError(
            "this user has no home folder for the run book: name a folder in the setting"
            " schedule.folder"
        )
    return os.path.join(home, STATE_FOLDER)


def _name(address: str) -> str:
    """Return a folder's name for an address: to be read by people, and like no other's."""
    plain = address.rstrip("/").lower()
    readable = re.sub(r"[^a-z0-9]+", "-", plain.partition("://")[2]).strip("-")[:_SHORT]
    return f"{readable}-{hashlib.sha256(plain.encode()).hexdigest()[:8]}"
