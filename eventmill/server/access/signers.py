"""Bearer tokens that service accounts sign themselves, each verified once and then remembered."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace

from eventmill.server.access.assertion import Signed, read_self_signed
from eventmill.server.access.errors import CredentialsError
from eventmill.server.access.principal import Principal
from eventmill.server.access.scopes import actions_of_scopes
from eventmill.server.access.snapshot import Account, Snapshot, secret_hash

REMEMBERED_MAX = 4_096
"""Tokens that are remembered; a client signs a new one each hour."""


@dataclass(frozen=True, slots=True)
class _Known:
    signed: Signed
    principal: Principal


class Signers:
    """Says whose signature a token has. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[bytes, _Known] = {}

    def principal_of(self, bearer: str, snapshot: Snapshot, now: float) -> Principal:
        """Return the service account that has signed ``bearer``, as ``snapshot`` knows it.

        Raises:
            CredentialsError: the signature does not hold, or not any more.
        """
        digest = secret_hash(bearer)
        known = self._known.get(digest)
        account = snapshot.accounts.get(known.signed.account.key.email) if known else None
        if known is None or account is None or account.key.id != known.signed.account.key.id:
            known = self._remember(digest, read_self_signed(bearer, snapshot, now))
        elif account is not known.signed.account:  # the same key; its grants may have changed
            known = self._remember(digest, replace(known.signed, account=account))
        key = known.signed.account.key
        if known.signed.expires_at <= now:
            raise CredentialsError(
                "expired", "the signed token has expired: sign a new one", name=key.name
            )
        if key.expires_at is not None and key.expires_at <= now:
            raise CredentialsError("expired", f"the key {key.name!r} has expired", name=key.name)
        return known.principal

    def _remember(self, digest: bytes, signed: Signed) -> _Known:
        known = _Known(signed, scoped_principal(signed.account, signed.scope))
        with self._lock:
            self._known.pop(digest, None)
            self._known[digest] = known
            while len(self._known) > REMEMBERED_MAX:
                del self._known[next(iter(self._known))]  # the one remembered longest ago
        return known


def scoped_principal(account: Account, scope: str) -> Principal:
    """Return the principal of an account, as far as a token's scopes let it go."""
    return replace(account.principal, scope_actions=actions_of_scopes(scope))
