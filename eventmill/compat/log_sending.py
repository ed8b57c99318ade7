"""What a logging handler and a structlog processor share: an uploader, and never to do harm."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypedDict

from eventmill.address import connect
from eventmill.base.clock import SYSTEM_CLOCK
from eventmill.base.errors import UsageError
from eventmill.client.batch_uploader import BatchUploader
from eventmill.client.encode import Event
from eventmill.client.room import OnFull
from eventmill.client.spool.place import Durability
from eventmill.compat.log_record import LogEvents
from eventmill.schema.problem import EventProblem
from eventmill.wire.sink import Sink

TIMEOUT_SECONDS = 5.0
_OWN_NAME = "eventmill"
_JUST_NOW_SECONDS = 0.5
"""``logging.shutdown`` calls ``flush`` and then ``close``: together they take one time limit."""


class LogOptions(TypedDict, total=False):
    """What ``EventLogHandler`` and ``EventProcessor`` take by keyword beside where events go."""

    key: str | None
    """Credential for the server; None: as in the settings (``EVENTMILL_KEY``)."""
    spool_dir: str | None
    """Folder in which records wait; None: as ``BatchUploader`` chooses."""
    durability: Durability | None
    """Of records that wait; see ``BatchUploader``."""
    on_full: OnFull
    """What becomes of records when the spool is full; ``drop_newest`` when absent, as a program
    must not stand still for its log."""
    service: str
    """Name of the program, for the column ``service``."""
    extra_columns: Sequence[str]
    """Names that have a column of their own in the table, which then is of a message of yours
    with the fields of ``eventmill.LogRecord`` and these; all others go into ``extra``."""
    timeout_seconds: float
    """How long ``flush``, ``close`` and the end of the program wait for what is not sent yet; 5
    when absent."""


class LogSending:
    """Stages what was logged; for one handler or processor. Safe from any thread."""

    def __init__(
        self,
        address: str | None,
        table: str | None,
        uploader: BatchUploader | None,
        *,
        key: str | None = None,
        spool_dir: str | None = None,
        durability: Durability | None = None,
        on_full: OnFull = "drop_newest",
        service: str = "",
        extra_columns: Sequence[str] = (),
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        """Open what ``address`` names, or take ``uploader``, which stays the caller's.

        Raises:
            UsageError: both are given, or no table is named, or an option makes no sense.
        """
        if not timeout_seconds >= 0:
            raise UsageError(f"timeout_seconds {timeout_seconds!r} must not be negative")
        self.events = LogEvents(service, extra_columns)
        self._timeout_seconds = timeout_seconds
        self._sink: Sink | None = None
        if uploader is not None:
            if any((address, table, key, spool_dir, durability, on_full != "drop_newest")):
                raise UsageError(
                    "an uploader says where events go and how they wait: give no address, table,"
                    " key, spool_dir, durability or on_full with it"
                )
            self.uploader = uploader
        elif table is None:
            raise UsageError("no table is named: give table='ops.logs', or an uploader")
        else:
            self._sink = connect(address, key=key)
            try:
                self.uploader = BatchUploader(
                    self._sink,
                    table,
                    spool_dir=spool_dir,
                    durability=durability,
                    on_full=on_full,
                    close_at_exit=False,  # a program logs until logging itself is shut down
                )
            except BaseException:
                self._sink.close()
                raise
        self._inside = threading.local()
        self._gave_up_at = -_JUST_NOW_SECONDS
        self.is_closed = False

    def stage(self, make: Callable[[bool], Event | None], tell: Callable[[], None]) -> None:
        """Stage what ``make`` returns, if anything; no error gets out.

        Passed over are what is logged while an event is made or staged in this thread, as it
        would have no end; what eventmill's own threads log, callbacks of the application's
        included; and everything after ``close``.

        Args:
            make: returns the event. Told False at first, and True when the table would not take
                it: then without columns of the user's own.
            tell: called from within the handling of an error, to tell of it.
        """
        if self.is_closed or getattr(self._inside, "active", False) or _in_own_thread():
            return
        self._inside.active = True
        try:
            event = make(False)
            if event is None:
                return
            try:
                self.uploader.stage(event)
            except EventProblem:
                if not self.events.extra_columns or (event := make(True)) is None:
                    raise
                self.uploader.stage(event)
        except Exception:  # noqa: BLE001 - told, and whoever logs goes on
            tell()
        finally:
            self._inside.active = False

    def flush(self) -> int:
        """Wait until everything staged so far is settled; return how many events are left."""
        with self._deaf():
            left = self.uploader.flush(self._timeout_seconds)
        if left:
            self._gave_up_at = SYSTEM_CLOCK.monotonic()
        return left

    def close(self) -> None:
        """Send what is left, and close what was opened here; a second call does nothing."""
        if self.is_closed:
            return
        self.is_closed = True
        has_just_waited = SYSTEM_CLOCK.monotonic() - self._gave_up_at < _JUST_NOW_SECONDS
        seconds = 0.0 if has_just_waited else self._timeout_seconds
        with self._deaf():
            if self._sink is None:
                self.uploader.flush(seconds)
            else:
                self.uploader.close(seconds)
                self._sink.close()

    @contextmanager
    def _deaf(self) -> Iterator[None]:
        """Pass over what this thread logs.

        A finalizer that logs, such as asyncio's of tasks, may run while the uploader holds a
        lock here, and would wait for that very lock.
        """
        was_active = getattr(self._inside, "active", False)
        self._inside.active = True
        try:
            yield
        finally:
            self._inside.active = was_active


def is_own_logger(name: object) -> bool:
    """Tell whether a logger is Eventmill's own: what it logs of sending must not be sent."""
    return isinstance(name, str) and (name == _OWN_NAME or name.startswith(f"{_OWN_NAME}."))


def _in_own_thread() -> bool:
    return threading.current_thread().name.startswith("eventmill-")
