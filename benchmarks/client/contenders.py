"""The sending libraries, each behind the same three calls.

A contender imports its library in ``__init__``, so that a process pays for one of them alone.
Settings are the library's defaults, but for what ``lifted`` says: with it the bound of the queue
is lifted, as at the default some drop most of a burst, and dropping is not a pace.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

QUEUE_MAX = 10_000_000
ROWS = 500


class Contender:
    """A sending library. ``make`` is what the application does anyway; ``capture`` is measured."""

    def __init__(self, url, *, lifted, folder, events):
        """Start the library.

        Args:
            url: of the sink on this machine.
            lifted: whether the bound of the queue is lifted.
            folder: for what the library keeps on disk.
            events: file with the descriptor set of the event.
        """
        raise NotImplementedError

    def make(self, values):
        """Return the event that ``capture`` takes; most libraries take the dict itself."""
        return values

    def capture(self, event):
        """Hand over one event, on the caller's thread."""
        raise NotImplementedError

    def close(self):
        """End as the library's documentation says."""


class Eventmill(Contender):
    """``BatchUploader`` with its spool on disk."""

    def __init__(self, url, *, lifted, folder, events):
        import eventmill
        from eventmill.schema.message_type import MessageType

        self.sink = eventmill.connect(url)
        self.uploader = eventmill.BatchUploader(self.sink, "bench.builds", spool_dir=folder)
        self.cls = MessageType.load(Path(events).read_bytes(), "bench.Build").cls
        self.capture = self.uploader.stage

    def make(self, values):
        return self.cls(**values)

    def close(self):
        self.uploader.close(120)
        self.sink.close()


class PostHog(Contender):
    """``posthog``."""

    def __init__(self, url, *, lifted, folder, events):
        import posthog

        more = {"max_queue_size": QUEUE_MAX} if lifted else {}
        self.client = posthog.Posthog("phc_key", host=url, **more)

    def capture(self, event):
        self.client.capture("build", distinct_id="someone", properties=event)

    def close(self):
        self.client.shutdown()


class Snowplow(Contender):
    """``snowplow-tracker`` with its asynchronous emitter; lifted, with 100 events a request."""

    def __init__(self, url, *, lifted, folder, events):
        import snowplow_tracker

        self.module = snowplow_tracker
        more = {"buffer_capacity": QUEUE_MAX, "batch_size": 100} if lifted else {}
        host, _, port = url.removeprefix("http://").partition(":")
        self.emitter = snowplow_tracker.AsyncEmitter(host, protocol="http", port=int(port), **more)
        self.tracker = snowplow_tracker.Tracker("bench", self.emitter, encode_base64=False)

    def capture(self, event):
        module = self.module
        about = module.SelfDescribingJson("iglu:test.example/build/jsonschema/1-0-0", event)
        self.tracker.track(module.SelfDescribing(about))

    def close(self):
        self.emitter.sync_flush()


class OpenTelemetry(Contender):
    """``opentelemetry-sdk``: a log record a build, batched, by OTLP over HTTP."""

    def __init__(self, url, *, lifted, folder, events):
        from opentelemetry._logs import LogRecord, SeverityNumber
        from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
        from opentelemetry.sdk._logs import LoggerProvider
        from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

        more = {"max_queue_size": QUEUE_MAX} if lifted else {}
        self.record, self.severity = LogRecord, SeverityNumber.INFO
        self.provider = LoggerProvider()
        exporter = OTLPLogExporter(endpoint=f"{url}/v1/logs")
        self.provider.add_log_record_processor(BatchLogRecordProcessor(exporter, **more))
        self.logger = self.provider.get_logger("bench")

    def capture(self, event):
        record = self.record(
            timestamp=time.time_ns(),
            event_name="build",
            severity_number=self.severity,
            attributes=event,
        )
        self.logger.emit(record)

    def close(self):
        self.provider.shutdown()


class BigQueryLists(Contender):
    """``google-cloud-bigquery``: a list of 500 rows, kept by the caller, for insert_rows_json."""

    rows = ROWS

    def __init__(self, url, *, lifted, folder, events):
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import bigquery

        self.client = bigquery.Client(
            "project",
            credentials=AnonymousCredentials(),
            client_options={"api_endpoint": url},
        )
        self.waiting = []

    def capture(self, event):
        self.waiting.append(event)
        if len(self.waiting) >= self.rows:
            self._insert()

    def close(self):
        if self.waiting:
            self._insert()

    def _insert(self):
        rows, self.waiting = self.waiting, []
        errors = self.client.insert_rows_json("project.bench.builds", rows)
        if errors:
            raise RuntimeError(f"rows were refused: {errors[:1]}")


class BigQueryRows(BigQueryLists):
    """``google-cloud-bigquery``: insert_rows_json with one row a call, which keeps nothing back."""

    rows = 1


CONTENDERS = {
    "eventmill": Eventmill,
    "posthog": PostHog,
    "snowplow": Snowplow,
    "opentelemetry": OpenTelemetry,
    "bigquery_rows": BigQueryRows,
    "bigquery_lists": BigQueryLists,
}


def start(name, url, *, lifted=False, folder="", events=""):
    """Return the contender ``name``, started, with the libraries' own logging off."""
    logging.disable(logging.CRITICAL)
    return CONTENDERS[name](url, lifted=lifted, folder=folder, events=events)
