"""``KeyRing``: making, listing and ending keys, with or without a server.

What it writes holds at once for everybody who opens the file; a running server looks at least
four times a second (``access.LOOK_SECONDS``).
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable

from eventmill.base.clock import Clock
from eventmill.base.errors import UsageError
from eventmill.server.access.audit import Act, act_id, act_to_json
from eventmill.server.access.database import AccessDatabase, GrantRow, KeyRow
from eventmill.server.access.errors import ForbiddenError
from eventmill.server.access.principal import Principal
from eventmill.server.access.roles import EVERYTHING, Action, Grant, Resource
from eventmill.server.access.service_account import email_of, read_public_key
from eventmill.server.access.snapshot import read_grant, secret_hash
from eventmill.wire.api_token import TOKEN_BYTES, token_of
from eventmill.wire.keys import GrantText, KeyFacts, KeyKind, KeyWish, NewKey

MEMBER_PREFIX = "serviceAccount:"
"""Before a key's e-mail address in a policy."""
_KEY_ID_LENGTH_MAX = 64


class KeyRing:
    """The keys of one ``access.db``, as one principal may administer them."""

    def __init__(self, database: AccessDatabase, clock: Clock, principal: Principal) -> None:
        """Prepare to administer.

        Args:
            database: where the keys are; stays the caller's.
            clock: tells the time.
            principal: who does it. Whoever administers a resource has to do with the keys whose
                grants all lie in it: nobody gives what is not theirs, nor sees or ends it.
        """
        self._database = database
        self._clock = clock
        self._principal = principal

    def create(self, wish: KeyWish) -> NewKey:
        """Make a key; the answer is the only place where an API token is ever shown.

        Raises:
            UsageError: there is a live key of that name, or the wish makes no sense.
            ForbiddenError: the principal does not administer what the key is granted.
        """
        grants = [Grant.of(text) for text in wish.grants]
        now = self._clock.now()
        for grant in grants:
            self._require(grant.resource, now)
        for end in (wish.expires_at, *(grant.expires_at for grant in grants)):
            if end is not None and not end > now:
                raise UsageError("a key or a grant that ends in the past allows nothing")
        token = self._token_for(wish)
        row = _row_of(wish, token, self._principal.name, now)
        member = MEMBER_PREFIX + row.email
        with self._database.writing():
            known = self._database.key_rows()
            if any(key.name == wish.name and key.revoked_at is None for key in known):
                raise UsageError(
                    f"there is a live key {wish.name!r}: revoke it first, or take another name and"
                    " revoke the old one when nobody uses it any more"
                )
            key_id = self._database.insert_key(row)
            self._database.insert_grants(
                [
                    GrantRow(str(g.resource), str(g.role), member, key_id, g.expires_at)
                    for g in grants
                ]
            )
            self._database.count_revision()
            told = ", ".join(str(text) for text in wish.grants)
            self._note("key_created", wish.name, told, now)
        facts = _facts(row, [grant.text for grant in grants], now)
        return NewKey(facts, token, is_first=not known)

    def all(self) -> list[KeyFacts]:
        """Return every key, revoked ones too, ascending by name and age."""
        now = self._clock.now()
        with self._database.reading():
            keys, held = self._database.key_rows(), self._grants_by_key()
        return [
            _facts(key, [grant.text for grant in held.get(key.id, ())], now)
            for key in keys
            if self._may_see(held.get(key.id, ()), now)
        ]

    def revoke(self, name: str) -> KeyFacts:
        """End the live key ``name`` for good.

        Promise: a running server refuses it within a quarter of a second, and at once when it was
        the server that was asked.

        Raises:
            UsageError: there is no such key, or none that the principal may see.
            ForbiddenError: the principal does not administer all of what the key is granted.
        """
        now = self._clock.now()
        with self._database.writing():
            held = self._grants_by_key()
            found = [
                key
                for key in self._database.key_rows()
                if key.name == name
                and key.revoked_at is None
                and self._may_see(held.get(key.id, ()), now)
            ]
            if not found:
                raise UsageError(f"there is no live key {name!r}; `eventmill key list` shows them")
            (key,) = found
            self._database.revoke_key(key.id, now)
            self._database.count_revision()
            self._note("key_revoked", name, "", now)
            (row,) = [key for key in self._database.key_rows() if key.id == found[0].id]
        return _facts(row, [grant.text for grant in held.get(row.id, ())], now)

    def _token_for(self, wish: KeyWish) -> str:
        if wish.kind is KeyKind.TOKEN:
            if wish.public_key or wish.public_key_id or wish.token_uri:
                raise UsageError("an API token has no public_key, public_key_id or token_uri")
            return token_of(secrets.token_bytes(TOKEN_BYTES))
        read_public_key(wish.public_key)
        if not wish.token_uri.startswith(("http://", "https://")):
            raise UsageError("token_uri must be the address of the server's /token")
        if not (wish.public_key_id.isalnum() and len(wish.public_key_id) <= _KEY_ID_LENGTH_MAX):
            raise UsageError(f"public_key_id must be 1-{_KEY_ID_LENGTH_MAX} letters and digits")
        return ""

    def _require(self, resource: Resource, now: float) -> None:
        if not self._principal.may(Action.ADMINISTER, resource, now):
            raise ForbiddenError(self._principal.name, Action.ADMINISTER, resource)

    def _may_see(self, grants: Iterable[Grant], now: float) -> bool:
        resources = [grant.resource for grant in grants] or [EVERYTHING]
        return all(self._principal.may(Action.ADMINISTER, place, now) for place in resources)

    def _grants_by_key(self) -> dict[int, list[Grant]]:
        held: dict[int, list[Grant]] = {}
        for row in self._database.grant_rows():
            grant = read_grant(row.role, row.resource, row.expires_at)
            if row.key_id is not None and grant is not None:
                held.setdefault(row.key_id, []).append(grant)
        return held

    def _note(self, act: str, name: str, detail: str, now: float) -> None:
        # In the transaction of the act itself: one is never there without the other.
        noted = Act(act, self._principal.name, f"key {name}", detail, now)
        self._database.insert_act(act_id(now), json.dumps(act_to_json(noted)))


def _row_of(wish: KeyWish, token: str, created_by: str, now: float) -> KeyRow:
    return KeyRow(
        id=0,
        name=wish.name,
        kind=str(wish.kind),
        project=wish.project,
        email=email_of(wish.name, wish.project),
        owner=wish.owner,
        created_at=now,
        created_by=created_by,
        expires_at=wish.expires_at,
        revoked_at=None,
        last_used_at=None,
        secret_hash=secret_hash(token) if token else None,
        public_key=wish.public_key,
        public_key_id=wish.public_key_id,
        token_uri=wish.token_uri,
        events_per_second=wish.events_per_second,
        bytes_per_day=wish.bytes_per_day,
    )


def _facts(key: KeyRow, grants: Iterable[GrantText], now: float) -> KeyFacts:
    if key.revoked_at is not None:
        state = "revoked"
    else:
        state = "expired" if key.expires_at is not None and key.expires_at <= now else "live"
    return KeyFacts(
        name=key.name,
        kind=key.kind,
        email=key.email,
        owner=key.owner,
        state=state,
        grants=tuple(grants),
        created_at=key.created_at,
        created_by=key.created_by,
        expires_at=key.expires_at,
        revoked_at=key.revoked_at,
        last_used_at=key.last_used_at,
        events_per_second=key.events_per_second,
        bytes_per_day=key.bytes_per_day,
    )
