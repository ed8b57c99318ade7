"""The words of a permission: actions, roles, and what a role is granted on.

Pure values; the decision over them is ``principal.Principal.may``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from eventmill.base.errors import UsageError
from eventmill.schema.table import DEFAULT_PROJECT, TableId
from eventmill.wire.keys import GrantText


class Action(StrEnum):
    """What a request wants to do with a table, a dataset or the server."""

    APPEND = "append"
    """Store events: ingest, insertAll, a load job's target, a report to quarantine."""
    READ = "read"
    """See rows or how many there are: query, stats, tabledata.list."""
    DESCRIBE = "describe"
    """See that it exists, and its definition."""
    APPLY = "apply"
    """Create or change the definition of a table or dataset."""
    DROP = "drop"
    """Remove a table or dataset with its rows."""
    REPLACE = "replace"
    """Put a workflow's rows in the place of those that it made before."""
    REPLAY = "replay"
    """Put rejected events of a table again."""
    DISCARD = "discard"
    """Remove rejected events of a table from quarantine."""
    MONITOR = "monitor"
    """See the server's metrics, which name every table."""
    ADMINISTER = "administer"
    """Make, list and revoke keys; read and set policies."""


class Role(StrEnum):
    """What a key is granted; each one on a resource."""

    APPENDER = "appender"
    """Write-only: stores events, and sees the definition that it has to encode them by."""
    READER = "reader"
    EDITOR = "editor"
    """Reads and appends, makes and drops tables, decides about rejected events."""
    ADMIN = "admin"


ROLE_ACTIONS: Mapping[Role, frozenset[Action]] = {
    Role.APPENDER: frozenset({Action.APPEND, Action.DESCRIBE}),
    Role.READER: frozenset({Action.READ, Action.DESCRIBE, Action.MONITOR}),
    Role.EDITOR: frozenset(Action) - {Action.ADMINISTER},
    Role.ADMIN: frozenset(Action),
}
"""What each role allows on its resource and on everything below that."""


def roles_allowing(action: Action) -> list[Role]:
    """Return the roles that allow ``action``, the smallest first."""
    return [role for role, actions in ROLE_ACTIONS.items() if action in actions]


@dataclass(frozen=True, slots=True, order=True)
class Resource:
    """Everything, a project, a dataset or a table."""

    path: tuple[str, ...] = ()
    """() for everything, else (project,), (project, dataset) or (project, dataset, table)."""

    @classmethod
    def of(cls, place: Place) -> Resource:
        """Return the resource that a table is; a resource is returned as it is."""
        if isinstance(place, TableId):
            return cls((place.project, place.dataset, place.table))
        return place

    @classmethod
    def dataset(cls, dataset: str, project: str = DEFAULT_PROJECT) -> Resource:
        """Return a dataset."""
        return cls((project, dataset))

    @classmethod
    def project(cls, project: str) -> Resource:
        """Return a project."""
        return cls((project,))

    @classmethod
    def parse(cls, text: str) -> Resource:
        """Read ``*``, ``PROJECT.*.*``, ``[PROJECT.]DATASET.*`` or ``[PROJECT.]DATASET.TABLE``.

        Raises:
            UsageError: the text is none of these.
        """
        text = text.strip()
        if text == "*":
            return EVERYTHING
        stem = text
        while stem.endswith(".*"):
            stem = stem[:-2]
        stars = (len(text) - len(stem)) // 2
        try:
            # The rules for names are those of a table; a star stands where anything may.
            table = TableId.parse(stem + "._" * stars)
        except UsageError as error:
            raise UsageError(
                f"{text!r} is nothing that a role can be granted on ({error}): write"
                " DATASET.TABLE, DATASET.*, PROJECT.DATASET.TABLE, PROJECT.DATASET.*,"
                " PROJECT.*.* or * for everything"
            ) from None
        return cls((table.project, table.dataset, table.table)[: 3 - stars])

    def __str__(self) -> str:
        if not self.path:
            return "*"
        return ".".join((*self.path, *("*" for _ in range(3 - len(self.path)))))

    def covers(self, other: Resource) -> bool:
        """Tell whether ``other`` is this resource or lies in it."""
        return other.path[: len(self.path)] == self.path


Place: TypeAlias = TableId | Resource
"""What a permission is asked for."""
EVERYTHING = Resource()
"""All projects, and the server itself."""


@dataclass(frozen=True, slots=True)
class Grant:
    """One role on one resource, for good or until a moment."""

    role: Role
    resource: Resource
    expires_at: float | None = None
    """Seconds since 1970; None: never."""

    @classmethod
    def of(cls, text: GrantText) -> Grant:
        """Read a grant as it is written; UsageError when its role or resource is none."""
        try:
            role = Role(text.role)
        except ValueError:
            raise UsageError(
                f"{text.role!r} is not a role; the roles are {', '.join(Role)}"
            ) from None
        return cls(role, Resource.parse(text.resource), text.expires_at)

    @property
    def text(self) -> GrantText:
        """The grant as it is written."""
        return GrantText(str(self.role), str(self.resource), self.expires_at)

    def is_live(self, now: float) -> bool:
        """Tell whether the grant holds at ``now``."""
        return self.expires_at is None or now < self.expires_at

    def __str__(self) -> str:
        return f"{self.role}:{self.resource}"
