"""``EventProcessor`` in the chains that people have, with the real structlog."""

import json
import logging
import os
from datetime import UTC, datetime

import pytest
import structlog
from log_world import NOWHERE, Broken, logs_store, output_of
from structlog import processors
from structlog.contextvars import bind_contextvars, clear_contextvars, merge_contextvars

import eventmill
from eventmill.base.errors import UsageError
from eventmill.compat.log_record import log_record_type
from eventmill.store.memory import MemoryStore

MOMENT = datetime(2026, 11, 1, 12, 0, 0, 500_000, tzinfo=UTC)


class Rendered:
    """A logger that keeps what the last processor gives it."""

    def __init__(self):
        self.events = []

    def msg(self, event):
        self.events.append(event)

    info = warning = warn = error = exception = debug = critical = msg


def stored(log, *before, after=(), to=None, **options):
    """Return the rows of what ``log`` logs through a chain, and what the chain rendered."""
    store = to or logs_store()
    rendered = Rendered()
    with eventmill.BatchUploader(store, "ops.logs") as uploader:
        processor = eventmill.EventProcessor(uploader=uploader, **options)
        chain = [*before, processor, *after, processors.KeyValueRenderer(repr_native_str=False)]
        log(structlog.wrap_logger(rendered, processors=chain))
        assert processor.flush() == 0
        processor.close()
        assert uploader.stats().rejected == 0
    rows = store.query("SELECT * FROM ops.logs ORDER BY _insert_id")
    return [dict(row) for row in rows], rendered.events


def one_stored(log, *before, **options):
    (row,), _ = stored(log, *before, **options)
    return row


class TestAnEvent:
    def test_is_a_row_and_is_handed_on_as_it_is(self, logs):
        rendered = Rendered()
        processor = eventmill.EventProcessor(
            logs.address, "ops.logs", spool_dir=logs.spool_dir, service="till"
        )
        log = structlog.wrap_logger(
            rendered,
            processors=[
                merge_contextvars,
                processors.add_log_level,
                processors.CallsiteParameterAdder(),
                processor,
                processors.KeyValueRenderer(key_order=["event"], drop_missing=True),
            ],
        )
        bind_contextvars(request_id="r-1")
        try:
            log.warning("sold out", item="tea", left=0)
        finally:
            clear_contextvars()
        processor.close()
        (row,) = logs.rows()
        extra = json.loads(row["extra"])
        assert {name: extra[name] for name in ("item", "left", "request_id")} == {
            "item": "tea",
            "left": 0,
            "request_id": "r-1",
        }
        found = {name: row[name] for name in row if not name.startswith("_") and row[name]}
        del found["extra"], found["logged_at"], found["host"], found["line"]
        assert found == {
            "level": "WARNING",
            "level_number": 30,
            "message": "sold out",
            "service": "till",
            "file": __file__,
            "function": "test_is_a_row_and_is_handed_on_as_it_is",
            "process_id": os.getpid(),
            "process_name": "MainProcess",
            "thread_name": "MainThread",
        }
        assert rendered.events[0].startswith("event='sold out' ")
        assert "item='tea'" in rendered.events[0]

    def test_without_any_other_processor_has_level_time_and_process(self):
        before = datetime.now(UTC)
        row = one_stored(lambda log: log.info("sold"))
        assert before.replace(microsecond=0) <= row["logged_at"] <= datetime.now(UTC)
        assert (row["level"], row["level_number"]) == ("INFO", 20)
        assert (row["process_id"], row["thread_name"]) == (os.getpid(), "MainThread")
        assert row["extra"] is None

    @pytest.mark.parametrize(
        ("method", "level", "number"),
        [
            ("debug", "DEBUG", 10),
            ("warn", "WARNING", 30),
            ("exception", "ERROR", 40),
            ("critical", "CRITICAL", 50),
            ("msg", "INFO", 20),
        ],
    )
    def test_has_its_level_by_the_name_that_logging_gives_it(self, method, level, number):
        for chain in ([], [processors.add_log_level]):
            row = one_stored(lambda log: getattr(log, method)("sold"), *chain)
            assert (row["level"], row["level_number"]) == (level, number)

    def test_comes_with_the_logger_of_the_standard_library(self):
        with eventmill.BatchUploader(store := logs_store(), "ops.logs") as uploader:
            log = structlog.wrap_logger(
                logging.getLogger("till.front"),
                processors=[
                    structlog.stdlib.add_logger_name,
                    structlog.stdlib.add_log_level_number,
                    eventmill.EventProcessor(uploader=uploader),
                    structlog.stdlib.render_to_log_kwargs,
                ],
                wrapper_class=structlog.stdlib.BoundLogger,
            )
            log.warning("sold")
        (row,) = store.query("SELECT logger, level_number, extra FROM ops.logs")
        assert row == {"logger": "till.front", "level_number": 30, "extra": None}

    @pytest.mark.parametrize(
        ("given", "is_read"),
        [
            (MOMENT, True),
            (MOMENT.timestamp(), True),
            (MOMENT.isoformat(), True),
            ("2026-11-01T12:00:00.500000Z", True),
            (MOMENT.replace(tzinfo=None), False),
            ("12:00", False),
            (float("nan"), False),
            (1e300, False),
        ],
    )
    def test_has_the_time_of_its_time_stamper_where_that_can_be_read(self, given, is_read):
        row = one_stored(lambda log: log.info("sold", timestamp=given))
        assert (row["logged_at"] == MOMENT) is is_read
        assert (row["extra"] is None) is is_read

    def test_has_the_time_of_structlogs_own_time_stampers(self):
        for stamper in (processors.TimeStamper(), processors.TimeStamper(fmt="iso")):
            assert one_stored(lambda log: log.info("sold"), stamper)["extra"] is None

    def test_has_its_trace(self):
        row = one_stored(lambda log: log.info("sold", trace_id="4bf9", span_id="00f0"))
        assert (row["trace_id"], row["span_id"], row["extra"]) == ("4bf9", "00f0", None)

    def test_that_was_renamed_is_found(self):
        row = one_stored(lambda log: log.info("sold"), processors.EventRenamer("msg"))
        assert (row["message"], row["extra"]) == ("sold", None)

    def test_keeps_what_only_looks_like_a_callsite(self):
        row = one_stored(lambda log: log.info("sold", process="sale", lineno="third"))
        assert row["process_id"] == os.getpid()
        assert json.loads(row["extra"]) == {"process": "sale", "lineno": "third"}


class TestAnException:
    def log(self, log):
        try:
            raise KeyError("tea")
        except KeyError:
            log.exception("not sold", stack_info=True)

    @pytest.mark.parametrize("chain", [[], [processors.format_exc_info]])
    def test_is_told_rendered_or_not(self, chain):
        row = one_stored(self.log, processors.StackInfoRenderer(), *chain)
        assert row["traceback"].startswith("Traceback (most recent call last):")
        assert row["traceback"].endswith("KeyError: 'tea'")
        assert "in log\n" in row["stack"]
        assert row["extra"] is None
        if not chain:
            assert (row["exception_type"], row["exception_message"]) == ("KeyError", "'tea'")

    def test_made_a_dict_is_kept_as_it_is(self):
        row = one_stored(self.log, processors.dict_tracebacks)
        assert json.loads(row["extra"])["exception"][0]["exc_type"] == "KeyError"

    def test_is_taken_as_a_value_too(self):
        row = one_stored(lambda log: log.error("not sold", exc_info=ValueError("tea")))
        assert (row["exception_type"], row["exception_message"]) == ("ValueError", "tea")

    def test_that_is_none_is_none(self):
        row = one_stored(lambda log: log.error("not sold", exc_info=True))
        assert (row["exception_type"], row["traceback"]) == (None, None)


class TestNoHarm:
    def test_a_failure_is_told_and_the_event_goes_on(self, caplog):
        def to_event(event):
            raise KeyError("of the application")

        def log(log):
            for _ in range(3):
                log.info("sold")

        rows, rendered = stored(log, to_event=to_event)
        assert (rows, len(rendered)) == ([], 3)
        (told,) = [r for r in caplog.records if r.name == "eventmill.client"]
        assert "an event of structlog is not staged: 'of the application'" in told.getMessage()

    def test_values_that_cannot_be_shown_do_not_stop_it(self):
        def log(log):
            log.info(Broken(), thing=Broken())

        with eventmill.BatchUploader(store := logs_store(), "ops.logs") as uploader:
            processor = eventmill.EventProcessor(uploader=uploader)
            log(structlog.wrap_logger(Rendered(), processors=[processor, lambda *_: "x"]))
        (row,) = store.query("SELECT message, extra FROM ops.logs")
        assert row["message"] == "<Broken without a text: RuntimeError>"
        assert json.loads(row["extra"]) == {"thing": row["message"]}

    def test_what_eventmill_logs_is_passed_over(self):
        rows, rendered = stored(lambda log: log.info("sold", logger="eventmill.client"))
        assert (rows, len(rendered)) == ([], 1)

    def test_the_event_is_not_changed(self):
        given = {"event": "sold", "level": "info", "timestamp": 1.0, "item": "tea"}
        with eventmill.BatchUploader(logs_store(), "ops.logs") as uploader:
            handed_on = eventmill.EventProcessor(uploader=uploader)(None, "info", given)
        assert handed_on is given
        assert given == {"event": "sold", "level": "info", "timestamp": 1.0, "item": "tea"}

    @pytest.mark.slow
    def test_what_is_left_is_sent_when_the_program_ends(self, logs):
        program = f"""
import eventmill, structlog
structlog.configure(processors=[
    eventmill.EventProcessor({logs.address!r}, "ops.logs", spool_dir={logs.spool_dir!r}),
    structlog.processors.JSONRenderer(),
])
structlog.get_logger().info("sold")
"""
        assert output_of(program) == '{"event": "sold"}\n'
        assert logs.messages() == ["sold"]


class TestOptions:
    def test_to_event_gets_a_copy_of_the_event(self):
        def to_event(event):
            return log_record_type().cls(message=event.pop("event").upper())

        (row,), rendered = stored(lambda log: log.info("sold"), to_event=to_event)
        assert (row["message"], rendered) == ("SOLD", ["event=sold"])

    def test_what_makes_no_sense_is_refused_when_it_is_made(self):
        with pytest.raises(UsageError, match="table"):
            eventmill.EventProcessor(NOWHERE)
        with eventmill.BatchUploader(MemoryStore(), "ops.logs") as uploader:
            with pytest.raises(UsageError, match="uploader"):
                eventmill.EventProcessor(table="ops.logs", uploader=uploader)
            assert "ops.logs" in repr(eventmill.EventProcessor(uploader=uploader))
