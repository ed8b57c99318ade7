"""``eventmill key``: on a folder, and on a server from afar."""

from __future__ import annotations

import json
import os
import stat

import pytest

from eventmill.base.settings import ServerSettings
from eventmill.cli import key as command
from eventmill.server.access import Access
from eventmill.server.run import Server
from eventmill.store.local.store import LocalStore
from eventmill.wire.api_token import token_fault


def test_a_key_is_made_shown_once_listed_and_revoked(call):
    made = call("key", "create", "ci", "--grant", "appender:ops.builds", "--owner", "a@b")
    assert made.code == 0, made.err
    (row,) = made.rows
    assert token_fault(row["key"]) == ""
    assert "nowhere: keep it secret" in made.err
    assert "from now on the server asks for a key" in made.err
    listed = call("key", "list")
    (shown,) = listed.rows
    assert (shown["name"], shown["state"], shown["owner"]) == ("ci", "live", "a@b")
    assert shown["grants"] == "appender:local.ops.builds"
    assert row["key"] not in listed.out
    second = call("key", "create", "two", "--grant", "reader:*", "--format", "text")
    assert token_fault(second.out.strip()) == ""
    assert "from now on" not in second.err
    assert call("key", "revoke", "ci", "two").err == "revoked ci\nrevoked two\n"
    assert call("key", "list").rows == []
    assert [row["state"] for row in call("key", "list", "--all").rows] == ["revoked", "revoked"]


def test_limits_and_ends_are_written_as_people_write_them(call):
    made = call(
        *("key", "create", "ci", "--grant", "reader:ops.*:1h", "--grant", "appender:ops.builds"),
        *("--expires", "90d", "--events-per-second", "2.5", "--bytes-per-day", "5GiB"),
        *("--format", "json"),
    )
    facts = json.loads(made.out)
    assert facts["events_per_second"] == 2.5
    assert facts["bytes_per_day"] == 5 * 2**30
    assert facts["expires_at"] > facts["grants"][0]["expires_at"] > facts["created_at"]
    assert "expires_at" not in facts["grants"][1]
    assert " until " in made.err


def test_the_key_goes_into_a_file_of_its_owners_alone_and_over_no_other(call, tmp_path):
    made = call("key", "create", "ci", "--grant", "reader:*", "-o", "ci.key")
    assert made.code == 0, made.err
    assert made.out == ""
    path = tmp_path / "ci.key"
    assert token_fault(path.read_text().strip()) == ""
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = call("key", "create", "two", "--grant", "reader:*", "-o", "ci.key")
    assert again.code == 2
    assert "File exists" in again.err
    assert [row["name"] for row in call("key", "list").rows] == ["ci"]


def test_a_key_that_cannot_be_made_leaves_no_file(call, tmp_path):
    call("key", "create", "ci", "--grant", "reader:*")
    assert call("key", "create", "ci", "--grant", "reader:*", "-o", "new.key").code == 2
    assert not (tmp_path / "new.key").exists()


def test_a_key_that_cannot_be_handed_over_is_ended(call, tmp_path, monkeypatch):
    def full(self, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(command._NewFile, "write", full)
    made = call("key", "create", "ci", "--grant", "reader:*", "-o", "new.key")
    assert made.code == 2
    assert "No space left" in made.err
    assert not (tmp_path / "new.key").exists()
    assert [row["state"] for row in call("key", "list", "--all").rows] == ["revoked"]


def test_a_google_key_is_a_file_that_names_the_server(call, tmp_path):
    made = call(
        *("key", "create", "etl", "--google", "--grant", "editor:ops.*", "--project", "shop"),
        *("--server-url", "https://mill.example/", "-o", "etl.json"),
    )
    assert made.code == 0, made.err
    document = json.loads((tmp_path / "etl.json").read_text())
    assert document["type"] == "service_account"
    assert document["client_email"] == "etl@shop.iam.eventmill.local"
    assert document["project_id"] == "shop"
    assert document["token_uri"] == "https://mill.example/token"
    (row,) = call("key", "list").rows
    assert (row["kind"], row["email"]) == ("service_account", document["client_email"])
    held = b"".join(path.read_bytes() for path in (tmp_path / "eventmill-data").iterdir())
    assert b"PRIVATE" not in held


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["create", "ci"], "at least one grant"),
        (["create", "ci", "--grant", "reader"], "ROLE:RESOURCE"),
        (["create", "ci", "--grant", "root:*"], "appender, reader, editor, admin"),
        (["create", "ci", "--grant", "reader:ops"], "DATASET.TABLE"),
        (["create", "ci", "--grant", "reader:*:soon"], "length of time"),
        (["create", "CI", "--grant", "reader:*"], "lower-case"),
        (["create", "ci", "--grant", "reader:*", "--google"], "give -o FILE"),
        (["create", "ci", "--grant", "reader:*", "--server-url", "http://a"], "names no server"),
        (
            ["create", "ci", "--grant", "reader:*", "--google", "-o", "x.json"],
            "give --server-url",
        ),
        (["revoke", "ci"], "there are no keys in"),
        (["list"], "there are no keys in"),
    ],
)
def test_what_makes_no_sense_is_told_with_the_way_out(call, tmp_path, words, told):
    answer = call("key", *words)
    assert answer.code == 2
    assert told in answer.err
    assert not (tmp_path / "x.json").exists()


def test_keys_of_a_server_are_administered_from_afar(call, tmp_path, monkeypatch):
    folder = str(tmp_path / "served")
    with LocalStore.open(folder) as store, Server(store, ServerSettings(port=0)) as server:
        first = call("--store", server.url, "key", "create", "boss", "--grant", "admin:*")
        assert "from now on" in first.err
        denied = call("--store", server.url, "key", "list")
        assert denied.code == 1
        assert "EVENTMILL_KEY" in denied.err
        monkeypatch.setenv("EVENTMILL_KEY", first.rows[0]["key"])
        made = call(
            *("--store", server.url, "key", "create", "etl", "--google", "-o", "etl.json"),
            *("--grant", "reader:ops.*"),
        )
        assert made.code == 0, made.err
        document = json.loads((tmp_path / "etl.json").read_text())
        assert document["token_uri"] == f"{server.url}/token"
        rows = call("--store", server.url, "key", "list").rows
        assert [row["name"] for row in rows] == ["boss", "etl"]
        assert call("--store", server.url, "key", "revoke", "etl").code == 0
        missing = call("--store", server.url, "key", "revoke", "etl")
        assert (missing.code, "no live key" in missing.err) == (2, True)
        call("--store", server.url, "key", "create", "low", "--grant", "editor:*")
    access = Access.open(folder)
    held = b"".join(
        (tmp_path / "served" / name).read_bytes()
        for name in os.listdir(folder)
        if name.startswith("access.db")
    )
    access.close()
    assert b"PRIVATE" not in held


def test_a_table_that_is_removed_takes_the_grants_that_name_it(shop):
    call = shop
    made = call("key", "create", "till", "--grant", "appender:shop.sales", "--grant", "reader:*")
    assert made.code == 0, made.err
    removed = call("table", "rm", "shop.sales", "--yes")
    assert removed.code == 0, removed.err
    (row,) = call("key", "list").rows
    assert row["grants"] == "reader:*"
