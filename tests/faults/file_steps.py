"""Counts what a call does to files, and lets the process "die" before, in or after one step.

Dying is ``CrashError``; from then on every step raises it, so that no ``finally`` of the product
does what a dead process could not, and at the end of the block all that was opened is closed, as
the kernel does, which gives locks back.
"""

import builtins
import os

STEPS = (
    *("open", "mkdir", "rmdir", "rename", "unlink"),
    *("write", "pwrite", "ftruncate", "fsync", "fdatasync"),
)


class CrashError(BaseException):
    """Stands for the process dying: nothing in the product may catch it."""


class FileSteps:
    """Within its ``with`` block, functions of ``os`` that touch files are steps.

    ``how`` says what becomes of step number ``at``: the process dies ``before`` it, ``after`` it,
    or, of a write, with its last byte missing (``torn``). None: steps are counted. Syncs are
    counted and not made: the machine does not die here.
    """

    def __init__(self, at=None, how="before"):
        self.seen = []
        """Each step as (name, what it was done to)."""
        self.has_died = False
        self._at = at
        self._how = how
        self._real = {}
        self._opened = {}

    def __enter__(self):
        for name in (*STEPS, "close"):
            self._real[name] = getattr(os, name)
        self._real["file"] = builtins.open
        for name in STEPS:
            setattr(os, name, self._stepping(name))
        os.close = self._close
        builtins.open = self._open_file
        return self

    def __exit__(self, *exc):
        builtins.open = self._real.pop("file")
        for name, real in self._real.items():
            setattr(os, name, real)
        for descriptor in self._opened:
            os.close(descriptor)

    def step(self, name, target, call, torn=None):
        """Do ``call`` as one step; the test's own, such as putting into a store, as well."""
        if self.has_died:
            raise CrashError(f"{name} of a dead process")
        here = len(self.seen)
        self.seen.append((name, target))
        self.has_died = here == self._at
        if self.has_died and self._how == "before":
            raise CrashError(f"before {name}")
        if self.has_died and self._how == "torn":
            if torn is not None:
                torn()
            raise CrashError(f"within {name}")
        result = call()
        if self.has_died:
            raise CrashError(f"after {name}")
        return result

    def _stepping(self, name):
        real = (lambda *args: None) if "sync" in name else self._real[name]

        def stepping(first, *args, **options):
            torn = None
            if name in ("write", "pwrite"):
                content, *place = args
                torn = lambda: real(first, content[:-1], *place)  # noqa: E731
            target = self._opened.get(first, first) if isinstance(first, int) else first
            call = (
                (lambda: self._open(first, *args, **options))
                if name == "open"
                else (lambda: real(first, *args, **options))
            )
            return self.step(name, str(target), call, torn)

        return stepping

    def _open(self, path, *args, **options):
        descriptor = self._real["open"](path, *args, **options)
        self._opened[descriptor] = path
        return descriptor

    def _open_file(self, path, *args, **options):
        files = []
        try:
            self.step(
                "open", str(path), lambda: files.append(self._real["file"](path, *args, **options))
            )
        except CrashError:
            for file in files:
                file.close()
            raise
        return files[0]

    def _close(self, descriptor):
        self._opened.pop(descriptor, None)
        self._real["close"](descriptor)
