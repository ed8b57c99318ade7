"""Keys made, listed and ended, in one process and in several."""

import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from access_world import OPEN, bearer, wish

from eventmill.base.errors import CorruptStoreError, UnavailableError, UsageError
from eventmill.server.access import (
    ANONYMOUS,
    Access,
    Action,
    CredentialsError,
    ForbiddenError,
    Grant,
    Principal,
    PrincipalKind,
)
from eventmill.server.access.access import LOOK_SECONDS
from eventmill.server.access.database import AccessDatabase
from eventmill.server.access.service_account import make_key_pair
from eventmill.wire.keys import GrantText, KeyKind, KeyWish


def headers(token):
    return [(name.lower(), value) for name, value in bearer(token).items()]


def who(access, token):
    return access.principal_of(headers(token)).name


def test_without_any_key_everybody_is_let_in(access):
    assert not access.is_required
    assert access.principal_of([]) is ANONYMOUS
    assert access.principal_of(headers("em_whatever")) is ANONYMOUS


def test_from_the_first_key_on_everybody_needs_one(access, make):
    token = make("ci", "appender:ops.builds")
    assert access.is_required
    with pytest.raises(CredentialsError):
        access.principal_of([])
    principal = access.principal_of(headers(token))
    assert (principal.name, principal.email) == ("ci", "ci@local.iam.eventmill.local")
    assert access.allows(principal, Action.APPEND, OPEN)


def test_keys_are_needed_also_when_none_is_left(access, make, ring, clock):
    make("ci", "reader:*", expires_at=clock.now() + 10)
    clock.advance(11)
    assert access.is_required
    ring.revoke("ci")
    access.look()
    assert access.is_required
    with pytest.raises(CredentialsError):
        access.principal_of([])


def test_the_first_key_is_told_to_be_it(ring):
    assert ring.create(wish("a", "reader:*")).is_first
    assert not ring.create(wish("b", "reader:*")).is_first


def test_the_token_is_nowhere_in_the_folder(access, make, tmp_path, ring):
    token = make("ci", "reader:*")
    access.principal_of(headers(token))
    access.note_use()
    held = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"ci@local.iam.eventmill.local" in held
    assert token.encode() not in held
    assert token[3:40].encode() not in held
    assert token not in repr(ring.all())


def test_the_file_is_its_owners_alone(access, make, tmp_path):
    make("ci", "reader:*")
    names = {path.name for path in tmp_path.iterdir()}
    assert {"access.db", "access.db-wal"} <= names
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_a_revoked_key_is_refused_and_its_name_may_be_given_again(access, make, ring):
    first = make("ci", "reader:*")
    ring.revoke("ci")
    second = make("ci", "reader:*")
    with pytest.raises(CredentialsError, match="revoked") as raised:
        who(access, first)
    assert (raised.value.reason, raised.value.name) == ("revoked", "ci")
    assert who(access, second) == "ci"
    assert [key.state for key in ring.all()] == ["revoked", "live"]


def test_a_key_and_a_grant_end_at_their_moments(access, ring, clock):
    until = clock.now() + 100
    grants = (GrantText("reader", "ops.*", until - 50), GrantText("appender", "ops.*"))
    token = ring.create(KeyWish(name="ci", grants=grants, expires_at=until)).token
    access.look()
    principal = access.principal_of(headers(token))
    assert access.allows(principal, Action.READ, OPEN)
    clock.advance(50)
    assert not access.allows(access.principal_of(headers(token)), Action.READ, OPEN)
    clock.advance(49.9)
    assert access.allows(access.principal_of(headers(token)), Action.APPEND, OPEN)
    clock.advance(0.1)
    with pytest.raises(CredentialsError, match="expired"):
        access.principal_of(headers(token))
    assert ring.all()[0].state == "expired"


def test_a_key_that_makes_no_sense_is_not_made(ring, clock):
    make = ring.create
    make(wish("ci", "reader:*"))
    with pytest.raises(UsageError, match="live key 'ci'"):
        make(wish("ci", "reader:*"))
    with pytest.raises(UsageError, match="ends in the past"):
        make(wish("b", "reader:*", expires_at=clock.now()))
    with pytest.raises(UsageError, match="not a role"):
        make(wish("b", "root:*"))
    with pytest.raises(UsageError, match="granted on"):
        make(wish("b", "reader:ops"))
    with pytest.raises(UsageError, match="no public_key"):
        make(wish("b", "reader:*", public_key="x"))
    account = {"kind": KeyKind.SERVICE_ACCOUNT, "token_uri": "http://a/token"}
    with pytest.raises(UsageError, match="not a public key"):
        make(wish("b", "reader:*", public_key="x", public_key_id="1", **account))
    pair = make_key_pair()
    with pytest.raises(UsageError, match="public_key_id"):
        make(wish("b", "reader:*", public_key=pair.public_key, public_key_id="-", **account))
    with pytest.raises(UsageError, match="token_uri"):
        make(
            wish(
                "b",
                "reader:*",
                kind=KeyKind.SERVICE_ACCOUNT,
                public_key=pair.public_key,
                public_key_id="1",
                token_uri="ftp://a",
            )
        )
    assert [key.name for key in ring.all()] == ["ci"]
    with pytest.raises(UsageError, match="no live key 'b'"):
        ring.revoke("b")


def test_nobody_gives_sees_or_ends_what_is_not_theirs(access, ring):
    ring.create(wish("boss", "admin:*"))
    ring.create(wish("both", "reader:ops.*", "reader:pay.*"))
    admin = Principal(
        "ops-admin", PrincipalKind.TOKEN, (Grant.of(GrantText("admin", "ops.*")),), key_id=7
    )
    own = access.keys(admin)
    own.create(wish("mine", "admin:ops.*", "appender:ops.builds"))
    for grant in ("reader:pay.wages", "reader:local.*.*", "reader:*", "admin:*"):
        with pytest.raises(ForbiddenError, match="administer"):
            own.create(wish("too-much", "reader:ops.*", grant))
    assert [key.name for key in own.all()] == ["mine"]
    for name in ("boss", "both"):
        with pytest.raises(UsageError, match="no live key"):
            own.revoke(name)
    assert own.revoke("mine").state == "revoked"
    reader = Principal("r", PrincipalKind.TOKEN, (Grant.of(GrantText("editor", "*")),), key_id=8)
    assert access.keys(reader).all() == []
    with pytest.raises(ForbiddenError):
        access.keys(reader).create(wish("x", "reader:ops.builds"))


@pytest.mark.slow
def test_another_process_revokes_within_a_quarter_of_a_second(access, make, clock, tmp_path):
    token = make("ci", "reader:*")
    assert who(access, token) == "ci"
    with_cli(tmp_path, "revoke", "ci")
    assert who(access, token) == "ci"  # by the test's clock no time has passed
    clock.advance(LOOK_SECONDS)
    with pytest.raises(CredentialsError, match="revoked"):
        who(access, token)


@pytest.mark.slow
def test_another_process_makes_the_first_key_while_two_connections_are_open(
    access, clock, tmp_path
):
    """A file that is opened and closed beside SQLite loses SQLite's locks.

    The other process then takes the log along when it ends, and neither sees the other any more.
    """
    assert access.principal_of([]) is ANONYMOUS
    assert Path(f"{tmp_path}/access.db-wal").exists()
    with_cli(tmp_path, "create", "ci", "--grant", "reader:*")
    assert Path(f"{tmp_path}/access.db-wal").exists()
    clock.advance(LOOK_SECONDS)
    with pytest.raises(CredentialsError):
        access.principal_of([])
    assert with_cli(tmp_path, "list").count("\n") == 1


def with_cli(folder, *words):
    command = [sys.executable, "-m", "eventmill", "--store", str(folder), "key", *words]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_the_file_is_looked_at_four_times_a_second_and_not_at_each_request(
    access, make, clock, monkeypatch
):
    token = make("ci", "reader:*")
    looks = []
    seen = access._watch.changes_seen
    monkeypatch.setattr(access._watch, "changes_seen", lambda: looks.append(1) or seen())
    for _ in range(100):
        who(access, token)
    assert not looks
    clock.advance(LOOK_SECONDS)
    for _ in range(100):
        who(access, token)
    assert len(looks) == 1


def test_notes_of_use_do_not_make_everybody_read_the_keys_again(access, make, clock, ring):
    token = make("ci", "reader:*")
    who(access, token)
    before = access._snapshot
    access.note_use()
    access.look()
    assert access._snapshot is before
    assert ring.all()[0].last_used_at == clock.now()


def test_a_file_that_is_taken_away_closes_the_server(access, make, clock, tmp_path):
    token = make("ci", "reader:*")
    os.rename(tmp_path / "access.db", tmp_path / "elsewhere.db")
    clock.advance(LOOK_SECONDS)
    with pytest.raises(UnavailableError, match="moved or removed"):
        who(access, token)
    assert access.is_required
    os.rename(tmp_path / "elsewhere.db", tmp_path / "access.db")
    assert who(access, token) == "ci"
    os.unlink(tmp_path / "access.db")
    (tmp_path / "access.db").touch()  # a new one, without keys, is no way in
    clock.advance(LOOK_SECONDS)
    with pytest.raises(UnavailableError, match="moved or removed"):
        access.principal_of([])


def test_what_was_made_is_there_after_a_new_start(access, make, tmp_path, clock):
    token = make("ci", "reader:*")
    access.close()
    again = Access.open(str(tmp_path), clock=clock)
    assert who(again, token) == "ci"
    again.close()


def test_a_file_of_a_newer_version_is_refused(tmp_path):
    database = AccessDatabase(str(tmp_path / "access.db"))
    database._db.execute("PRAGMA user_version=99")
    database.close()
    with pytest.raises(CorruptStoreError, match="upgrade"):
        Access.open(str(tmp_path))


def test_a_folder_that_is_not_there_is_an_error_and_not_a_store(tmp_path):
    with pytest.raises(UnavailableError, match=r"access\.db"):
        Access.open(str(tmp_path / "none"))


def test_a_grant_of_a_later_version_allows_nothing(access, make, tmp_path, clock):
    token = make("ci", "reader:ops.*")
    with sqlite3.connect(tmp_path / "access.db") as other:
        other.execute("UPDATE grants SET role = 'superuser'")
        other.execute("UPDATE facts SET value = value + 1 WHERE key = 'revision'")
    other.close()
    clock.advance(LOOK_SECONDS)
    assert not access.allows(access.principal_of(headers(token)), Action.READ, OPEN)


def test_keys_in_memory_work_alike(clock):
    access = Access.in_memory(clock=clock)
    token = access.keys(ANONYMOUS).create(wish("ci", "reader:*")).token
    access.look()
    assert who(access, token) == "ci"
    access.keys(access.principal_of(headers(token)))
    access.close()


def test_the_folders_token_holds_for_one_server_and_until_the_next(access, make):
    make("ci", "reader:*")
    first = access.folder_token()
    assert access.principal_of(headers(first)).kind is PrincipalKind.FOLDER
    second = access.folder_token()
    assert access.principal_of(headers(second)).kind is PrincipalKind.FOLDER
    with pytest.raises(CredentialsError, match="does not know"):
        access.principal_of(headers(first))
