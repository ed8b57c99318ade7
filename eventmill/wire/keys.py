"""Keys as they cross the hop: what is asked for, what is told, and never a secret but once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from eventmill.base.clock import utc_datetime
from eventmill.base.errors import UsageError
from eventmill.schema.table import DEFAULT_PROJECT

# An e-mail address's local part, a file's name and one step of a URL's path at the same time.
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_PROJECT = re.compile(r"[a-z][a-z0-9-]{0,61}[a-z0-9]")
EMAIL_DOMAIN = "iam.eventmill.local"
"""Ends the e-mail address of every key, as policies name it."""
_OWNER_LENGTH_MAX = 200
_FACTS_TEXTS = ("name", "kind", "email", "owner", "created_by", "state")


class KeyKind(StrEnum):
    """What a key is, in the hand of whoever has it."""

    TOKEN = "token"  # noqa: S105 - the name of a kind
    SERVICE_ACCOUNT = "service_account"


@dataclass(frozen=True, slots=True)
class GrantText:
    """One role on one resource, as it is written: ``ROLE:RESOURCE``, with or without an end."""

    role: str
    resource: str
    expires_at: float | None = None

    def __str__(self) -> str:
        until = "" if self.expires_at is None else f" until {utc_datetime(self.expires_at):%F %R}Z"
        return f"{self.role}:{self.resource}{until}"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyWish:
    """A key that somebody wants."""

    name: str
    grants: tuple[GrantText, ...]
    kind: KeyKind = KeyKind.TOKEN
    owner: str = ""
    project: str = DEFAULT_PROJECT
    """Of the service account's e-mail address; what the key may do is in its grants alone."""
    expires_at: float | None = None
    """Seconds since 1970; None: never."""
    events_per_second: float | None = None
    bytes_per_day: int | None = None
    public_key: str = ""
    """PEM of a service account's public key. The private one is made where it will be used, and
    crosses no wire."""
    public_key_id: str = ""
    token_uri: str = ""
    """Address at which the service account asks for tokens."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise UsageError(
                f"{self.name!r} is not a name for a key: use 1-63 lower-case letters, digits and"
                " hyphens, starting with a letter"
            )
        if not _PROJECT.fullmatch(self.project):
            raise UsageError(f"project {self.project!r}: use 2-63 lower-case letters, digits, -")
        if not self.grants:
            raise UsageError("a key without a role can do nothing: give at least one grant")
        if len(self.owner) > _OWNER_LENGTH_MAX or not self.owner.isprintable():
            raise UsageError(f"the owner must be one line of at most {_OWNER_LENGTH_MAX} letters")
        for word, amount in (
            ("events_per_second", self.events_per_second),
            ("bytes_per_day", self.bytes_per_day),
        ):
            if amount is not None and not amount > 0:
                raise UsageError(f"{word} {amount!r} must be above 0; leave it out for no limit")

    def to_json(self) -> dict[str, Any]:
        """Return the wish in JSON's types, without what is not given."""
        document: dict[str, Any] = {
            "name": self.name,
            "kind": str(self.kind),
            "owner": self.owner,
            "project": self.project,
            "grants": [_grant_to_json(grant) for grant in self.grants],
            "expires_at": self.expires_at,
            "events_per_second": self.events_per_second,
            "bytes_per_day": self.bytes_per_day,
            "public_key": self.public_key,
            "public_key_id": self.public_key_id,
            "token_uri": self.token_uri,
        }
        return {word: value for word, value in document.items() if value not in (None, "")}

    @classmethod
    def from_json(cls, document: object) -> KeyWish:
        """Read what ``to_json`` made; UsageError names what does not fit."""
        if not isinstance(document, dict):
            raise UsageError("the body must be a JSON object: the key that is wanted")
        unknown = document.keys() - set(cls.__slots__)
        if unknown:
            raise UsageError(f"unknown in a key: {', '.join(sorted(map(str, unknown)))}")
        grants = document.get("grants")
        if not isinstance(grants, list):
            raise UsageError('grants must be a list of {"role", "resource"}')
        try:
            kind = KeyKind(_text(document, "kind", str(KeyKind.TOKEN)))
        except ValueError:
            raise UsageError(f"kind must be {' or '.join(KeyKind)}") from None
        size = _number(document, "bytes_per_day")
        return cls(
            name=_text(document, "name"),
            kind=kind,
            owner=_text(document, "owner"),
            project=_text(document, "project", DEFAULT_PROJECT),
            grants=tuple(_grant_from_json(grant) for grant in grants),
            expires_at=_moment(document, "expires_at"),
            events_per_second=_number(document, "events_per_second"),
            bytes_per_day=None if size is None else int(size),
            public_key=_text(document, "public_key"),
            public_key_id=_text(document, "public_key_id"),
            token_uri=_text(document, "token_uri"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFacts:
    """What is told of a key; its secret is not among it, and nobody keeps that."""

    name: str
    kind: str
    email: str
    owner: str
    state: str
    """``live``, ``expired`` or ``revoked``."""
    grants: tuple[GrantText, ...]
    created_at: float
    created_by: str
    expires_at: float | None = None
    revoked_at: float | None = None
    last_used_at: float | None = None
    """To within a minute; None: never."""
    events_per_second: float | None = None
    bytes_per_day: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the facts in JSON's types; moments as RFC 3339."""
        return {
            **{word: getattr(self, word) for word in _FACTS_TEXTS},
            "grants": [_grant_to_json(grant) for grant in self.grants],
            "created_at": _moment_text(self.created_at),
            "expires_at": _moment_text(self.expires_at),
            "revoked_at": _moment_text(self.revoked_at),
            "last_used_at": _moment_text(self.last_used_at),
            "events_per_second": self.events_per_second,
            "bytes_per_day": self.bytes_per_day,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> KeyFacts:
        """Read what ``to_json`` made; UsageError when it is none."""
        size = _number(document, "bytes_per_day")
        return cls(
            **{word: _text(document, word) for word in _FACTS_TEXTS},
            grants=tuple(_grant_from_json(grant) for grant in document.get("grants") or ()),
            created_at=_moment(document, "created_at") or 0.0,
            expires_at=_moment(document, "expires_at"),
            revoked_at=_moment(document, "revoked_at"),
            last_used_at=_moment(document, "last_used_at"),
            events_per_second=_number(document, "events_per_second"),
            bytes_per_day=None if size is None else int(size),
        )


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that has just been made: the one moment at which its secret is known."""

    facts: KeyFacts
    token: str
    """The API token; empty for a service account, whose secret was made elsewhere."""
    is_first: bool
    """Whether the server was open to everybody on its machine until now."""


def _grant_to_json(grant: GrantText) -> dict[str, Any]:
    document = {"role": grant.role, "resource": grant.resource}
    if grant.expires_at is not None:
        document["expires_at"] = _moment_text(grant.expires_at) or ""
    return document


def _grant_from_json(document: object) -> GrantText:
    if not isinstance(document, dict):
        raise UsageError('a grant is {"role": "reader", "resource": "ops.*"}')
    return GrantText(
        _text(document, "role"), _text(document, "resource"), _moment(document, "expires_at")
    )


def _text(document: Mapping[str, Any], word: str, default: str = "") -> str:
    value = document.get(word, default)
    if not isinstance(value, str):
        raise UsageError(f"{word} must be a text, not {value!r}")
    return value


def _number(document: Mapping[str, Any], word: str) -> float | None:
    value = document.get(word)
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
        raise UsageError(f"{word} must be a number, not {value!r}")
    return value


def _moment(document: Mapping[str, Any], word: str) -> float | None:
    """Read a moment: seconds since 1970, or RFC 3339."""
    value = document.get(word)
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            raise UsageError(f"{word} {value!r} is not a moment such as 2027-01-31T00:00:00Z")
        return moment.timestamp()
    return _number(document, word)


def _moment_text(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return utc_datetime(seconds).isoformat(timespec="milliseconds").replace("+00:00", "Z")
