"""IAM policies of datasets and tables: get, set, test. What is set here is what holds."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from eventmill.base.clock import utc_datetime
from eventmill.schema.table import TableId
from eventmill.server.access import Action, Binding, Policy, Resource
from eventmill.server.bigquery.calls import Answer, Call
from eventmill.server.bigquery.datasets import Datasets
from eventmill.server.bigquery.errors import invalid, unsupported
from eventmill.server.bigquery.rooms import Rooms

_PERMISSIONS_MAX = 100
_EXPIRY = re.compile(r'\s*request\.time\s*<\s*timestamp\("([^"]+)"\)\s*')


class Iam:
    """The calls about who may do what."""

    def __init__(self, rooms: Rooms, datasets: Datasets) -> None:
        self._rooms = rooms
        self._datasets = datasets

    def of_table(self, verb: str) -> Callable[[Call], Answer]:
        """Return the endpoint of a table for ``getIamPolicy`` or one of the others."""

        def answer(call: Call) -> Answer:
            self._rooms.describe(call.table)
            return _VERBS[verb](self, call, call.table)

        return answer

    def of_dataset(self, verb: str) -> Callable[[Call], Answer]:
        """Return the endpoint of a dataset for ``getIamPolicy`` or one of the others."""

        def answer(call: Call) -> Answer:
            self._datasets.required(call.project, call.path["dataset"])
            return _VERBS[verb](self, call, call.dataset)

        return answer

    def get(self, call: Call, place: TableId | Resource) -> Answer:
        """Answer with the policy of exactly this resource."""
        self._rooms.guard.require(call.principal, Action.ADMINISTER, place)
        return _policy(self._rooms.guard.policy_of(place))

    def set(self, call: Call, place: TableId | Resource) -> Answer:
        """Replace the policy; an etag refuses when it has changed since it was read."""
        policy = call.document().get("policy")
        if not isinstance(policy, Mapping):
            raise invalid("Required parameter is missing: policy", "policy")
        if policy.get("auditConfigs"):
            raise unsupported("auditConfigs of a policy", "everything is audited here")
        entries = policy.get("bindings") or []
        if not isinstance(entries, list):
            raise invalid("policy.bindings must be a list", "policy.bindings")
        bindings = [_binding(entry) for entry in entries]
        return _policy(
            self._rooms.guard.set_policy(
                call.principal, place, bindings, str(policy.get("etag") or "")
            )
        )

    def test(self, call: Call, place: TableId | Resource) -> Answer:
        """Answer with those of the permissions in the body that the caller has."""
        permissions = call.document().get("permissions")
        if not isinstance(permissions, list) or len(permissions) > _PERMISSIONS_MAX:
            raise invalid(f"permissions must be a list of at most {_PERMISSIONS_MAX} names")
        held = self._rooms.guard.permitted(call.principal, place, [str(p) for p in permissions])
        return {"permissions": held} if held else {}


_VERBS: dict[str, Callable[[Iam, Call, TableId | Resource], Answer]] = {
    "getIamPolicy": Iam.get,
    "setIamPolicy": Iam.set,
    "testIamPermissions": Iam.test,
}
VERBS = tuple(_VERBS)
"""What stands behind the colon of an address."""


def _policy(policy: Policy) -> dict[str, Any]:
    document: dict[str, Any] = {"version": 1, "etag": policy.etag}
    if policy.bindings:
        document["bindings"] = [_entry(binding) for binding in policy.bindings]
    if any(binding.expires_at is not None for binding in policy.bindings):
        document["version"] = 3
    return document


def _entry(binding: Binding) -> dict[str, Any]:
    entry: dict[str, Any] = {"role": binding.role, "members": list(binding.members)}
    if binding.expires_at is not None:
        moment = utc_datetime(binding.expires_at).isoformat(timespec="milliseconds")
        end = moment.replace("+00:00", "Z")
        entry["condition"] = {
            "title": "expires",
            "expression": f'request.time < timestamp("{end}")',
        }
    return entry


def _binding(entry: object) -> Binding:
    if not isinstance(entry, Mapping):
        raise invalid("a binding must be an object", "policy.bindings")
    members = entry.get("members") or []
    if not isinstance(members, list) or not all(isinstance(member, str) for member in members):
        raise invalid("members of a binding must be a list of texts", "policy.bindings")
    return Binding(
        str(entry.get("role") or ""), tuple(sorted(members)), _end(entry.get("condition"))
    )


def _end(condition: object) -> float | None:
    """Return the end that a condition states, the one condition that is kept to here."""
    if not condition:
        return None
    expression = str(condition.get("expression")) if isinstance(condition, Mapping) else ""
    match = _EXPIRY.fullmatch(expression)
    if match is None:
        raise unsupported(
            "a condition of a binding other than an end",
            'write request.time < timestamp("2027-01-31T00:00:00Z")',
        )
    try:
        moment = datetime.fromisoformat(match[1])
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise invalid(f"{match[1]!r} is not a moment such as 2027-01-31T00:00:00Z")
    return moment.timestamp()
