"""Forks wait for what must be whole in a child: locks that are being noted, modules on their way.

A lock (``flock``) lasts until the last process that inherited it has closed it. A child that was
forked between the opening of a lock and the note of who has it would keep the events of its dead
parent from everybody, for as long as it lives.

A child that was forked while a thread imports a module has half of it, or a lock of that import
which nobody gives back, for as long as it lives: it would never send.
"""

from __future__ import annotations

import os
import threading

FORK_PATIENCE_SECONDS = 1.0
"""A fork waits no longer than that: the one who holds it up may itself wait for the forking
thread, or for a disk."""


class ForkPause:
    """Forks wait while somebody holds ``lock``."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        """To be held with ``with``: Ctrl-C cannot strike between taking and holding it."""
        self._is_held_by_fork = False

    def before_fork(self) -> None:
        """Wait until nobody holds the lock."""
        self._is_held_by_fork = self.lock.acquire(timeout=FORK_PATIENCE_SECONDS)

    def after_in_parent(self) -> None:
        """Go on."""
        if self._is_held_by_fork:
            self.lock.release()

    def after_in_child(self) -> None:
        """Begin anew: whoever held it has stayed with the parent."""
        self.lock = threading.RLock()


fork_pause = ForkPause()

if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(
        before=fork_pause.before_fork,
        after_in_parent=fork_pause.after_in_parent,
        after_in_child=fork_pause.after_in_child,
    )
