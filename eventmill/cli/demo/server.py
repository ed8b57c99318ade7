"""The demo's server: a process of its own, as in earnest, and ended whatever happens.

Even when the demo is killed: the server's stdin is a pipe that closes with the demo's process.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
from types import TracebackType

from eventmill.base.errors import UnavailableError
from eventmill.cli.demo.place import demo_environment

START_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 10.0
_GREETING = "listening on "


class ServerProcess:
    """``eventmill serve`` as a child process; a context manager."""

    def __init__(self, folder: str, *, port: int = 0) -> None:
        """Prepare to serve the data folder ``folder``; the log goes beside it."""
        self._folder = folder
        self._port = port
        self._log = f"{folder.rstrip(os.sep)}.log"
        self._child: subprocess.Popen[str] | None = None
        self.url = ""
        """Where it listens; empty before it was entered."""

    def __enter__(self) -> ServerProcess:
        command = [sys.executable, "-m", "eventmill", "serve"]
        command += ["--data", self._folder, "--port", str(self._port), "--until-stdin-ends"]
        with open(self._log, "w", encoding="utf-8") as log:
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=demo_environment(self._folder),
            )
        try:
            self.url = self._greeting(self._child)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def wait(self) -> int:
        """Wait until the server ends by itself, and return its exit code."""
        return self._child.wait() if self._child is not None else 0

    def stop(self) -> None:
        """Ask the server to end, wait for it, and end it after ten seconds."""
        child, self._child = self._child, None
        if child is None:
            return
        child.terminate()
        try:
            child.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()

    def _greeting(self, child: subprocess.Popen[str]) -> str:
        """Return the URL from the server's first line."""
        out = child.stdout
        if out is None:
            raise ValueError("the server was started without a pipe")
        readable, _, _ = select.select([out], [], [], START_SECONDS_MAX)
        line = out.readline() if readable else ""
        if line.startswith(_GREETING):
            return line.removeprefix(_GREETING).strip()
        with open(self._log, encoding="utf-8", errors="replace") as log:
            told = log.read().strip() or "it said nothing"
        raise UnavailableError(f"the server did not start: {told}; its log is {self._log}")
