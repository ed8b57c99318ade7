"""The service ``BigQueryWrite``: default, committed and pending streams of one store."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grpc
from google.cloud.bigquery_storage_v1.types import (
    AppendRowsRequest,
    AppendRowsResponse,
    BatchCommitWriteStreamsRequest,
    BatchCommitWriteStreamsResponse,
    CreateWriteStreamRequest,
    FinalizeWriteStreamRequest,
    FinalizeWriteStreamResponse,
    GetWriteStreamRequest,
    RowError,
    StorageError,
    WriteStream,
)
from google.protobuf.descriptor_pb2 import DescriptorProto

from eventmill.base.clock import Clock, utc_datetime
from eventmill.base.errors import (
    AccessError,
    EventmillError,
    SchemaError,
    TableNotFoundError,
    TransientError,
    UnauthenticatedError,
    UsageError,
)
from eventmill.base.metrics import Metric, Metrics
from eventmill.schema.problem import EventProblem
from eventmill.schema.table import Table, TableId
from eventmill.server.access import Access, Action, Principal
from eventmill.server.bigquery.dialect import bigquery_encoder
from eventmill.server.bigquery_write.calling import Callers
from eventmill.server.bigquery_write.row_reading import RowType
from eventmill.server.bigquery_write.streams import (
    Part,
    Stream,
    StreamKind,
    Streams,
    StreamState,
)
from eventmill.server.putting import count_events
from eventmill.store.port import Store
from eventmill.wire.batch import Batch, encode_payload
from eventmill.wire.event_limits import event_size_problem
from eventmill.wire.insert_id import InsertIdSource
from eventmill.wire.split import cut
from eventmill.wire.verdict import Verdict

_logger = logging.getLogger("eventmill.server")
SERVICE = "google.cloud.bigquery.storage.v1.BigQueryWrite"
REQUEST_BYTES_MAX = 20_000_000
"""Bytes of one request (the API's own limit, said in AppendRowsRequest; looked up 2026-11-24)."""
_TABLE_PARTS = 6
_TURNS = 64
_CLIENT = "BigQuery Storage Write API"
_CODES = StorageError.StorageErrorCode
_Status = grpc.StatusCode


class _RefusedError(Exception):
    """An answer that says what is wrong with one request; the stream goes on."""

    def __init__(self, code: grpc.StatusCode, text: str, storage_code: int = 0) -> None:
        super().__init__(text)
        self.code = code
        self.storage_code = storage_code


class WriteService:
    """Answers the calls of the API. Safe from any thread."""

    def __init__(
        self, store: Store, access: Access, streams: Streams, clock: Clock, metrics: Metrics
    ) -> None:
        """Carry out the commits that a stopped server has left half-way.

        Args:
            store: where rows go.
            access: who may write, and where refusals are noted.
            streams: those that clients have made; the caller closes them.
            clock: says when.
            metrics: counts events, and refusals.
        """
        self._store = store
        self._access = access
        self._metrics = metrics
        self._callers = Callers(access, metrics)
        self._streams = streams
        self._clock = clock
        self._insert_ids = InsertIdSource()
        self._turns = [threading.Lock() for _ in range(_TURNS)]
        """One request at a time for each stream with places."""
        for stream in streams.committing():
            try:
                self._carry_out(stream)
            except EventmillError as error:
                # Its table may be gone, or full: that is no reason to serve no others.
                _logger.error("the commit of %s is not carried out: %s", stream.name, error)

    def handler(self) -> grpc.GenericRpcHandler:
        """Return what a gRPC server is to be given."""
        unary = grpc.unary_unary_rpc_method_handler
        calls: dict[str, tuple[Callable[[Any, Principal], Any], Any, Any]] = {
            "CreateWriteStream": (self.create, CreateWriteStreamRequest, WriteStream),
            "GetWriteStream": (self.get, GetWriteStreamRequest, WriteStream),
            "FinalizeWriteStream": (
                self.finalize, FinalizeWriteStreamRequest, FinalizeWriteStreamResponse,
            ),
            "BatchCommitWriteStreams": (
                self.commit, BatchCommitWriteStreamsRequest, BatchCommitWriteStreamsResponse,
            ),
        }  # fmt: skip
        handlers = {
            name: unary(
                self._answering(name, call),
                request_deserializer=asked.deserialize,
                response_serializer=answer.serialize,
            )
            for name, (call, asked, answer) in calls.items()
        }
        handlers["AppendRows"] = grpc.stream_stream_rpc_method_handler(
            self.append,
            request_deserializer=AppendRowsRequest.deserialize,
            response_serializer=AppendRowsResponse.serialize,
        )
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    def _answering(self, name: str, call: Callable[[Any, Principal], Any]) -> Callable[..., Any]:
        """Return ``call`` as gRPC wants it: who calls is known, and errors are statuses."""

        def answer(request: Any, context: grpc.ServicerContext) -> Any:  # noqa: ANN401
            try:
                with self._callers.principal_of(name, context) as principal:
                    return call(request, principal)
            except _RefusedError as refused:
                context.abort(refused.code, str(refused))
            except EventmillError as error:
                context.abort(_code_of(error)[0], str(error))
            raise AssertionError("abort raises")

        return answer

    # -- streams --------------------------------------------------------------------------------

    def create(self, request: CreateWriteStreamRequest, principal: Principal) -> WriteStream:
        """Make a committed or a pending stream."""
        table = _table_in(request.parent)
        self._access.require(principal, Action.APPEND, table)
        self._store.describe(table)
        kind = WriteStream.Type(request.write_stream.type_).name
        if kind not in StreamKind.__members__:
            raise _RefusedError(
                _Status.UNIMPLEMENTED,
                f"streams of type {kind} are not had here: COMMITTED, PENDING",
            )
        return _shown(self._streams.create(table, StreamKind(kind), self._clock.now()))

    def get(self, request: GetWriteStreamRequest, principal: Principal) -> WriteStream:
        """Tell of a stream."""
        return _shown(self._own_stream(request.name, principal))

    def finalize(
        self, request: FinalizeWriteStreamRequest, principal: Principal
    ) -> FinalizeWriteStreamResponse:
        """Take no more rows into a stream."""
        self._own_stream(request.name, principal)
        return FinalizeWriteStreamResponse(row_count=self._streams.finalize(request.name).rows)

    def commit(
        self, request: BatchCommitWriteStreamsRequest, principal: Principal
    ) -> BatchCommitWriteStreamsResponse:
        """Bring the rows of finalized pending streams into their table: of all, or of none."""
        streams = [self._own_stream(name, principal) for name in request.write_streams]
        wrong = [error for stream in streams if (error := _why_not(stream)) is not None]
        if wrong:
            return BatchCommitWriteStreamsResponse(stream_errors=wrong)
        self._streams.begin_commit([stream.name for stream in streams])
        for stream in streams:
            self._carry_out(stream)
        return BatchCommitWriteStreamsResponse(commit_time=utc_datetime(self._clock.now()))

    def _carry_out(self, stream: Stream) -> None:
        for part in self._streams.parts(stream.name):
            batch = Batch(stream.table, part.fingerprint, part.payload, client=_CLIENT)
            rejected = self._stored(batch).rejected
            if rejected:  # judged before they came here: the table has been changed since
                _logger.warning(
                    "%d rows of %s are in quarantine: %s",
                    len(rejected), stream.name, rejected[0].message,
                )  # fmt: skip
        self._streams.end_commit(stream.name, self._clock.now())

    def _own_stream(self, name: str, principal: Principal) -> Stream:
        stream = self._streams.find(name)
        self._access.require(principal, Action.APPEND, stream.table)
        return stream

    # -- rows -----------------------------------------------------------------------------------

    def append(
        self, requests: Iterator[AppendRowsRequest], context: grpc.ServicerContext
    ) -> Iterator[AppendRowsResponse]:
        """Take rows, request by request; each is answered when its rows are synced."""
        connection = _Connection()
        for request in requests:
            answer = AppendRowsResponse()
            try:
                with self._callers.principal_of("AppendRows", context) as principal:
                    connection.take(request)
                    answer = self._append(request, connection, principal)
            except _RefusedError as refused:
                _set_error(answer, refused.code, str(refused), refused.storage_code)
            except EventmillError as error:
                code, storage_code = _code_of(error)
                _set_error(answer, code, str(error), storage_code)
            answer.write_stream = connection.name
            yield answer

    def _append(
        self, request: AppendRowsRequest, connection: _Connection, principal: Principal
    ) -> AppendRowsResponse:
        table = self._store.describe(connection.table)
        self._access.require(principal, Action.APPEND, table.id)
        turn: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
        if not connection.is_default:
            turn = self._turns[hash(connection.name) % _TURNS]
        with turn:
            return self._append_in_turn(request, connection, principal, table)

    def _append_in_turn(
        self,
        request: AppendRowsRequest,
        connection: _Connection,
        principal: Principal,
        table: Table,
    ) -> AppendRowsResponse:
        stream = None if connection.is_default else self._streams.find(connection.name)
        first = self._offset(request, stream)
        rows = request.proto_rows.rows.serialized_rows
        prefix = b"" if stream is None else stream.name.rpartition("/")[2].encode()
        ids, events, faults = self._events(table, connection.row_type(table), rows, prefix, first)
        if faults:
            self._count(table.id, Verdict(0), len(rows))
            answer = AppendRowsResponse(row_errors=faults)
            _set_error(
                answer, _Status.INVALID_ARGUMENT,
                f"Errors found while processing rows. Please refer to the row_errors field for"
                f" details. {faults[0].message}",
            )  # fmt: skip
            return answer
        size = sum(map(len, events))
        charge = self._access.charge(principal, table.id, len(events), size)
        parts = []
        for span in cut(ids, events):
            places = slice(span.start, span.stop)
            payload = encode_payload(ids[places], events[places])
            parts.append(Part(table.spec.fingerprint, payload))
        try:
            if stream is None or stream.kind is StreamKind.COMMITTED:
                for part in parts:
                    self._put(Batch(table.id, part.fingerprint, part.payload, client=_CLIENT))
            if stream is not None:
                kept = parts if stream.kind is StreamKind.PENDING else ()
                self._streams.append(stream, first, len(rows), kept)
        except EventmillError:
            charge.give_back()
            raise
        result: Any = AppendRowsResponse.AppendResult()  # proto-plus takes plain numbers
        if stream is not None:
            result.offset = first
        return AppendRowsResponse(append_result=result)

    @staticmethod
    def _offset(request: AppendRowsRequest, stream: Stream | None) -> int:
        given: Any = request.offset
        if stream is None:
            if given is not None:
                raise _RefusedError(
                    _Status.INVALID_ARGUMENT, "an offset is not allowed in the default stream"
                )
            return 0
        if stream.state is not StreamState.OPEN:
            raise _RefusedError(
                _Status.INVALID_ARGUMENT, f"{stream.name} is finalized", _CODES.STREAM_FINALIZED
            )
        if given is not None and given < stream.rows:
            raise _RefusedError(
                _Status.ALREADY_EXISTS,
                f"The offset is within stream, expected offset {stream.rows}, received {given}",
                _CODES.OFFSET_ALREADY_EXISTS,
            )
        if given is not None and given > stream.rows:
            raise _RefusedError(
                _Status.OUT_OF_RANGE,
                f"The offset is beyond stream, expected offset {stream.rows}, received {given}",
                _CODES.OFFSET_OUT_OF_RANGE,
            )
        return stream.rows

    def _events(
        self, table: Table, row_type: RowType, rows: Sequence[bytes], prefix: bytes, first: int
    ) -> tuple[list[bytes], list[bytes], list[RowError]]:
        """Return insert IDs, events, and what is wrong with rows; any fault refuses all."""
        if not rows:
            raise _RefusedError(_Status.INVALID_ARGUMENT, "the request has no rows")
        encode = bigquery_encoder(table.spec.descriptor_set, table.spec.message).encode
        ids, events, faults = [], [], []
        for index, row in enumerate(rows):
            try:
                values, insert_id = row_type.read(row)
                event = encode(values)
                problem = event_size_problem(len(event))
                if problem is not None:
                    raise problem
            except EventProblem as problem:
                where = f"{problem.field}: " if problem.field else ""
                faults.append(
                    RowError(
                        index=index,
                        code=RowError.RowErrorCode.FIELDS_ERROR,
                        message=f"{where}{problem.message}",
                    )
                )
                continue
            # Of a stream with places, place and content are the row's identity: sent twice, it is
            # stored once, and another row in the place of one that was never acked is another.
            made = _place_id(prefix, first + index, row) if prefix else self._insert_ids.next()
            ids.append(insert_id.encode() if insert_id else made)
            events.append(event)
        return ids, events, faults

    def _put(self, batch: Batch) -> None:
        verdict = self._stored(batch)
        if verdict.rejected:
            # Judged before they came here; what is told now came with a change of the table.
            raise _RefusedError(
                _Status.INVALID_ARGUMENT,
                f"{len(verdict.rejected)} rows are in quarantine: {verdict.rejected[0].message}",
            )

    def _stored(self, batch: Batch) -> Verdict:
        begun_at = self._clock.monotonic()
        verdict = self._store.put(batch)
        self._metrics.observe(Metric.PUT_SECONDS, self._clock.monotonic() - begun_at)
        self._count(batch.table, verdict, len(verdict.rejected))
        return verdict

    def _count(self, table: TableId, stored: Verdict, rejected: int) -> None:
        count_events(
            self._metrics,
            table,
            accepted=stored.accepted,
            duplicates=stored.duplicates,
            rejected=rejected,
        )


class _Connection:
    """What the requests of one connection have said so far."""

    def __init__(self) -> None:
        self.name = ""
        self._descriptor: DescriptorProto | None = None
        self._row_type: tuple[int, RowType] | None = None

    @property
    def table(self) -> TableId:
        """The table of the stream."""
        return _table_in(self.name)

    @property
    def is_default(self) -> bool:
        """Whether it is the table's default stream."""
        return self.name.endswith(("/streams/_default", "/_default"))

    def take(self, request: AppendRowsRequest) -> None:
        """Note what a request says of stream and type; the next ones need not repeat it."""
        if request.write_stream and request.write_stream != self.name:
            self.name, self._row_type = request.write_stream, None
        if not self.name:
            raise _RefusedError(_Status.INVALID_ARGUMENT, "the first request names no write_stream")
        if AppendRowsRequest.pb(request).HasField("arrow_rows"):
            raise _RefusedError(
                _Status.UNIMPLEMENTED, "rows in Arrow's form are not read: proto_rows"
            )
        schema = request.proto_rows.writer_schema.proto_descriptor
        if schema.field:
            self._descriptor, self._row_type = schema, None

    def row_type(self, table: Table) -> RowType:
        """Return the type of the rows against the columns that the table has now."""
        if self._descriptor is None:
            raise _RefusedError(_Status.INVALID_ARGUMENT, "the first request has no writer_schema")
        if self._row_type is None or self._row_type[0] != table.version:
            try:
                row_type = RowType(self._descriptor, table.spec.columns)
            except SchemaError as error:
                raise _RefusedError(
                    _Status.INVALID_ARGUMENT, str(error), _CODES.SCHEMA_MISMATCH_EXTRA_FIELDS
                ) from error
            self._row_type = (table.version, row_type)
        return self._row_type[1]


def _table_in(path: str) -> TableId:
    parts = path.split("/")
    words = parts[:_TABLE_PARTS:2]
    if len(parts) < _TABLE_PARTS or words != ["projects", "datasets", "tables"]:
        raise UsageError(f"{path!r} is not projects/P/datasets/D/tables/T[/streams/S]")
    return TableId.parse(".".join(parts[1:_TABLE_PARTS:2]))


def _place_id(prefix: bytes, place: int, row: bytes) -> bytes:
    content = hashlib.blake2b(row, digest_size=8).hexdigest().encode()
    return b"%s:%d:%s" % (prefix, place, content)


def _shown(stream: Stream) -> WriteStream:
    return WriteStream(
        name=stream.name,
        type_=getattr(WriteStream.Type, stream.kind.value),
        create_time=utc_datetime(stream.created_at),
        commit_time=utc_datetime(stream.committed_at) if stream.committed_at else None,
    )


def _why_not(stream: Stream) -> StorageError | None:
    """Return why a stream cannot be committed; None when it can."""
    found = {
        stream.kind is not StreamKind.PENDING: _CODES.INVALID_STREAM_TYPE,
        stream.state is StreamState.OPEN: _CODES.INVALID_STREAM_STATE,
        stream.state is StreamState.COMMITTED: _CODES.STREAM_ALREADY_COMMITTED,
    }
    code = found.get(True)
    if code is None:
        return None
    text = f"{stream.name} is {stream.kind.value.lower()} and {stream.state.value}"
    return StorageError(code=code, entity=stream.name, error_message=text)


def _code_of(error: EventmillError) -> tuple[grpc.StatusCode, int]:
    if isinstance(error, TableNotFoundError):
        return _Status.NOT_FOUND, _CODES.TABLE_NOT_FOUND
    if isinstance(error, UnauthenticatedError):
        return _Status.UNAUTHENTICATED, 0
    if isinstance(error, AccessError):
        return _Status.PERMISSION_DENIED, 0
    if isinstance(error, UsageError):
        return _Status.NOT_FOUND, _CODES.STREAM_NOT_FOUND
    if isinstance(error, TransientError):
        paused = error.retry_after_seconds is not None
        return (_Status.RESOURCE_EXHAUSTED if paused else _Status.UNAVAILABLE), 0
    return _Status.INVALID_ARGUMENT, 0


def _set_error(
    answer: AppendRowsResponse, code: grpc.StatusCode, text: str, storage_code: int = 0
) -> None:
    status: Any = AppendRowsResponse.pb(answer).error
    status.code = code.value[0]
    status.message = text
    if storage_code:
        status.details.add().Pack(
            StorageError.pb(StorageError(code=storage_code, error_message=text))
        )
