"""Addresses of BigQuery, and the credentials that they name."""

import json

import pytest
from google.auth import exceptions as auth
from google.auth import impersonated_credentials
from google.auth.credentials import AnonymousCredentials

from eventmill.base.errors import AccessError, EventmillError, UsageError
from eventmill.store.bigquery.place import BILLED_BYTES_MAX, BigQueryPlace


def test_a_project_alone_is_googles_with_the_defaults():
    place = BigQueryPlace.parse("bigquery://my-project")
    assert place == BigQueryPlace("my-project", billed_bytes_max=BILLED_BYTES_MAX)
    assert place.is_google


def test_every_word_is_read():
    place = BigQueryPlace.parse(
        "bigquery://p1?location=EU&credentials=/etc/key.json&impersonate=a@b.iam&write=storage"
        "&endpoint=http://h:1&write_endpoint=h:2&billed_bytes_max=10GiB&own_dataset=meta"
    )
    assert place == BigQueryPlace(
        "p1", "EU", "/etc/key.json", "a@b.iam", "http://h:1", "h:2", "storage", 10 * 2**30, "meta"
    )
    assert not place.is_google


@pytest.mark.parametrize(
    ("address", "named"),
    [
        ("bigquery://p1?loaction=EU", "loaction"),
        ("bigquery://p1/dataset", "/dataset"),
        ("bigquery://p1?write=grpc", "write=grpc"),
        ("bigquery://p1?billed_bytes_max=much", "much"),
        ("bigquery://p1?own_dataset=a-b!", "a-b!"),
        ("bigquery://", "project"),
        ("bigquery://p%201", "p%201"),
    ],
)
def test_what_is_wrong_is_named(address, named):
    with pytest.raises(EventmillError, match=named.replace("?", r"\?")):
        BigQueryPlace.parse(address)


def test_what_is_not_known_is_answered_with_all_that_is():
    with pytest.raises(UsageError) as raised:
        BigQueryPlace.parse("bigquery://p1?x=1")
    assert "impersonate: e-mail of a service account to act as" in str(raised.value)


def test_another_server_is_asked_without_credentials_unless_there_are_some(monkeypatch):
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    place = BigQueryPlace("p1", endpoint="http://127.0.0.1:1")
    assert isinstance(place.credentials(), AnonymousCredentials)


def test_a_key_file_that_cannot_be_used_is_named(tmp_path):
    for path in (tmp_path / "none.json", tmp_path / "bad.json"):
        if path.name == "bad.json":
            path.write_text(json.dumps({"type": "service_account"}))
        with pytest.raises(UsageError, match=path.name):
            BigQueryPlace("p1", credentials_file=str(path)).credentials()


def test_without_credentials_it_is_said_how_to_get_some(monkeypatch):
    def none(scopes):
        raise auth.DefaultCredentialsError("none were found")

    monkeypatch.setattr("google.auth.default", none)
    with pytest.raises(AccessError, match="gcloud auth application-default login"):
        BigQueryPlace("p1").credentials()


def test_another_account_is_acted_as():
    place = BigQueryPlace("p1", endpoint="http://127.0.0.1:1", impersonate="robot@p1.iam")
    found = place.credentials()
    assert isinstance(found, impersonated_credentials.Credentials)
    assert found.service_account_email == "robot@p1.iam"
