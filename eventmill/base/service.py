"""The lifecycle of everything that runs in the background: one thread, started, stopped, waited.

One contract (``testing.contracts.ServiceContract``) proves for every service what users trip
over: stopped before it was started, stopped twice, stopped from many threads at once. Threads that
end with the object or the call that made them (a table's committer, a query's watch) are not
services: nobody starts or stops them by hand.
"""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod

_logger = logging.getLogger(__name__)


class Service(ABC):
    """A thread that runs until it is stopped. Safe from any thread.

    A subclass writes ``run``. A run that fails is logged with its traceback and begun again after
    a pause: a background thread that dies unseen is the worst way for it to fail. ``failures``
    counts those.
    """

    def __init__(self, name: str, *, restart_pause_seconds: float = 1.0) -> None:
        """Prepare the service; no thread exists before ``start``.

        Args:
            name: of the thread, as it is seen in logs and debuggers.
            restart_pause_seconds: pause before a run that failed is begun again.
        """
        self.name = name
        self.failures = 0
        """Runs that ended with an exception."""
        self._restart_pause_seconds = restart_pause_seconds
        # A signal's function may stop the service while its thread is being started.
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    @abstractmethod
    def run(self, stopping: threading.Event) -> None:
        """Do the work until ``stopping`` is set; may return early, which ends the service."""

    def wake(self) -> None:  # noqa: B027 - a service that only waits on ``stopping`` needs none
        """Wake ``run`` from a wait of its own; called after ``stopping`` was set."""

    @property
    def running(self) -> bool:
        """Whether the thread is alive."""
        thread = self._thread
        return thread is not None and thread.is_alive()

    def start(self) -> None:
        """Start the thread; does nothing while it runs. A stopped service may start again."""
        with self._lock:
            if self.running and not self._stopping.is_set():
                return
            self._stopping = threading.Event()
            self._thread = threading.Thread(
                target=self._run_until_stopped,
                args=(self._stopping, self._thread),
                name=self.name,
                daemon=True,
            )
            self._thread.start()

    def stop(self, timeout_seconds: float | None = None) -> bool:
        """Ask the thread to end, and wait for it.

        Promise: a second call, and a call before ``start``, does no harm. From the service's own
        thread it asks and does not wait.

        Args:
            timeout_seconds: wait at most this long; None: until it has ended.

        Returns:
            Whether the thread has ended.
        """
        self.ask_to_end()
        self.wake()
        return self.wait(timeout_seconds)

    def ask_to_end(self) -> None:
        """Set ``stopping``, and neither wake nor wait: for whoever does that for many at once."""
        with self._lock:
            self._stopping.set()

    def wait(self, timeout_seconds: float | None = None) -> bool:
        """Wait until the thread has ended; tell whether it has (True when it never started)."""
        thread = self._thread
        if thread is None:
            return True
        if thread is threading.current_thread():
            return False
        try:
            thread.join(timeout_seconds)
        except RuntimeError:  # its start is what a signal's function has interrupted
            return False
        return not thread.is_alive()

    def _run_until_stopped(
        self, stopping: threading.Event, previous: threading.Thread | None
    ) -> None:
        if previous is not None:
            previous.join()  # it was asked to stop; two at a time would be two services
        while not stopping.is_set():
            try:
                self.run(stopping)
            except Exception:  # the one place where a thread's failure can still be told
                self.failures += 1
                _logger.exception(
                    "%s failed; it runs again in %s s", self.name, self._restart_pause_seconds
                )
                stopping.wait(self._restart_pause_seconds)
            else:
                return
