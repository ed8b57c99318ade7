"""A lock of a module, which a forked child does not inherit from a thread that it does not have."""

from __future__ import annotations

import os
import threading


class RenewedLock:
    """Guards what belongs to a module; made at import, and never thrown away.

    Another thread may hold the lock at the moment of a fork. In the child nobody would ever give it
    back, and whoever asks for it there would wait for good.
    """

    def __init__(self) -> None:
        self._renew()
        if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
            os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self.lock = threading.RLock()
        """To be taken with ``with``; a signal's function may take it once more."""
