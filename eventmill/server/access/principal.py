"""Who calls, and the one decision over it: whether this principal may do that there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from eventmill.schema.table import TableId
from eventmill.server.access.roles import (
    EVERYTHING,
    ROLE_ACTIONS,
    Action,
    Grant,
    Place,
    Resource,
    Role,
)
from eventmill.store.quarantine import OWN_DATASET

AUDIT_TABLE_NAME = "audit"
"""Table of the own dataset that only an admin reads, or whoever is granted it by name."""


class PrincipalKind(StrEnum):
    """By what a principal is known."""

    ANONYMOUS = "anonymous"
    """By nothing: no key has ever been made, and the server is open to its own machine."""
    TOKEN = "token"  # noqa: S105 - the name of a kind
    SERVICE_ACCOUNT = "service_account"
    FOLDER = "folder"
    """By being able to read the data folder of a running server as its owner."""


@dataclass(frozen=True, slots=True)
class Quota:
    """How much a key may append; None: as much as it likes."""

    events_per_second: float | None = None
    bytes_per_day: int | None = None


NO_QUOTA = Quota()


@dataclass(frozen=True, slots=True)
class Principal:
    """Whoever a request comes from. One object for all requests of a key; immutable."""

    name: str
    kind: PrincipalKind
    grants: tuple[Grant, ...]
    email: str = ""
    """As policies name it, ``NAME@PROJECT.iam.eventmill.local``; empty where there is no key."""
    key_id: int = 0
    """Names the key for good; 0 where there is none."""
    quota: Quota = NO_QUOTA
    scope_actions: frozenset[Action] | None = None
    """What the scopes of an OAuth token leave of the grants; None: all of it."""
    _held: Mapping[tuple[str, ...], tuple[Grant, ...]] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        held: dict[tuple[str, ...], tuple[Grant, ...]] = {}
        for grant in self.grants:
            held[grant.resource.path] = (*held.get(grant.resource.path, ()), grant)
        object.__setattr__(self, "_held", held)

    def may(self, action: Action, place: Place, now: float) -> bool:
        """Decide whether the principal may do ``action`` at ``place``; the only place that does.

        The tables that the store keeps about itself hold what concerns every project: grants on
        a project do not reach them, and the audit is an admin's unless it is granted by name.

        Args:
            action: what is asked for.
            place: a table, a dataset, a project, or ``EVERYTHING`` for the server itself.
            now: seconds since 1970.
        """
        if self.scope_actions is not None and action not in self.scope_actions:
            return False
        if isinstance(place, TableId):
            path: tuple[str, ...] = (place.project, place.dataset, place.table)
        else:
            path = place.path
        is_own = len(path) > 1 and path[1] == OWN_DATASET
        for length in range(len(path) + 1):
            if is_own and length == 1:
                continue
            for grant in self._held.get(path[:length], ()):
                if action not in ROLE_ACTIONS[grant.role] or not grant.is_live(now):
                    continue
                if is_own and not length and path[2:] == (AUDIT_TABLE_NAME,):
                    if grant.role is Role.ADMIN:
                        return True
                    continue
                return True
        return False

    def may_everywhere(self, action: Action, now: float) -> bool:
        """Tell whether no table is closed to ``action``, so that none need be looked at."""
        audit = TableId("local", OWN_DATASET, AUDIT_TABLE_NAME)
        return self.may(action, EVERYTHING, now) and self.may(action, audit, now)

    def may_somewhere(self, action: Action, now: float) -> bool:
        """Tell whether there is anything at all that ``action`` is allowed on."""
        return any(self.may(action, grant.resource, now) for grant in self.grants)

    def sees(self, place: Place, now: float) -> bool:
        """Tell whether ``place`` may be listed: it, or anything in it, may be described."""
        if self.may(Action.DESCRIBE, place, now):
            return True
        resource = Resource.of(place)
        return any(
            resource.covers(grant.resource) and self.may(Action.DESCRIBE, grant.resource, now)
            for grant in self.grants
        )


ANONYMOUS = Principal("anonymous", PrincipalKind.ANONYMOUS, (Grant(Role.ADMIN, EVERYTHING),))
"""Everybody, as long as no key has been made: a server that answers its own machine alone."""

NOBODY = Principal("nobody", PrincipalKind.ANONYMOUS, ())
"""Whoever calls what needs no key, on a server that needs one for everything else."""
