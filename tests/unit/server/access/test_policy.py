"""Policies: the same grants in the words of BigQuery's clients."""

import pytest
from access_world import OPEN, SECRET

from eventmill.base.errors import UsageError
from eventmill.server.access import (
    Action,
    Binding,
    ForbiddenError,
    PolicyConflictError,
    Resource,
)
from eventmill.server.access.access import FOLDER_OWNER
from eventmill.wire.keys import GrantText, KeyWish

OPS = Resource.dataset("ops")
CI = "serviceAccount:ci@local.iam.eventmill.local"
BOSS = "serviceAccount:boss@local.iam.eventmill.local"
VIEWER, EDITOR = "roles/bigquery.dataViewer", "roles/bigquery.dataEditor"
OWNER, APPENDER = "roles/bigquery.dataOwner", "roles/eventmill.appender"


def who(access, token):
    return access.principal_of([("authorization", f"Bearer {token}")])


def test_grants_of_keys_are_seen_as_bindings(access, make):
    make("ci", "appender:ops.builds", "reader:ops.builds", "reader:ops.*")
    make("boss", "admin:*", "reader:ops.builds")
    assert access.policy_of(OPEN).bindings == (
        Binding(VIEWER, (BOSS, CI)),
        Binding(APPENDER, (CI,)),
    )
    assert access.policy_of(OPS).bindings == (Binding(VIEWER, (CI,)),)
    assert access.policy_of(SECRET).bindings == ()


@pytest.mark.parametrize(
    ("role", "action", "shown"),
    [
        (VIEWER, Action.READ, VIEWER),
        (EDITOR, Action.DROP, EDITOR),
        (OWNER, Action.ADMINISTER, OWNER),
        (APPENDER, Action.APPEND, APPENDER),
        ("roles/bigquery.admin", Action.ADMINISTER, OWNER),
        ("roles/editor", Action.APPEND, EDITOR),
    ],
)
def test_a_binding_is_a_grant_at_once(access, make, role, action, shown):
    token = make("ci", "reader:none.x")
    assert not access.allows(who(access, token), action, OPEN)
    policy = access.set_policy(FOLDER_OWNER, OPS, [Binding(role, (CI,))])
    assert policy.bindings == (Binding(shown, (CI,)),)
    assert access.allows(who(access, token), action, OPEN)
    assert not access.allows(who(access, token), action, SECRET)
    access.set_policy(FOLDER_OWNER, OPS, [])
    assert not access.allows(who(access, token), action, OPEN)


def test_setting_a_policy_replaces_that_of_exactly_this_resource(access, make, ring):
    token = make("ci", "editor:ops.builds", "reader:pay.wages")
    access.set_policy(FOLDER_OWNER, OPEN, [Binding(VIEWER, (CI,))])
    principal = who(access, token)
    assert access.allows(principal, Action.READ, OPEN)
    assert not access.allows(principal, Action.APPEND, OPEN)
    assert access.allows(principal, Action.READ, SECRET)
    assert [str(grant) for grant in ring.all()[0].grants] == [
        "reader:local.pay.wages",
        "reader:local.ops.builds",
    ]


def test_a_stale_etag_is_refused_and_changes_nothing(access, make):
    make("ci", "reader:ops.*")
    make("boss", "admin:*")
    seen = access.policy_of(OPS)
    access.set_policy(FOLDER_OWNER, OPS, [Binding(EDITOR, (CI,))], seen.etag)
    with pytest.raises(PolicyConflictError, match="read it again"):
        access.set_policy(FOLDER_OWNER, OPS, [Binding(OWNER, (BOSS,))], seen.etag)
    live = access.policy_of(OPS)
    assert live.bindings == (Binding(EDITOR, (CI,)),)
    assert live.etag != seen.etag
    access.set_policy(FOLDER_OWNER, OPS, live.bindings, live.etag)
    assert access.policy_of(OPS) == live  # the same bindings, the same name for them


def test_only_who_administers_a_resource_sets_its_policy(access, make):
    for name, grant in (("e", "editor:*"), ("a", "admin:ops.builds"), ("p", "admin:pay.*")):
        with pytest.raises(ForbiddenError):
            access.set_policy(who(access, make(name, grant)), OPS, [])
    access.set_policy(who(access, make("o", "admin:ops.*")), OPEN, [])


def test_every_key_can_be_meant_and_nobody_without_one(access, make):
    token = make("ci", "appender:none.x")
    access.set_policy(FOLDER_OWNER, OPEN, [Binding(VIEWER, ("allAuthenticatedUsers",))])
    assert access.allows(who(access, token), Action.READ, OPEN)
    assert access.allows(who(access, make("late", "appender:none.x")), Action.READ, OPEN)
    with pytest.raises(UsageError, match="allUsers cannot be granted"):
        access.set_policy(FOLDER_OWNER, OPEN, [Binding(VIEWER, ("allUsers",))])


def test_people_of_elsewhere_are_kept_without_effect(access, make):
    token = make("ci", "appender:none.x")
    members = ("group:team@example.com", "user:ci@local.iam.eventmill.local")
    policy = access.set_policy(FOLDER_OWNER, OPEN, [Binding(VIEWER, members)])
    assert policy.bindings == (Binding(VIEWER, members),)
    assert not access.allows(who(access, token), Action.READ, OPEN)


@pytest.mark.parametrize(
    ("binding", "told"),
    [
        (Binding("roles/bigquery.jobUser", (CI,)), "means nothing here; understood are"),
        (Binding(VIEWER, ("serviceAccount:x@y.z",)), "no live key"),
        (Binding(VIEWER, ("ci",)), "means nothing here"),
        (Binding(VIEWER, (CI,), 5.0), "in the past"),
        (Binding(VIEWER, tuple(f"user:{n}" for n in range(1501))), "at most 1,500"),
    ],
)
def test_a_binding_that_means_nothing_is_refused_and_changes_nothing(access, make, binding, told):
    make("ci", "reader:ops.builds")
    before = access.policy_of(OPEN)
    with pytest.raises(UsageError, match=told):
        access.set_policy(FOLDER_OWNER, OPEN, [Binding(EDITOR, (CI,)), binding])
    assert access.policy_of(OPEN) == before


def test_a_binding_ends_at_its_moment(access, make, clock):
    token = make("ci", "appender:none.x")
    until = clock.now() + 60
    access.set_policy(FOLDER_OWNER, OPEN, [Binding(VIEWER, (CI,), until)])
    assert access.policy_of(OPEN).bindings == (Binding(VIEWER, (CI,), until),)
    assert access.allows(who(access, token), Action.READ, OPEN)
    clock.advance(60)
    assert not access.allows(who(access, token), Action.READ, OPEN)
    assert access.policy_of(OPEN).bindings == ()


def test_a_revoked_key_is_in_no_policy_and_its_namesake_inherits_nothing(access, make, ring):
    make("ci", "editor:ops.builds")
    ring.revoke("ci")
    assert access.policy_of(OPEN).bindings == ()
    token = make("ci", "appender:none.x")
    assert access.policy_of(OPEN).bindings == ()
    assert not access.allows(who(access, token), Action.READ, OPEN)
    access.set_policy(FOLDER_OWNER, OPEN, [])
    revoked = ring.all()[0]
    assert [str(grant) for grant in revoked.grants] == ["editor:local.ops.builds"]  # history


def test_permissions_are_tested_as_the_routes_would(access, make):
    asked = [
        "bigquery.tables.getData",
        "bigquery.tables.updateData",
        "bigquery.tables.delete",
        "bigquery.tables.setIamPolicy",
        "storage.objects.get",
    ]
    for name, grant, count in (("r", "reader:ops.*", 1), ("a", "appender:ops.*", 1)):
        held = access.permitted(who(access, make(name, grant)), OPEN, asked)
        assert len(held) == count
        assert ("getData" in held[0]) == (name == "r")
    assert access.permitted(who(access, make("e", "editor:ops.*")), OPEN, asked) == asked[:3]
    assert access.permitted(who(access, make("o", "admin:ops.*")), OPEN, asked) == asked[:4]
    assert access.permitted(who(access, make("x", "admin:pay.*")), OPEN, asked) == []


def test_a_key_with_an_end_shows_it_in_its_bindings(access, ring, clock):
    until = clock.now() + 5
    grants = (GrantText("reader", "ops.builds", until),)
    ring.create(KeyWish(name="ci", grants=grants))
    access.look()
    assert access.policy_of(OPEN).bindings == (Binding(VIEWER, (CI,), until),)
