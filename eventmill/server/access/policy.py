"""Grants as BigQuery's clients know them: policies of bindings, roles/bigquery.*, members.

A policy is a view of the same grants that keys are made with, so there is one truth, however it
was written.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from eventmill.base.errors import UsageError
from eventmill.server.access.database import GrantRow, KeyRow
from eventmill.server.access.keys import MEMBER_PREFIX
from eventmill.server.access.roles import Action, Resource, Role
from eventmill.server.access.snapshot import EVERY_KEY, read_grant

APPENDER_ROLE = "roles/eventmill.appender"
"""The write-only role has no name in BigQuery, where dataEditor is the least that may insert."""

_ROLE_NAMES: Mapping[Role, str] = {
    Role.APPENDER: APPENDER_ROLE,
    Role.READER: "roles/bigquery.dataViewer",
    Role.EDITOR: "roles/bigquery.dataEditor",
    Role.ADMIN: "roles/bigquery.dataOwner",
}
_ROLES: Mapping[str, Role] = {
    **{name: role for role, name in _ROLE_NAMES.items()},
    "roles/bigquery.admin": Role.ADMIN,
    "roles/viewer": Role.READER,
    "roles/editor": Role.EDITOR,
    "roles/owner": Role.ADMIN,
}
"""Every name that is understood; it is told by the first one of its role."""

# cloud.google.com/iam/docs/roles-permissions/bigquery, looked up 2026-11-24.
_PERMISSION_ACTIONS: Mapping[str, Action] = {
    "bigquery.tables.updateData": Action.APPEND,
    "bigquery.tables.getData": Action.READ,
    "bigquery.tables.export": Action.READ,
    "bigquery.tables.get": Action.DESCRIBE,
    "bigquery.tables.list": Action.DESCRIBE,
    "bigquery.tables.create": Action.APPLY,
    "bigquery.tables.update": Action.APPLY,
    "bigquery.tables.delete": Action.DROP,
    "bigquery.tables.getIamPolicy": Action.ADMINISTER,
    "bigquery.tables.setIamPolicy": Action.ADMINISTER,
    "bigquery.datasets.get": Action.DESCRIBE,
    "bigquery.datasets.create": Action.APPLY,
    "bigquery.datasets.update": Action.APPLY,
    "bigquery.datasets.delete": Action.DROP,
    "bigquery.datasets.getIamPolicy": Action.ADMINISTER,
    "bigquery.datasets.setIamPolicy": Action.ADMINISTER,
}
_IDLE_MEMBERS = ("user:", "group:", "domain:")
"""Members that BigQuery knows, and that nobody can sign in as here: kept, without effect."""
BINDINGS_MAX = 1_500
"""Members of one policy, as in BigQuery."""


@dataclass(frozen=True, slots=True)
class Binding:
    """One role and who has it, in the words of IAM."""

    role: str
    """Such as ``roles/bigquery.dataEditor``."""
    members: tuple[str, ...]
    """Such as ``serviceAccount:ci@local.iam.eventmill.local``; ascending."""
    expires_at: float | None = None
    """End of the binding, in seconds since 1970; None: none. IAM writes it as a condition."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The bindings of one resource, and what names this state of them."""

    bindings: tuple[Binding, ...]
    etag: str


def policy_of_rows(
    rows: Iterable[GrantRow], keys: Iterable[KeyRow], resource: Resource, now: float
) -> Policy:
    """Return the policy of exactly ``resource``: live grants of keys that are not revoked."""
    live = {key.id for key in keys if key.revoked_at is None}
    members: dict[tuple[str, float | None], set[str]] = {}
    for row in rows:
        if row.resource != str(resource) or (row.key_id is not None and row.key_id not in live):
            continue
        grant = read_grant(row.role, row.resource, row.expires_at)
        if grant is not None and grant.is_live(now):
            members.setdefault((_ROLE_NAMES[grant.role], row.expires_at), set()).add(row.member)
    bindings = tuple(
        Binding(role, tuple(sorted(found)), expires_at)
        for (role, expires_at), found in sorted(
            members.items(), key=lambda item: (item[0][0], item[0][1] or 0.0)
        )
    )
    digest = hashlib.sha256(repr(bindings).encode()).digest()
    return Policy(bindings, base64.b64encode(digest[:12]).decode())


def rows_of_bindings(
    bindings: Sequence[Binding], keys: Iterable[KeyRow], resource: Resource, now: float
) -> list[GrantRow]:
    """Return the grants that ``bindings`` mean.

    Raises:
        UsageError: a role or a member that means nothing here, or an end in the past.
    """
    ids = {key.email: key.id for key in keys if key.revoked_at is None}
    rows: dict[tuple[Role, str, float | None], GrantRow] = {}
    for binding in bindings:
        role = _ROLES.get(binding.role)
        if role is None:
            raise UsageError(
                f"the role {binding.role!r} means nothing here; understood are {', '.join(_ROLES)}"
            )
        if binding.expires_at is not None and not binding.expires_at > now:
            raise UsageError(f"the binding of {binding.role} ends in the past and allows nothing")
        for member in binding.members:
            key_id = _key_of_member(member, ids)
            rows[role, member, binding.expires_at] = GrantRow(
                str(resource), str(role), member, key_id, binding.expires_at
            )
    if len(rows) > BINDINGS_MAX:
        raise UsageError(f"a policy has at most {BINDINGS_MAX:,} members, not {len(rows):,}")
    return list(rows.values())


def _key_of_member(member: str, ids: Mapping[str, int]) -> int | None:
    if member.startswith(MEMBER_PREFIX):
        email = member.removeprefix(MEMBER_PREFIX)
        if email not in ids:
            raise UsageError(
                f"there is no live key {email!r}; `eventmill key create NAME --project PROJECT`"
                " makes the service account NAME@PROJECT"
            )
        return ids[email]
    if member == EVERY_KEY or member.startswith(_IDLE_MEMBERS):
        return None
    raise UsageError(
        f"the member {member!r} means nothing here: grant to {MEMBER_PREFIX}EMAIL of a key, or to"
        f" {EVERY_KEY}; allUsers cannot be granted, as every request needs a key"
    )


def action_of_permission(permission: str) -> Action | None:
    """Return the action that one of BigQuery's permissions stands for; None: none here."""
    return _PERMISSION_ACTIONS.get(permission)
