"""The protocol itself: addresses, methods, the form of errors."""

import pytest
from bigquery_world import PROJECT, error_of, path_of
from google.cloud import bigquery


@pytest.mark.parametrize("prefix", ["/bigquery/v2", ""])
def test_both_prefixes_are_served(place, prefix):
    table = place.table()
    status, headers, document = place.raw("GET", prefix + path_of(table))
    assert (status, document["id"]) == (200, f"{PROJECT}:{table.dataset_id}.events")
    assert headers["etag"] == document["etag"] == table.etag
    status, _, document = place.raw(
        "POST", f"{prefix}{path_of(table)}/insertAll", {"rows": [{"json": {"id": 1}}]}
    )
    assert (status, document) == (200, {"kind": "bigquery#tableDataInsertAllResponse"})
    status, _, document = place.raw(
        "POST", f"{prefix}/projects/{PROJECT}/queries", {"query": "SELECT 1 AS x"}
    )
    assert (status, document["rows"]) == (200, [{"f": [{"v": "1"}]}])


def test_a_client_whose_endpoint_has_a_path(place):
    """Go and Node take the address of the API with its path; ours is then one prefix longer."""
    table = place.table()
    client = bigquery.Client(
        project=PROJECT,
        credentials=place.client._credentials,
        client_options={"api_endpoint": place.url},
    )
    client._connection.API_URL_TEMPLATE = "{api_base_url}{path}"
    assert client.get_table(table).etag == table.etag
    client.close()


def test_patch_may_come_as_post(place):
    table = place.table()
    status, _, document = place.raw(
        "POST",
        "/bigquery/v2" + path_of(table),
        {"description": "changed"},
        {"X-HTTP-Method-Override": "PATCH"},
    )
    assert (status, document["description"]) == (200, "changed")
    status, _, document = place.raw(
        "POST", "/bigquery/v2" + path_of(table), b"", {"X-HTTP-Method-Override": "delete"}
    )
    assert status == 204


NOWHERE = [
    ("GET", "/bigquery/v2/projects/p-p/routines", 404),
    ("POST", "/bigquery/v2/nothing", 404),
    ("GET", "/projects/p-p/nothing/at/all", 404),
    ("GET", "/upload/nothing", 404),
    ("PATCH", "/bigquery/v2/projects/my-project/queries", 405),
    ("DELETE", "/bigquery/v2/projects/my-project/jobs/x", 405),
]


@pytest.mark.parametrize(("method", "path", "status"), NOWHERE)
def test_an_address_that_is_none_is_refused_in_googles_form(place, method, path, status):
    found, _, document = place.raw(method, path)
    assert found == status
    assert error_of(document)[0] == status


NAMES = ["t-1", "1t", "t%20x", "t$20260101", "t" * 81, "%00", "t;drop"]


@pytest.mark.parametrize("name", NAMES)
def test_names_that_no_table_can_have(place, name):
    dataset = place.table().dataset_id
    path = f"/bigquery/v2/projects/{PROJECT}/datasets/{dataset}/tables/{name}"
    for method, more in [("GET", ""), ("DELETE", ""), ("GET", "/data"), ("POST", "/insertAll")]:
        status, _, document = place.raw(method, path + more, b"{}" if method == "POST" else None)
        assert status == 400, document
        assert error_of(document)[2] in ("invalid", "notImplemented")
    if "$" in name:
        assert "partition decorator" in document["error"]["message"]


@pytest.mark.parametrize(
    "query", ["maxResults=-1", "maxResults=x", "pageToken=x", "pageToken=%C3%A4"]
)
def test_arguments_that_make_no_sense(place, query):
    table = place.table()
    place.client.insert_rows_json(table, [{"id": 1}])
    for path in (path_of(table) + "/data", f"/projects/{PROJECT}/datasets"):
        status, _, document = place.raw("GET", f"/bigquery/v2{path}?{query}")
        assert (status, error_of(document)[2]) == (400, "invalid"), path


def test_pages_of_other_machines_may_not_use_it(place):
    status, _, _ = place.raw(
        "GET", f"/bigquery/v2/projects/{PROJECT}/datasets", headers={"Origin": "http://evil.test"}
    )
    assert status == 403


def test_requests_are_counted_by_their_route(place):
    place.raw("GET", f"/bigquery/v2/projects/{PROJECT}/datasets/some-secret-name")
    text = place.raw("GET", "/metrics")[2]
    assert 'route="/bigquery/v2/projects/{project}/datasets/{dataset}"' in text
    assert "some-secret-name" not in text


def test_values_are_judged_once_more_by_none_but_the_store(place):
    """Bytes that are no UTF-8 in a JSON body are no JSON."""
    table = place.table()
    body = b'{"rows": [{"json": {"id": 1, "name": "\xff"}}]}'
    status, _, document = place.raw("POST", f"/bigquery/v2{path_of(table)}/insertAll", body)
    assert (status, error_of(document)[2]) == (400, "parseError")
    body = b'{"rows": [{"json": {"id": 1, "name": "\\ud800"}}]}'
    status, _, document = place.raw("POST", f"/bigquery/v2{path_of(table)}/insertAll", body)
    assert status == 400 or document["insertErrors"][0]["errors"][0]["location"] == "name"
