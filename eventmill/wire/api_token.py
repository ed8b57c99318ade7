"""API tokens as text: ``em_``, 32 random bytes in base 62, and a checksum.

The prefix lets scanners of repositories and logs recognise a token that has got where it should
not be; the checksum lets a program say that a token was mistyped or cut short without asking any
server. Neither says whether a server knows the token.
"""

from __future__ import annotations

import re
import zlib

TOKEN_PREFIX = "em_"  # noqa: S105 - what every token begins with
TOKEN_BYTES = 32
"""Random bytes in a token: 256 bits, which nobody guesses however long they try."""

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BODY_LENGTH = 43  # 62 ** 43 > 2 ** 256
_CHECK_LENGTH = 6  # 62 ** 6 > 2 ** 32
_LENGTH = len(TOKEN_PREFIX) + _BODY_LENGTH + _CHECK_LENGTH
TOKEN_PATTERN = re.compile(
    rf"(?<![0-9A-Za-z_]){TOKEN_PREFIX}[0-9A-Za-z]{{{_BODY_LENGTH + _CHECK_LENGTH}}}(?![0-9A-Za-z])"
)
"""Finds tokens in a longer text."""


def token_of(secret: bytes) -> str:
    """Return the token that stands for 32 random bytes."""
    if len(secret) != TOKEN_BYTES:
        raise ValueError(f"a token is made of {TOKEN_BYTES} bytes, not {len(secret)}")
    body = TOKEN_PREFIX + _base62(int.from_bytes(secret, "big"), _BODY_LENGTH)
    return body + _checksum(body)


def token_fault(text: str) -> str:
    """Return what is wrong with a text that should be a token; empty when it is well-formed.

    The answer never holds any of the text.
    """
    if not text.startswith(TOKEN_PREFIX):
        return f"it does not begin with {TOKEN_PREFIX}"
    if len(text) != _LENGTH:
        return f"it has {len(text)} characters, a token has {_LENGTH}: was all of it copied?"
    if any(letter not in _DIGITS for letter in text[len(TOKEN_PREFIX) :]):
        return "it holds a character that is neither a letter nor a digit"
    if _checksum(text[:-_CHECK_LENGTH]) != text[-_CHECK_LENGTH:]:
        return "its checksum does not fit: a character is wrong"
    return ""


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECK_LENGTH)


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, len(_DIGITS))
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))
