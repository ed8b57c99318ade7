"""``EventLogHandler``: what a record becomes, and that whoever logs never comes to harm."""

import ast
import logging
import logging.config
import logging.handlers
import os
import queue
import threading
import time
import weakref

import pytest
from log_world import NOWHERE, logging_into, one_stored, output_of, stored

import eventmill
from eventmill.base.errors import UsageError
from eventmill.cli.main import run
from eventmill.compat.log_record import log_record_type
from eventmill.compat.log_text import TEXT_CHARACTERS_MAX
from eventmill.schema.compile import compile_protos
from eventmill.schema.message_type import MessageType
from eventmill.schema.table import TableId
from eventmill.store.memory import MemoryStore


class TestNoHarm:
    def test_what_eventmill_logs_is_passed_over(self, tmp_path):
        def log(logger):
            for name in ("eventmill", "eventmill.client", "eventmillish"):
                logger.handle(logger.makeRecord(name, 30, "f", 1, "m", (), None))

        assert [row["logger"] for row in stored(log)] == ["eventmillish"]

    def test_a_server_that_is_down_makes_no_records_of_its_own(self, tmp_path):
        others = logging.handlers.QueueHandler(queue.SimpleQueue())
        with logging_into(NOWHERE, "ops.logs", spool_dir=str(tmp_path), name=None,
                          timeout_seconds=0.0) as (root, handler):  # fmt: skip
            root.addHandler(others)
            logging.getLogger("shop").warning("the one record")
            assert others.queue.get(timeout=5).getMessage() == "the one record"
            # The sender tells that the server is down, to every handler of the root.
            assert "events wait" in others.queue.get(timeout=10).getMessage()
            root.removeHandler(others)
            assert handler.uploader.stats().staged == 1

    def test_what_callbacks_in_the_senders_threads_log_is_passed_over(self):
        called = threading.Event()

        class Refusing:
            def put(self, batch, *, timeout_seconds=None):
                raise UsageError("never")

        def on_undelivered(events, cause):
            logging.getLogger("shop").error("%d records are lost", len(events))
            called.set()

        with eventmill.BatchUploader(
            Refusing(), "ops.logs", on_undelivered=on_undelivered, flush_interval_seconds=0.0
        ) as uploader:
            with logging_into(uploader=uploader) as (logger, _):
                logger.info("lost")
                assert called.wait(10)
            assert uploader.stats().staged == 1

    def test_a_thread_logs_while_another_holds_the_handler(self):
        def log(logger):
            (handler,) = logger.handlers
            with handler.lock:  # as logging.shutdown does while it waits for what is sent
                thread = threading.Thread(target=logger.info, args=("through",))
                thread.start()
                thread.join(10)
                assert not thread.is_alive()

        assert one_stored(log)["message"] == "through"

    def test_a_finalizer_that_logs_while_the_handler_is_flushed_does_not_block(self):
        class Holding:
            """Stands for an uploader that holds its lock while garbage is collected."""

            staged = 0

            def stage(self, event):
                self.staged += 1

            def flush(self, timeout_seconds):
                logging.getLogger("shop").error("Task was destroyed but it is pending!")
                return 0

        uploader = Holding()
        with logging_into(uploader=uploader) as (logger, handler):
            logger.info("first")
            handler.flush()
            logger.info("second")
        assert uploader.staged == 2

    def test_filters_and_levels_hold(self):
        def log(logger):
            (handler,) = logger.handlers
            handler.addFilter(lambda record: "secret" not in record.msg)
            logger.info("below the level")
            logger.warning("a secret")
            logger.warning("for all")

        found = stored(log, level="WARNING")
        assert [row["message"] for row in found] == ["for all"]

    def test_texts_that_are_too_long_are_cut_and_fit(self):
        def log(logger):
            try:
                raise ValueError("€" * 1_000_000)
            except ValueError:
                logger.exception("€" * 1_000_000, extra={"page": "€" * 1_000_000})

        row = one_stored(log)
        assert row["message"].endswith("€...(truncated)")
        assert row["traceback"].startswith("(truncated)...")
        assert row["exception_message"].endswith("...(truncated)")

    def test_text_that_is_no_utf8_is_kept_readable(self):
        row = one_stored(lambda logger: logger.info("no file %s", os.fsdecode(b"b\xe4d")))
        assert row["message"] == "no file b\\udce4d"

    def test_a_full_spool_is_no_reason_to_stand_still(self, tmp_path):
        with logging_into(NOWHERE, "ops.logs", durability="memory", timeout_seconds=0.0) as (
            logger,
            handler,
        ):
            message = "x" * TEXT_CHARACTERS_MAX
            began = time.monotonic()
            while not handler.uploader.stats().dropped:
                for _ in range(100):
                    logger.info(message)
                assert time.monotonic() - began < 60
            assert dict(handler.uploader.stats().dropped).keys() == {"newest"}


class TestTheEnd:
    @pytest.mark.slow
    def test_flush_and_close_take_one_time_limit_together(self, tmp_path):
        handler = eventmill.EventLogHandler(
            NOWHERE, "ops.logs", spool_dir=str(tmp_path), timeout_seconds=1.0
        )
        handler.handle(logging.makeLogRecord({"msg": "waits"}))
        began = time.monotonic()
        logging.shutdown([weakref.ref(handler)])
        assert 0.9 < time.monotonic() - began < 1.8
        assert handler.uploader.stats().left == 1

    def test_what_comes_after_it_is_passed_over_in_silence(self, capsys):
        def log(logger):
            (handler,) = logger.handlers
            logger.info("before")
            handler.close()
            handler.close()
            logger.info("after")

        assert one_stored(log)["message"] == "before"
        assert capsys.readouterr().err == ""

    @pytest.mark.slow
    def test_records_are_taken_until_logging_is_shut_down(self, logs):
        """Functions called at exit after BatchUploader's own may log as well."""
        program = f"""
import atexit, logging
atexit.register(lambda: logging.getLogger("shop").info("last words"))
import eventmill
handler = eventmill.EventLogHandler({logs.address!r}, "ops.logs", spool_dir={logs.spool_dir!r})
logging.basicConfig(level="INFO", handlers=[handler])
logging.info("first words")
"""
        assert output_of(program) == ""
        assert sorted(logs.messages()) == ["first words", "last words"]

    @pytest.mark.slow
    def test_a_program_ends_in_time_when_the_server_is_down_and_its_records_wait(self, tmp_path):
        program = f"""
import logging, time, eventmill
handler = eventmill.EventLogHandler({NOWHERE!r}, "ops.logs", spool_dir={str(tmp_path)!r},
                                    timeout_seconds=0.3)
logging.basicConfig(level="INFO", handlers=[handler])
logging.info("waits")
"""
        began = time.monotonic()
        output_of(program)
        assert time.monotonic() - began < 10
        with logging_into(NOWHERE, "ops.logs", spool_dir=str(tmp_path), timeout_seconds=0.0) as (
            logger,
            handler,
        ):
            logger.info("wakes the uploader")
            deadline = time.monotonic() + 10
            while not handler.uploader.stats().adopted and time.monotonic() < deadline:
                time.sleep(0.01)
            assert handler.uploader.stats().adopted == 1

    @pytest.mark.slow
    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
    def test_a_forked_child_sends_its_own_records(self, server_logs):
        logs = server_logs
        program = f"""
import logging, os, sys, eventmill
handler = eventmill.EventLogHandler({logs.address!r}, "ops.logs", spool_dir={logs.spool_dir!r})
logging.basicConfig(level="INFO", handlers=[handler])
logging.info("parent before")
if not os.fork():
    logging.info("child")
    sys.exit()
os.wait()
logging.info("parent after")
"""
        assert output_of(program) == ""
        assert sorted(logs.messages()) == ["child", "parent after", "parent before"]


class TestConfiguration:
    def test_dict_config_makes_it_and_makes_it_anew(self, logs):
        def configure(level):
            logging.config.dictConfig(
                {
                    "version": 1,
                    "disable_existing_loggers": False,
                    "handlers": {
                        "events": {
                            "class": "eventmill.EventLogHandler",
                            "level": level,
                            "address": logs.address,
                            "table": "ops.logs",
                            "spool_dir": logs.spool_dir,
                            "service": "till",
                        }
                    },
                    "loggers": {"shop": {"handlers": ["events"], "level": "DEBUG"}},
                }
            )

        logger = logging.getLogger("shop")
        configure("INFO")
        (first,) = logger.handlers
        logger.debug("too fine")
        logger.info("first")
        first.flush()  # this test's server logs as well, and dictConfig keeps it from doing so
        configure("DEBUG")
        (second,) = logger.handlers
        logger.debug("second")
        logger.removeHandler(second)
        second.close()
        assert first is not second
        assert logs.messages() == ["first", "second"]
        assert {row["service"] for row in logs.rows("service, message, logged_at")} == {"till"}

    @pytest.mark.parametrize(
        ("arguments", "word"),
        [
            ({}, "table"),
            ({"address": "ftp://x", "table": "a.b"}, "scheme"),
            ({"address": NOWHERE, "table": "a"}, "table name"),
            ({"address": NOWHERE, "table": "a.b", "timeout_seconds": -1}, "timeout_seconds"),
        ],
    )
    def test_what_makes_no_sense_is_refused_when_it_is_made(self, arguments, word):
        with pytest.raises(UsageError, match=word):
            eventmill.EventLogHandler(**arguments)

    def test_an_unknown_option_or_level_is_refused(self):
        with pytest.raises(TypeError, match="spooldir"):
            eventmill.EventLogHandler(NOWHERE, "a.b", spooldir="x")
        with pytest.raises(ValueError, match="LOUD"):
            eventmill.EventLogHandler(NOWHERE, "a.b", level="LOUD")

    def test_an_uploader_takes_the_place_of_an_address(self):
        with eventmill.BatchUploader(MemoryStore(), "ops.logs") as uploader:
            with pytest.raises(UsageError, match="uploader"):
                eventmill.EventLogHandler(NOWHERE, uploader=uploader)
            handler = eventmill.EventLogHandler(uploader=uploader)
            assert handler.uploader is uploader
            assert "ops.logs" in repr(handler)
            handler.close()
            assert uploader.stage(log_record_type().cls())


class TestTheShippedProto:
    def test_is_the_type_that_is_sent(self):
        shipped = MessageType.load(
            compile_protos(["eventmill/log_record.proto"]), "eventmill.LogRecord"
        )
        assert shipped.fingerprint == log_record_type().fingerprint

    def test_makes_a_table_from_anywhere(self, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        wanted = ["--proto", "eventmill/log_record.proto", "--message", "eventmill.LogRecord"]
        assert run(["table", "apply", *wanted, "--table", "ops.logs", "--yes"]) == 0
        capsys.readouterr()
        with eventmill.open_store("./eventmill-data") as store:
            spec = store.describe(TableId.parse("ops.logs")).spec
        assert spec.partitioning.column == "logged_at"
        assert spec.clustering == ("level", "logger")
        assert all(column.description for column in spec.columns)

    def test_gives_way_to_a_file_of_that_name(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "eventmill").mkdir()
        (tmp_path / "eventmill" / "log_record.proto").write_text(
            'syntax = "proto3"; package mine; message LogRecord { string a = 1; }'
        )
        descriptor_set = compile_protos(["eventmill/log_record.proto"])
        assert MessageType.load(descriptor_set, "mine.LogRecord")


def test_logging_over_http_needs_protobuf_alone(tmp_path):
    heavy = ("duckdb", "pyarrow", "ptars", "sqlglot", "click", "orjson", "structlog", "grpc_tools")
    program = f"""
import logging, sys, eventmill
handler = eventmill.EventLogHandler({NOWHERE!r}, "ops.logs", spool_dir={str(tmp_path)!r},
                                    timeout_seconds=0)
logging.basicConfig(handlers=[handler])
logging.warning("order %d", 17, extra={{"pieces": 3}})
processor = eventmill.EventProcessor({NOWHERE!r}, "ops.logs", spool_dir={str(tmp_path)!r},
                                     timeout_seconds=0)
processor(None, "info", {{"event": "sold", "pieces": 3}})
print([name for name in {heavy!r} if name in sys.modules])
assert handler.uploader.stats().staged == processor.uploader.stats().staged == 1
"""
    assert ast.literal_eval(output_of(program)) == []
