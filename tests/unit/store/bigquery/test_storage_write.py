"""The Storage Write API's sender, against a scripted service."""

import threading

import grpc
import pytest
from google.api_core import exceptions as api
from google.cloud.bigquery_storage_v1.types import (
    AppendRowsResponse,
    BatchCommitWriteStreamsResponse,
    StorageError,
    WriteStream,
)
from google.protobuf.descriptor_pb2 import DescriptorProto
from google.rpc import code_pb2

from eventmill.base.errors import (
    AccessError,
    BackPressureError,
    PermanentError,
    UnavailableError,
)
from eventmill.schema.table import TableId
from eventmill.store.bigquery import storage_write
from eventmill.store.bigquery.connection import REQUEST_BYTES_MAX
from eventmill.store.bigquery.storage_write import StorageWriter, TableNotThereError
from eventmill.testing.fakes import FakeClock

TABLE = TableId("p", "d", "t")
ROW = DescriptorProto(name="Row")
END = object()
"""The service closes the stream without a word."""
SILENCE = object()
"""It says nothing any more."""
CODES = StorageError.StorageErrorCode


class RpcFault(grpc.RpcError):
    def __init__(self, code):
        super().__init__(str(code))
        self._code = code

    def code(self):
        return self._code

    def details(self):
        return "told"

    def trailing_metadata(self):
        return ()


class Call:
    def __init__(self, service, requests):
        self.service, self.requests, self.is_cancelled = service, requests, threading.Event()

    def __iter__(self):
        for request in self.requests:
            answer = self.service.take(self, request)
            if answer is END:
                return
            if answer is SILENCE:
                self.is_cancelled.wait(10)
                raise RpcFault(grpc.StatusCode.CANCELLED)
            if isinstance(answer, Exception):
                raise answer
            yield answer

    def cancel(self):
        self.is_cancelled.set()


class Service:
    """Answers each request by the next of ``script``, and ``ok`` once that is used up."""

    def __init__(self, *script):
        self.script = list(script)
        self.calls = []
        self.taken = []
        """(Number of the call, rows, offset), one a request."""
        self.transport = self
        self.commits = []
        self.commit_script = []
        self.streams = 0

    def append_rows(self, requests, metadata):
        self.calls.append(Call(self, requests))
        return self.calls[-1]

    def take(self, call, request):
        rows = list(request.proto_rows.rows.serialized_rows)
        self.taken.append((self.calls.index(call), rows, request.offset))
        answer = self.script.pop(0) if self.script else ok()
        return answer(rows) if callable(answer) else answer

    def create_write_stream(self, parent, write_stream):
        assert write_stream.type_ == WriteStream.Type.PENDING
        self.streams += 1
        return WriteStream(name=f"{parent}/streams/s{self.streams}")

    def finalize_write_stream(self, name):
        pass

    def batch_commit_write_streams(self, request):
        self.commits.append(list(request.write_streams))
        answer = self.commit_script.pop(0) if self.commit_script else None
        if isinstance(answer, Exception):
            raise answer
        return answer or BatchCommitWriteStreamsResponse(commit_time={"seconds": 1})

    def close(self):
        pass


def ok():
    return AppendRowsResponse(append_result={})


def error(code, storage_code=0):
    answer = AppendRowsResponse()
    status = AppendRowsResponse.pb(answer).error
    status.code, status.message = code, "told"
    if storage_code:
        status.details.add().Pack(StorageError.pb(StorageError(code=storage_code)))
    return answer


def faulty(*bad):
    """Refuse a request that has one of the rows ``bad``, whole."""

    def answer(rows):
        wrong = [n for n, row in enumerate(rows) if row in bad]
        if not wrong:
            return ok()
        found = error(code_pb2.INVALID_ARGUMENT)
        found.row_errors = [{"index": n, "message": "bad"} for n in wrong]
        return found

    return answer


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def writer_of(clock):
    writers = []

    def made(service):
        writers.append(StorageWriter(lambda: service, clock))
        return writers[-1]

    yield made
    for writer in writers:
        writer.close()
    left = [t for t in threading.enumerate() if t.name.startswith("append ")]
    for thread in left:
        thread.join(5)
    assert not [t for t in left if t.is_alive()]


def test_rows_go_over_one_connection_that_is_kept(writer_of):
    service = Service()
    writer = writer_of(service)
    for _ in range(3):
        assert writer.append(TABLE, ROW, [b"a", b"b"]) == []
    assert [call for call, _, _ in service.taken] == [0, 0, 0]


def test_faulty_rows_are_isolated_and_the_others_go_again(writer_of):
    service = Service(faulty(b"x", b"y"), faulty(b"x", b"y"))
    faults = writer_of(service).append(TABLE, ROW, [b"a", b"x", b"b", b"y"])
    assert [(fault.index, fault.message) for fault in faults] == [(1, "bad"), (3, "bad")]
    assert [rows for _, rows, _ in service.taken] == [[b"a", b"x", b"b", b"y"], [b"a", b"b"]]


def test_a_fault_in_a_later_request_does_not_send_the_earlier_one_again(writer_of):
    big = b"b" * (REQUEST_BYTES_MAX // 2)
    service = Service(ok(), faulty(b"x"), faulty(b"x"))
    faults = writer_of(service).append(TABLE, ROW, [big, b"a", big, b"x", b"c"])
    assert [fault.index for fault in faults] == [3]
    sizes = [[len(row) for row in rows] for _, rows, _ in service.taken]
    assert sizes == [[len(big), 1], [len(big), 1, 1], [len(big), 1]]


def test_no_request_has_more_than_nine_megabytes(writer_of):
    service = Service()
    writer_of(service).append(TABLE, ROW, [b"r" * 1_000_000] * 20)
    sizes = [sum(map(len, rows)) for _, rows, _ in service.taken]
    assert (sum(sizes), max(sizes) <= REQUEST_BYTES_MAX) == (20_000_000, True)
    assert len(sizes) == 3


@pytest.mark.parametrize("end", [END, RpcFault(grpc.StatusCode.UNAVAILABLE)], ids=["end", "rpc"])
def test_a_connection_that_broke_is_replaced_and_the_rows_are_sent_again(writer_of, end):
    service = Service(ok(), end)
    writer = writer_of(service)
    writer.append(TABLE, ROW, [b"a"])
    assert writer.append(TABLE, ROW, [b"b"]) == []
    assert [(call, rows) for call, rows, _ in service.taken] == [
        (0, [b"a"]),
        (0, [b"b"]),
        (1, [b"b"]),
    ]


def test_a_connection_that_says_nothing_is_given_up(writer_of):
    service = Service(SILENCE)
    writer = writer_of(service)
    with pytest.raises(UnavailableError, match="no answer within"):
        writer.append(TABLE, ROW, [b"a"], 0.1)
    assert writer.append(TABLE, ROW, [b"a"]) == []
    assert [call for call, _, _ in service.taken] == [0, 1]
    assert service.calls[0].is_cancelled.is_set()


def test_a_connection_that_was_idle_for_long_is_not_used_again(writer_of, clock):
    service = Service()
    writer = writer_of(service)
    writer.append(TABLE, ROW, [b"a"])
    clock.sleep(storage_write._IDLE_SECONDS_MAX + 1)
    writer.append(TABLE, ROW, [b"b"])
    assert [call for call, _, _ in service.taken] == [0, 1]
    assert service.calls[0].is_cancelled.is_set()


def test_connections_for_rows_of_an_older_definition_are_closed_in_time(writer_of, clock):
    service = Service()
    writer = writer_of(service)
    writer.append(TABLE, ROW, [b"a"])
    clock.sleep(storage_write._IDLE_SECONDS_MAX + 1)
    newer = DescriptorProto(name="Row")
    newer.field.add(name="more", number=1)
    writer.append(TABLE, newer, [b"b"])
    assert service.calls[0].is_cancelled.is_set()
    assert len(writer._idle) == 1


def test_three_broken_connections_are_enough(writer_of):
    service = Service(END, END, END)
    with pytest.raises(UnavailableError, match="broke off"):
        writer_of(service).append(TABLE, ROW, [b"a"])
    assert len(service.calls) == 3


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (error(code_pb2.NOT_FOUND), TableNotThereError),
        (error(code_pb2.INVALID_ARGUMENT, CODES.TABLE_NOT_FOUND), TableNotThereError),
        (
            error(code_pb2.INVALID_ARGUMENT, CODES.SCHEMA_MISMATCH_EXTRA_FIELDS),
            TableNotThereError,
        ),
        (RpcFault(grpc.StatusCode.NOT_FOUND), TableNotThereError),
        (error(code_pb2.UNAVAILABLE), UnavailableError),
        (error(code_pb2.INTERNAL), UnavailableError),
        (error(code_pb2.ABORTED), UnavailableError),
        (error(code_pb2.RESOURCE_EXHAUSTED), BackPressureError),
        (RpcFault(grpc.StatusCode.RESOURCE_EXHAUSTED), BackPressureError),
        (error(code_pb2.PERMISSION_DENIED), AccessError),
        (RpcFault(grpc.StatusCode.PERMISSION_DENIED), AccessError),
        (error(code_pb2.UNAUTHENTICATED), AccessError),
        (error(code_pb2.INVALID_ARGUMENT), PermanentError),
        (RpcFault(grpc.StatusCode.UNIMPLEMENTED), PermanentError),
    ],
    ids=lambda case: str(case).replace("\n", " ")[:50],
)
def test_each_refusal_is_on_its_side(writer_of, answer, expected):
    service = Service(answer)
    with pytest.raises(expected):
        writer_of(service).append(TABLE, ROW, [b"a"])
    assert len(service.taken) == 1


def test_a_kept_connection_whose_token_has_ended_is_opened_anew(writer_of):
    service = Service(ok(), error(code_pb2.UNAUTHENTICATED))
    writer = writer_of(service)
    writer.append(TABLE, ROW, [b"a"])
    assert writer.append(TABLE, ROW, [b"b"]) == []
    assert [call for call, _, _ in service.taken] == [0, 0, 1]


def test_all_or_none_has_places_and_commits_once(writer_of):
    service = Service()
    writer_of(service).append_all(TABLE, ROW, [b"r" * 4_000_000] * 5)
    assert [offset for _, _, offset in service.taken] == [0, 2, 4]
    assert service.commits == [["projects/p/datasets/d/tables/t/streams/s1"]]


@pytest.mark.parametrize(
    "lost",
    [
        api.ServiceUnavailable("lost"),
        api.DeadlineExceeded("lost"),
        api.Unknown("lost"),
        api.TooManyRequests("lost"),
    ],
    ids=repr,
)
def test_a_commit_whose_answer_is_lost_is_asked_for_again_on_the_same_stream(writer_of, lost):
    service = Service()
    committed = StorageError(code=CODES.STREAM_ALREADY_COMMITTED)
    service.commit_script = [lost, BatchCommitWriteStreamsResponse(stream_errors=[committed])]
    writer_of(service).append_all(TABLE, ROW, [b"a"])
    assert service.streams == 1
    assert service.commits == [["projects/p/datasets/d/tables/t/streams/s1"]] * 2


def test_a_commit_that_is_refused_or_never_answered_is_told(writer_of):
    service = Service()
    refused = StorageError(code=CODES.INVALID_STREAM_STATE, error_message="not finalized")
    service.commit_script = [BatchCommitWriteStreamsResponse(stream_errors=[refused])]
    with pytest.raises(PermanentError, match="not finalized"):
        writer_of(service).append_all(TABLE, ROW, [b"a"])
    service.commit_script = [api.ServiceUnavailable("down")] * 3
    with pytest.raises(UnavailableError, match="committing"):
        writer_of(service).append_all(TABLE, ROW, [b"a"])


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (faulty(b"x"), PermanentError),
        (END, UnavailableError),
        (RpcFault(grpc.StatusCode.PERMISSION_DENIED), AccessError),
        (error(code_pb2.INVALID_ARGUMENT, CODES.SCHEMA_MISMATCH_EXTRA_FIELDS), TableNotThereError),
    ],
    ids=["row", "end", "denied", "schema"],
)
def test_nothing_is_committed_after_a_fault(writer_of, answer, expected):
    service = Service(answer)
    with pytest.raises(expected):
        writer_of(service).append_all(TABLE, ROW, [b"a", b"x"])
    assert service.commits == []


def test_after_the_end_nothing_is_sent(writer_of):
    service = Service()
    writer = writer_of(service)
    writer.append(TABLE, ROW, [b"a"])
    writer.close()
    writer.close()
    assert service.calls[0].is_cancelled.is_set()
    with pytest.raises(UnavailableError, match="closed"):
        writer.append(TABLE, ROW, [b"b"])
