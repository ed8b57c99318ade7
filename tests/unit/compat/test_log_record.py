"""What a record becomes: its columns, its JSON, columns of the user's own, a function of his."""

import io
import json
import logging
import logging.config
import logging.handlers
import os
import queue
import sys
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from log_world import Broken, logging_into, logs_store, one_stored, stored
from proto_world import compiled

from eventmill.compat.log_handler import record_row
from eventmill.compat.log_record import log_record_type
from eventmill.compat.log_text import TEXT_CHARACTERS_MAX
from eventmill.schema.compile import SHIPPED_PROTOS


def refuse(logger):
    try:
        raise ValueError("no such card\nnor any other")
    except ValueError:
        logger.exception("order %d is not paid", 17, stack_info=True, extra={"order": 17})


class TestARecord:
    def test_has_a_row_with_all_that_it_says(self, logs):
        before = datetime.now(UTC) - timedelta(microseconds=1)
        with logging_into(logs.address, "ops.logs", spool_dir=logs.spool_dir, service="till") as (
            logger,
            handler,
        ):
            refuse(logger)
            handler.flush()
        (row,) = logs.rows()
        assert before <= row.pop("logged_at") <= datetime.now(UTC)
        traceback, stack = row.pop("traceback"), row.pop("stack")
        assert traceback.startswith("Traceback (most recent call last):\n")
        assert traceback.endswith("ValueError: no such card\nnor any other")
        assert "in refuse\n    logger.exception(" in stack
        assert row.pop("host")
        assert row.pop("line") > 1
        assert json.loads(row.pop("extra")) == {"order": 17}
        own = {name: row[name] for name in row if not name.startswith("_")}
        assert own == {
            "level": "ERROR",
            "level_number": 40,
            "logger": "shop",
            "message": "order 17 is not paid",
            "template": "order %d is not paid",
            "exception_type": "ValueError",
            "exception_message": "no such card\nnor any other",
            "file": __file__,
            "function": "refuse",
            "service": "till",
            "process_id": os.getpid(),
            "process_name": "MainProcess",
            "thread_name": "MainThread",
            "task_name": None,
            "trace_id": None,
            "span_id": None,
        }

    def test_without_anything_special_has_null_for_it(self):
        row = one_stored(lambda logger: logger.info("plain"))
        special = ("template", "exception_type", "traceback", "stack", "extra", "trace_id")
        assert [row[name] for name in special] == [None] * len(special)

    def test_of_another_module_names_its_exception_in_full(self):
        def log(logger):
            try:
                json.loads("{")
            except ValueError as error:
                error.add_note("of the till")
                logger.warning("bad", exc_info=error)

        row = one_stored(log)
        assert row["exception_type"] == "json.decoder.JSONDecodeError"
        assert row["exception_message"].startswith("Expecting property name")
        assert row["traceback"].endswith("of the till")

    def test_asks_its_handlers_formatter_for_the_traceback_and_nothing_else(self):
        class Secret(logging.Formatter):
            def formatException(self, ei):
                return "hidden"

        def log(logger):
            logger.handlers[0].setFormatter(Secret("%(asctime)s %(message)s"))
            refuse(logger)

        row = one_stored(log)
        assert (row["message"], row["traceback"]) == ("order 17 is not paid", "hidden")

    def test_that_came_through_a_queue_keeps_what_the_queue_left(self):
        def log(logger):
            (handler,) = logger.handlers
            waiting = queue.SimpleQueue()
            listener = logging.handlers.QueueListener(waiting, handler)
            front = logging.getLogger("front")
            front.setLevel(logging.INFO)
            front.propagate = False
            front.addHandler(logging.handlers.QueueHandler(waiting))
            listener.start()
            front.info("sold %s", "tea", extra={"pieces": 3})
            listener.stop()

        row = one_stored(log)
        assert (row["logger"], row["message"]) == ("front", "sold tea")
        assert json.loads(row["extra"]) == {"pieces": 3}

    def test_whose_arguments_do_not_fit_is_kept_and_says_so(self):
        row = one_stored(lambda logger: logger.info("%d pieces of %s", *["three"]))
        assert row["message"].startswith("%d pieces of %s (its arguments do not fit: ")

    def test_whose_arguments_cannot_be_shown_is_kept_and_says_so(self):
        row = one_stored(lambda logger: logger.info("sold %s", Broken()))
        assert row["message"] == "sold %s (its arguments do not fit: out of order)"
        row = one_stored(lambda logger: logger.info(Broken()))
        assert "<Broken without a text: RuntimeError>" in row["message"]

    def test_keeps_the_name_of_its_level_under_a_painted_one(self):
        def log(logger):
            record = logger.makeRecord("shop", 30, "f", 1, "m", (), None)
            record.levelname = "\x1b[33mWARNING\x1b[0m"
            logger.handle(record)
            record = logger.makeRecord("shop", 25, "f", 1, "m", (), None)
            record.levelname = "NOTICE"
            logger.handle(record)

        assert [row["level"] for row in stored(log)] == ["WARNING", "NOTICE"]

    @pytest.mark.parametrize(
        ("extra", "found"),
        [
            ({"trace_id": "4bf9", "span_id": "00f0"}, ("4bf9", "00f0")),
            (
                {"otelTraceID": "4bf9", "otelSpanID": "00f0", "otelServiceName": ""},
                ("4bf9", "00f0"),
            ),
            ({"otelTraceID": "0", "otelSpanID": "0"}, (None, None)),
            ({"trace_id": "", "otelTraceID": "4bf9"}, ("4bf9", None)),
        ],
    )
    def test_has_the_trace_that_it_was_logged_in(self, extra, found):
        row = one_stored(lambda logger: logger.info("paid", extra=extra))
        assert (row["trace_id"], row["span_id"]) == found
        assert row["extra"] is None

    def test_has_the_service_that_opentelemetry_gives_it(self):
        row = one_stored(lambda logger: logger.info("paid", extra={"otelServiceName": "till"}))
        assert row["service"] == "till"

    def test_is_not_changed(self):
        records = []

        def log(logger):
            logger.addFilter(lambda record: records.append((record, dict(record.__dict__))) or True)
            refuse(logger)
            logger.filters.clear()

        stored(log)
        ((record, before),) = records
        assert record.__dict__ == before


class TestExtra:
    def test_of_every_kind_is_json(self):
        extra = {
            "pieces": 3,
            "price": float("nan"),
            "at": datetime(2026, 11, 1, tzinfo=UTC),
            "raw": b"\xff",
            "tags": ("a", None, True),
            "deep": {"order": {1: "x"}},
            "path": "b\udc80d",
            "_hidden": "not shown",
            "thing": SimpleNamespace(a=1),
        }
        row = one_stored(lambda logger: logger.info("sold", extra=extra))
        assert json.loads(row["extra"]) == {
            "pieces": 3,
            "price": "NaN",
            "at": "2026-11-01T00:00:00.000000Z",
            "raw": "/w==",
            "tags": ["a", None, True],
            "deep": {"order": {"1": "x"}},
            "path": "b?d",
            "thing": "namespace(a=1)",
        }

    def test_that_cannot_be_shown_takes_nothing_else_along(self):
        loop = []
        loop.append(loop)
        extra = {"pieces": 3, "broken": Broken(), "loop": loop, "within": {"broken": Broken()}}
        row = one_stored(lambda logger: logger.info("sold", extra=extra))
        told = json.loads(row["extra"])
        assert told["pieces"] == 3
        assert told["broken"] == "<Broken without a text: RuntimeError>"
        assert told["loop"] == "[[...]]"
        assert told["within"].startswith("<dict without a text") or "Broken" in told["within"]

    def test_that_is_far_too_long_is_cut_to_its_share(self):
        extra = {"pieces": 3, "page": "ä" * 1_000_000, "more": ["b" * 500_000]}
        row = one_stored(lambda logger: logger.info("sold", extra=extra))
        told = json.loads(row["extra"])
        assert told["pieces"] == 3
        assert told["page"].startswith('"ää')
        assert told["page"].endswith("...(truncated)")
        assert len(row["extra"]) < TEXT_CHARACTERS_MAX * 1.1

    def test_can_be_asked_for_in_sql(self, logs):
        with logging_into(logs.address, "ops.logs", spool_dir=logs.spool_dir) as (logger, _):
            logger.info("sold", extra={"order": {"id": 17}})
        (row,) = logs.rows("JSON_VALUE(extra, '$.order.id') AS id, message, logged_at")
        assert row["id"] == "17"


class TestOwnColumns:
    """A table of the user's own, with the fields of the shipped one and one more."""

    @pytest.fixture
    def store(self):
        with open(f"{SHIPPED_PROTOS}/eventmill/log_record.proto") as file:
            body = file.read().partition("// What a program has logged.")[2]
        body = body.rstrip().removesuffix("}") + "string request_id = 100; int64 pieces = 101; }"
        return logs_store(compiled(body), "t.LogRecord")

    def test_take_what_is_named_so_and_the_rest_stays_json(self, store):
        extra = {"request_id": "r-1", "pieces": 3, "order": 17}
        row = one_stored(
            lambda logger: logger.info("sold %s", "tea", extra=extra),
            to=store,
            extra_columns=["request_id", "pieces"],
        )
        assert (row["request_id"], row["pieces"]) == ("r-1", 3)
        assert json.loads(row["extra"]) == {"order": 17}
        assert (row["message"], row["level"]) == ("sold tea", "INFO")

    def test_give_way_to_json_where_a_value_does_not_fit(self, store):
        def log(logger):
            logger.info("first", extra={"pieces": 1})
            (handler,) = logger.handlers
            handler.flush()  # the table is known from here on
            logger.info("second", extra={"pieces": "many", "request_id": "r-2"})

        first, second = stored(log, to=store, extra_columns=("request_id", "pieces"))
        assert (first["pieces"], first["extra"]) == (1, None)
        assert json.loads(second["extra"]) == {"pieces": "many", "request_id": "r-2"}


class TestToEvent:
    def test_makes_a_message_or_a_dict_or_nothing(self):
        def to_event(record):
            if record.levelno < logging.INFO:
                return None
            if record.levelno == logging.INFO:
                return log_record_type().cls(message="as a message")
            return {"message": record.getMessage().upper(), "level": "LOUD"}

        def log(logger):
            logger.debug("nothing")
            logger.info("message")
            logger.warning("dict")

        found = [row["message"] for row in stored(log, to_event=to_event)]
        assert sorted(found) == ["DICT", "as a message"]

    def test_can_begin_with_the_row_that_it_would_be(self):
        def to_event(record):
            row = record_row(record)
            row["logger"] += f"/{row.pop('order')}"
            return row

        row = one_stored(lambda logger: logger.info("sold", extra={"order": 17}), to_event=to_event)
        assert (row["logger"], row["message"]) == ("shop/17", "sold")

    def test_that_fails_is_told_as_every_handler_tells_it(self, monkeypatch):
        told = io.StringIO()
        monkeypatch.setattr(sys, "stderr", told)

        def log(logger):
            logger.info("lost")
            logger.info("kept")

        def to_event(record):
            if record.msg == "lost":
                raise KeyError("of the application")
            return {"message": record.msg}

        assert [row["message"] for row in stored(log, to_event=to_event)] == ["kept"]
        assert "--- Logging error ---" in told.getvalue()
        assert "KeyError: 'of the application'" in told.getvalue()

    def test_that_logs_itself_comes_to_an_end(self):
        def to_event(record):
            logging.getLogger("shop").info("about to make an event")
            return {"message": record.msg}

        assert one_stored(lambda logger: logger.info("a"), to_event=to_event)["message"] == "a"
