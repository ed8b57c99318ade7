"""``EventProcessor``: what a program logs with structlog becomes rows of a table."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
from collections.abc import Callable, Mapping, MutableMapping
from datetime import datetime
from typing import Any, TypeAlias, TypeVar, Unpack, cast

from eventmill.base.clock import SYSTEM_CLOCK
from eventmill.client.batch_uploader import BatchUploader
from eventmill.client.encode import Event
from eventmill.client.tally import RareLog
from eventmill.compat.log_record import moment
from eventmill.compat.log_sending import LogOptions, LogSending, is_own_logger
from eventmill.compat.log_text import (
    SHORT_CHARACTERS_MAX,
    ExcInfo,
    ending,
    exception_columns,
    shown,
)
from eventmill.schema import times

EventDict: TypeAlias = MutableMapping[str, Any]
_D = TypeVar("_D", bound=EventDict)

_LEVELS = {"WARN": "WARNING", "EXCEPTION": "ERROR", "FATAL": "CRITICAL"}
"""Names that are other words for a level."""
_TEXTS = {
    "file": ("pathname", "filename"),
    "function": ("func_name",),
    "process_name": ("process_name",),
    "thread_name": ("thread_name",),
    "trace_id": ("trace_id",),
    "span_id": ("span_id",),
}
"""Columns, and the keys under which structlog's own processors and OpenTelemetry have them."""
_format_exception = logging.Formatter().formatException


class EventProcessor:
    """Stages each event of structlog, and hands it on as it is.

    ::

        structlog.configure(
            processors=[
                structlog.contextvars.merge_contextvars,
                structlog.processors.add_log_level,
                structlog.processors.StackInfoRenderer(),
                eventmill.EventProcessor("http://127.0.0.1:8484", "ops.logs"),
                structlog.dev.ConsoleRenderer(),
            ]
        )

    It belongs behind what adds to the event, and before what renders it. Promise: a call that
    logs never waits for the network and never sees an error of ours; an event that cannot be
    staged is told by the logger ``eventmill.client``, at most once a minute for a cause. At the
    end of the program what is left is sent, as ``close`` does.
    """

    def __init__(
        self,
        address: str | None = None,
        table: str | None = None,
        *,
        uploader: BatchUploader | None = None,
        to_event: Callable[[Mapping[str, Any]], Event | None] | None = None,
        **options: Unpack[LogOptions],
    ) -> None:
        """Prepare to take events; a server need not be up.

        Args:
            address: as ``eventmill.connect`` takes it; None: as in the settings.
            table: of ``eventmill.LogRecord``, unless ``to_event`` makes events of another type.
            uploader: in place of the two; it stays the caller's, who closes it.
            to_event: makes the event of a copy of structlog's, a message or a dict, or None for
                no event. None: a row of ``eventmill.LogRecord``.
            **options: see ``LogOptions``.

        Raises:
            UsageError: no table is named, or an argument makes no sense.
            StoreBusyError: the address is a folder that another process holds.
        """
        self._sending = LogSending(address, table, uploader, **options)
        self._to_event = to_event
        self._log = RareLog(SYSTEM_CLOCK)
        atexit.register(self._sending.close)

    def __call__(self, logger: object, method_name: str, event_dict: _D) -> _D:
        """Stage a copy of ``event_dict``, and return ``event_dict``."""
        name = event_dict.get("logger") or getattr(logger, "name", "")
        if not is_own_logger(name):
            self._sending.stage(
                lambda is_plain: self._event(name, method_name, event_dict, is_plain), self._tell
            )
        return event_dict

    def __repr__(self) -> str:
        return f"<EventProcessor into {self._sending.uploader!r}>"

    @property
    def uploader(self) -> BatchUploader:
        """What events are staged with; its ``stats`` say what became of them."""
        return self._sending.uploader

    def flush(self) -> int:
        """Wait until every event so far is settled, at most ``timeout_seconds``.

        Returns:
            How many events are left.
        """
        return self._sending.flush()

    def close(self) -> None:
        """Send what is left, at most for ``timeout_seconds``, and take no more events."""
        atexit.unregister(self._sending.close)
        self._sending.close()

    def _event(
        self, logger_name: object, method_name: str, event_dict: EventDict, is_plain: bool
    ) -> Event | None:
        left = dict(event_dict)
        if self._to_event is not None:
            return self._to_event(left)
        columns = event_columns(left, method_name, logger_name)
        extra = {name: value for name, value in left.items() if not name.startswith("_")}
        return self._sending.events.make(columns, extra, is_plain=is_plain)

    def _tell(self) -> None:
        error = sys.exception()
        self._log.tell(
            logging.ERROR,
            type(error).__name__,
            f"{self.uploader.table}: an event of structlog is not staged: {shown(error)}",
        )


def event_columns(left: dict[str, Any], method_name: str, logger_name: object) -> dict[str, Any]:
    """Return the columns of ``eventmill.LogRecord`` that an event fills, and take them from it.

    Args:
        left: the event; what remains in it has no column.
        method_name: by which it was logged, such as ``info``.
        logger_name: where the event has none.
    """
    level = shown(left.pop("level", None) or method_name, SHORT_CHARACTERS_MAX).upper()
    level = _LEVELS.get(level, level)
    number = left.pop("level_number", None)
    if not isinstance(number, int):
        number = logging.getLevelNamesMapping().get(level, 0)
    left.pop("logger", None)
    columns: dict[str, Any] = {
        "logged_at": _logged_at(left),
        "level": level,
        "level_number": number,
        "logger": shown(logger_name or "", SHORT_CHARACTERS_MAX),
        "message": shown(_first(left, "event", "message", "msg") or ""),
        "process_id": os.getpid(),
        "thread_name": threading.current_thread().name,
    }
    for column, name in (("line", "lineno"), ("process_id", "process")):
        if isinstance(left.get(name), int):
            columns[column] = left.pop(name)
    for column, names in _TEXTS.items():
        value = _first(left, *names)
        if value is not None:
            columns[column] = shown(value, SHORT_CHARACTERS_MAX)
    return columns | _exception_of(left)


def _exception_of(left: dict[str, Any]) -> dict[str, Any]:
    """Return the columns of an exception and a stack, rendered already or not."""
    columns: dict[str, Any] = {}
    raised = left.pop("exc_info", None)
    if isinstance(raised, BaseException):
        raised = (type(raised), raised, raised.__traceback__)
    elif raised and not isinstance(raised, tuple):
        raised = sys.exc_info()
    if raised and raised[0] is not None:
        columns |= exception_columns(cast(ExcInfo, raised), _format_exception)
    # dict_tracebacks makes a list of it, which is kept as it is.
    if isinstance(left.get("exception"), str):
        columns["traceback"] = ending(left.pop("exception"))
    left.pop("stack_info", None)
    if isinstance(left.get("stack"), str):
        columns["stack"] = ending(left.pop("stack"))
    return columns


def _logged_at(left: dict[str, Any]) -> dict[str, int]:
    """Return when it was logged: what a time stamper said, if that can be read; else now."""
    value = left.get("timestamp")
    parts: tuple[int, int] | None = None
    if isinstance(value, str):
        try:
            parts = times.timestamp_parts_of_text(value)
        except ValueError:
            parts = None  # in a form of the application's: kept as it is
    elif isinstance(value, datetime) and value.tzinfo is not None:
        parts = times.timestamp_parts_of_datetime(value)
    elif isinstance(value, (int, float)) and 0 <= value < times.SECONDS_MAX:
        del left["timestamp"]
        return moment(value)
    if parts is None:
        return moment(SYSTEM_CLOCK.now())
    del left["timestamp"]
    return {"seconds": parts[0], "nanos": parts[1]}


def _first(left: dict[str, Any], *names: str) -> object:
    for name in names:
        if name in left:
            return cast(object, left.pop(name))
    return None
