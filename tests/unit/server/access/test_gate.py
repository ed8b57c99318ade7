"""Credentials at the door: what is no key, and what becomes of it."""

import hmac
import logging
import os

import pytest
from access_world import BATCH, bearer, reason
from starlette.testclient import TestClient

from eventmill.base.metrics import Metric
from eventmill.base.settings import ServerSettings
from eventmill.server.app import make_app
from eventmill.testing.events import build_batch
from eventmill.wire.api_token import token_of

TABLES = "/api/v1/tables"
ROUTES = [
    ("GET", "/"),
    ("GET", "/metrics"),
    ("GET", TABLES),
    ("GET", f"{TABLES}/ops.builds"),
    ("PUT", f"{TABLES}/ops.builds"),
    ("DELETE", f"{TABLES}/ops.builds"),
    ("GET", f"{TABLES}/ops.builds/stats"),
    ("POST", f"{TABLES}/ops.builds/events"),
    ("PUT", f"{TABLES}/ops.builds/slots/{{workflow}}/{{start}}/{{end}}"),
    ("POST", "/api/v1/quarantine"),
    ("GET", "/api/v1/query?q=SELECT+1"),
    ("POST", "/api/v1/query"),
    ("GET", "/api/v1/keys"),
    ("POST", "/api/v1/keys"),
    ("DELETE", "/api/v1/keys/ci"),
    ("GET", "/no/such/thing"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_route_asks_for_a_key(client, make, method, path):
    make("ci", "admin:*")
    answer = client.request(method, path)
    assert (answer.status_code, reason(answer)) == (401, ("unauthenticated", "no_credentials"))
    assert answer.headers["www-authenticate"] == 'Bearer realm="eventmill"'
    assert "EVENTMILL_KEY" in answer.json()["detail"]


def test_no_route_was_forgotten_above(client):
    listed = {
        (method, path.partition("?")[0].replace("ops.builds", "{table}").replace("/ci", "/{name}"))
        for method, path in ROUTES
    }
    for route in client.app.routes:
        if not route.path.startswith(("/api/", "/metrics")) and route.path != "/":
            continue
        for method in route.methods - {"HEAD"}:
            assert (method, route.path) in listed


def test_without_keys_everything_is_open_as_ever(client):
    assert client.get(TABLES).status_code == 200
    assert client.get("/metrics").status_code == 200
    assert client.get("/healthz").json()["tables"] == 2


def test_health_needs_no_key_and_then_tells_no_count(client, make):
    token = make("ci", "admin:*")
    for headers in ({}, bearer(token), bearer("nonsense")):
        document = client.get("/healthz", headers=headers).json()
        assert document["status"] == "ok"
        assert "features" in document
        assert "tables" not in document


BAD_HEADERS = {
    "other_scheme": {"Authorization": "Basic ZW06eA=="},
    "malformed": bearer("em_123"),
    "unknown": bearer(token_of(b"\x01" * 32)),
}


@pytest.mark.parametrize("why", BAD_HEADERS)
def test_what_is_no_key_of_this_server_is_refused_by_its_reason(client, make, why):
    make("ci", "admin:*")
    answer = client.get(TABLES, headers=BAD_HEADERS[why])
    assert (answer.status_code, reason(answer)) == (401, ("unauthenticated", why))
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]


@pytest.mark.parametrize(
    "value", ["", "Bearer", "Bearer ", "bearer", "em_x", "Bearer a b", f"Bearer {'x' * 9000}"]
)
def test_a_header_that_is_none_is_refused(client, make, value):
    make("ci", "admin:*")
    answer = client.get(TABLES, headers={"Authorization": value})
    assert answer.status_code == 401
    assert reason(answer)[1] in ("other_scheme", "malformed")


def test_a_token_of_a_key_with_a_letter_more_or_less_is_refused(client, make):
    token = make("ci", "admin:*")
    assert client.get(TABLES, headers=bearer(token)).status_code == 200
    assert client.get(TABLES, headers={"Authorization": f"bearer  {token} "}).status_code == 200
    for wrong in (token[:-1], f"{token}0", token.lower(), token[3:], f"{token}\t{token}"):
        assert client.get(TABLES, headers=bearer(wrong)).status_code == 401


def test_expired_and_revoked_keys_are_told_so(client, make, ring, access, clock):
    ends = make("ends", "admin:*", expires_at=clock.now() + 5)
    gone = make("gone", "admin:*")
    ring.revoke("gone")
    access.look()
    clock.advance(5)
    for token, why in ((ends, "expired"), (gone, "revoked")):
        assert reason(client.get(TABLES, headers=bearer(token))) == ("unauthenticated", why)


def test_two_authorization_headers_are_refused_though_both_are_good(client, make):
    token = make("ci", "admin:*")
    value = f"Bearer {token}"
    answer = client.get(TABLES, headers=[("Authorization", value), ("authorization", value)])
    assert reason(answer) == ("unauthenticated", "several_credentials")


@pytest.mark.parametrize("name", ["key", "access_token", "x"])
def test_a_key_in_the_address_is_refused_though_the_header_has_one(client, make, name, audit):
    token = make("ci", "admin:*")
    answer = client.get(f"{TABLES}?{name}={token}", headers=bearer(token))
    assert reason(answer) == ("unauthenticated", "key_in_address")
    assert "a new one in place of this one" in answer.json()["detail"]
    assert client.get(f"{TABLES}?{name}=1", headers=bearer(token)).status_code == (
        401 if name == "access_token" else 200
    )
    assert token not in repr(audit())


def test_a_key_in_the_address_is_refused_where_no_key_is_needed(client, make):
    token = make("ci", "admin:*")
    assert client.get(f"/healthz?x={token}").status_code == 401


def test_hashes_are_compared_in_constant_time(client, make, monkeypatch):
    token = make("ci", "admin:*")
    compared = []
    compare = hmac.compare_digest

    def counting(one, other):
        compared.append((len(one), len(other)))
        return compare(one, other)

    monkeypatch.setattr(hmac, "compare_digest", counting)
    assert client.get(TABLES, headers=bearer(token)).status_code == 200
    assert compared == [(32, 32)]  # a SHA-256 against another, whole


def test_no_part_of_a_token_is_told_to_anybody(client, make, caplog, audit):
    caplog.set_level(logging.DEBUG)
    make("ci", "appender:ops.builds")
    wrong = token_of(os.urandom(32))
    texts = []
    for headers in (bearer(wrong), bearer(wrong[:-1]), {"Authorization": f"Basic {wrong}"}):
        answer = client.get(TABLES, headers=headers)
        assert answer.status_code == 401
        texts += [answer.text, str(answer.headers)]
    told = "".join([*texts, caplog.text, repr(audit()), client.app.state.metrics.render()])
    assert wrong[3:30] not in told


def test_refusals_are_counted_and_put_into_the_audit(client, make, audit):
    make("boss", "admin:*")
    client.get(TABLES, headers={"User-Agent": "knocker/1"})
    assert client.app.state.metrics.value(Metric.REFUSED, "401") == 1
    (row,) = audit(act="refused")
    assert (row["principal"], row["route"]) == ("", f"GET {TABLES}")
    assert (row["reason"], row["count"]) == ("no_credentials", 1)
    assert (row["client"], row["peer"]) == ("knocker/1", "testclient")


def test_the_route_of_a_refusal_is_never_what_a_stranger_wrote(client, make, audit):
    make("boss", "admin:*")
    client.get(f"{TABLES}/secret.name")
    client.request("BREW", "/a/b")
    routes = {row["route"] for row in audit(act="refused")}
    assert routes == {f"GET {TABLES}/{{table}}", "OTHER none"}


def test_keys_that_cannot_be_read_are_no_refusal(client, make, clock, tmp_path, audit):
    token = make("ci", "appender:ops.builds")
    (tmp_path / "access.db").rename(tmp_path / "gone.db")
    clock.advance(1)
    answer = client.post(
        f"{TABLES}/ops.builds/events",
        content=build_batch("a").payload,
        headers={**BATCH, **bearer(token)},
    )
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert audit(act="refused") == []


def test_pages_of_others_are_kept_out_with_keys_too(client, make):
    token = make("ci", "admin:*")
    for origin in ("http://evil.example", "null"):
        answer = client.get(TABLES, headers={**bearer(token), "Origin": origin})
        assert (answer.status_code, reason(answer)[0]) == (403, "access")
    own = {"Host": "mill.example", "Origin": "https://mill.example:8443"}
    assert client.get(TABLES, headers={**bearer(token), **own}).status_code == 200


def test_another_host_name_is_served_only_where_keys_are_asked_for(client, make):
    assert client.get(TABLES, headers={"Host": "mill.example"}).status_code == 421
    token = make("ci", "admin:*")
    answer = client.get(TABLES, headers={**bearer(token), "Host": "mill.example"})
    assert answer.status_code == 200


def test_an_app_without_access_has_none_to_ask_for(store):
    app = make_app(store, ServerSettings())
    with TestClient(app, base_url="http://127.0.0.1") as client:
        assert client.get(TABLES).status_code == 200
