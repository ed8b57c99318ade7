"""What a service account signs: an assertion for a token, or a bearer token of its own.

The signature is PyJWT's work, with RS256 and the account's own public key as the only choices: a
token that names another algorithm, or none, is refused before its content means anything. Time is
checked here, by the server's clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt

from eventmill.server.access.errors import CredentialsError
from eventmill.server.access.service_account import read_public_key
from eventmill.server.access.snapshot import Account, Snapshot

GOOGLE_TOKEN_URIS = (
    "https://oauth2.googleapis.com/token",
    "https://www.googleapis.com/oauth2/v4/token",
    "https://accounts.google.com/o/oauth2/token",
)
"""Audiences that Google's libraries write into an assertion, whatever the key file's token_uri."""
GOOGLE_SERVICES = ("https://bigquery.googleapis.com/", "https://bigquerystorage.googleapis.com/")
"""Audiences that they write into a token that they sign themselves (google.aip.dev/auth/4111)."""
LIFETIME_SECONDS_MAX = 3_600
SKEW_SECONDS = 60.0
"""By how much the clocks of two machines may differ."""
_ALGORITHM = "RS256"


@dataclass(frozen=True, slots=True)
class Signed:
    """A signature that holds."""

    account: Account
    scope: str
    expires_at: float


def read_assertion(text: str, snapshot: Snapshot, now: float) -> Signed:
    """Check an assertion for a token (RFC 7523).

    Raises:
        CredentialsError: it does not hold; the message says why and holds none of it.
    """
    account, claims = _signed(text, snapshot)
    _check_audience(claims, (*GOOGLE_TOKEN_URIS, account.key.token_uri))
    if "target_audience" in claims:
        raise CredentialsError("wrong_kind", "this server gives no ID tokens, only access tokens")
    if claims.get("sub", account.key.email) != account.key.email:
        raise CredentialsError("wrong_subject", "a service account cannot act for somebody else")
    return _timely(account, claims, now)


def read_self_signed(text: str, snapshot: Snapshot, now: float) -> Signed:
    """Check a bearer token that a service account has signed itself.

    Raises:
        CredentialsError: it does not hold.
    """
    account, claims = _signed(text, snapshot)
    if "aud" in claims or not claims.get("scope"):
        own = account.key.token_uri.removesuffix("token")
        _check_audience(claims, (*GOOGLE_SERVICES, own, own.rstrip("/")))
    return _timely(account, claims, now)


def _signed(text: str, snapshot: Snapshot) -> tuple[Account, Mapping[str, Any]]:
    """Return whose signature it is, and what is signed."""
    try:
        header = jwt.get_unverified_header(text)
        # Only the name of whoever claims to have signed it; his key then decides.
        claimed = jwt.decode(text, options={"verify_signature": False}).get("iss")
    except (jwt.InvalidTokenError, ValueError, RecursionError):
        raise CredentialsError("malformed", "the signed token cannot be read") from None
    account = snapshot.accounts.get(claimed) if isinstance(claimed, str) else None
    if account is None:
        raise CredentialsError(
            "unknown",
            "no service account of this server has signed this token: the key was revoked, or the"
            " key file is another server's",
        )
    key = account.key
    if header.get("alg") != _ALGORITHM:
        raise CredentialsError(
            "wrong_algorithm", f"a token must be signed with {_ALGORITHM}", name=key.name
        )
    if header.get("kid", key.public_key_id) != key.public_key_id:
        raise CredentialsError(
            "wrong_key_id",
            f"the token is signed with another key file than the live one of {key.name!r}",
            name=key.name,
        )
    try:
        claims = jwt.decode(
            text,
            read_public_key(key.public_key),
            algorithms=[_ALGORITHM],
            options={
                "require": ["iss", "iat", "exp"],
                "verify_signature": True,
                "verify_exp": False,
                "verify_iat": False,
                "verify_nbf": False,
                "verify_aud": False,
                "verify_sub": False,
                "verify_jti": False,
            },
        )
    except jwt.MissingRequiredClaimError as error:
        raise CredentialsError("malformed", f"the signed token lacks {error.claim}") from None
    except jwt.InvalidTokenError:
        raise CredentialsError(
            "wrong_signature",
            "the signature is not that of the service account's key",
            name=key.name,
        ) from None
    return account, claims


def _check_audience(claims: Mapping[str, Any], allowed: tuple[str, ...]) -> None:
    if claims.get("aud") not in [audience for audience in allowed if audience]:
        raise CredentialsError(
            "wrong_audience",
            f"the token is meant for another service; its aud must be {' or '.join(allowed)}",
        )


def _timely(account: Account, claims: Mapping[str, Any], now: float) -> Signed:
    name = account.key.name
    issued_at, expires_at = claims["iat"], claims["exp"]
    for moment in (issued_at, expires_at, claims.get("nbf", issued_at)):
        if isinstance(moment, bool) or not isinstance(moment, (int, float)):
            raise CredentialsError("malformed", "iat and exp must be seconds since 1970")
    if max(issued_at, claims.get("nbf", issued_at)) > now + SKEW_SECONDS:
        raise CredentialsError(
            "not_yet_valid",
            f"the token is from the future: the clocks differ by more than {SKEW_SECONDS:g} s",
            name=name,
        )
    if expires_at <= now - SKEW_SECONDS:
        raise CredentialsError("expired", "the signed token has expired: sign a new one", name=name)
    if not issued_at < expires_at <= issued_at + LIFETIME_SECONDS_MAX + SKEW_SECONDS:
        raise CredentialsError(
            "too_long", f"a token may live {LIFETIME_SECONDS_MAX} s at most", name=name
        )
    if account.key.expires_at is not None and account.key.expires_at <= now:
        raise CredentialsError("expired", f"the key {name!r} has expired", name=name)
    scope = claims.get("scope")
    return Signed(account, scope if isinstance(scope, str) else "", float(expires_at))
