"""A table of what programs log, a logger that fills it, and programs that do."""

from __future__ import annotations

import logging
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass

import eventmill
from eventmill.schema.compile import compile_protos
from eventmill.schema.mapping import spec_from_proto
from eventmill.schema.table import TableId
from eventmill.store.memory import MemoryStore
from eventmill.store.port import Store

NOWHERE = "http://127.0.0.1:9"
"""Nothing listens on this port (discard)."""


def logs_spec(descriptor_set=None, message="eventmill.LogRecord"):
    """Return the definition of ``ops.logs``, from the .proto that ships with the package."""
    descriptor_set = descriptor_set or compile_protos(["eventmill/log_record.proto"])
    return spec_from_proto(TableId.parse("ops.logs"), descriptor_set, message)


@dataclass(frozen=True)
class Logs:
    """A table ``ops.logs``, and what is in it."""

    address: str
    spool_dir: str | None
    """For a server; a folder's events wait in memory."""
    store: Store
    """Beside whoever writes."""

    def rows(self, columns="*"):
        found = self.store.query(f"SELECT {columns} FROM ops.logs ORDER BY logged_at, message")
        return [dict(row) for row in found]

    def messages(self):
        return [row["message"] for row in self.rows("message, logged_at")]


def logs_store(*spec):
    """Return a store in memory with the table ``ops.logs``."""
    store = MemoryStore()
    store.apply(logs_spec(*spec))
    return store


@contextmanager
def logging_into(address=None, table=None, *, name="shop", **options):
    """Give a logger that has an ``EventLogHandler`` and no other, and the handler."""
    handler = eventmill.EventLogHandler(address, table, **options)
    logger = logging.getLogger(name)
    logger.setLevel(logging.DEBUG)
    propagate, logger.propagate = logger.propagate, False
    others, logger.handlers = logger.handlers, [handler]  # those of pytest raise what they cannot
    try:
        yield logger, handler
    finally:
        logger.handlers, logger.propagate = others, propagate
        handler.close()


def stored(log, *, to=None, **options):
    """Return the rows that a store has after ``log(logger)``."""
    store = to or logs_store()
    with eventmill.BatchUploader(store, "ops.logs") as uploader:
        with logging_into(uploader=uploader, **options) as (logger, _):
            log(logger)
        assert uploader.flush(10) == 0
        assert uploader.stats().rejected == 0
    return [dict(row) for row in store.query("SELECT * FROM ops.logs ORDER BY _insert_id")]


def one_stored(log, **options):
    (row,) = stored(log, **options)
    return row


def output_of(program):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


class Broken:
    def __str__(self):
        raise RuntimeError("out of order")

    __repr__ = __str__
