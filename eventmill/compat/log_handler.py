"""``EventLogHandler``: what a program logs becomes rows of a table."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Unpack, cast

from eventmill.client.batch_uploader import BatchUploader
from eventmill.client.encode import Event
from eventmill.compat.log_record import moment
from eventmill.compat.log_sending import LogOptions, LogSending, is_own_logger
from eventmill.compat.log_text import (
    SHORT_CHARACTERS_MAX,
    ending,
    exception_columns,
    message_of,
    shown,
)

_PLAIN_FORMATTER = logging.Formatter()
_ELSEWHERE = frozenset(
    (
        "otelServiceName",
        "otelSpanID",
        "otelTraceID",
        "span_id",
        "trace_id",
    )
)
_STANDARD = (
    frozenset(logging.makeLogRecord({}).__dict__)
    | {"asctime", "message", "taskName"}  # of formatters, and of Python 3.12
    | _ELSEWHERE
)
"""Attributes of every record, and those that have a column: all others were given as ``extra``."""


class EventLogHandler(logging.Handler):
    """Stages each log record as an event; usable from ``logging.config.dictConfig``.

    ::

        "handlers": {
            "events": {
                "class": "eventmill.EventLogHandler",
                "address": "http://127.0.0.1:8484",
                "table": "ops.logs",
            },
        }

    Promise: a call that logs never waits for the network and never sees an error of ours; what
    cannot be staged is told as every handler tells it (``logging.Handler.handleError``). Records
    that wait survive as those of a ``BatchUploader`` do. What Eventmill's own loggers say
    (``eventmill`` and below) is passed over, and so is what is logged after ``close``.

    The handler's formatter is asked for tracebacks alone: a row has columns in place of a layout.
    """

    def __init__(
        self,
        address: str | None = None,
        table: str | None = None,
        *,
        uploader: BatchUploader | None = None,
        to_event: Callable[[logging.LogRecord], Event | None] | None = None,
        level: int | str = logging.NOTSET,
        **options: Unpack[LogOptions],
    ) -> None:
        """Prepare to take records; a server need not be up.

        Args:
            address: as ``eventmill.connect`` takes it; None: as in the settings.
            table: of ``eventmill.LogRecord``, unless ``to_event`` makes events of another type.
            uploader: in place of the two; it stays the caller's, who closes it.
            to_event: makes the event of a record, a message or a dict, or None for no event;
                ``record_row`` is a start. None: a row of ``eventmill.LogRecord``.
            level: of records that are taken.
            **options: see ``LogOptions``.

        Raises:
            UsageError: no table is named, or an argument makes no sense.
            StoreBusyError: the address is a folder that another process holds.
        """
        self._to_event = to_event
        self._sending = LogSending(address, table, uploader, **options)
        try:
            super().__init__(level)
        except BaseException:
            self._sending.close()
            raise

    def __repr__(self) -> str:
        level = logging.getLevelName(self.level)
        return f"<EventLogHandler into {self._sending.uploader!r} ({level})>"

    @property
    def uploader(self) -> BatchUploader:
        """What records are staged with; its ``stats`` say what became of them."""
        return self._sending.uploader

    def handle(self, record: logging.LogRecord) -> Any:  # noqa: ANN401 - differs by Python version
        """Take ``record`` when the handler's filters pass it.

        Without the handler's lock: staging is safe from any thread, and a thread that sends and
        logs of it must not wait for one that holds the lock and waits for what is sent.
        """
        passed = False if is_own_logger(record.name) else self.filter(record)
        if passed:
            # From Python 3.12 on a filter may put another record in place of this one.
            replaced = cast(object, passed)
            self.emit(replaced if isinstance(replaced, logging.LogRecord) else record)
        return passed

    def emit(self, record: logging.LogRecord) -> None:
        """Stage ``record``."""
        self._sending.stage(
            lambda is_plain: self._event(record, is_plain), lambda: self.handleError(record)
        )

    def flush(self) -> None:
        """Wait until every record so far is settled, at most ``timeout_seconds``."""
        self._sending.flush()

    def close(self) -> None:
        """Send what is left, at most for ``timeout_seconds``, and take no more records."""
        self._sending.close()
        super().close()

    def _event(self, record: logging.LogRecord, is_plain: bool) -> Event | None:
        if self._to_event is not None:
            return self._to_event(record)
        columns = record_columns(record, self.formatter)
        return self._sending.events.make(columns, record_extra(record), is_plain=is_plain)


def record_columns(
    record: logging.LogRecord, formatter: logging.Formatter | None = None
) -> dict[str, Any]:
    """Return the columns of ``eventmill.LogRecord`` that a record fills; None: NULL.

    Args:
        record: is left as it is.
        formatter: of tracebacks; None: the standard one.
    """
    attributes = record.__dict__
    columns: dict[str, Any] = {
        "logged_at": moment(record.created),
        "level": _level_name(record),
        "level_number": record.levelno,
        "logger": shown(record.name, SHORT_CHARACTERS_MAX),
        "message": message_of(record),
        "file": record.pathname and shown(record.pathname, SHORT_CHARACTERS_MAX),
        "line": record.lineno,
        "function": record.funcName,
        "process_id": record.process,
        "process_name": record.processName,
        "thread_name": record.threadName,
        "task_name": attributes.get("taskName"),
        "trace_id": _trace_part(attributes, "trace_id", "otelTraceID"),
        "span_id": _trace_part(attributes, "span_id", "otelSpanID"),
    }
    if record.args:
        columns["template"] = shown(record.msg, SHORT_CHARACTERS_MAX)
    exc_info = record.exc_info
    if isinstance(exc_info, tuple) and exc_info[0] is not None:
        format_exception = (formatter or _PLAIN_FORMATTER).formatException
        columns |= exception_columns(exc_info, format_exception)
    elif record.exc_text:
        columns["traceback"] = ending(record.exc_text)
    if record.stack_info:
        columns["stack"] = ending(record.stack_info)
    if attributes.get("otelServiceName"):
        columns["service"] = shown(attributes["otelServiceName"], SHORT_CHARACTERS_MAX)
    return columns


def record_extra(record: logging.LogRecord) -> dict[str, object]:
    """Return what was given with ``extra``; names that begin with an underscore are left out."""
    return {
        name: value
        for name, value in record.__dict__.items()
        if name not in _STANDARD and not name.startswith("_")
    }


def record_row(record: logging.LogRecord) -> dict[str, Any]:
    """Return ``record`` as a dict of its columns and of its ``extra``, for a ``to_event``."""
    columns = {name: value for name, value in record_columns(record).items() if value is not None}
    return {**record_extra(record), **columns}


def _level_name(record: logging.LogRecord) -> str:
    """Return the name of a record's level, whatever a formatter has painted over it."""
    name = logging.getLevelName(record.levelno)
    return record.levelname if name.startswith("Level ") else str(name)


def _trace_part(attributes: dict[str, Any], *names: str) -> str | None:
    """Return the first of an identity's attributes that is set; OpenTelemetry writes 0 for none."""
    for name in names:
        value = attributes.get(name)
        if isinstance(value, str) and value.strip("0"):
            return shown(value, SHORT_CHARACTERS_MAX)
    return None
