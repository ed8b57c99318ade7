"""The compactor as a process of its own, and the thread that keeps one running.

A process, because turning bytes into columns holds Python's global lock: in the server's process
it would stop the acks. It ends by itself when the one that started it is gone.
"""

from __future__ import annotations

import json
import logging
import os
import select
import subprocess
import sys
import threading
from dataclasses import asdict

from eventmill.base.clock import SYSTEM_CLOCK
from eventmill.base.errors import EventmillError, StoreBusyError
from eventmill.base.settings import StoreSettings
from eventmill.store.local.disk import DISK
from eventmill.store.local.layout import Layout

_logger = logging.getLogger("eventmill.compaction")
_RESTART_SECONDS = 2.0
_STOP_SECONDS = 10.0


class CompactorProcess:
    """Runs the compactor beside this process and starts it again should it die."""

    def __init__(self, layout: Layout, options: StoreSettings) -> None:
        """Start it."""
        self._layout = layout
        self._options = options
        self._stopping = threading.Event()
        self._starting = threading.Lock()
        self.starts = 0
        """Processes started so far; more than one means that one died."""
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._watch, name="compactor watch", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int | None:
        """Process ID of the compactor that runs now; None between two."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def stop(self) -> None:
        """Ask it to finish its round and end; waits up to 10 s, then kills it (which is safe)."""
        with self._starting:
            self._stopping.set()
            process = self._process
        if process is not None and process.stdin is not None:
            process.stdin.close()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._thread.join(_STOP_SECONDS)

    def _watch(self) -> None:
        while not self._stopping.is_set():
            try:
                with self._starting:
                    if self._stopping.is_set():
                        return
                    self._process = process = self._start()
                    self.starts += 1
                ended = f"ended with {process.wait()}"
            except OSError as error:
                ended = f"cannot be started: {error}"
            if not self._stopping.wait(_RESTART_SECONDS):
                _logger.warning("the compactor %s; it is started again", ended)

    def _start(self) -> subprocess.Popen[bytes]:
        # Its stdin is a pipe that nobody writes to: it closes when this process ends, however
        # it ends, and that is how the compactor knows.
        return subprocess.Popen(
            [sys.executable, "-m", __name__, self._layout.root, json.dumps(asdict(self._options))],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )


def run_until_orphaned(path: str, options: StoreSettings) -> None:
    """Compact the store at ``path`` again and again until stdin is closed.

    Raises:
        StoreBusyError: another process is compacting this store.
    """
    from eventmill.store.local.compaction import Compactor  # after the lock: imports Arrow
    from eventmill.store.local.lock import FileLock

    layout = Layout.at(path)
    lock = FileLock(layout.compactor_lock, "compacting")
    compactor = Compactor(layout, options, SYSTEM_CLOCK, DISK)
    try:
        while not _closed(options.compact_every_seconds):
            try:
                report = compactor.run()
            except EventmillError as error:
                _logger.warning("compaction is put off: %s", error)
                continue
            if report.segments:
                _logger.info(
                    "%d rows of %d segments are in %d files", report.rows, report.segments,
                    report.files,
                )  # fmt: skip
    finally:
        compactor.close()
        lock.release()


def _closed(seconds: float) -> bool:
    """Wait up to ``seconds``; return whether stdin was closed."""
    readable, _, _ = select.select([sys.stdin], [], [], seconds)
    return bool(readable) and not os.read(sys.stdin.fileno(), 1)


def main() -> int:
    """Run as ``python -m eventmill.store.local.compactor FOLDER OPTIONS``."""
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    # Answering and acking come first: compaction yields the processor to them.
    os.nice(5)
    try:
        run_until_orphaned(sys.argv[1], StoreSettings(**json.loads(sys.argv[2])))
    except StoreBusyError as error:
        _logger.warning("%s", error)
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
