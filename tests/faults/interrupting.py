"""Strikes at every point of a call at which Python would run the function of a signal.

Between two bytecodes that is, when a function is entered and when one written in C has returned;
``sys.setprofile`` is called at just those points, in the one thread.
"""

import sys

NOT_STRUCK = ("__enter__", "__exit__", "_release_save", "_acquire_restore", "_is_owned")
"""Parts of ``threading.Condition`` that leave its lock in disorder when they are broken off."""


class Interruption:
    """Runs ``strike`` at point number ``at`` of what happens within the ``with`` block."""

    def __init__(self, at, strike):
        self.at = at
        self.strike = strike
        self.has_struck = False
        """Whether there was such a point; when not, all of them are behind us."""
        self._passed = 0

    def __enter__(self):
        sys.setprofile(self._pass)
        return self

    def __exit__(self, *exc):
        sys.setprofile(None)

    def _pass(self, frame, event, argument):
        if event not in ("call", "c_return"):
            return
        if frame.f_code is Interruption.__exit__.__code__:
            return  # called by the end of the block, and no part of what is struck
        if frame.f_globals["__name__"] == "_weakrefset":
            return  # called when an object goes, where what is raised gets lost
        if frame.f_globals["__name__"] == "threading" and frame.f_code.co_name in NOT_STRUCK:
            return
        self._passed += 1
        if self._passed == self.at:
            sys.setprofile(None)
            self.has_struck = True
            self.strike()


def every_point(strike):
    """Yield an interruption for each point, until the call has no more of them."""
    at = 0
    interruption = None
    while interruption is None or interruption.has_struck:
        at += 1
        interruption = Interruption(at, strike)
        yield interruption
