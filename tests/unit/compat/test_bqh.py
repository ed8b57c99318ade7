"""The calls of bqh: every defect of the original that a caller could meet is one test."""

import gc
import json
import pickle
import random
import weakref
from datetime import UTC, datetime

import pytest
from google.api_core.exceptions import Forbidden
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from proto_world import PROTO2, RandomSchema, RandomWire, message_type
from store_world import BUILDS, build_type, builds_spec

import eventmill
from eventmill.base.errors import (
    BackPressureError,
    PermanentError,
    SchemaError,
    TableNotFoundError,
    UnavailableError,
    UsageError,
)
from eventmill.compat import bqh
from eventmill.compat.row_dict import json_row
from eventmill.schema.check import EventCheck
from eventmill.schema.mapping import columns_of, spec_from_proto
from eventmill.schema.problem import EventProblem, Reason
from eventmill.schema.table import TableId
from eventmill.schema.values import RowReader
from eventmill.store.memory import MemoryStore
from eventmill.testing.fakes import Faults, FlakySink, RecordingSink
from eventmill.wire.batch import Batch


def build(number, **fields):
    message = build_type().cls(number=number, **fields)
    message.ended_at.seconds = 1_790_000_000
    return message


def numbers(store):
    rows = store.query("SELECT number FROM ci.builds ORDER BY number", row_limit=None)
    return [row["number"] for row in rows]


class TestSendRows:
    def test_messages_and_dicts_are_stored_when_it_returns(self, store):
        rows = (row for row in [build(1), {"number": 2, "builder": "mac"}, build(3)])
        assert bqh.send_rows(store, "ci", "builds", rows) is None
        assert numbers(store) == [1, 2, 3]

    def test_a_connection_takes_rows_as_well_as_a_store(self, address):
        sink = eventmill.connect(address)
        bqh.send_rows(sink, "ci", "builds", [build(1)])
        bqh.send_rows(sink, "local.ci", "builds", [build(2)])
        sink.close()
        with_rows = eventmill.open_store(address)
        assert numbers(with_rows) == [1, 2]
        with_rows.close()

    def test_a_refused_row_is_named_by_its_place_in_the_call_and_holds_nobody_back(self, store):
        rows = [build(number) for number in range(7)]
        rows[5].artifact_bytes = 2**64 - 1
        rows[3] = {"number": "many"}
        with pytest.raises(bqh.BigQueryInsertError) as caught:
            bqh.send_rows(store, "ci", "builds", rows, batch_size=2)
        first, second = caught.value.insert_errors
        assert (first["index"], first["errors"][0]["reason"]) == (3, "wrong_type")
        assert first["errors"][0]["location"] == "number"
        assert (second["index"], second["errors"][0]["reason"]) == (5, "out_of_range")
        assert str(caught.value).startswith("Error inserting row 3: {'reason': 'wrong_type'")
        assert "\nError inserting row 5: " in str(caught.value)
        assert numbers(store) == [0, 1, 2, 4, 6]
        kept = store.query("SELECT insert_id FROM eventmill.quarantine")
        assert {row["insert_id"] for row in kept} == {first["insert_id"], second["insert_id"]}

    def test_the_same_call_with_the_same_insert_ids_stores_nothing_twice(self, store):
        for _ in range(2):
            bqh.send_rows(store, "ci", "builds", [build(1), build(1)], insert_ids=["a", "b"])
        assert numbers(store) == [1, 1]

    def test_equal_rows_are_rows_of_their_own(self, store):
        bqh.send_rows(store, "ci", "builds", [build(1), build(1)])
        assert numbers(store) == [1, 1]

    def test_no_rows_are_no_request(self):
        assert bqh.send_rows(RefusingSink(UsageError("asked")), "ci", "builds", []) is None

    def test_what_is_no_row_is_refused_before_anything_is_sent(self, store):
        with pytest.raises(bqh.UnsupportedTypeError, match="str") as caught:
            bqh.send_rows(store, "ci", "builds", [build(1), "row"], batch_size=1)
        assert caught.value.row_type == "str"
        assert numbers(store) == []

    def test_the_callers_list_is_left_as_it_is(self, store):
        rows = [build(1), {"number": 2}]
        before = [build(1), {"number": 2}]
        bqh.send_rows(store, "ci", "builds", rows)
        assert rows == before

    def test_tuples_go_by_the_columns_of_the_table(self, store):
        ended_at = datetime(2026, 11, 1, tzinfo=UTC)
        whole = (1, "linux", "SUCCESS", ended_at, None, ["a"], [], {}, 0)
        bqh.send_rows(store, "ci", "builds", [whole])
        (row,) = store.query("SELECT builder, status, ended_at, tags FROM ci.builds")
        assert row == {
            "builder": "linux",
            "status": "SUCCESS",
            "ended_at": ended_at,
            "tags": ["a"],
        }
        with pytest.raises(UsageError, match=r"row 1, .* 2 values for 9 columns \(number"):
            bqh.send_rows(store, "ci", "builds", [whole, (1, "linux")])

    @pytest.mark.parametrize(
        ("batch_size", "counts"), [(2, [2, 2, 1]), (0, [5]), (-1, [5]), (99_999, [5])]
    )
    def test_a_request_has_as_many_rows_as_were_asked_for(self, batch_size, counts):
        sink = recording_sink()
        bqh.send_rows(sink, "ci", "builds", [build(n) for n in range(5)], batch_size)
        assert [batch.count for batch in sink.batches] == counts

    def test_a_request_has_500_rows_unless_told_and_10_000_at_most(self):
        sink = recording_sink()
        rows = [build(0)] * 10_001
        bqh.send_rows(sink, "ci", "builds", rows)
        assert [batch.count for batch in sink.batches] == [500] * 20 + [1]
        sink.batches.clear()
        bqh.send_rows(sink, "ci", "builds", rows, batch_size=99_999)
        assert [batch.count for batch in sink.batches] == [10_000, 1]

    def test_rows_keep_their_insert_ids_over_the_retries_of_one_call(self):
        sink = recording_sink()
        flaky = FlakySink(sink, Faults(reply_lost=0.3, request_lost=0.2), rng=random.Random(7))
        bqh.send_rows(flaky, "ci", "builds", [build(n) for n in range(40)], batch_size=4)
        assert flaky.happened["reply_lost"] >= 2
        assert numbers(sink.inner) == list(range(40))

    def test_an_error_in_the_middle_says_what_was_judged_and_how_to_go_on(self):
        store = memory_store()
        rows = [build(number) for number in range(9)]
        rows[1].artifact_bytes = 2**64 - 1
        failing = FailingAfter(store, 2)
        with pytest.raises(BackPressureError) as caught:
            bqh.send_rows(failing, "ci", "builds", rows, batch_size=3, timeout_seconds=0.01)
        progress = eventmill.progress_of(caught.value)
        assert progress.verdict.count == 6
        assert [rejection.index for rejection in progress.verdict.rejected] == [1]
        assert len(progress.insert_ids) == 9
        with pytest.raises(bqh.BigQueryInsertError):
            bqh.send_rows(store, "ci", "builds", rows, insert_ids=progress.insert_ids)
        assert numbers(store) == [0, 2, 3, 4, 5, 6, 7, 8]

    def test_progress_counts_the_part_of_a_batch_that_was_cut_by_bytes(self):
        rows = [build(number, builder="x" * 900_000) for number in range(12)]
        failing = FailingAfter(memory_store(), 1)
        with pytest.raises(BackPressureError) as caught:
            bqh.send_rows(failing, "ci", "builds", rows, timeout_seconds=0.01)
        assert eventmill.progress_of(caught.value).verdict.count == 9

    def test_the_table_is_asked_for_once_a_client(self):
        sink = DescribingSink(memory_store())
        for number in range(5):
            bqh.send_rows(sink, "ci", "builds", [build(number)])
        assert sink.described == 1

    def test_after_an_error_the_table_is_asked_for_again(self):
        sink = DescribingSink(MemoryStore())
        with pytest.raises(TableNotFoundError):
            bqh.send_rows(sink, "ci", "builds", [build(1)])
        other = message_type("message M { int64 serial = 1; }")
        sink.inner.apply(spec_from_proto(BUILDS, other.descriptor_set, "t.M"))
        with pytest.raises(UsageError, match=r"takes t\.M"):
            bqh.send_rows(sink, "ci", "builds", [build(2)])
        sink.inner.drop(BUILDS)
        sink.inner.apply(builds_spec())
        bqh.send_rows(sink, "ci", "builds", [build(3)])
        assert numbers(sink.inner) == [3]

    def test_what_is_known_of_a_table_goes_with_its_client(self):
        sink = DescribingSink(memory_store())
        bqh.send_rows(sink, "ci", "builds", [build(1)])
        gone = weakref.ref(sink)
        del sink
        gc.collect()
        assert gone() is None

    def test_a_client_that_cannot_be_referred_to_weakly_will_do(self):
        sink = SlottedSink(memory_store())
        bqh.send_rows(sink, "ci", "builds", [build(1)])
        assert numbers(sink.inner) == [1]

    def test_what_takes_no_rows_is_named_with_what_would(self):
        with pytest.raises(UsageError, match=r"eventmill\.connect"):
            bqh.send_rows(object(), "ci", "builds", [build(1)])

    @pytest.mark.parametrize("given", [["a"], "ab", ["a", "b" * 129]])
    def test_insert_ids_that_do_not_fit_the_rows_are_refused(self, given):
        with pytest.raises(UsageError, match="insert"):
            bqh.send_rows(memory_store(), "ci", "builds", [build(1), build(2)], insert_ids=given)


class TestGooglesClient:
    """The real client, against an insertAll of our own."""

    @pytest.fixture
    def google(self, insert_all):
        client = bigquery.Client(
            project="cloud",
            credentials=AnonymousCredentials(),
            client_options={"api_endpoint": insert_all.url},
        )
        yield client
        client.close()

    def test_rows_are_those_of_the_table(self, google, insert_all):
        message = build(1, builder="linux", status=1, tags=["a"], properties={"k": "v"})
        ended_at = datetime(2026, 11, 1, 12, tzinfo=UTC)
        bqh.send_rows(google, "ci", "builds", [message, {"ended_at": ended_at, "number": 2}])
        (request,) = insert_all.requests
        assert "/projects/cloud/datasets/ci/tables/builds/insertAll" in request.path
        assert request.skipInvalidRows is True
        assert [row["json"] for row in request.rows] == [
            {
                "number": 1,
                "builder": "linux",
                "status": "SUCCESS",
                "ended_at": "2026-09-21T14:13:20.000000Z",
                "tags": ["a"],
                "properties": [{"key": "k", "value": "v"}],
                "artifact_bytes": 0,
            },
            {"ended_at": "2026-11-01T12:00:00.000000Z", "number": 2},
        ]
        assert len({row["insertId"] for row in request.rows}) == 2

    def test_insert_ids_are_the_callers(self, google, insert_all):
        bqh.send_rows(google, "ci", "builds", [build(1), build(2)], insert_ids=["x", "y"])
        assert [row["insertId"] for row in insert_all.requests[0].rows] == ["x", "y"]

    def test_errors_of_all_requests_are_placed_in_the_call(self, google, insert_all):
        def refuse_odd(rows):
            told = [{"reason": "invalid", "location": "number", "message": "no such field: x"}]
            return [
                {"index": index, "errors": told}
                for index, row in enumerate(rows)
                if row["number"] % 2
            ]

        insert_all.errors_of = refuse_odd
        rows = [build(number) for number in range(6)]
        rows[4].artifact_bytes = 2**64 - 1
        with pytest.raises(bqh.BigQueryInsertError, match="no such field") as caught:
            bqh.send_rows(google, "ci", "builds", rows, batch_size=2)
        found = [(error["index"], error["errors"][0]["reason"]) for error in
                 caught.value.insert_errors]  # fmt: skip
        assert found == [(1, "invalid"), (3, "invalid"), (4, "out_of_range"), (5, "invalid")]
        assert [len(request.rows) for request in insert_all.requests] == [2, 2, 1]

    def test_a_request_is_cut_by_bytes_too(self, google, insert_all):
        rows = [{"number": n, "builder": "x" * 900_000} for n in range(12)]
        bqh.send_rows(google, "ci", "builds", rows)
        assert [len(request.rows) for request in insert_all.requests] == [9, 3]

    def test_an_error_of_googles_says_how_many_rows_had_gone_before(self, google, insert_all):
        def forbid(rows):
            insert_all.status = 403 if rows[0]["number"] == 2 else 200
            return []

        insert_all.errors_of = forbid
        with pytest.raises(Forbidden) as caught:
            bqh.send_rows(google, "ci", "builds", [build(n) for n in range(5)], batch_size=2)
        assert caught.value.__notes__ == ["2 of 5 rows had been sent before"]

    def test_tuples_go_by_the_columns_that_the_client_tells(self, google, insert_all):
        insert_all.columns = ["number", "builder"]
        bqh.send_rows(google, "ci", "builds", [(1, "linux"), build(2)])
        sent = [row["json"] for row in insert_all.requests[-1].rows]
        assert sent[0] == {"number": 1, "builder": "linux"}
        assert sent[1]["number"] == 2


class TestMessageToDict:
    def test_it_is_the_row_of_the_table(self):
        message = build(
            1, status=3, tags=["b", "a"], properties={"z": "1", "a": "2"}, cpu_seconds=0.0
        )
        message.steps.add(name="compile", status=9, duration_us=5)
        assert bqh.message_to_dict(message) == {
            "number": 1,
            "builder": "",
            "status": "INFRA_FAILURE",
            "ended_at": "2026-09-21T14:13:20.000000Z",
            "cpu_seconds": 0.0,
            "tags": ["b", "a"],
            "steps": [{"name": "compile", "status": "9", "duration_us": 5}],
            "properties": [{"key": "a", "value": "2"}, {"key": "z", "value": "1"}],
            "artifact_bytes": 0,
        }

    def test_presence_is_kept_and_null_is_left_out(self):
        assert "cpu_seconds" not in bqh.message_to_dict(build(1))
        assert bqh.message_to_dict(build_type().cls()) == {
            "number": 0,
            "builder": "",
            "status": "STATUS_UNSPECIFIED",
            "artifact_bytes": 0,
        }

    @pytest.mark.parametrize("seed", range(40))
    def test_it_agrees_with_the_store_on_every_kind_of_field(self, seed):
        rng = random.Random(seed)
        kind = RandomSchema(rng).load()
        table = TableId("local", "d", "t")
        store = MemoryStore()
        store.apply(spec_from_proto(table, kind.descriptor_set, "r.M0", partitioning=None))
        wire = RandomWire(rng)
        events = [wire.event(kind.descriptor) for _ in range(30)]
        check = EventCheck(kind)
        events = [e for e in events if check.problem(e, known_schema=True) is None]
        assert events
        made = [bqh.message_to_dict(kind.parse(event)) for event in events]
        ids = [f"{place:03}".encode() for place in range(len(events))]
        assert store.put(Batch.build(table, kind.fingerprint, ids, events)).ok
        read = RowReader(kind, columns_of(kind)).read
        stored = [json_row(row) for row in
                  store.query("SELECT * FROM d.t ORDER BY _insert_id", row_limit=None)]  # fmt: skip
        # Whole rows of numbers and texts are compared as JSON, where NaN is a text and equal.
        assert [json.dumps(row) for row in made] == [json.dumps(row) for row in stored]
        assert [json_row(read(kind.parse(event))) for event in events] == made

    def test_json_can_hold_it(self):
        kind = message_type(
            "message M { bytes b = 1; double d = 2; string n = 3 [(bqschema.options).bq_type = "
            '"NUMERIC"]; google.protobuf.Struct s = 4; google.protobuf.Duration t = 5; }'
        )
        message = kind.cls(b=b"\xff", d=float("nan"), n="1.50")
        message.s["k"] = [1, None]
        message.t.FromMilliseconds(1500)
        made = bqh.message_to_dict(message)
        assert json.loads(json.dumps(made)) == made == {
            "b": "/w==", "d": "NaN", "n": "1.500000000", "s": '{"k":[1,null]}', "t": 1.5
        }  # fmt: skip

    def test_a_value_without_a_place_is_named(self):
        with pytest.raises(EventProblem) as caught:
            bqh.message_to_dict(build(1, artifact_bytes=2**63))
        assert (caught.value.reason, caught.value.field) == (Reason.OUT_OF_RANGE, "artifact_bytes")

    def test_a_required_field_that_is_not_set_is_named(self):
        kind = message_type("message M { required int64 a = 1; }", syntax=PROTO2)
        with pytest.raises(EventProblem, match="required"):
            bqh.message_to_dict(kind.cls())

    def test_a_message_that_contains_itself_is_refused_and_does_not_hang(self):
        kind = message_type("message M { int64 a = 1; M below = 2; }")
        with pytest.raises(SchemaError, match="contains itself"):
            bqh.message_to_dict(kind.cls(a=1))

    def test_a_type_without_fields_is_none(self):
        assert bqh.message_to_dict(message_type("message M {}").cls()) is None

    def test_what_is_no_message_is_refused(self):
        with pytest.raises(bqh.UnsupportedTypeError, match="dict"):
            bqh.message_to_dict({"number": 1})


class TestErrors:
    def test_they_are_made_as_they_were(self):
        error = bqh.BigQueryInsertError(
            [{"index": 1, "errors": ["first", "second"]}, {"index": 2, "errors": None}]
        )
        assert str(error) == "Error inserting row 1: first\nError inserting row 1: second\n"
        assert isinstance(error, PermanentError)
        assert "int" in str(bqh.UnsupportedTypeError("int"))

    @pytest.mark.parametrize(
        "error",
        [bqh.BigQueryInsertError([{"index": 1, "errors": ["e"]}]), bqh.UnsupportedTypeError("int")],
    )
    def test_they_come_through_a_process_pool_whole(self, error):
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error)
        assert str(again) == str(error)


def memory_store():
    store = MemoryStore()
    store.apply(builds_spec())
    return store


def recording_sink():
    return RecordingSink(memory_store())


class DescribingSink(RecordingSink):
    """Counts how often it is asked what a table is."""

    described = 0

    def describe(self, table):
        self.described += 1
        return super().describe(table)


class FailingAfter(RecordingSink):
    """Takes so many batches, and then none."""

    def __init__(self, sink, count):
        super().__init__(sink)
        self.left = count

    def put(self, batch, *, timeout_seconds=None):
        if not self.left:
            raise BackPressureError("a pause, please")
        self.left -= 1
        return super().put(batch)


class RefusingSink:
    def __init__(self, error):
        self.error = error

    def put(self, batch, *, timeout_seconds=None):
        raise self.error

    def describe(self, table):
        raise UnavailableError("away")


class SlottedSink:
    __slots__ = ("inner",)

    def __init__(self, inner):
        self.inner = inner

    def put(self, batch, *, timeout_seconds=None):
        return self.inner.put(batch)
