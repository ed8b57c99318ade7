"""The credentials of a request: exactly one bearer token, in its header and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from eventmill.server.access.errors import CredentialsError
from eventmill.wire.api_token import TOKEN_PATTERN

Headers: TypeAlias = Iterable[tuple[bytes | str, bytes | str]]
"""ASGI's ``scope["headers"]``, or a gRPC call's metadata: names in lower case."""

BEARER_LENGTH_MAX = 8_192
"""Characters of a bearer token; a signed one of a service account has about 800."""


def bearer_of(headers: Headers) -> str:
    """Return the bearer token among ``headers``.

    Raises:
        CredentialsError: there is none, more than one, or one of another scheme.
    """
    found: bytes | str | None = None
    for name, value in headers:
        if name in (b"authorization", "authorization"):
            if found is not None:
                # Whatever stands before this server may have looked at the other one.
                raise CredentialsError("several_credentials", "send one Authorization header only")
            found = value
    if found is None:
        raise CredentialsError(
            "no_credentials",
            "this server asks for a key: send `Authorization: Bearer KEY`, which the Eventmill"
            " client does with key=... or EVENTMILL_KEY; `eventmill key create` makes one",
        )
    text = found.decode("latin-1") if isinstance(found, bytes) else found
    scheme, _, bearer = text.partition(" ")
    bearer = bearer.strip()
    if scheme.lower() != "bearer" or not bearer:
        raise CredentialsError(
            "other_scheme", "the Authorization header must read `Bearer KEY`, with no other scheme"
        )
    if len(bearer) > BEARER_LENGTH_MAX or not bearer.isascii():
        raise CredentialsError("malformed", "the bearer token is not one that this server gives")
    return bearer


def refuse_in_address(query_string: bytes) -> None:
    """Raise CredentialsError when an address carries a token.

    Addresses end in the logs of every proxy on the way and in a browser's history. The token is
    refused even where the header has another: who put it there must notice.
    """
    if not query_string:
        return
    text = query_string.decode("latin-1")
    names = (pair.partition("=")[0].lower() for pair in text.split("&"))
    if TOKEN_PATTERN.search(text) or any(name == "access_token" for name in names):
        raise CredentialsError(
            "key_in_address",
            "a key must not be part of an address, which ends in logs: send it as"
            " `Authorization: Bearer KEY`, and make a new one in place of this one",
        )
