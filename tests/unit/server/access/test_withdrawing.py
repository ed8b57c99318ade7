"""A table that is dropped takes the grants that name it along: a later one is another table."""

from __future__ import annotations

import pytest
from access_world import OPEN, bearer

from eventmill.base.errors import UnavailableError
from eventmill.schema.document import spec_to_json
from eventmill.server.access import Action, Resource
from eventmill.server.access.access import FOLDER_OWNER
from eventmill.testing.events import build_spec

TABLE = "/api/v1/tables/ops.builds"


@pytest.fixture
def may(access):
    """Tell what a token may do on ``ops.builds``."""

    def told(token):
        principal = access.principal_of([("authorization", f"Bearer {token}")])
        return {action for action in Action if access.allows(principal, action, OPEN)}

    return told


def test_a_later_table_of_the_name_is_closed_to_the_keys_of_the_first(client, make, may, audit):
    boss = make("boss", "admin:*")
    ci, board = make("ci", "appender:ops.builds", "reader:pay.wages"), make("board", "reader:ops.*")
    assert Action.APPEND in may(ci)
    assert client.delete(TABLE, headers=bearer(boss)).status_code == 204
    spec = spec_to_json(build_spec(OPEN))
    assert client.put(TABLE, json=spec, headers=bearer(boss)).status_code == 200
    assert may(ci) == set()
    assert Action.READ in may(board)  # the dataset's grants are not the table's
    assert client.get("/api/v1/tables/pay.wages", headers=bearer(ci)).status_code == 200
    (row,) = audit(act="grants_withdrawn")
    assert (row["principal"], row["resource"]) == ("boss", "local.ops.builds")
    assert row["detail"] == (
        "appender serviceAccount:ci@local.iam.eventmill.local on local.ops.builds"
    )


def test_a_table_that_is_none_or_the_stores_own_loses_no_grant(client, make, access, audit):
    boss = make("boss", "admin:*")
    make("later", "appender:ops.later", "reader:eventmill.audit")
    later = Resource.parse("ops.later")
    assert client.delete("/api/v1/tables/ops.later", headers=bearer(boss)).status_code == 404
    assert client.delete("/api/v1/tables/eventmill.audit", headers=bearer(boss)).status_code == 403
    assert access.policy_of(later).bindings
    assert access.policy_of(Resource.parse("eventmill.audit")).bindings
    assert audit(act="grants_withdrawn") == []


def test_when_the_drop_fails_too_little_is_allowed_and_never_too_much(
    client, make, may, store, monkeypatch
):
    boss, ci = make("boss", "admin:*"), make("ci", "appender:ops.builds")

    def fails(table):
        raise UnavailableError("the disk is gone")

    monkeypatch.setattr(store, "drop", fails)
    assert client.delete(TABLE, headers=bearer(boss)).status_code == 503
    assert store.describe(OPEN)
    assert may(ci) == set()


def test_a_dataset_takes_along_what_lies_in_it_and_what_would(access, make, ring):
    make("ci", "appender:ops.builds", "reader:ops.*", "reader:ops.later", "reader:pay.*")
    make("old", "reader:ops.builds")
    ring.revoke("old")
    before = access.policy_of(Resource.dataset("pay"))
    access.withdraw(FOLDER_OWNER, Resource.dataset("ops"))
    for name in ("ops.builds", "ops.*", "ops.later"):
        assert access.policy_of(Resource.parse(name)).bindings == (), name
    assert access.policy_of(Resource.dataset("pay")) == before
    held = {facts.name: [str(grant) for grant in facts.grants] for facts in ring.all()}
    assert held == {"ci": ["reader:local.pay.*"], "old": ["reader:local.ops.builds"]}
