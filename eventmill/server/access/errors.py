"""Refusals that are this room's own; the ones that clients meet too are in ``base.errors``."""

from __future__ import annotations

from eventmill.base.errors import AccessError, PermanentError, UnauthenticatedError
from eventmill.server.access.roles import Action, Resource, roles_allowing


class CredentialsError(UnauthenticatedError):
    """A request's credentials are not there, or do not hold (HTTP 401).

    The message never holds any part of what was sent.
    """

    def __init__(self, reason: str, message: str, *, name: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        """One of a closed list, such as ``expired``, for the audit."""
        self.name = name
        """Of the key, where it is known for certain."""
        self.facts = {"reason": reason}


class ForbiddenError(AccessError):
    """The key is known, and does not allow the call (HTTP 403)."""

    def __init__(self, name: str, action: Action, resource: Resource) -> None:
        roles = roles_allowing(action)
        super().__init__(
            f"the key {name!r} may not {_VERBS[action]} {_shown(resource)}: that needs the role"
            f" {' or '.join(roles)} there; whoever administers the server makes a key that has it"
            f" by `eventmill key create NAME --grant '{roles[0]}:{resource}'`"
        )
        self.action = action
        self.resource = resource
        self.facts = {"action": str(action), "resource": str(resource), "role": str(roles[0])}


class PolicyConflictError(PermanentError):
    """A policy has changed since the caller read it: read it again, change that (HTTP 409)."""


_VERBS = {
    Action.APPEND: "append to",
    Action.READ: "read",
    Action.DESCRIBE: "see",
    Action.APPLY: "make or change",
    Action.DROP: "drop",
    Action.REPLACE: "replace rows of",
    Action.REPLAY: "replay rejected events of",
    Action.DISCARD: "discard rejected events of",
    Action.MONITOR: "watch",
    Action.ADMINISTER: "administer",
}


def _shown(resource: Resource) -> str:
    kinds = ("the server as a whole", "the project", "the dataset", "the table")
    return f"{kinds[len(resource.path)]} {resource}" if resource.path else kinds[0]
