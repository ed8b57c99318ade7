import asyncio
import gzip
import json
import tracemalloc
import zlib

import pytest

from eventmill.base.errors import (
    BackPressureError,
    StorageFullError,
    UnavailableError,
)
from eventmill.base.metrics import Metric
from eventmill.base.settings import ServerSettings
from eventmill.client.compression import zstd_compressor
from eventmill.schema.problem import Reason
from eventmill.server.app import make_app
from eventmill.testing.events import build, build_batch, build_type
from eventmill.wire.batch import BATCH_BYTES_MAX, BATCH_EVENTS_MAX, EVENT_BYTES_MAX
from eventmill.wire.verdict_json import verdict_from_json

EVENTS = "/api/v1/tables/contract.builds/events"
BATCH = {"Content-Type": "application/vnd.eventmill.batch", "Eventmill-Schema": "abc"}
LINES = {"Content-Type": "application/x-ndjson"}


def problem(answer):
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["status"] == answer.status_code
    assert document["title"]
    return document["type"].removeprefix("urn:eventmill:problem:"), document["detail"]


def test_a_batch_reaches_the_store_byte_for_byte(either_store, client_of):
    batch = build_batch("a", "b")
    client = client_of(either_store)
    answer = client.post(EVENTS, content=batch.payload, headers={**BATCH, "User-Agent": "ci/1"})
    assert answer.json() == {
        "count": 2,
        "accepted": 2,
        "duplicates": 0,
        "rejected": [],
        "duplicate_indexes": [],
    }
    (seen,) = either_store.batches
    assert (seen.payload, seen.fingerprint, seen.client) == (batch.payload, "abc", "ci/1")
    metrics = client.app.state.metrics
    assert metrics.value(Metric.EVENTS, "local.contract.builds", "accepted") == 2
    assert metrics.value(Metric.BODY_BYTES_IN_FLIGHT) == 0


def test_a_batch_too_large_to_be_handed_over_in_the_loop_arrives_as_well(either_store, client_of):
    batch = build_batch(*map(str, range(1000)))
    answer = client_of(either_store).post(EVENTS, content=batch.payload, headers=BATCH)
    assert answer.json()["accepted"] == 1000


def test_duplicates_and_rejections_are_named(client):
    events = [build("a"), b"\xff", build("c")]
    batch = build_batch("a", "b", "a", events=events)
    document = client.post(EVENTS, content=batch.payload, headers=BATCH).json()
    assert document["duplicate_indexes"] == [2]
    assert document["rejected"] == [
        {
            "index": 1,
            "insert_id": "b",
            "reason": "malformed_event",
            "field": "",
            "message": "not a message",
        }
    ]
    assert verdict_from_json(document).accepted == 1


@pytest.mark.parametrize("cut", [0, 3, 20])
def test_a_batch_that_is_cut_short_is_answered_with_400(client, store, cut):
    payload = build_batch("a").payload[:cut]
    answer = client.post(EVENTS, content=payload, headers=BATCH)
    assert (answer.status_code, problem(answer)[0]) == (400, "batch")
    assert store.batches == []


def test_a_content_length_over_the_limit_is_refused_before_the_body_is_read(client):

    headers = {**BATCH, "Content-Length": str(BATCH_BYTES_MAX + 1)}
    answer = client.post(EVENTS, content=b"", headers=headers)
    assert answer.status_code == 413
    assert "9,000,000" in problem(answer)[1]


def test_a_body_without_a_length_is_refused_at_the_byte_that_is_too_many(client):
    def body():
        for _ in range(10):
            yield b"x" * 1_000_000

    answer = client.post(EVENTS, content=body(), headers=BATCH)
    assert (answer.status_code, problem(answer)[0]) == (413, "batch_too_large")
    assert client.app.state.metrics.value(Metric.BODY_BYTES_IN_FLIGHT) == 0


def test_no_more_of_an_endless_body_is_read_than_the_limit(store):
    app = make_app(store, ServerSettings())
    pieces, sent = [], []

    async def receive():
        pieces.append(1)
        assert len(pieces) < 100, "it reads on and on"
        return {"type": "http.request", "body": b"x" * 1_000_000, "more_body": True}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": EVENTS,
        "query_string": b"",
        "headers": [(b"content-type", BATCH["Content-Type"].encode())],
    }
    asyncio.run(app(scope, receive, send))
    assert sent[0]["status"] == 413
    assert len(pieces) == 10


ENCODINGS = {"gzip": gzip.compress, "zstd": zstd_compressor()}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_compressed_body_is_inflated(client, store, encoding):
    payload = build_batch(*map(str, range(5000))).payload
    headers = {**BATCH, "Content-Encoding": encoding}
    answer = client.post(EVENTS, content=ENCODINGS[encoding](payload), headers=headers)
    assert answer.json()["accepted"] == 5000
    assert store.batches[0].payload == payload


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_small_compressed_body_cannot_fill_the_memory(client, encoding):
    packer = zlib.compressobj(wbits=31)
    bomb = b"".join(packer.compress(b"\0" * 1_000_000) for _ in range(200)) + packer.flush()
    if encoding == "zstd":
        bomb = ENCODINGS["zstd"](b"\0" * 200_000_000)
    assert len(bomb) < 400_000
    tracemalloc.start()
    try:
        answer = client.post(EVENTS, content=bomb, headers={**BATCH, "Content-Encoding": encoding})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert answer.status_code == 413
    assert peak < 3 * BATCH_BYTES_MAX


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("damage", [lambda b: b[:-3], lambda b: b"xx" + b, lambda b: b + b"more"])
def test_a_damaged_body_is_answered_with_400(client, store, encoding, damage):
    body = damage(ENCODINGS[encoding](build_batch("a").payload))
    answer = client.post(EVENTS, content=body, headers={**BATCH, "Content-Encoding": encoding})
    assert (answer.status_code, problem(answer)[0]) == (400, "batch")
    assert store.batches == []


def test_another_encoding_or_content_type_is_answered_with_415(client):
    answer = client.post(EVENTS, content=b"", headers={**BATCH, "Content-Encoding": "br"})
    assert (answer.status_code, problem(answer)[0]) == (415, "unsupported_media_type")
    answer = client.post(EVENTS, content=b"x", headers={"Content-Type": "text/plain"})
    assert answer.status_code == 415
    assert "application/x-ndjson" in problem(answer)[1]


def test_an_unknown_table_is_answered_with_the_names_that_are_near(client):
    answer = client.post(
        "/api/v1/tables/contract.bulids/events", content=build_batch("a").payload, headers=BATCH
    )
    assert answer.status_code == 404
    assert problem(answer) == (
        "table_not_found",
        "there is no table contract.bulids: did you mean local.contract.builds?",
    )


def test_a_bad_table_name_is_answered_with_400(client):
    answer = client.post("/api/v1/tables/a.b.c.d/events", content=b"", headers=BATCH)
    assert (answer.status_code, problem(answer)[0]) == (400, "usage")


@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [
        (UnavailableError("no"), 503, "1"),
        (BackPressureError("no", retry_after_seconds=2.4), 429, "3"),
        (StorageFullError("no"), 507, "1"),
    ],
)
def test_what_time_may_mend_is_answered_with_when_to_come_again(
    either_store, client_of, error, status, retry_after
):
    either_store.error = error
    answer = client_of(either_store).post(EVENTS, content=build_batch("a").payload, headers=BATCH)
    assert (answer.status_code, answer.headers["retry-after"]) == (status, retry_after)
    assert problem(answer)[1] == "no"


def test_bodies_beyond_the_budget_are_told_to_wait_and_it_is_given_back(client_of, store):
    client = client_of(store, in_flight_bytes_max=100)
    answer = client.post(EVENTS, content=build_batch(*"abcdefgh").payload, headers=BATCH)
    assert (answer.status_code, problem(answer)[0]) == (429, "back_pressure")
    assert client.post(EVENTS, content=build_batch("a").payload, headers=BATCH).status_code == 200


def test_json_lines_become_events(client, store):
    lines = b'{"name": "a", "seconds": 5}\r\n\n  {"name": "b", "tags": ["x"]}\n'
    answer = client.post(EVENTS, content=lines, headers=LINES)
    assert answer.json()["accepted"] == 2
    parse = build_type().parse
    assert [parse(event).name for event in store.rows.values()] == ["a", "b"]


def test_bad_lines_are_quarantined_whole_and_good_ones_go_on(client, store):
    lines = [
        b'{"name": "a"}',
        b'{"name": }',
        b"[1]",
        b'{"nmae": "x"}',
        b'{"name": "\xff"}',
        b"null",
        b'{"name": "b"}',
    ]
    answer = client.post(
        EVENTS, content=b"\n".join(lines), headers={**LINES, "User-Agent": "curl/8"}
    )
    document = answer.json()
    assert (answer.status_code, document["count"], document["accepted"]) == (200, 7, 2)
    assert [(r["index"], r["reason"]) for r in document["rejected"]] == [
        (1, "malformed_json"),
        (2, "malformed_json"),
        (3, "unknown_field"),
        (4, "invalid_utf8"),
        (5, "malformed_json"),
    ]
    assert document["rejected"][2]["field"] == "nmae"
    assert [event.payload for event in store.quarantined] == lines[1:6]
    assert {(e.client, e.is_json) for e in store.quarantined} == {("curl/8", True)}
    assert [e.insert_id for e in store.quarantined] == [
        r["insert_id"] for r in document["rejected"]
    ]


def test_indexes_of_the_store_are_given_their_place_in_the_request(client, store):
    store.rows[b"2"] = b""
    lines = b'{"id":"1","name":"a"}\nx\n{"id":"2","name":"b"}\n'
    document = client.post(f"{EVENTS}?insert_id_field=id", content=lines, headers=LINES).json()
    assert document["duplicate_indexes"] == [2]
    assert [r["index"] for r in document["rejected"]] == [1]
    assert document["accepted"] == 1


def test_the_insert_id_is_taken_from_its_key_and_out_of_the_row(client, store):
    lines = b'{"id": "x", "name": "a"}\n{"id": 7, "name": "b"}'
    for _ in range(2):
        answer = client.post(f"{EVENTS}?insert_id_field=id", content=lines, headers=LINES)
    assert list(store.rows) == [b"x", b"7"]
    assert answer.json()["duplicates"] == 2


def test_an_insert_id_that_is_also_a_column_stays_in_the_row(client, store):
    client.post(f"{EVENTS}?insert_id_field=name", content=b'{"name": "a"}', headers=LINES)
    assert list(store.rows) == [b"a"]
    assert build_type().parse(store.rows[b"a"]).name == "a"


@pytest.mark.parametrize("given", ["", '"id": "",', '"id": null,', '"id": true,', '"id": [1],'])
def test_an_insert_id_that_is_none_rejects_its_event(client, store, given):
    line = f'{{{given} "name": "a"}}'.encode()
    document = client.post(f"{EVENTS}?insert_id_field=id", content=line, headers=LINES).json()
    assert document["rejected"][0]["reason"] == "bad_insert_id"
    assert store.quarantined[0].payload == line


@pytest.mark.parametrize("form", [lambda row: row, lambda row: [row, row]])
def test_a_json_document_is_one_event_or_an_array(client, store, form):
    body = json.dumps(form({"name": "a"}), indent=2)
    answer = client.post(EVENTS, content=body, headers={"Content-Type": "application/json"})
    assert answer.json()["accepted"] == len(store.rows) > 0


@pytest.mark.parametrize(
    ("content_type", "body"),
    [("application/json", b"{"), ("application/json", b"[]"), ("application/x-ndjson", b"\n \n")],
)
def test_a_body_without_events_is_answered_with_400(client, content_type, body):
    answer = client.post(EVENTS, content=body, headers={"Content-Type": content_type})
    assert (answer.status_code, problem(answer)[0]) == (400, "batch")


def test_a_line_over_the_size_of_an_event_is_rejected_alone(client, store):
    large = b'{"name": "%b"}' % (b"x" * EVENT_BYTES_MAX)
    document = client.post(EVENTS, content=large + b'\n{"name":"a"}', headers=LINES).json()
    assert [(r["index"], r["reason"]) for r in document["rejected"]] == [
        (0, Reason.EVENT_TOO_LARGE)
    ]
    assert document["accepted"] == 1


def test_more_lines_than_a_batch_may_have_events_are_refused(client, store):
    body = b'{"name":"a"}\n' * (BATCH_EVENTS_MAX + 1)
    answer = client.post(EVENTS, content=body, headers=LINES)
    assert (answer.status_code, problem(answer)[0]) == (413, "batch_too_large")
    assert "10,000" in problem(answer)[1]
    assert store.batches == []


def test_an_unforeseen_error_tells_its_id_and_nothing_else(client, store, caplog):
    store.error = RuntimeError("secret")
    answer = client.post(EVENTS, content=build_batch("a").payload, headers=BATCH)
    assert answer.status_code == 500
    kind, detail = problem(answer)
    assert kind == "internal"
    assert "secret" not in answer.text
    error_id = detail.split()[-1]
    (record,) = [r for r in caplog.records if error_id in r.getMessage()]
    assert record.exc_info[0] is RuntimeError
    assert client.app.state.metrics.value(Metric.ERRORS) == 1


def test_only_bodies_for_ingest_are_counted_as_received(client, store):
    metrics = client.app.state.metrics
    client.post("/api/v1/query", json={"sql": "SELECT 1"})
    client.post("/api/v1/quarantine", json=[])
    assert metrics.value(Metric.RECEIVED_BYTES) == 0
    lines = gzip.compress(b'{"name": "a"}\n' * 50)
    client.post(EVENTS, content=lines, headers={**LINES, "Content-Encoding": "gzip"})
    assert metrics.value(Metric.RECEIVED_BYTES) == len(lines)


def test_events_of_json_keep_the_name_of_who_sent_them(client, store):
    client.post(EVENTS, content=b'{"name":"a"}', headers={**LINES, "User-Agent": "curl/8"})
    assert [batch.client for batch in store.batches] == ["curl/8"]
