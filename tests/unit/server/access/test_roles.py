"""The decision itself: which role allows what, and where."""

import pytest

from eventmill.base.errors import UsageError
from eventmill.schema.table import TableId
from eventmill.server.access import (
    ANONYMOUS,
    EVERYTHING,
    Action,
    Grant,
    Principal,
    PrincipalKind,
    Resource,
    Role,
)
from eventmill.server.access.errors import ForbiddenError
from eventmill.server.access.roles import roles_allowing
from eventmill.wire.keys import GrantText

BUILDS = TableId("local", "ops", "builds")
TESTS = TableId("local", "ops", "tests")
WAGES = TableId("local", "pay", "wages")
ABROAD = TableId("shop", "ops", "builds")
AUDIT = TableId("local", "eventmill", "audit")
QUARANTINE = TableId("local", "eventmill", "quarantine")

ALLOWED = {
    Role.APPENDER: {"append", "describe"},
    Role.READER: {"read", "describe", "monitor"},
    Role.EDITOR: {
        *("append", "read", "describe", "apply", "drop", "replace", "replay", "discard"),
        "monitor",
    },
    Role.ADMIN: {str(action) for action in Action},
}


def key(*grants, **more):
    found = []
    for text in grants:
        role, _, resource = text.partition(":")
        found.append(Grant.of(GrantText(role, resource)))
    return Principal("k", PrincipalKind.TOKEN, tuple(found), **more)


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("action", list(Action))
def test_a_role_allows_what_is_written_and_nothing_else(role, action):
    principal = key(f"{role}:ops.builds")
    assert principal.may(action, BUILDS, 0.0) == (str(action) in ALLOWED[role])
    assert (role in roles_allowing(action)) == (str(action) in ALLOWED[role])
    for elsewhere in (TESTS, WAGES, ABROAD, Resource.dataset("ops"), EVERYTHING):
        assert not principal.may(action, elsewhere, 0.0)


@pytest.mark.parametrize(
    ("grant", "inside", "outside"),
    [
        ("reader:ops.builds", [BUILDS], [TESTS, WAGES, ABROAD, Resource.dataset("ops")]),
        ("reader:ops.*", [BUILDS, TESTS, Resource.dataset("ops")], [WAGES, ABROAD]),
        ("reader:local.*.*", [BUILDS, WAGES, Resource.project("local")], [ABROAD, EVERYTHING]),
        ("reader:*", [BUILDS, WAGES, ABROAD, EVERYTHING], []),
    ],
)
def test_a_grant_reaches_what_lies_in_its_resource(grant, inside, outside):
    principal = key(grant)
    assert all(principal.may(Action.READ, place, 0.0) for place in inside)
    assert not any(principal.may(Action.READ, place, 0.0) for place in outside)


def test_several_grants_add_up_and_none_takes_away():
    principal = key("appender:ops.builds", "reader:ops.*")
    assert principal.may(Action.APPEND, BUILDS, 0.0)
    assert principal.may(Action.READ, BUILDS, 0.0)
    assert not principal.may(Action.APPEND, TESTS, 0.0)


def test_a_grant_ends_at_its_moment_and_the_others_go_on():
    ends = Grant(Role.EDITOR, Resource.of(BUILDS), 100.0)
    principal = Principal("k", PrincipalKind.TOKEN, (ends, *key("reader:ops.*").grants))
    assert principal.may(Action.APPEND, BUILDS, 99.9)
    assert not principal.may(Action.APPEND, BUILDS, 100.0)
    assert principal.may(Action.READ, BUILDS, 100.0)
    assert principal.may_somewhere(Action.DROP, 99.9)
    assert not principal.may_somewhere(Action.DROP, 100.0)


def test_own_tables_are_no_part_of_a_project():
    project = key("admin:local.*.*")
    assert project.may(Action.READ, WAGES, 0.0)
    assert not project.may(Action.READ, QUARANTINE, 0.0)
    assert not project.may(Action.READ, AUDIT, 0.0)
    assert key("reader:*").may(Action.READ, QUARANTINE, 0.0)


def test_the_audit_is_an_admins_or_whose_it_is_by_name():
    assert not key("reader:*").may(Action.READ, AUDIT, 0.0)
    assert not key("editor:*").may(Action.READ, AUDIT, 0.0)
    assert key("admin:*").may(Action.READ, AUDIT, 0.0)
    assert key("reader:eventmill.audit").may(Action.READ, AUDIT, 0.0)
    assert key("reader:eventmill.*").may(Action.READ, AUDIT, 0.0)
    assert not key("reader:*").may_everywhere(Action.READ, 0.0)
    assert key("admin:*").may_everywhere(Action.READ, 0.0)
    assert ANONYMOUS.may_everywhere(Action.READ, 0.0)


def test_a_dataset_is_seen_by_whoever_sees_a_table_in_it():
    principal = key("appender:ops.builds")
    assert principal.sees(BUILDS, 0.0)
    assert principal.sees(Resource.dataset("ops"), 0.0)
    assert principal.sees(Resource.project("local"), 0.0)
    for hidden in (TESTS, WAGES, Resource.dataset("pay"), Resource.project("shop")):
        assert not principal.sees(hidden, 0.0)


def test_scopes_leave_less_of_the_grants_and_never_more():
    principal = key("editor:ops.*", scope_actions=frozenset({Action.READ, Action.ADMINISTER}))
    assert principal.may(Action.READ, BUILDS, 0.0)
    assert not principal.may(Action.APPEND, BUILDS, 0.0)
    assert not principal.may(Action.ADMINISTER, BUILDS, 0.0)
    assert not principal.may_somewhere(Action.DROP, 0.0)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("*", ()),
        ("shop.*.*", ("shop",)),
        ("ops.*", ("local", "ops")),
        ("shop-1.ops.*", ("shop-1", "ops")),
        ("ops.builds", ("local", "ops", "builds")),
        (" shop.ops.builds ", ("shop", "ops", "builds")),
    ],
)
def test_a_resource_is_read_as_it_is_written(text, path):
    resource = Resource.parse(text)
    assert resource.path == path
    assert Resource.parse(str(resource)) == resource


@pytest.mark.parametrize(
    "text",
    ["", "ops", "*.builds", "*.*", "*.*.*", "ops.*.*.*", "ops.bu*", "a.b.c.d", "Ops-1.x", "**"],
)
def test_what_is_no_resource_is_refused(text):
    with pytest.raises(UsageError, match="granted"):
        Resource.parse(text)


def test_a_role_that_is_none_is_refused_with_those_that_are():
    with pytest.raises(UsageError, match="appender, reader, editor, admin"):
        Grant.of(GrantText("owner", "*"))


def test_a_refusal_names_action_place_and_the_role_that_would_do():
    error = ForbiddenError("ci", Action.READ, Resource.of(BUILDS))
    assert "'ci' may not read the table local.ops.builds" in str(error)
    assert "--grant 'reader:local.ops.builds'" in str(error)
    assert error.facts == {"action": "read", "resource": "local.ops.builds", "role": "reader"}
    assert "the server as a whole" in str(ForbiddenError("ci", Action.MONITOR, EVERYTHING))
