"""Keys and grants as the server holds them in memory: looked up in microseconds, never changed.

When ``access.db`` changes, a new snapshot takes the place of the old one.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from eventmill.base.errors import UsageError
from eventmill.server.access.database import AccessDatabase, AccessTokenRow, KeyRow
from eventmill.server.access.principal import NO_QUOTA, Principal, PrincipalKind, Quota
from eventmill.server.access.roles import Grant
from eventmill.server.access.scopes import actions_of_scopes
from eventmill.wire.keys import GrantText, KeyKind

EVERY_KEY = "allAuthenticatedUsers"
"""The member of a grant that holds for every key."""
_START_BYTES = 8


def secret_hash(secret: str) -> bytes:
    """Return the SHA-256 by which a token is kept.

    A token is 256 random bits, so that there is nothing to guess and a slow or salted hash, which
    protects what people choose for themselves, would only make each request slower.
    """
    return hashlib.sha256(secret.encode()).digest()


@dataclass(frozen=True, slots=True)
class Credential:
    """One token that stands for a principal."""

    secret_hash: bytes
    principal: Principal
    expires_at: float | None = None
    is_revoked: bool = False


@dataclass(frozen=True, slots=True)
class Account:
    """One live service account."""

    key: KeyRow
    principal: Principal


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All keys at one moment."""

    is_required: bool
    """Whether there has ever been a key."""
    accounts: Mapping[str, Account]
    """Service accounts that are not revoked, by e-mail address."""
    _by_start: Mapping[bytes, Sequence[Credential]] = field(default_factory=dict)

    def find(self, digest: bytes) -> Credential | None:
        """Return the token that has this hash; None: there is none.

        The first bytes find the place, the whole is compared in constant time: how long an answer
        takes says nothing about how near a guess came.
        """
        for credential in self._by_start.get(digest[:_START_BYTES], ()):
            if hmac.compare_digest(credential.secret_hash, digest):
                return credential
        return None

    def with_tokens(self, tokens: Iterable[AccessTokenRow]) -> Snapshot:
        """Return a snapshot that knows more short-lived tokens."""
        accounts = {account.key.id: account for account in self.accounts.values()}
        found = [
            _access_credential(token, accounts[token.key_id])
            for token in tokens
            if token.key_id in accounts
        ]
        return replace(self, _by_start=_indexed(found, self._by_start))


NO_KEYS = Snapshot(False, {})


def load_snapshot(database: AccessDatabase, now: float) -> tuple[int, Snapshot]:
    """Return the revision of the file, and everything in it, read in one transaction."""
    with database.reading():
        revision = database.revision()
        keys = database.key_rows()
        rows = database.grant_rows()
        tokens = database.access_tokens(now)
    grants: dict[int, list[Grant]] = {}
    for_all: list[Grant] = []
    for row in rows:
        grant = read_grant(row.role, row.resource, row.expires_at)
        if grant is not None and row.key_id is not None:
            grants.setdefault(row.key_id, []).append(grant)
        elif grant is not None and row.member == EVERY_KEY:
            for_all.append(grant)
    accounts: dict[str, Account] = {}
    found: list[Credential] = []
    for key in keys:
        principal = _principal(key, [*grants.get(key.id, ()), *for_all])
        if key.secret_hash is not None:
            is_revoked = key.revoked_at is not None
            found.append(Credential(key.secret_hash, principal, key.expires_at, is_revoked))
        elif key.revoked_at is None:
            accounts[key.email] = Account(key, principal)
    snapshot = Snapshot(bool(keys), accounts, _indexed(found, {}))
    return revision, snapshot.with_tokens(tokens)


def read_grant(role: str, resource: str, expires_at: float | None) -> Grant | None:
    """Return a stored grant; None for one that this version has no words for, which allows none."""
    try:
        return Grant.of(GrantText(role, resource, expires_at))
    except UsageError:
        return None


def _principal(key: KeyRow, grants: Iterable[Grant]) -> Principal:
    is_token = key.kind == KeyKind.TOKEN
    quota = Quota(key.events_per_second, key.bytes_per_day)
    return Principal(
        name=key.name,
        kind=PrincipalKind.TOKEN if is_token else PrincipalKind.SERVICE_ACCOUNT,
        grants=tuple(grants),
        email=key.email,
        key_id=key.id,
        quota=NO_QUOTA if quota == NO_QUOTA else quota,
    )


def _access_credential(token: AccessTokenRow, account: Account) -> Credential:
    """Return a short-lived token's credential, which outlives neither itself nor its key."""
    ends = [end for end in (token.expires_at, account.key.expires_at) if end is not None]
    scoped = replace(account.principal, scope_actions=actions_of_scopes(token.scope))
    return Credential(token.secret_hash, scoped, min(ends))


def _indexed(
    found: Iterable[Credential], known: Mapping[bytes, Sequence[Credential]]
) -> dict[bytes, Sequence[Credential]]:
    by_start = dict(known)
    for credential in found:
        start = credential.secret_hash[:_START_BYTES]
        by_start[start] = (*by_start.get(start, ()), credential)
    return by_start
