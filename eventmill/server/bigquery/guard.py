"""Who may do what on this surface: the one place of this room that asks ``server.access``.

What is refused is told in BigQuery's words, so that a client's own messages make sense.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from starlette.requests import Request

from eventmill.schema.table import TableId
from eventmill.server.access import (
    Access,
    Action,
    Binding,
    Charge,
    Policy,
    Principal,
    Resource,
    principal_in,
)


class Guard:
    """The server's permissions, as this room asks for them. Safe from any thread."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def principal_in(self, request: Request) -> Principal:
        """Return who calls, as the gate in front of every route has found."""
        return principal_in(request)

    def require(self, principal: Principal, action: Action, place: TableId | Resource) -> None:
        """Raise ForbiddenError unless ``principal`` may do ``action`` there."""
        self._access.require(principal, action, place)

    def allows(self, principal: Principal, action: Action, place: TableId | Resource) -> bool:
        """Tell whether ``principal`` may do ``action`` there."""
        return self._access.allows(principal, action, place)

    def require_query(self, principal: Principal, tables: Iterable[TableId]) -> None:
        """Raise ForbiddenError unless ``principal`` may read every one of ``tables``."""
        self._access.require_query(principal, tables)

    def sees(self, principal: Principal, place: TableId | Resource) -> bool:
        """Tell whether a list may show ``place``."""
        return self._access.sees(principal, place)

    def charge(self, principal: Principal, table: TableId, events: int, size: int) -> Charge:
        """Take from the quotas of the key and of the table; QuotaError when they are used up."""
        return self._access.charge(principal, table, events, size)

    def record(
        self, principal: Principal, act: str, place: TableId | Resource, detail: str = ""
    ) -> None:
        """Note an administrative act in the audit."""
        self._access.record(principal, act, place, detail)

    def withdraw(self, principal: Principal, place: TableId | Resource) -> None:
        """End the grants on what is about to be dropped."""
        self._access.withdraw(principal, place)

    def policy_of(self, place: TableId | Resource) -> Policy:
        """Return the bindings on exactly this resource."""
        return self._access.policy_of(place)

    def set_policy(
        self,
        principal: Principal,
        place: TableId | Resource,
        bindings: Sequence[Binding],
        etag: str,
    ) -> Policy:
        """Replace the bindings on exactly this resource; needs ADMINISTER there."""
        self._access.require(principal, Action.ADMINISTER, place)
        return self._access.set_policy(principal, place, bindings, etag)

    def permitted(
        self, principal: Principal, place: TableId | Resource, permissions: Sequence[str]
    ) -> list[str]:
        """Return which of BigQuery's permissions are held there."""
        return self._access.permitted(principal, place, permissions)
