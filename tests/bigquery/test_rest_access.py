"""Keys, roles and policies behind the surface, with unmodified google-auth."""

import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest
from bigquery_world import PROJECT, Place, error_of, path_of
from google.api_core import exceptions
from google.auth import exceptions as auth_exceptions
from google.cloud import bigquery
from google.oauth2 import service_account

from eventmill.server.access import Resource
from eventmill.server.access.access import FOLDER_OWNER

SCOPES = ["https://www.googleapis.com/auth/bigquery"]


def make_key(place, tmp_path, name, *grants, more=()):
    """Make a service-account file by the command line; return its credentials."""
    path = tmp_path / f"{name}.json"
    command = [sys.executable, "-m", "eventmill", "key", "create", name, "--google"]
    command += ["--project", PROJECT, "--server-url", place.url, "-o", str(path)]
    for grant in grants:
        command += ["--grant", grant]
    command += ["--store", place.folder, *more]
    told = subprocess.run(command, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    place.server.access.look()
    return service_account.Credentials.from_service_account_file(str(path), scopes=SCOPES)


def email(name):
    return f"{name}@{PROJECT}.iam.eventmill.local"


@pytest.fixture(scope="module")
def locked(tmp_path_factory):
    """A server with two datasets and keys of four kinds."""
    folder = tmp_path_factory.mktemp("locked")
    place = Place(folder / "data")
    place.client.create_dataset("open")
    place.client.create_dataset("secret")
    for dataset in ("open", "secret"):
        fields = [bigquery.SchemaField("id", "INTEGER")]
        table = bigquery.Table(f"{PROJECT}.{dataset}.t", schema=fields)
        place.client.create_table(table)
        assert place.client.insert_rows_json(table, [{"id": 1}]) == []
    place.folder_of_keys = folder
    place.admin = place.new_client(make_key(place, folder, "boss", "admin:*"))
    for name, role in [("feed", "appender"), ("look", "reader"), ("make", "editor")]:
        key = make_key(place, folder, name, f"{role}:{PROJECT}.open.*")
        setattr(place, name, place.new_client(key))
    yield place
    place.close()


def test_without_a_key_nothing_is_answered(locked):
    status, headers, document = locked.raw("GET", f"/bigquery/v2/projects/{PROJECT}/datasets")
    assert (status, error_of(document)) == (401, (401, "UNAUTHENTICATED", "authError"))
    assert headers["www-authenticate"].startswith("Bearer")
    with pytest.raises(auth_exceptions.InvalidOperation, match="cannot be refreshed"):
        list(locked.client.list_datasets())  # told 401, the client would ask for another token


def test_an_appender_writes_and_reads_nothing(locked):
    table = locked.feed.get_table("open.t")
    assert locked.feed.insert_rows_json(table, [{"id": 2}]) == []
    assert table.num_rows is None  # how many there are is for readers
    for refused in (
        lambda: locked.feed.query("SELECT * FROM open.t"),
        lambda: list(locked.feed.list_rows(table)),
        lambda: locked.feed.delete_table(table),
        lambda: locked.feed.update_table(table, ["description"]),
        lambda: locked.feed.get_table("secret.t"),
        lambda: locked.feed.insert_rows_json(f"{PROJECT}.secret.t", [{"id": 1}]),
    ):
        with pytest.raises(exceptions.Forbidden):
            refused()


def test_a_reader_reads_what_it_may_and_writes_nothing(locked):
    assert locked.look.get_table("open.t").num_rows >= 1
    assert list(locked.look.query("SELECT id FROM open.t WHERE id = 1").result())
    assert list(locked.look.list_rows(f"{PROJECT}.open.t", max_results=1))
    for refused in (
        lambda: locked.look.insert_rows_json(f"{PROJECT}.open.t", [{"id": 1}]),
        lambda: locked.look.query("SELECT * FROM secret.t"),
        lambda: locked.look.query("SELECT (SELECT COUNT(*) FROM secret.t) AS n FROM open.t"),
        lambda: locked.look.query("WITH x AS (SELECT * FROM secret.t) SELECT 1 FROM x"),
        lambda: locked.look.query(
            "SELECT * FROM secret.t", job_config=bigquery.QueryJobConfig(dry_run=True)
        ),
        lambda: locked.look.copy_table(f"{PROJECT}.secret.t", f"{PROJECT}.open.c"),
        lambda: locked.look.query(
            "SELECT 1 AS id", job_config=bigquery.QueryJobConfig(destination=f"{PROJECT}.open.x")
        ),
        lambda: locked.look.load_table_from_json([{"id": 1}], f"{PROJECT}.open.t"),
        lambda: locked.look.create_dataset("mine"),
    ):
        with pytest.raises(exceptions.Forbidden):
            refused()


def test_an_upload_is_of_whoever_began_it(locked):
    table = {"projectId": PROJECT, "datasetId": "open", "tableId": "t"}
    load = {"sourceFormat": "NEWLINE_DELIMITED_JSON", "destinationTable": table}
    path = f"/upload/bigquery/v2/projects/{PROJECT}/jobs?uploadType=resumable"
    locked.make.get_table("open.t")
    locked.feed.get_table("open.t")  # both have a token now
    mine, others = (
        {"Authorization": f"Bearer {client._credentials.token}"}
        for client in (locked.make, locked.feed)
    )
    status, headers, _ = locked.raw("POST", path, {"configuration": {"load": load}}, mine)
    assert status == 200
    place = headers["location"].removeprefix(locked.url)
    span = {"Content-Range": "bytes 0-9/10"}
    assert locked.raw("PUT", place, b'{"id": 77}', {**others, **span})[0] == 404
    assert locked.raw("PUT", place, b'{"id": 77}', {**mine, **span})[0] == 200


def test_lists_show_what_may_be_seen(locked):
    assert [one.dataset_id for one in locked.look.list_datasets()] == ["open"]
    assert [one.dataset_id for one in locked.admin.list_datasets()] == ["open", "secret"]
    assert list(locked.look.list_tables("secret")) == []
    with pytest.raises(exceptions.NotFound) as caught:
        locked.look.query("SELECT * FROM open.secrett").result()
    assert "secret.t" not in str(caught.value)


def test_an_editor_makes_and_drops_tables_in_its_dataset(locked):
    table = bigquery.Table(f"{PROJECT}.open.made", schema=[bigquery.SchemaField("x", "STRING")])
    made = locked.make.create_table(table)
    locked.make.load_table_from_json([{"x": "a"}], made).result()
    assert locked.make.get_table(made).num_rows == 1
    locked.make.delete_table(made)
    with pytest.raises(exceptions.Forbidden):
        locked.make.create_table(bigquery.Table(f"{PROJECT}.secret.made", schema=table.schema))
    with pytest.raises(exceptions.Forbidden):
        locked.make.get_iam_policy("open.t")


def test_a_quota_is_told_as_a_rate_limit(locked):
    key = make_key(
        locked,
        locked.folder_of_keys,
        "slow",
        f"appender:{PROJECT}.open.*",
        more=["--events-per-second", "5"],
    )
    client = locked.new_client(key)
    table = client.get_table("open.t")

    def send_much():
        for _ in range(20):
            assert client.insert_rows_json(table, [{"id": 1}] * 20, retry=None) == []

    with pytest.raises(exceptions.TooManyRequests) as caught:
        send_much()
    assert caught.value.errors[0]["reason"] == "rateLimitExceeded"
    assert int(caught.value.response.headers["Retry-After"]) >= 1


def test_answers_are_for_whoever_asked(locked):
    job = locked.admin.query("SELECT * FROM secret.t", job_id="private", job_retry=None)
    assert [row.id for row in job.result()] == [1]
    for refused in (
        lambda: locked.look.get_job("private"),
        lambda: locked.look.cancel_job("private"),
        lambda: list(locked.look.list_rows(job.destination)),
        lambda: locked.look.get_table(job.destination),
    ):
        with pytest.raises(exceptions.Forbidden):
            refused()
    assert "private" not in [one.job_id for one in locked.look.list_jobs()]
    locked.look.query("SELECT 1", job_id="looked", job_retry=None).result()
    assert locked.admin.get_job("looked").user_email == "look"
    assert "looked" in [one.job_id for one in locked.admin.list_jobs(all_users=True)]
    with pytest.raises(exceptions.Forbidden):
        list(locked.look.list_jobs(all_users=True))


def test_a_policy_that_is_set_holds_at_once(locked):
    make_key(locked, locked.folder_of_keys, "guest", f"reader:{PROJECT}.nothing.*")
    guest = locked.new_client(
        service_account.Credentials.from_service_account_file(
            str(locked.folder_of_keys / "guest.json"), scopes=SCOPES
        )
    )
    with pytest.raises(exceptions.Forbidden):
        guest.get_table("secret.t")
    policy = locked.admin.get_iam_policy("secret.t")
    policy.bindings.append(
        {
            "role": "roles/bigquery.dataViewer",
            "members": {f"serviceAccount:{email('guest')}"},
        }
    )
    stale = policy.etag
    policy = locked.admin.set_iam_policy("secret.t", policy)
    assert guest.get_table("secret.t").num_rows == 1
    assert guest.test_iam_permissions(
        "secret.t", ["bigquery.tables.getData", "bigquery.tables.updateData"]
    ) == {"permissions": ["bigquery.tables.getData"]}
    with pytest.raises(exceptions.Forbidden):
        guest.insert_rows_json(f"{PROJECT}.secret.t", [{"id": 1}])
    policy.etag = stale
    with pytest.raises(exceptions.Conflict):
        locked.admin.set_iam_policy("secret.t", policy)
    policy = locked.admin.get_iam_policy("secret.t")
    policy.bindings = []
    locked.admin.set_iam_policy("secret.t", policy)
    with pytest.raises(exceptions.Forbidden):
        guest.get_table("secret.t")


def test_a_policy_that_means_nothing_is_refused(locked):
    path = f"/bigquery/v2/projects/{PROJECT}/datasets/open/tables/t:setIamPolicy"
    token = locked.admin._credentials.token
    headers = {"Authorization": f"Bearer {token}"}
    for policy, word in [
        ({"bindings": [{"role": "roles/none", "members": []}]}, "roles/none"),
        (
            {"bindings": [{"role": "roles/owner", "members": ["serviceAccount:x@y"]}]},
            "no live key",
        ),
        (
            {"bindings": [{"role": "roles/owner", "members": [], "condition": {"x": 1}}]},
            "condition",
        ),
        ({"auditConfigs": [{"service": "x"}]}, "auditConfigs"),
        (None, "policy"),
    ]:
        status, _, document = locked.raw("POST", path, {"policy": policy}, headers)
        assert status == 400, document
        assert word in document["error"]["message"]


def test_the_access_of_a_dataset_is_its_policy(locked):
    dataset = locked.admin.get_dataset("secret")
    assert list(dataset.access_entries) == []
    dataset.access_entries = [
        bigquery.AccessEntry("READER", "userByEmail", email("look")),
        bigquery.AccessEntry("WRITER", "userByEmail", "somebody@example.com"),
    ]
    dataset = locked.admin.update_dataset(dataset, ["access_entries"])
    assert {(e.role, e.entity_id) for e in dataset.access_entries} == {
        ("READER", email("look")),
        ("WRITER", "somebody@example.com"),
    }
    assert locked.look.get_table("secret.t").num_rows == 1
    dataset.access_entries = []
    locked.admin.update_dataset(dataset, ["access_entries"])
    with pytest.raises(exceptions.Forbidden):
        locked.look.get_table("secret.t")
    assert "access" not in locked.look.get_dataset("open")._properties


def test_what_was_refused_and_done_is_in_the_audit(locked):
    with pytest.raises(exceptions.Forbidden):
        locked.look.delete_table("open.t")
    table = bigquery.Table(f"{PROJECT}.open.audited", schema=[bigquery.SchemaField("x", "STRING")])
    locked.admin.create_table(table)
    locked.admin.delete_table(table)
    upkeep = "SELECT act, principal, resource FROM eventmill.audit"
    for _ in range(200):
        found = {(r["act"], r["principal"], r["resource"]) for r in locked.store.query(upkeep)}
        name = f"{PROJECT}.open.audited"
        wanted = {
            ("table_created", "boss", name),
            ("table_dropped", "boss", name),
            ("refused", "look", f"{PROJECT}.open.t"),
        }
        if wanted <= found:
            return
        locked.raw("GET", "/healthz")
    pytest.fail(f"the audit has {sorted(found)}")


def test_what_is_dropped_takes_the_grants_that_name_it(locked):
    client, fields = locked.admin, [bigquery.SchemaField("id", "INTEGER")]
    policy_of = lambda name: client.get_iam_policy(f"{PROJECT}.{name}").bindings  # noqa: E731
    names = ("passing.t", "passing.v", "passing.rest")
    make_key(locked, locked.folder_of_keys, "heir", *(f"appender:{PROJECT}.{n}" for n in names))

    def make():
        client.create_dataset("passing", exists_ok=True)
        for name in ("t", "rest"):
            table = bigquery.Table(f"{PROJECT}.passing.{name}", schema=fields)
            client.create_table(table, exists_ok=True)
        view = bigquery.Table(f"{PROJECT}.passing.v")
        view.view_query = "SELECT id FROM passing.rest"
        client.create_table(view, exists_ok=True)

    make()
    assert policy_of("passing.t")
    assert policy_of("passing.rest")
    client.delete_table("passing.t")
    make()
    assert policy_of("passing.t") == []
    assert policy_of("passing.rest")
    client.delete_table("passing.v")
    held = [
        key.grants for key in locked.server.access.keys(FOLDER_OWNER).all() if key.name == "heir"
    ]
    assert [str(grant) for grant in held[0]] == [f"appender:{PROJECT}.passing.rest"]
    client.delete_dataset("passing", delete_contents=True)
    make()
    assert policy_of("passing.rest") == []


def test_a_table_whose_time_is_over_takes_its_grants_along(tmp_path):
    place = Place(tmp_path / "data")
    try:
        place.client.create_dataset("d")
        table = bigquery.Table(f"{PROJECT}.d.t", schema=[bigquery.SchemaField("id", "INTEGER")])
        table.expires = datetime.now(UTC) + timedelta(seconds=1.5)
        place.client.create_table(table)
        make_key(place, tmp_path, "heir", f"appender:{PROJECT}.d.t")
        named = Resource.parse(f"{PROJECT}.d.t")
        assert place.server.access.policy_of(named).bindings
        rooms, give_up_at = place.server.app.state.bigquery.upkeep, time.monotonic() + 20
        while place.server.access.policy_of(named).bindings and time.monotonic() < give_up_at:
            rooms.round()
        assert place.server.access.policy_of(named).bindings == ()
        assert place.store.tables() == []
    finally:
        place.close()


def test_a_path_of_a_table_is_no_way_round(locked):
    table = locked.admin.get_table("secret.t")
    for more in ("", "/data", ":getIamPolicy"):
        method = "POST" if more.startswith(":") else "GET"
        token = locked.look._credentials.token
        status, _, _ = locked.raw(
            method, path_of(table) + more, b"{}", {"Authorization": f"Bearer {token}"}
        )
        assert status == 403
