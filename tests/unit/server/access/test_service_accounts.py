"""Service accounts: Google's own library gets in, and nobody else does."""

import base64
import hashlib
import hmac
import json
import threading

import google.auth.transport.requests
import jwt
import pytest
from access_world import BATCH, OPEN, SECRET, bearer, reason, wish
from google.auth.exceptions import RefreshError
from google.auth.transport.requests import AuthorizedSession
from google.oauth2 import service_account

from eventmill.base.settings import ServerSettings
from eventmill.server.access import Access, CredentialsError, Resource
from eventmill.server.access.access import ACCESS_TOKEN_SECONDS, FOLDER_OWNER
from eventmill.server.access.assertion import SKEW_SECONDS
from eventmill.server.access.service_account import key_file, make_key_pair
from eventmill.server.oauth import GRANT_TYPE
from eventmill.server.run import Server
from eventmill.testing.events import build_batch
from eventmill.wire.keys import KeyKind

BIGQUERY = "https://www.googleapis.com/auth/bigquery"
CLOUD = "https://www.googleapis.com/auth/cloud-platform"
GOOGLE_TOKEN_URI = "https://oauth2.googleapis.com/token"
PAIR = make_key_pair()
OTHER_PAIR = make_key_pair()
EMAIL = "etl@local.iam.eventmill.local"


def account(ring, name="etl", *grants, pair=PAIR, url="http://127.0.0.1", **more):
    """Make a service account; return the content of its key file."""
    token_uri = f"{url}/token"
    ring.create(
        wish(
            name,
            *(grants or ("editor:ops.*",)),
            kind=KeyKind.SERVICE_ACCOUNT,
            public_key=pair.public_key,
            public_key_id=pair.key_id,
            token_uri=token_uri,
            **more,
        )
    )
    return key_file(name, "local", pair, token_uri)


def signed(clock, *, key=PAIR.private_key, headers=None, **claims):
    """Return an assertion such as Google's library makes; None removes a claim."""
    now = int(clock.now())
    whole = {
        "iss": EMAIL,
        "aud": GOOGLE_TOKEN_URI,
        "iat": now,
        "exp": now + 3600,
        "scope": BIGQUERY,
        **claims,
    }
    whole = {name: value for name, value in whole.items() if value is not None}
    return jwt.encode(whole, key, "RS256", headers={"kid": PAIR.key_id, **(headers or {})})


def by_hand(header, claims, sign=lambda _: b""):
    """Return a token that no library would make."""
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=")
        for part in (header, claims)
    ]
    content = b".".join(parts)
    return (content + b"." + base64.urlsafe_b64encode(sign(content)).rstrip(b"=")).decode()


def exchange(client, assertion, **more):
    return client.post("/token", data={"grant_type": GRANT_TYPE, "assertion": assertion, **more})


@pytest.fixture
def etl(access, ring, client):
    document = account(ring)
    access.look()
    return document


@pytest.fixture
def served(store, tmp_path):
    """A server in earnest, by the machine's own clock, and an account of it."""
    folder = tmp_path / "served"
    folder.mkdir()
    access = Access.open(str(folder))
    with Server(store, ServerSettings(port=0), access=access) as server:
        document = account(access.keys(FOLDER_OWNER), url=server.url)
        access.look()
        yield server, access, document
    access.close()


def test_googles_library_gets_a_token_from_the_key_file_alone(served):
    server, access, document = served
    credentials = service_account.Credentials.from_service_account_info(document, scopes=[BIGQUERY])
    with AuthorizedSession(credentials) as session:
        answer = session.get(f"{server.url}/api/v1/tables", timeout=10)
        assert [table["table"] for table in answer.json()["tables"]] == ["local.ops.builds"]
        assert credentials.valid
        answer = session.get(f"{server.url}/api/v1/tables/pay.wages", timeout=10)
        assert answer.status_code == 403
    access.keys(FOLDER_OWNER).revoke("etl")
    access.look()
    with pytest.raises(RefreshError, match="revoked"):
        credentials.refresh(google.auth.transport.requests.Request())


def test_googles_library_refreshes_when_a_token_is_not_known_any_more(served):
    server, _, document = served
    credentials = service_account.Credentials.from_service_account_info(document, scopes=[BIGQUERY])
    with AuthorizedSession(credentials) as session:
        credentials.token = "em_from_another_life"
        answer = session.get(f"{server.url}/api/v1/tables", timeout=10)
        assert answer.status_code == 200


@pytest.mark.parametrize(
    "audience", ["https://bigquery.googleapis.com/", "https://bigquerystorage.googleapis.com/"]
)
def test_googles_library_may_sign_the_bearer_token_itself(served, audience):
    server, _, document = served
    credentials = service_account.Credentials.from_service_account_info(
        document, always_use_jwt_access=True
    )
    credentials._create_self_signed_jwt(audience)  # as its transports do for their host
    with AuthorizedSession(credentials) as session:
        answer = session.get(f"{server.url}/api/v1/tables", timeout=10)
    assert answer.status_code == 200
    assert credentials.token.count(".") == 2


def test_a_self_signed_token_with_scopes_has_no_audience(served):
    server, _, document = served
    credentials = service_account.Credentials.from_service_account_info(
        document, scopes=[BIGQUERY], always_use_jwt_access=True
    )
    credentials._create_self_signed_jwt(None)
    with AuthorizedSession(credentials) as session:
        assert session.get(f"{server.url}/api/v1/tables", timeout=10).status_code == 200
    assert "aud" not in jwt.decode(credentials.token, options={"verify_signature": False})


def test_the_endpoint_answers_as_oauth_says(client, etl, clock):
    answer = exchange(client, signed(clock))
    assert answer.status_code == 200
    document = answer.json()
    assert (document["expires_in"], document["token_type"]) == (ACCESS_TOKEN_SECONDS, "Bearer")
    assert answer.headers["cache-control"] == "no-store"
    sent = client.post(
        f"/api/v1/tables/{OPEN}/events",
        content=build_batch("new", table=OPEN).payload,
        headers={**BATCH, **bearer(document["access_token"])},
    )
    assert sent.json()["accepted"] == 1
    as_json = {"grant_type": GRANT_TYPE, "assertion": signed(clock)}
    assert client.post("/token", json=as_json).status_code == 200
    assert exchange(client, signed(clock, aud=etl["token_uri"])).status_code == 200


def test_an_access_token_ends_by_the_clock_with_its_key_and_not_with_the_server(
    client, etl, clock, access, ring, tmp_path
):
    token = exchange(client, signed(clock)).json()["access_token"]
    again = Access.open(str(tmp_path), clock=clock)
    assert again.principal_of([("authorization", f"Bearer {token}")]).name == "etl"
    again.close()
    clock.advance(ACCESS_TOKEN_SECONDS)
    assert reason(client.get("/api/v1/tables", headers=bearer(token)))[1] == "expired"
    second = exchange(client, signed(clock)).json()["access_token"]
    assert client.get("/api/v1/tables", headers=bearer(second)).status_code == 200
    ring.revoke("etl")
    access.look()
    assert client.get("/api/v1/tables", headers=bearer(second)).status_code == 401


def test_an_access_token_does_not_outlive_its_key(client, access, ring, clock):
    account(ring, expires_at=clock.now() + 60)
    access.look()
    token = exchange(client, signed(clock)).json()["access_token"]
    clock.advance(59)
    assert client.get("/api/v1/tables", headers=bearer(token)).status_code == 200
    clock.advance(1)
    assert client.get("/api/v1/tables", headers=bearer(token)).status_code == 401
    assert "expired" in exchange(client, signed(clock)).json()["error_description"]


def test_an_access_token_is_kept_as_a_hash_and_the_oldest_give_way(
    client, etl, clock, access, tmp_path, monkeypatch
):
    monkeypatch.setattr("eventmill.server.access.access._ACCESS_TOKENS_MAX", 3)
    monkeypatch.setattr("eventmill.server.access.access._ISSUED_KEPT_MAX", 5)
    tokens = []
    for _ in range(5):
        tokens.append(exchange(client, signed(clock)).json()["access_token"])
        clock.advance(1)
    held = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert not any(token.encode() in held for token in tokens)
    known = [client.get("/api/v1/tables", headers=bearer(token)).status_code for token in tokens]
    assert known == [401, 401, 200, 200, 200]


ATTACKS = {
    "wrong audience": lambda clock: signed(clock, aud="https://evil.example/token"),
    "audience of a service": lambda clock: signed(clock, aud="https://bigquery.googleapis.com/"),
    "no audience": lambda clock: signed(clock, aud=None),
    "several audiences": lambda clock: signed(clock, aud=[GOOGLE_TOKEN_URI, "https://evil"]),
    "another key": lambda clock: signed(clock, key=OTHER_PAIR.private_key),
    "another key's name": lambda clock: signed(clock, headers={"kid": OTHER_PAIR.key_id}),
    "another project": lambda clock: signed(clock, iss="etl@other.iam.eventmill.local"),
    "no issuer": lambda clock: signed(clock, iss=None),
    "issuer that is no text": lambda clock: by_hand({"alg": "RS256"}, {"iss": {"a": 1}}),
    "somebody else's work": lambda clock: signed(clock, sub="boss@local.iam.eventmill.local"),
    "an ID token": lambda clock: signed(clock, target_audience="https://a"),
    "expired": lambda clock: signed(
        clock, iat=int(clock.now()) - 3600, exp=int(clock.now() - SKEW_SECONDS)
    ),
    "of the future": lambda clock: signed(
        clock, iat=int(clock.now() + SKEW_SECONDS) + 1, exp=int(clock.now()) + 3600
    ),
    "not yet": lambda clock: signed(clock, nbf=int(clock.now() + SKEW_SECONDS) + 1),
    "for too long": lambda clock: signed(clock, exp=int(clock.now()) + 3600 + 61),
    "for ever": lambda clock: signed(clock, exp=10**300),
    "no end": lambda clock: signed(clock, exp=None),
    "no beginning": lambda clock: signed(clock, iat=None),
    "end before beginning": lambda clock: signed(clock, exp=int(clock.now()) - 1),
    "times that are texts": lambda clock: by_hand({"alg": "RS256"}, claims(clock, exp="9")),
    "alg none": lambda clock: by_hand({"alg": "none", "typ": "JWT"}, claims(clock)),
    "alg None": lambda clock: by_hand({"alg": "None"}, claims(clock)),
    "no alg": lambda clock: by_hand({"typ": "JWT"}, claims(clock)),
    "HS256 by the public key": lambda clock: by_hand(
        {"alg": "HS256"},
        claims(clock),
        lambda content: hmac.digest(PAIR.public_key.encode(), content, hashlib.sha256),
    ),
    "HS256 by the public key, stripped": lambda clock: by_hand(
        {"alg": "HS256"},
        claims(clock),
        lambda content: hmac.digest(PAIR.public_key.strip().encode(), content, "sha256"),
    ),
    "RS512": lambda clock: jwt.encode(claims(clock), PAIR.private_key, "RS512"),
    "PS256": lambda clock: jwt.encode(claims(clock), PAIR.private_key, "PS256"),
    "a key of its own": lambda clock: signed(
        clock,
        key=OTHER_PAIR.private_key,
        headers={"jwk": {"kty": "RSA", "n": "AQAB", "e": "AQAB"}, "jku": "https://evil"},
    ),
    "tampered claims": lambda clock: tampered(signed(clock), 1),
    "tampered signature": lambda clock: tampered(signed(clock), 2),
    "no signature": lambda clock: signed(clock).rpartition(".")[0] + ".",
    "two parts": lambda clock: signed(clock).rpartition(".")[0],
    "nothing": lambda clock: "..",
    "noise": lambda clock: "a.b.c",
    "deep JSON": lambda clock: (
        by_hand({"alg": "RS256"}, {"iss": "x"})[:-1]
        + base64.urlsafe_b64encode(b"[" * 5000).decode()
    ),
}


def claims(clock, **more):
    now = int(clock.now())
    whole = {"iss": EMAIL, "aud": GOOGLE_TOKEN_URI, "iat": now, "exp": now + 3600}
    return {**whole, "scope": BIGQUERY, **more}


def tampered(token, place):
    parts = token.split(".")
    middle = len(parts[place]) // 2
    letter = "A" if parts[place][middle] != "A" else "B"
    parts[place] = parts[place][:middle] + letter + parts[place][middle + 1 :]
    return ".".join(parts)


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_assertion_that_does_not_hold_gets_no_token(client, etl, clock, attack, audit):
    assertion = ATTACKS[attack](clock)
    answer = exchange(client, assertion)
    assert answer.status_code == 400, answer.text
    document = answer.json()
    assert document["error"] in ("invalid_grant", "invalid_request")
    assert "access_token" not in document
    assert assertion not in answer.text
    rows = audit(act="refused")
    assert [row["route"] for row in rows] == ["POST /token"]
    assert assertion[:40] not in repr(rows) or len(assertion) < 40


SELF_SIGNED = {
    "for the token endpoint": GOOGLE_TOKEN_URI,
    "for another service": "https://storage.googleapis.com/",
    "for nothing": "",
}


GOOD_AS_BEARER = ("audience of a service", "no audience")
"""What is no assertion, and a bearer token all the same."""


@pytest.mark.parametrize("attack", [a for a in [*SELF_SIGNED, *ATTACKS] if a not in GOOD_AS_BEARER])
def test_a_self_signed_bearer_that_does_not_hold_is_refused(client, etl, clock, attack):
    if attack in SELF_SIGNED:
        token = signed(clock, aud=SELF_SIGNED[attack], scope=None)
    else:
        token = ATTACKS[attack](clock)
    answer = client.get("/api/v1/tables", headers=bearer(token))
    assert answer.status_code == 401, answer.text


@pytest.mark.parametrize("way", GOOD_AS_BEARER)
def test_a_bearer_says_by_audience_or_scope_what_it_is_for(client, etl, clock, way):
    token = ATTACKS[way](clock)
    assert client.get(f"/api/v1/tables/{OPEN}", headers=bearer(token)).status_code == 200
    elsewhere = signed(clock, aud=None, scope="https://www.googleapis.com/auth/drive")
    assert client.get(f"/api/v1/tables/{OPEN}", headers=bearer(elsewhere)).status_code == 403
    nothing = signed(clock, aud=None, scope=None)
    assert client.get(f"/api/v1/tables/{OPEN}", headers=bearer(nothing)).status_code == 401


def test_a_self_signed_bearer_is_verified_once_and_ends_with_its_key(
    client, etl, clock, access, ring, monkeypatch
):
    verified = []
    decode = jwt.decode
    monkeypatch.setattr(jwt, "decode", lambda *a, **k: verified.append(1) or decode(*a, **k))
    token = signed(clock, aud="https://bigquery.googleapis.com/", scope=None)
    for _ in range(5):
        assert client.get("/api/v1/tables", headers=bearer(token)).status_code == 200
    assert len(verified) == 2  # whose it claims to be, and that it is
    access.set_policy(FOLDER_OWNER, SECRET, [])
    assert client.get(f"/api/v1/tables/{OPEN}", headers=bearer(token)).status_code == 200
    assert len(verified) == 2
    clock.advance(3601)
    assert reason(client.get("/api/v1/tables", headers=bearer(token)))[1] == "expired"
    fresh = signed(clock, aud="https://bigquery.googleapis.com/", scope=None)
    assert client.get("/api/v1/tables", headers=bearer(fresh)).status_code == 200
    ring.revoke("etl")
    access.look()
    assert client.get("/api/v1/tables", headers=bearer(fresh)).status_code == 401
    account(ring, pair=OTHER_PAIR)
    access.look()
    assert client.get("/api/v1/tables", headers=bearer(fresh)).status_code == 401


def test_a_grant_that_is_taken_away_is_gone_for_a_remembered_signature(client, etl, clock, access):
    token = signed(clock, aud="https://bigquery.googleapis.com/", scope=None)
    assert client.get(f"/api/v1/tables/{OPEN}", headers=bearer(token)).status_code == 200
    access.set_policy(FOLDER_OWNER, Resource.dataset("ops"), [])
    assert client.get(f"/api/v1/tables/{OPEN}", headers=bearer(token)).status_code == 403


@pytest.mark.parametrize(
    ("scope", "reads", "writes"),
    [
        (BIGQUERY, True, True),
        (CLOUD, True, True),
        (f"{BIGQUERY}.readonly", True, False),
        (f"{BIGQUERY}.insertdata", False, True),
        (f"{BIGQUERY}.readonly {BIGQUERY}.insertdata", True, True),
        ("https://www.googleapis.com/auth/drive", False, False),
    ],
)
def test_scopes_bound_what_a_token_may_do(client, etl, clock, scope, reads, writes):
    token = exchange(client, signed(clock, scope=scope)).json()["access_token"]
    stats = client.get(f"/api/v1/tables/{OPEN}/stats", headers=bearer(token))
    sent = client.post(
        f"/api/v1/tables/{OPEN}/events",
        content=build_batch("new", table=OPEN).payload,
        headers={**BATCH, **bearer(token)},
    )
    dropped = client.delete(f"/api/v1/tables/{OPEN}", headers=bearer(token))
    assert (stats.status_code == 200) == reads
    assert (sent.status_code == 200) == writes
    assert (dropped.status_code == 204) == (scope in (BIGQUERY, CLOUD))


@pytest.mark.parametrize(
    ("body", "content_type", "error"),
    [
        (b"", "application/x-www-form-urlencoded", "unsupported_grant_type"),
        (b"{", "application/json", "invalid_request"),
        (b"[]", "application/json", "invalid_request"),
        (b"a=b", "text/plain", "invalid_request"),
        (b"\xff\xfe", "application/x-www-form-urlencoded", "invalid_request"),
        (
            b"grant_type=password&assertion=x",
            "application/x-www-form-urlencoded",
            "unsupported_grant_type",
        ),
        (b"grant_type=a&grant_type=b", "application/x-www-form-urlencoded", "invalid_request"),
        (
            f"grant_type={GRANT_TYPE}".encode(),
            "application/x-www-form-urlencoded",
            "invalid_request",
        ),
    ],
)
def test_a_request_for_a_token_that_is_none_is_told_so(client, etl, body, content_type, error):
    answer = client.post("/token", content=body, headers={"Content-Type": content_type})
    assert (answer.status_code, answer.json()["error"]) == (400, error)


def test_a_body_that_is_too_large_is_not_read(client, etl):
    answer = exchange(client, "a" * 40_000)
    assert answer.status_code == 413


def test_the_private_key_stays_where_it_was_made(etl, tmp_path):
    held = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"BEGIN PUBLIC KEY" in held
    assert b"PRIVATE KEY" not in held
    assert etl["private_key"].startswith("-----BEGIN PRIVATE KEY")
    assert etl["client_email"] == EMAIL
    assert etl["type"] == "service_account"


def test_many_ask_for_tokens_at_once(client, etl, clock, access):
    tokens = []

    def ask():
        tokens.append(access.exchange(signed(clock)))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(set(tokens)) == 8
    for token in tokens:
        assert access.principal_of([("authorization", f"Bearer {token}")]).name == "etl"
    with pytest.raises(CredentialsError):
        access.principal_of([("authorization", "Bearer em_x")])
