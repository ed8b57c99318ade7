"""Service-account key files, in the form that every Google client library reads.

The key pair is made here, where the file is written; the server gets and keeps the public half.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from functools import lru_cache

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from eventmill.base.errors import UsageError
from eventmill.wire.keys import EMAIL_DOMAIN

_KEY_BITS = 2048
_KEY_BITS_MAX = 8192
"""A larger one would let its owner make the server work for longer than it should."""
_EXPONENT = 65_537


def email_of(name: str, project: str) -> str:
    """Return the e-mail address by which policies name a key."""
    return f"{name}@{project}.{EMAIL_DOMAIN}"


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A service account's keys, as PEM, and the ID that its signatures name them by."""

    private_key: str
    public_key: str
    key_id: str


def make_key_pair() -> KeyPair:
    """Make a new RSA key of 2,048 bits."""
    private = rsa.generate_private_key(public_exponent=_EXPONENT, key_size=_KEY_BITS)
    return KeyPair(
        private_key=private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode(),
        public_key=private.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode(),
        key_id=secrets.token_hex(20),
    )


def key_file(name: str, project: str, pair: KeyPair, token_uri: str) -> dict[str, str]:
    """Return the content of a key file: with it, whoever has it is the service account."""
    return {
        "type": "service_account",
        "project_id": project,
        "private_key_id": pair.key_id,
        "private_key": pair.private_key,
        "client_email": email_of(name, project),
        "client_id": str(int(pair.key_id[:16], 16)),
        "auth_uri": token_uri.removesuffix("/token") + "/auth",
        "token_uri": token_uri,
        "universe_domain": "googleapis.com",
    }


@lru_cache(maxsize=1024)
def read_public_key(pem: str) -> rsa.RSAPublicKey:
    """Return the RSA key in ``pem``.

    Raises:
        UsageError: it is none, too short to be safe, or too long to be quick.
    """
    try:
        key = serialization.load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(f"public_key is not a public key in PEM: {error}") from error
    if not isinstance(key, rsa.RSAPublicKey):
        raise UsageError("public_key must be an RSA key")
    if not _KEY_BITS <= key.key_size <= _KEY_BITS_MAX:
        raise UsageError(
            f"public_key has {key.key_size} bits; from {_KEY_BITS:,} to {_KEY_BITS_MAX:,} are taken"
        )
    return key
