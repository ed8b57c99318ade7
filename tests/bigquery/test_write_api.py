"""The Storage Write API of a local server, called by Google's own client over gRPC."""

import contextlib
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from google.api_core import exceptions as api
from google.cloud.bigquery_storage_v1 import BigQueryWriteClient, types
from google.cloud.bigquery_storage_v1.services.big_query_write.transports import (
    BigQueryWriteGrpcTransport,
)
from google.cloud.bigquery_storage_v1.writer import AppendRowsStream
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from eventmill.base.errors import UnavailableError
from eventmill.base.metrics import Metric, Metrics
from eventmill.server.access import Access
from eventmill.server.access.access import FOLDER_OWNER
from eventmill.server.bigquery_write.listener import WriteListener
from eventmill.server.bigquery_write.streams import Streams, StreamState
from eventmill.store.local.store import LocalStore
from eventmill.testing.events import build_spec
from eventmill.wire.keys import GrantText, KeyWish

TABLE = "projects/local/datasets/contract/tables/builds"
F = descriptor_pb2.FieldDescriptorProto


def row_type(**fields):
    """Return (descriptor, class) of a row with fields of the types that are named."""
    message = descriptor_pb2.DescriptorProto(name="Row")
    for number, (name, kind) in enumerate(fields.items(), 1):
        repeated = kind.startswith("repeated ")
        message.field.add(
            name=name,
            number=number,
            type=F.Type.Value(f"TYPE_{kind.split()[-1].upper()}"),
            label=F.LABEL_REPEATED if repeated else F.LABEL_OPTIONAL,
        )
    file = descriptor_pb2.FileDescriptorProto(name="r.proto", syntax="proto2")
    file.message_type.append(message)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file) if hasattr(pool, "Add") else pool.AddSerializedFile(file.SerializeToString())
    return message, message_factory.GetMessageClass(pool.FindMessageTypeByName("Row"))


DESCRIPTOR, Row = row_type(
    name="string", seconds="int64", ok="bool", at="int64", tags="repeated string"
)


@pytest.fixture
def world(tmp_path):
    """A store with a table, its listener, and a function that opens another client."""
    with contextlib.ExitStack() as open_things:
        store = open_things.enter_context(LocalStore.open(str(tmp_path)))
        store.apply(build_spec())
        yield open_things.enter_context(World(store, str(tmp_path)))


class World:
    def __init__(self, store, folder):
        self.store = store
        self.folder = folder
        self.access = Access.in_memory()
        self.metrics = Metrics()
        self.listener = WriteListener(store, self.access, folder=folder, metrics=self.metrics)

    def __enter__(self):
        self.listener.start()
        channel = grpc.insecure_channel(self.listener.address)
        self.client = BigQueryWriteClient(transport=BigQueryWriteGrpcTransport(channel=channel))
        return self

    def __exit__(self, *exc):
        self.client.transport.close()
        self.listener.stop()
        self.access.close()

    def restart(self):
        """Stop the listener and start another on the same folder."""
        self.__exit__()
        self.__init__(self.store, self.folder)
        self.__enter__()

    def create(self, kind):
        stream = types.WriteStream(type_=types.WriteStream.Type[kind])
        return self.client.create_write_stream(parent=TABLE, write_stream=stream).name

    def opened(self, name, descriptor=DESCRIPTOR):
        """Open Google's own appending stream."""
        template = types.AppendRowsRequest(write_stream=name)
        template.proto_rows.writer_schema.proto_descriptor = descriptor
        return contextlib.closing(AppendRowsStream(self.client, template))

    def commit(self, *names):
        request = types.BatchCommitWriteStreamsRequest(parent=TABLE, write_streams=names)
        return self.client.batch_commit_write_streams(request)

    def names(self):
        rows = self.store.query("SELECT name FROM contract.builds ORDER BY name")
        return [row["name"] for row in rows]


def request_of(*rows, offset=None):
    request = types.AppendRowsRequest(offset=offset)
    request.proto_rows.rows.serialized_rows = [row.SerializeToString() for row in rows]
    return request


def named(*names):
    return [Row(name=name) for name in names]


def test_rows_of_the_default_stream_are_stored_with_their_types(world):
    row = Row(name="a", seconds=2**53 + 1, ok=True, at=1_700_000_000_123_456, tags=["x", "y"])
    with world.opened(f"{TABLE}/streams/_default") as stream:
        stream.send(request_of(row, Row(name="b"))).result(10)
        stream.send(request_of(Row(name="c"))).result(10)
    rows = list(world.store.query("SELECT * FROM contract.builds ORDER BY name"))
    assert [r["name"] for r in rows] == ["a", "b", "c"]
    assert rows[0]["seconds"] == 2**53 + 1
    assert rows[0]["at"].isoformat() == "2023-11-14T22:13:20.123456+00:00"
    assert rows[0]["tags"] == ["x", "y"]
    assert rows[1]["at"] is None


def test_a_bad_row_is_named_and_none_of_its_request_is_stored(world):
    with world.opened(f"{TABLE}/streams/_default") as stream:
        bad = Row(name="bad", at=2**62)
        with pytest.raises(api.InvalidArgument) as raised:
            stream.send(request_of(Row(name="a"), bad)).result(10)
        (fault,) = raised.value.response.row_errors
        assert fault.index == 1
        assert "at" in str(raised.value)
        stream.send(request_of(Row(name="b"))).result(10)
    assert world.names() == ["b"]


def test_a_field_without_a_column_is_refused_until_the_table_has_it(world):
    descriptor, cls = row_type(name="string", host="string")
    with world.opened(f"{TABLE}/streams/_default", descriptor) as stream:
        with pytest.raises(api.InvalidArgument, match="host"):
            stream.send(request_of(cls(name="a", host="h"))).result(10)
        world.store.apply(build_spec(version="newer"))
        stream.send(request_of(cls(name="a", host="h"))).result(10)
    assert list(world.store.query("SELECT host FROM contract.builds")) == [{"host": "h"}]


def test_a_type_that_does_not_fit_its_column_is_refused(world):
    descriptor, cls = row_type(name="int64")
    with (
        world.opened(f"{TABLE}/streams/_default", descriptor) as stream,
        pytest.raises(api.InvalidArgument, match="name"),
    ):
        stream.send(request_of(cls(name=1))).result(10)


def test_an_unknown_table_is_not_found(world):
    path = TABLE.replace("builds", "bulids")
    with world.opened(f"{path}/streams/_default") as stream, pytest.raises(api.NotFound):
        stream.send(request_of(Row(name="a"))).result(10)
    with pytest.raises(api.NotFound):
        world.client.create_write_stream(
            parent=path, write_stream=types.WriteStream(type_=types.WriteStream.Type.PENDING)
        )


def test_a_committed_stream_stores_each_offset_once(world):
    name = world.create("COMMITTED")
    with world.opened(name) as stream:
        assert (
            stream.send(request_of(*named("a", "b"), offset=0)).result(10).append_result.offset == 0
        )
        with pytest.raises(api.AlreadyExists):
            stream.send(request_of(*named("a", "b"), offset=0)).result(10)
        with pytest.raises(api.OutOfRange):
            stream.send(request_of(*named("z"), offset=7)).result(10)
        stream.send(request_of(*named("c"), offset=2)).result(10)
    assert world.names() == ["a", "b", "c"]
    world.restart()
    with world.opened(name) as stream:
        with pytest.raises(api.AlreadyExists):
            stream.send(request_of(*named("c"), offset=2)).result(10)
        stream.send(request_of(*named("d"), offset=3)).result(10)
    assert world.names() == ["a", "b", "c", "d"]


def test_rows_of_a_pending_stream_are_seen_together_after_the_commit(world):
    name = world.create("PENDING")
    with world.opened(name) as stream:
        stream.send(request_of(*named("a", "b"), offset=0)).result(10)
        stream.send(request_of(*named("c"), offset=2)).result(10)
    assert world.names() == []
    assert world.commit(name).stream_errors[0].code == 5  # it is not finalized
    assert world.client.finalize_write_stream(name=name).row_count == 3
    assert not world.commit(name).stream_errors
    assert world.names() == ["a", "b", "c"]
    assert world.commit(name).stream_errors[0].code == 2  # it is committed already
    assert world.client.get_write_stream(name=name).commit_time


def test_a_pending_stream_survives_a_restart_before_its_commit(world):
    name = world.create("PENDING")
    with world.opened(name) as stream:
        stream.send(request_of(*named("a"))).result(10)
    world.client.finalize_write_stream(name=name)
    world.restart()
    assert not world.commit(name).stream_errors
    assert world.names() == ["a"]


def test_a_commit_that_broke_off_is_carried_on_and_doubles_nothing(world, monkeypatch):
    names = [world.create("PENDING") for _ in range(2)]
    for at, name in enumerate(names):
        with world.opened(name) as stream:
            for part in range(3):
                stream.send(request_of(*named(f"{at}-{part}"))).result(10)
        world.client.finalize_write_stream(name=name)
    real, calls = world.store.put, []

    def breaking(batch, **options):
        calls.append(batch)
        if len(calls) == 5:
            raise RuntimeError("the power is gone")
        return real(batch, **options)

    monkeypatch.setattr(world.store, "put", breaking)
    with pytest.raises(api.GoogleAPICallError):
        world.commit(*names)
    assert len(world.names()) == 4
    monkeypatch.undo()
    world.restart()
    assert world.names() == [f"{at}-{part}" for at in range(2) for part in range(3)]
    state = world.listener._streams.find(names[1]).state
    assert state is StreamState.COMMITTED


def test_rows_with_an_insert_id_column_are_stored_once_by_it(world):
    descriptor, cls = row_type(name="string", _insert_id="string", _ingested_at="int64")
    rows = [cls(name="a", _insert_id="one", _ingested_at=5)]
    for _ in range(2):
        with world.opened(f"{TABLE}/streams/_default", descriptor) as stream:
            stream.send(request_of(*rows)).result(10)
    rows = list(world.store.query("SELECT name, _insert_id FROM contract.builds"))
    assert rows == [{"name": "a", "_insert_id": "one"}]


def test_an_offset_in_the_default_stream_and_buffered_streams_are_refused(world):
    with (
        world.opened(f"{TABLE}/streams/_default") as stream,
        pytest.raises(api.InvalidArgument, match="offset"),
    ):
        stream.send(request_of(*named("a"), offset=0)).result(10)
    with pytest.raises(api.MethodNotImplemented, match="BUFFERED"):
        world.create("BUFFERED")


# -- what must not be lost --------------------------------------------------------------------


def insert_ids(world):
    found = world.store.query("SELECT _insert_id AS id, name FROM contract.builds ORDER BY name")
    return {row["name"]: row["id"] for row in found}


def test_another_row_in_the_place_of_one_that_was_never_acked_is_stored(world, monkeypatch):
    stream = world.client.create_write_stream(
        parent=TABLE, write_stream=types.WriteStream(type_=types.WriteStream.Type.COMMITTED)
    ).name
    append, broken = Streams.append, []

    def breaks(self, *args):
        if not broken:
            broken.append(True)
            raise UnavailableError("the server ended here: the rows are in the table")
        return append(self, *args)

    monkeypatch.setattr(Streams, "append", breaks)
    answers = list(
        world.client.transport.append_rows(
            iter([raw_request(stream, "a"), raw_request(stream, "b")])
        )
    )
    assert [bool(answer.error.code) for answer in answers] == [True, False]
    ids = insert_ids(world)
    assert set(ids) == {"a", "b"}
    again = list(world.client.transport.append_rows(iter([raw_request(stream, "c")])))
    assert again[0].append_result.offset == 1


def raw_request(stream, *names):
    request = types.AppendRowsRequest(write_stream=stream)
    request.proto_rows.writer_schema.proto_descriptor = DESCRIPTOR
    request.proto_rows.rows.serialized_rows = [Row(name=n).SerializeToString() for n in names]
    return request


def test_writers_of_one_stream_take_turns(world):
    stream = world.client.create_write_stream(
        parent=TABLE, write_stream=types.WriteStream(type_=types.WriteStream.Type.COMMITTED)
    ).name

    def send(first):
        requests = [raw_request(stream, f"{first}{n}") for n in range(20)]
        return [a.error.code for a in world.client.transport.append_rows(iter(requests))]

    with ThreadPoolExecutor(4) as threads:
        codes = [code for told in threads.map(send, "abcd") for code in told]
    assert codes == [0] * 80
    assert len(insert_ids(world)) == 80


def test_a_commit_whose_table_is_gone_does_not_keep_the_server_from_starting(world, caplog):
    stream = world.client.create_write_stream(
        parent=TABLE, write_stream=types.WriteStream(type_=types.WriteStream.Type.PENDING)
    ).name
    assert not [a.error.code for a in world.client.transport.append_rows(
        iter([raw_request(stream, "a")])) if a.error.code]  # fmt: skip
    world.client.finalize_write_stream(name=stream)
    world.listener._streams.begin_commit([stream])
    world.store.drop(build_spec().table)
    world.restart()
    assert "is not carried out" in caplog.text
    world.store.apply(build_spec())
    answers = list(
        world.client.transport.append_rows(iter([raw_request(f"{TABLE}/_default", "b")]))
    )
    assert [answer.error.code for answer in answers] == [0]


def test_rows_are_counted_by_what_became_of_them(world):
    table = "local.contract.builds"
    name = world.create("PENDING")
    for stream, rows in [
        (f"{TABLE}/_default", named("a", "b")),
        (f"{TABLE}/_default", [Row(name="c"), Row(name="bad", at=2**62)]),
        (name, named("d")),
    ]:
        request = raw_request(stream)
        request.proto_rows.rows.serialized_rows = [row.SerializeToString() for row in rows]
        list(world.client.transport.append_rows(iter([request])))
    counted = lambda outcome: world.metrics.value(Metric.EVENTS, table, outcome)  # noqa: E731
    assert (counted("accepted"), counted("rejected")) == (2, 2)
    world.client.finalize_write_stream(name=name)
    world.commit(name)
    assert counted("accepted") == 3


# -- who is refused ---------------------------------------------------------------------------


def test_what_is_refused_is_in_the_audit_and_counted(world):
    key = world.access.keys(FOLDER_OWNER).create(
        KeyWish(name="look", grants=(GrantText("reader", "local.contract.*"),))
    )
    world.access.look()
    held = [("authorization", f"Bearer {key.token}")]
    with pytest.raises(api.Unauthenticated):
        world.create("PENDING")
    with pytest.raises(api.PermissionDenied):
        world.client.create_write_stream(
            parent=TABLE, write_stream=types.WriteStream(type_="PENDING"), metadata=held
        )
    requests = [raw_request(f"{TABLE}/_default", name) for name in "ab"]
    answers = world.client.transport.append_rows(iter(requests), metadata=held)
    assert [answer.error.code for answer in answers] == [7, 7]
    assert world.names() == []
    rows = [act for _, act in world.access.refusals.take(0.0)]
    assert [(a.act, a.route, a.principal, a.reason, a.count) for a in rows] == [
        ("refused", "gRPC CreateWriteStream", "", "no_credentials", 1),
        ("refused", "gRPC CreateWriteStream", "look", "may_not_append", 1),
        ("refused", "gRPC AppendRows", "look", "may_not_append", 2),
    ]
    assert {act.resource for act in rows[1:]} == {"local.contract.builds"}
    assert {act.peer for act in rows} == {"127.0.0.1"}
    assert "grpc-python" in rows[2].client  # put in by the library itself, whatever a caller says
    assert [world.metrics.value(Metric.REFUSED, status) for status in ("401", "403")] == [1, 3]
