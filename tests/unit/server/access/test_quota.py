"""Quotas: the average holds, the refusal says what to do, and the sender does it."""

import random

import pytest
from access_world import BATCH, OPEN, SECRET, bearer, wish
from starlette.testclient import TestClient

from eventmill.base.errors import BackPressureError, QuotaError, TransientError, UnavailableError
from eventmill.base.settings import ServerSettings
from eventmill.client.http_sink import HttpSink
from eventmill.client.retry import Retry
from eventmill.server.access import NO_QUOTA, Access, Principal, PrincipalKind, Quota
from eventmill.server.access.access import FOLDER_OWNER
from eventmill.server.access.quota import RETRY_SECONDS_MAX, Quotas
from eventmill.server.app import make_app, table_quota
from eventmill.server.run import Server
from eventmill.testing.events import build_batch
from eventmill.wire.error_code import error_of

EVENTS = f"/api/v1/tables/{OPEN}/events"


def key(events_per_second=None, bytes_per_day=None, name="ci"):
    quota = Quota(events_per_second, bytes_per_day)
    return Principal(name, PrincipalKind.TOKEN, (), quota=quota)


FREE = Principal("free", PrincipalKind.TOKEN, ())


def test_without_quotas_nothing_is_counted(clock):
    quotas = Quotas(clock)
    for _ in range(3):
        quotas.charge(FREE, OPEN, 10**9, 10**12).give_back()
    assert quotas.levels() == []


@pytest.mark.parametrize("batch", [1, 7, 100, 5_000])
def test_the_average_of_events_holds_whatever_the_size_of_batches(clock, batch):
    quotas, principal = Quotas(clock), key(events_per_second=100)
    taken, seconds = 0, 100
    for _ in range(seconds * 10):
        while can_take(quotas, principal, batch):  # as many as it lets in
            taken += batch
        clock.advance(0.1)
    assert taken <= 100 * seconds + 100 + batch
    assert taken >= 100 * seconds - batch


def can_take(quotas, principal, batch):
    try:
        quotas.charge(principal, OPEN, batch, 1)
    except QuotaError:
        return False
    return True


def test_a_refused_request_takes_nothing_and_waiting_as_told_is_enough(clock):
    quotas, principal = Quotas(clock), key(events_per_second=10)
    quotas.charge(principal, OPEN, 35, 1)  # 10 were there, 25 are owed
    for _ in range(5):
        with pytest.raises(QuotaError) as raised:
            quotas.charge(principal, OPEN, 1000, 1)
    assert raised.value.retry_after_seconds == pytest.approx(2.5)
    clock.advance(2.4)
    with pytest.raises(QuotaError):
        quotas.charge(principal, OPEN, 1, 1)
    clock.advance(0.2)
    quotas.charge(principal, OPEN, 1, 1)


def test_a_days_bytes_may_come_at_once_and_then_evenly(clock):
    quotas, principal = Quotas(clock), key(bytes_per_day=86_400)
    quotas.charge(principal, OPEN, 1, 86_400)
    with pytest.raises(QuotaError, match=r"'ci' may append 84\.4 KiB a day") as raised:
        quotas.charge(principal, OPEN, 1, 1)
    assert raised.value.facts == {
        "quota": "bytes_per_day",
        "subject": "the key 'ci'",
        "limit": 86_400,
    }
    clock.advance(100)
    quotas.charge(principal, OPEN, 1, 100)
    with pytest.raises(QuotaError):
        quotas.charge(principal, OPEN, 1, 1)


def test_nobody_is_told_to_wait_longer_than_it_takes_to_notice_a_greater_quota(clock):
    quotas, principal = Quotas(clock), key(bytes_per_day=100)
    quotas.charge(principal, OPEN, 1, 10_000)
    with pytest.raises(QuotaError) as raised:
        quotas.charge(principal, OPEN, 1, 1)
    assert raised.value.retry_after_seconds == RETRY_SECONDS_MAX


def test_what_is_given_back_can_be_taken_again(clock):
    quotas, principal = Quotas(clock), key(events_per_second=10)
    for _ in range(50):
        quotas.charge(principal, OPEN, 100, 1).give_back()
    charge = quotas.charge(principal, OPEN, 5, 1)
    charge.give_back()
    quotas.charge(principal, OPEN, 10, 1)
    with pytest.raises(QuotaError):
        quotas.charge(principal, OPEN, 1, 1)


def test_a_table_is_bounded_over_all_keys_and_each_table_for_itself(clock):
    quotas = Quotas(clock, Quota(events_per_second=10))
    quotas.charge(key(name="a"), OPEN, 5, 1)
    quotas.charge(FREE, OPEN, 6, 1)
    with pytest.raises(QuotaError, match=r"the table local\.ops\.builds may append 10 events"):
        quotas.charge(key(name="b"), OPEN, 1, 1)
    quotas.charge(key(name="b"), SECRET, 1, 1)


def test_a_request_that_one_quota_refuses_takes_from_none(clock):
    quotas, small = Quotas(clock, Quota(events_per_second=10)), key(events_per_second=1)
    quotas.charge(small, OPEN, 5, 1)
    for _ in range(10):
        with pytest.raises(QuotaError, match="key 'ci'"):
            quotas.charge(small, OPEN, 5, 1)
    quotas.charge(FREE, OPEN, 5, 1)
    with pytest.raises(QuotaError, match="table"):
        quotas.charge(FREE, OPEN, 1, 1)


def test_names_of_tables_that_are_none_do_not_pile_up(clock, monkeypatch):
    monkeypatch.setattr("eventmill.server.access.quota._BUCKETS_MAX", 10)
    quotas = Quotas(clock, Quota(events_per_second=10))
    quotas.charge(FREE, OPEN, 1000, 1)
    for number in range(200):
        table = type(OPEN)("local", "ops", f"t{number}")
        quotas.charge(FREE, table, 1, 1).give_back()
    assert len(quotas._buckets) <= 11
    with pytest.raises(QuotaError):
        quotas.charge(FREE, OPEN, 1, 1)


def test_the_days_bytes_survive_a_new_start_but_for_the_last_seconds(access, make, clock, tmp_path):
    make("ci", "appender:ops.builds", bytes_per_day=86_400)
    principal = key(bytes_per_day=86_400)
    access.charge(principal, OPEN, 1, 86_400 + 1_000)
    access.note_use()
    access.close()
    clock.advance(500)
    again = Access.open(str(tmp_path), clock=clock)
    with pytest.raises(QuotaError) as raised:
        again.charge(principal, OPEN, 1, 1)
    assert raised.value.retry_after_seconds == pytest.approx(RETRY_SECONDS_MAX)
    clock.advance(501)
    again.charge(principal, OPEN, 1, 1)
    again.close()


def post(client, token, *names):
    return client.post(
        EVENTS,
        content=build_batch(*names, table=OPEN).payload,
        headers={**BATCH, **bearer(token)},
    )


def test_the_server_answers_429_with_the_quota_and_the_pause(client, make, clock, store):
    token = make("ci", "appender:ops.builds", events_per_second=2)
    assert post(client, token, "a", "b", "c", "d", "e", "f").status_code == 200
    answer = post(client, token, "g")
    assert answer.status_code == 429
    document = answer.json()
    assert document["type"] == "urn:eventmill:problem:quota"
    assert (document["quota"], document["subject"]) == ("events_per_second", "the key 'ci'")
    assert document["limit"] == 2
    assert answer.headers["retry-after"] == "2"
    assert "may append 2 events a second" in document["detail"]
    assert store.stats(OPEN).rows == 7
    clock.advance(2.1)
    assert post(client, token, "g").status_code == 200


def test_json_and_reports_to_quarantine_count_as_well(client, make):
    token = make("ci", "appender:ops.builds", events_per_second=2)
    headers = {"Content-Type": "application/x-ndjson", **bearer(token)}
    lines = b'{"name": "x"}\n{"nmae": "y"}\n{"name": "z"}\n'
    assert client.post(EVENTS, content=lines, headers=headers).json()["count"] == 3
    assert client.post(EVENTS, content=lines, headers=headers).status_code == 429
    event = {"table": "ops.builds", "payload": "e30=", "is_json": True, "insert_id": "q"}
    event |= {"reason": "wrong_type", "field": "", "message": ""}
    reported = client.post("/api/v1/quarantine", json=[event], headers=bearer(token))
    assert reported.status_code == 429


def test_a_request_over_the_quota_stores_none_of_its_lines(client, make, store, audit):
    token = make("ci", "appender:ops.builds", bytes_per_day=1)
    headers = {"Content-Type": "application/x-ndjson", **bearer(token)}
    assert client.post(EVENTS, content=b'{"name": "x"}', headers=headers).status_code == 200
    answer = client.post(EVENTS, content=b'{"name": "y"}\n{"nmae": "y"}', headers=headers)
    assert answer.status_code == 429
    assert store.stats(OPEN).rows == 2
    assert not list(store.query("SELECT 1 AS one FROM eventmill.quarantine"))
    assert audit(act="refused") == []  # a pause, not a refusal


def test_a_table_quota_by_settings_holds_without_any_key(store, clock):
    settings = ServerSettings(table_events_per_second=1)
    access = Access.in_memory(table_quota=table_quota(settings), clock=clock)
    with TestClient(
        make_app(store, settings, access=access), base_url="http://127.0.0.1"
    ) as client:
        content = build_batch("a", "b", "c", table=OPEN).payload
        assert client.post(EVENTS, content=content, headers=BATCH).status_code == 200
        assert client.post(EVENTS, content=content, headers=BATCH).status_code == 429
        other = EVENTS.replace(str(OPEN), str(SECRET))
        content = build_batch("a", table=SECRET).payload
        assert client.post(other, content=content, headers=BATCH).status_code == 200
    assert table_quota(ServerSettings()) is NO_QUOTA
    access.close()


def test_what_the_store_did_not_take_is_not_counted(client, make, store, monkeypatch):
    token = make("ci", "appender:ops.builds", events_per_second=2)
    put = store.put

    def failing(batch, **more):
        raise UnavailableError("not now")

    monkeypatch.setattr(store, "put", failing)
    for _ in range(5):
        assert post(client, token, "a", "b", "c").status_code == 503
    monkeypatch.setattr(store, "put", put)
    assert post(client, token, "a", "b", "c").status_code == 200


def test_the_sender_waits_as_for_back_pressure_and_loses_nothing(store, tmp_path):
    folder = tmp_path / "served"
    folder.mkdir()
    access = Access.open(str(folder))
    ring = access.keys(FOLDER_OWNER)
    token = ring.create(wish("ci", "appender:ops.builds", events_per_second=10)).token
    access.look()
    waited = []

    def wait(seconds, error):
        assert isinstance(error, QuotaError)
        waited.append(seconds)
        access.quotas._clock.sleep(min(seconds, 1.0))
        return True

    server = Server(store, ServerSettings(port=0), access=access)
    with server, HttpSink(server.url, key=token) as sink:
        sink.put(build_batch(*(f"a{n}" for n in range(25)), table=OPEN))
        batch = build_batch("b", table=OPEN)
        verdict = Retry(random.Random(1)).until_told(lambda: sink.put(batch), wait)
    access.close()
    assert verdict.accepted == 1
    assert waited
    assert all(seconds >= 1.0 for seconds in waited)  # never less than it was told


def test_an_older_client_takes_it_for_back_pressure():
    error = error_of(429, "urn:eventmill:problem:something-newer", "x", 3.0)
    assert isinstance(error, BackPressureError)
    error = error_of(429, "urn:eventmill:problem:quota", "x", 3.0)
    assert isinstance(error, QuotaError)
    assert isinstance(error, TransientError)
    assert error.retry_after_seconds == 3.0
