"""OAuth scopes: what a token may be used for, out of all that its service account may do."""

from __future__ import annotations

from collections.abc import Mapping

from eventmill.server.access.roles import ROLE_ACTIONS, Action, Role

_BASE = "https://www.googleapis.com/auth/"
# developers.google.com/identity/protocols/oauth2/scopes#bigquery, looked up 2026-11-24.
_SCOPE_ACTIONS: Mapping[str, frozenset[Action]] = {
    f"{_BASE}bigquery": frozenset(Action),
    f"{_BASE}cloud-platform": frozenset(Action),
    f"{_BASE}bigquery.readonly": ROLE_ACTIONS[Role.READER],
    f"{_BASE}cloud-platform.read-only": ROLE_ACTIONS[Role.READER],
    f"{_BASE}bigquery.insertdata": ROLE_ACTIONS[Role.APPENDER],
}


def actions_of_scopes(scopes: str) -> frozenset[Action] | None:
    """Return what a list of scopes allows; None: everything, as an empty list does.

    Scopes of other services allow nothing here.
    """
    if not scopes.split():
        return None
    allowed: frozenset[Action] = frozenset()
    for scope in scopes.split():
        allowed |= _SCOPE_ACTIONS.get(scope, frozenset())
    return None if allowed == frozenset(Action) else allowed


def known_scopes() -> list[str]:
    """Return every scope that allows something here."""
    return list(_SCOPE_ACTIONS)
