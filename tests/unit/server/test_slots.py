"""A slot's rows over HTTP: who may, in which form, how large, and what a wrong request is told."""

from __future__ import annotations

import pyarrow as pa
import pytest
from access_world import bearer, wish
from starlette.testclient import TestClient

from eventmill.base.errors import BatchTooLargeError, UsageError
from eventmill.base.settings import ServerSettings
from eventmill.client import http_store
from eventmill.client.http_store import HttpStore
from eventmill.server import slots as server_slots
from eventmill.server.access import SERVER, Access
from eventmill.server.app import make_app
from eventmill.store.local.store import LocalStore
from eventmill.store.memory import MemoryStore
from eventmill.testing.contracts.slots import hour, output
from eventmill.testing.events import BUILDS, build_spec
from eventmill.wire.arrow_stream import decode_rows_stream, encode_rows_stream
from eventmill.wire.media import ARROW_CONTENT_TYPE
from eventmill.wire.slot import SlotKey, moment_of_text

AT = "/api/v1/tables/contract.builds/slots/hourly/2026-11-23T00:00:00Z/2026-11-23T01:00:00Z"
ARROW = {"Content-Type": ARROW_CONTENT_TYPE}
ROWS = encode_rows_stream(output("a", 3))


@pytest.fixture
def memory():
    store = MemoryStore()
    store.apply(build_spec())
    yield store
    store.close()


@pytest.fixture
def client(memory, client_of):
    return client_of(memory)


def count(store):
    (row,) = store.query("SELECT COUNT(*) AS n FROM contract.builds")
    return row["n"]


def test_rows_are_replaced_and_counted(client, memory):
    for turn in (1, 2):
        answer = client.put(f"{AT}?generation={turn}", content=ROWS, headers=ARROW)
        assert answer.status_code == 200, answer.text
        assert answer.json() == {"rows": 3, "replaced_rows": 3 * (turn - 1)}
    assert count(memory) == 3
    assert client.get("/api/v1/tables/contract.builds/stats").json()["replaced_rows"] == 3
    (row,) = memory.query("SELECT MIN(_insert_id) AS id FROM contract.builds")
    assert row["id"] == "hourly/20261123T000000Z/0"


def test_what_the_store_refuses_has_its_code(client):
    assert client.put(f"{AT}?generation=5", content=ROWS, headers=ARROW).status_code == 200
    stale = client.put(f"{AT}?generation=4", content=ROWS, headers=ARROW)
    assert (stale.status_code, stale.json()["type"]) == (409, "urn:eventmill:problem:stale_attempt")
    longer = AT.replace("T01:", "T02:").replace("T00:", "T00:30:").replace(":30:00:00", ":30:00")
    across = client.put(f"{longer}?generation=6", content=ROWS, headers=ARROW)
    assert across.json()["type"] == "urn:eventmill:problem:schema_conflict", across.text
    bad = encode_rows_stream(pa.table({"seconds": [0.5]}))
    unfit = client.put(f"{AT}?generation=6", content=bad, headers=ARROW)
    assert (unfit.status_code, unfit.json()["type"]) == (422, "urn:eventmill:problem:output")
    assert "seconds: is INTEGER" in unfit.json()["detail"]
    nowhere = client.put(
        f"{AT.replace('builds', 'bulids')}?generation=1", content=ROWS, headers=ARROW
    )
    assert nowhere.status_code == 404
    assert "did you mean local.contract.builds" in nowhere.json()["detail"]


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "word"),
    [
        (AT, ROWS, ARROW, 400, "generation=''"),
        (f"{AT}?generation=-1", ROWS, ARROW, 400, "generation='-1'"),
        (f"{AT}?generation={10**18}", ROWS, ARROW, 400, "at most 18 digits"),
        (f"{AT}?generation=1", ROWS, {"Content-Type": "application/json"}, 415, "json"),
        (f"{AT}?generation=1", ROWS, {**ARROW, "Content-Encoding": "gzip"}, 415, "gzip"),
        (f"{AT}?generation=1", b"", ARROW, 400, "empty"),
        (f"{AT}?generation=1", b"no stream", ARROW, 400, "not an Arrow stream"),
        (f"{AT}?generation=1", ROWS[:-40], ARROW, 400, "not an Arrow stream"),
        (f"{AT.replace('hourly', 'Hourly')}?generation=1", ROWS, ARROW, 400, "name of a workflow"),
        (f"{AT.replace('T01', 'T00')}?generation=1", ROWS, ARROW, 400, "must end after its start"),
        (f"{AT.replace('00Z', '00.5Z')}?generation=1", ROWS, ARROW, 400, "no whole second"),
        (f"{AT.replace('2026', 'x')}?generation=1", ROWS, ARROW, 400, "RFC 3339"),
        (f"{AT.replace('contract', 'eventmill')}?generation=1", ROWS, ARROW, 403, "itself"),
    ],
)
def test_a_request_that_makes_no_sense_is_told_why(
    client, memory, path, body, headers, status, word
):
    answer = client.put(path, content=body, headers=headers)
    assert answer.status_code == status, answer.text
    assert word in answer.json()["detail"]
    assert count(memory) == 0


def test_other_methods_are_refused(client):
    answer = client.get(AT)
    assert answer.status_code == 405
    assert "only PUT" in answer.json()["detail"]


def test_a_store_that_cannot_is_named(client_of, store):
    answer = client_of(store).put(f"{AT}?generation=1", content=ROWS, headers=ARROW)
    assert answer.status_code == 400
    assert "cannot replace the rows of a slot" in answer.json()["detail"]


def test_it_takes_an_editor(memory):
    access = Access.in_memory()
    ring = access.keys(SERVER)
    made = {
        role: ring.create(wish(role, f"{role}:contract.builds")).token
        for role in ("appender", "reader", "editor")
    }
    access.look()
    app = make_app(memory, ServerSettings(), access=access)
    with TestClient(app, base_url="http://127.0.0.1") as client:
        for role, token in made.items():
            headers = {**ARROW, **bearer(token)}
            answer = client.put(f"{AT}?generation=1", content=ROWS, headers=headers)
            assert answer.status_code == (200 if role == "editor" else 403), answer.text
    access.close()


# -- how large ----------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch, memory, client_of):
    """A client of a server that takes few bytes."""
    monkeypatch.setattr(server_slots.Slots.__init__, "__kwdefaults__", {"bytes_max": len(ROWS)})
    return client_of(memory)


def test_a_body_over_the_limit_is_refused_before_and_while_it_comes(small, memory):
    long = encode_rows_stream(output("a" * 100, 1000))

    def in_pieces():
        yield long

    assert small.put(f"{AT}?generation=1", content=ROWS, headers=ARROW).status_code == 200
    for content in (long, in_pieces()):
        answer = small.put(f"{AT}?generation=2", content=content, headers=ARROW)
        assert answer.status_code == 413
        assert f"the limit is {len(ROWS):,}" in answer.json()["detail"]
        assert "slots shorter" in answer.json()["detail"]
    assert count(memory) == 3


def test_rows_that_are_compressed_are_measured_as_they_are(small, memory):
    sink = pa.BufferOutputStream()
    rows = output("a" * 100, 100_000)
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(sink, rows.schema, options=options) as writer:
        writer.write_table(rows)
    stream = bytes(sink.getvalue())
    with pytest.raises(BatchTooLargeError, match="the rows have more than"):
        decode_rows_stream(stream, bytes_max=len(stream))
    assert decode_rows_stream(stream, bytes_max=100 * len(rows) * 2).equals(rows)


def test_no_more_than_four_are_replaced_at_one_time(monkeypatch, client, memory):
    monkeypatch.setattr(server_slots, "SLOTS_AT_ONCE_MAX", 0)
    answer = client.put(f"{AT}?generation=1", content=ROWS, headers=ARROW)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "2")
    assert count(memory) == 0


def test_a_client_does_not_send_what_is_too_large(monkeypatch):
    monkeypatch.setattr(http_store, "SLOT_BYTES_MAX", 100)
    with (
        HttpStore("http://127.0.0.1:9") as store,
        pytest.raises(BatchTooLargeError, match="the limit is 100"),
    ):
        store.replace_slot(BUILDS, hour(0), output("a", 3), generation=1)


def test_a_large_output_leaves_no_file_behind(tmp_path, client_of):
    folder = str(tmp_path / "store")
    with LocalStore.open(folder) as store:
        store.apply(build_spec())
        client = client_of(store)
        before = sorted(path.name for path in (tmp_path / "store").iterdir())
        rows = encode_rows_stream(output("a" * 40, 100_000))
        answer = client.put(f"{AT}?generation=1", content=rows, headers=ARROW)
        assert answer.json() == {"rows": 100_000, "replaced_rows": 0}
        assert sorted(path.name for path in (tmp_path / "store").iterdir()) == before


# -- what a slot is called ----------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "a", "-a", "a-", "A", "a/b", "a" * 41, "1a", "a b"])
def test_a_workflows_name_is_plain(name):
    with pytest.raises(UsageError, match="not the name of a workflow"):
        SlotKey(name, 0, 1)


@pytest.mark.parametrize(("start", "end"), [(1, 1), (2, 1), (0, 2**40), (-(2**40), 0)])
def test_a_slot_has_a_second_and_lies_in_the_calendar(start, end):
    with pytest.raises(UsageError, match="a slot from"):
        SlotKey("hourly", start, end)


def test_insert_ids_sort_as_the_slots_do():
    moments = ["0001-01-01T00:00:00Z", "0999-12-31T23:59:59Z", "1970-01-01T00:00:00Z"]
    keys = [SlotKey("hourly", second, second + 1) for second in map(moment_of_text, moments)]
    lows = [key.insert_id_low for key in keys]
    assert lows == sorted(lows)
    assert str(keys[1]) == "hourly 0999-12-31T23:59:59Z to 1000-01-01T00:00:00Z"
