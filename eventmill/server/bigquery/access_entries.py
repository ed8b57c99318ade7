"""The ``access`` of a dataset: another way to write who may do what, beside its IAM policy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eventmill.server.access import Binding, Principal, Resource
from eventmill.server.bigquery.errors import invalid, unsupported
from eventmill.server.bigquery.guard import Guard
from eventmill.wire.keys import EMAIL_DOMAIN

_ROLES = {
    "READER": "roles/bigquery.dataViewer",
    "WRITER": "roles/bigquery.dataEditor",
    "OWNER": "roles/bigquery.dataOwner",
}
_WORDS = {role: word for word, role in _ROLES.items()}
_KINDS = {
    "serviceAccount": "userByEmail",
    "user": "userByEmail",
    "group": "groupByEmail",
    "domain": "domain",
}
"""What an access entry calls each kind of member."""
_EVERY_KEY = "allAuthenticatedUsers"


def access_entries(guard: Guard, place: Resource) -> list[dict[str, str]]:
    """Return the policy of a dataset as access entries."""
    entries = []
    for binding in guard.policy_of(place).bindings:
        role = _WORDS.get(binding.role, binding.role)
        for member in binding.members:
            kind, _, email = member.partition(":")
            if kind == _EVERY_KEY:
                entries.append({"role": role, "specialGroup": kind})
            else:
                entries.append({"role": role, _KINDS.get(kind, "iamMember"): email or member})
    return entries


def set_access(
    guard: Guard, principal: Principal, place: Resource, document: Mapping[str, Any]
) -> None:
    """Make the policy of a dataset what a resource's ``access`` says; without it all stays."""
    if "access" not in document:
        return
    entries = document["access"] or []
    if not isinstance(entries, list):
        raise invalid("access must be a list", "access")
    if entries == access_entries(guard, place):
        return  # sent back as it was read
    policy = guard.policy_of(place)
    if any(binding.expires_at is not None for binding in policy.bindings):
        raise unsupported(
            f"access for {place}, which has grants with an end", "set its IAM policy instead"
        )
    members: dict[str, set[str]] = {}
    for entry in entries:
        role, member = _binding(entry)
        members.setdefault(role, set()).add(member)
    bindings = [Binding(role, tuple(sorted(who))) for role, who in sorted(members.items())]
    guard.set_policy(principal, place, bindings, policy.etag)


def _binding(entry: object) -> tuple[str, str]:
    """Return role and member of one access entry."""
    if not isinstance(entry, Mapping):
        raise invalid("access must be a list of objects", "access")
    role = str(entry.get("role") or "")
    if not role:
        raise unsupported("an access entry without a role (a view, a routine, a dataset)")
    role = _ROLES.get(role, role)
    if entry.get("userByEmail"):
        email = str(entry["userByEmail"])
        # People have no keys here: kept without effect, as in a policy.
        return role, f"{'serviceAccount' if _is_key(email) else 'user'}:{email}"
    if entry.get("groupByEmail"):
        return role, f"group:{entry['groupByEmail']}"
    if entry.get("domain"):
        return role, f"domain:{entry['domain']}"
    if entry.get("iamMember"):
        return role, str(entry["iamMember"])
    if entry.get("specialGroup") == _EVERY_KEY:
        return role, _EVERY_KEY
    kinds = ", ".join(sorted(set(entry) - {"role"})) or "nobody"
    raise unsupported(
        f"an access entry for {kinds}", "give userByEmail with the e-mail address of a key"
    )


def _is_key(email: str) -> bool:
    return email.endswith(f".{EMAIL_DOMAIN}")
