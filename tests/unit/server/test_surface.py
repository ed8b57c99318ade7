"""Tables, monitoring, refusals: everything but ingest and queries."""

import base64

import pytest

from eventmill.base.errors import UnavailableError
from eventmill.schema.document import spec_to_json, table_from_json
from eventmill.schema.table import TableId
from eventmill.testing.events import BUILDS, build_spec

TABLE = "/api/v1/tables/contract.builds"
OTHER = TableId("local", "contract", "other")


def kind(answer):
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.json()["type"].removeprefix("urn:eventmill:problem:")


def test_tables_are_listed_and_read_with_their_version_as_etag(client, store):
    (listed,) = client.get("/api/v1/tables").json()["tables"]
    answer = client.get(TABLE)
    assert answer.headers["etag"] == '"1"'
    assert table_from_json(answer.json()) == table_from_json(listed) == store.describe(BUILDS)


def test_put_makes_a_table_and_changes_it_only_from_the_version_that_was_seen(client, store):
    document = spec_to_json(build_spec(OTHER))
    path = "/api/v1/tables/contract.other"
    assert client.put(path, json=document, headers={"If-None-Match": "*"}).json()["version"] == 1
    again = client.put(path, json=document, headers={"If-None-Match": "*"})
    assert (again.status_code, kind(again)) == (412, "schema_conflict")
    assert client.put(path, json=document, headers={"If-Match": '"1"'}).headers["etag"] == '"2"'
    stale = client.put(path, json=document, headers={"If-Match": '"1"'})
    assert (stale.status_code, kind(stale)) == (412, "schema_conflict")
    assert store.describe(OTHER).version == 2


@pytest.mark.parametrize(
    ("document", "headers"),
    [
        (spec_to_json(build_spec(OTHER)), {}),
        ({"table": "contract.builds"}, {}),
        ([], {}),
        (spec_to_json(build_spec()), {"If-Match": "W/x"}),
    ],
)
def test_a_definition_that_does_not_fit_is_answered_with_400(client, document, headers):
    answer = client.put(TABLE, json=document, headers=headers)
    assert answer.status_code == 400
    assert kind(answer) in ("usage", "schema")


def test_a_body_that_is_not_json_is_answered_with_400(client):
    assert kind(client.put(TABLE, content=b"{")) == "usage"


def test_a_table_is_dropped_once(client):
    assert client.delete(TABLE).status_code == 204
    assert client.delete(TABLE).status_code == 404


def test_statistics_have_their_sums(client):
    stats = client.get(f"{TABLE}/stats").json()
    assert (stats["rows"], stats["accepted"], stats["newest_event_at"]) == (0, 0, 1.5)


def test_quarantine_takes_what_a_client_reports(client, store):
    event = {
        "table": "contract.builds",
        "insert_id": "q",
        "payload": base64.b64encode(b"{}").decode(),
        "is_json": True,
        "reason": "wrong_type",
        "field": "name",
        "message": "no",
    }
    assert client.post("/api/v1/quarantine", json=[event, event]).json() == {"count": 2}
    assert store.quarantined[0].payload == b"{}"
    for bad in ({}, [1], [{**event, "payload": "?"}], [{**event, "reason": "mood"}], [{}]):
        assert client.post("/api/v1/quarantine", json=bad).status_code == 400


def test_health_says_what_the_store_promises(client, store):
    assert client.get("/healthz").json() == {
        "status": "ok",
        "tables": 1,
        "features": {
            "durable": False,
            "dedup_window_seconds": "Infinity",
            "quarantines": True,
            "keeps_unknown_fields": False,
        },
    }
    store.error = UnavailableError("the disk is gone")
    answer = client.get("/healthz")
    assert (answer.status_code, kind(answer)) == (503, "unavailable")


def test_metrics_count_by_route_and_show_tables(client):
    client.get(TABLE)
    client.get("/api/v1/tables/contract.none")
    client.get("/secret/path")
    text = client.get("/metrics").text
    route = 'route="/api/v1/tables/{table}"'
    assert f'eventmill_requests_total{{{route},status="200"}} 1' in text
    assert f'eventmill_requests_total{{{route},status="404"}} 1' in text
    assert 'eventmill_requests_total{route="none",status="404"} 1' in text
    assert "secret" not in text
    assert 'eventmill_table_rows{table="local.contract.builds"} 0' in text


def test_the_page_links_to_what_there_is(client):
    answer = client.get("/")
    assert answer.headers["content-type"].startswith("text/html")
    for link in ("/api/v1/tables", "/metrics", "/healthz"):
        assert f'href="{link}"' in answer.text
        assert client.get(link).status_code == 200


def test_unknown_addresses_and_methods_are_problems_as_well(client):
    answer = client.get("/nowhere")
    assert (answer.status_code, kind(answer)) == (404, "not_found")
    answer = client.get(TABLE + "/")
    assert answer.status_code == 404
    answer = client.patch(TABLE)
    assert (answer.status_code, kind(answer)) == (405, "method_not_allowed")
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "PUT", "DELETE"}


def test_head_is_answered_like_get(client):
    assert client.head("/healthz").status_code == 200


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:8484", "localhost", "LOCALHOST.:80", "[::1]:8484", "127.9.9.9", "a.localhost"],
)
def test_names_of_this_machine_are_served(client, host):
    assert client.get("/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "10.0.0.1", "evil.example:8484", "", "["]
)
def test_another_machines_name_is_refused(client, host):
    answer = client.get("/healthz", headers={"Host": host})
    assert (answer.status_code, kind(answer)) == (421, "misdirected")


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1.evil.example"]
)
def test_pages_of_other_machines_are_refused(client, origin):
    answer = client.get("/healthz", headers={"Origin": origin})
    assert (answer.status_code, kind(answer)) == (403, "access")


def test_pages_of_this_machine_are_served(client):
    assert client.get("/healthz", headers={"Origin": "http://localhost:8484"}).status_code == 200
