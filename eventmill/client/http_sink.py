"""A server as a sink: batches over HTTP, with the standard library alone."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from eventmill.base.clock import SYSTEM_CLOCK, Clock
from eventmill.base.errors import BatchError, SchemaError, UnavailableError, UsageError
from eventmill.client.compression import zstd_compressor
from eventmill.client.connection import Answer, ConnectionPool
from eventmill.client.spool.forking import fork_pause
from eventmill.schema.table import TableId
from eventmill.wire.api_token import TOKEN_PREFIX, token_fault
from eventmill.wire.batch import Batch
from eventmill.wire.error_code import PROBLEM_TYPE_PREFIX, error_of
from eventmill.wire.media import BATCH_CONTENT_TYPE, SCHEMA_HEADER
from eventmill.wire.quarantined import QuarantinedEvent
from eventmill.wire.quarantined_json import quarantined_to_json
from eventmill.wire.sink import Features, NotJudgedError
from eventmill.wire.verdict import Verdict
from eventmill.wire.verdict_json import verdict_from_json

if TYPE_CHECKING:
    from eventmill.schema.table import Table

TIMEOUT_SECONDS = 30.0
CONNECT_TIMEOUT_SECONDS = 5.0
CONNECTIONS_MAX = 8
CLIENT_NAME = "eventmill-python"

_QUARANTINE_BYTES_MAX = 8_000_000
"""Bytes of payloads in one report; base64 and the words around them stay under the limit."""
_STATUSES_OF_A_BODY = (400, 415, 422)
"""By which something in between may say of one request's body that it does not let it pass."""


class ForeignAnswerError(NotJudgedError):
    """Something has answered that is not Eventmill."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class HttpSink:
    """Puts batches into the server at a URL. Safe from any thread, and after a fork.

    Owned by whoever made it, who closes it; nothing is sent before the first call, so the server
    need not be up.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
        connect_timeout_seconds: float = CONNECT_TIMEOUT_SECONDS,
        connections_max: int = CONNECTIONS_MAX,
        client_name: str = CLIENT_NAME,
        compression: Literal["zstd"] | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """Prepare to talk to a server.

        Args:
            url: ``http://host:port`` or ``https://host``, with or without a path.
            key: credential, sent with each request; None: none.
            timeout_seconds: for one request whose caller gives no limit of its own.
            connect_timeout_seconds: for a connection to be made.
            connections_max: idle connections to keep, one for each thread that sends at once.
            client_name: sent as User-Agent and kept with events that are rejected; name and
                version of your program help whoever looks for the cause.
            compression: of batches on their way; None: none, which is faster on a fast network.
            clock: measures time.

        Raises:
            UsageError: the URL or a limit makes no sense, or the key was mistyped.
        """
        if not timeout_seconds > 0 or not connect_timeout_seconds > 0 or connections_max < 1:
            raise UsageError("timeouts must be above 0 seconds, connections_max at least 1")
        self._url = url.rstrip("/")
        self._pool = ConnectionPool(
            url,
            clock,
            connections_max=connections_max,
            connect_timeout_seconds=connect_timeout_seconds,
        )
        self._timeout_seconds = timeout_seconds
        self._headers = {"User-Agent": client_name}
        if key is not None:
            fault = token_fault(key) if key.startswith(TOKEN_PREFIX) else ""
            if fault:
                raise UsageError(f"the key for {self._url} is not one: {fault}")
            self._headers["Authorization"] = f"Bearer {key}"
        if any("\n" in value or "\r" in value for value in self._headers.values()):
            raise UsageError("key and client_name must be one line each")
        if compression not in (None, "zstd"):
            raise UsageError(f"compression {compression!r}: write zstd, or leave it out")
        self._compress = zstd_compressor() if compression else None
        self._features: Features | None = None
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._url}>"

    def __enter__(self) -> HttpSink:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def address(self) -> str:
        """URL of the server; events that wait for one address are not sent to another."""
        return self._url

    @property
    def features(self) -> Features:
        """What the server's store promises; asked at first use, then remembered.

        Raises:
            UnavailableError: the server cannot be asked now.
            NotJudgedError: it does not say, and so is none.
        """
        if self._features is None:
            document = self._json("GET", "/healthz")
            try:
                told = document["features"]
                self._features = Features(
                    durable=bool(told["durable"]),
                    dedup_window_seconds=float(told["dedup_window_seconds"]),
                    quarantines=bool(told["quarantines"]),
                    keeps_unknown_fields=bool(told.get("keeps_unknown_fields")),
                )
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise self._no_server(f"says nothing of its features: {error!r}") from error
        return self._features

    def put(self, batch: Batch, *, timeout_seconds: float | None = None) -> Verdict:
        """Put one batch and wait for the server's verdict (see ``wire.sink.Sink.put``)."""
        headers = {"Content-Type": BATCH_CONTENT_TYPE, SCHEMA_HEADER: batch.fingerprint}
        body = batch.payload
        if self._compress is not None:
            body = self._compress(body)
            headers["Content-Encoding"] = "zstd"
        try:
            answer = self._send(
                "POST",
                f"{table_path(batch.table)}/events",
                body,
                headers,
                timeout_seconds=timeout_seconds,
            )
        except ForeignAnswerError as error:
            if error.status in _STATUSES_OF_A_BODY:
                raise BatchError(str(error)) from error
            raise
        try:
            verdict = verdict_from_json(json.loads(answer.body))
        except ValueError as error:
            raise UnavailableError(f"{self._url} gave an answer that is none: {error}") from error
        if verdict.count != batch.count:
            raise UnavailableError(
                f"{self._url} gave a verdict of {verdict.count} events for {batch.count}"
            )
        return verdict

    def describe(self, table: TableId) -> Table:
        """Return the live definition of ``table`` (see ``wire.sink.Catalog.describe``)."""
        with fork_pause.lock:
            from eventmill.schema.document import table_from_json  # only who asks for it pays

        document = self._json("GET", table_path(table))
        try:
            return table_from_json(document)
        except (SchemaError, UsageError) as error:
            raise self._no_server(f"gave an answer that is no table: {error}") from error

    def quarantine(self, events: Sequence[QuarantinedEvent]) -> None:
        """Keep events that could not be made part of a batch (see ``Store.quarantine``)."""
        part: list[dict[str, Any]] = []
        size = 0
        for event in events:
            if part and size + len(event.payload) > _QUARANTINE_BYTES_MAX:
                self._json("POST", "/api/v1/quarantine", part)
                part, size = [], 0
            part.append(quarantined_to_json(event))
            size += len(event.payload)
        if part:
            self._json("POST", "/api/v1/quarantine", part)

    def limited_to(self, timeout_seconds: float) -> HttpSink:
        """Return this sink with another time limit (see ``wire.sink.RemoteSink``)."""
        limited = copy.copy(self)  # with the same connections
        limited._timeout_seconds = timeout_seconds  # noqa: SLF001 - of this very class
        return limited

    def close(self) -> None:
        """Close the connections; a later call on this sink raises NotJudgedError."""
        self._is_closed = True
        self._pool.close()

    def _json(
        self,
        method: str,
        path: str,
        document: object = None,
        headers: Mapping[str, str] | None = None,
        *,
        repeatable: bool = True,
    ) -> dict[str, Any]:
        """Send JSON (None: no body) and return the JSON object of the answer."""
        sent = {"Accept": "application/json", **(headers or {})}
        body = None
        if document is not None:
            sent["Content-Type"] = "application/json"
            body = json.dumps(document).encode()
        answer = self._send(method, path, body, sent, repeatable=repeatable)
        try:
            told = json.loads(answer.body)
        except ValueError as error:
            raise UnavailableError(f"{self._url} gave an answer that is no JSON") from error
        if not isinstance(told, dict):
            raise UnavailableError(f"{self._url} gave an answer that is no JSON object")
        return told

    def _send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        timeout_seconds: float | None = None,
        repeatable: bool = True,
    ) -> Answer:
        """Send one request; return its answer when it is a success, raise its error if not."""
        if self._is_closed:
            raise NotJudgedError(f"this {type(self).__name__} is closed")
        answer = self._pool.send(
            method,
            path,
            body,
            {**self._headers, **(headers or {})},
            timeout_seconds=self._timeout_seconds if timeout_seconds is None else timeout_seconds,
            repeatable=repeatable,
        )
        if 200 <= answer.status < 300:
            return answer
        raise self._error(answer)

    def _error(self, answer: Answer) -> Exception:
        kind, detail = "", f"{self._url} answered with HTTP status {answer.status}"
        if answer.headers.get("content-type", "").startswith("application/problem+json"):
            try:
                document = json.loads(answer.body)
                kind, detail = str(document["type"]), str(document["detail"])
            except (ValueError, KeyError, TypeError):
                kind = ""  # a broken document says no more than the status
        pause = answer.headers.get("retry-after", "")
        seconds = float(pause) if pause.isascii() and pause.isdigit() else None
        error = error_of(answer.status, kind, detail, seconds)
        if isinstance(error, UsageError) and not kind.startswith(PROBLEM_TYPE_PREFIX):
            return ForeignAnswerError(
                f"{detail}, but not as an Eventmill server does", answer.status
            )
        return error

    def _no_server(self, what: str) -> NotJudgedError:
        return NotJudgedError(f"{self._url} {what}; is that an Eventmill server?")


def table_path(table: TableId) -> str:
    """Return the address of a table below the server's URL."""
    return f"/api/v1/tables/{quote(str(table), safe='.')}"
