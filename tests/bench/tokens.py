"""Tokens for the rows that connect where they are required: signed before the row begins, by a key of the bench's own.

EdDSA, as a web application would sign them; the gateway reads the public key from a file, once.
"""

import json
import time
from base64 import urlsafe_b64encode
from functools import cache
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

_HOUR: Final = 3600


@cache
def _key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


def write_public_key(path: Path) -> None:
    """The key that the gateway checks by, as PEM."""
    path.write_bytes(_key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def write_tokens(path: Path, count: int, users: int) -> None:
    """`count` tokens, a line each, for `users` users in turn; no two are the same."""
    head = _part({"alg": "EdDSA", "typ": "JWT"})
    now = int(time.time())
    lines = []
    for number in range(count):
        claims = {"sub": f"u{number % users}", "jti": f"t{number}", "iat": now, "exp": now + _HOUR}
        signed = head + b"." + _part(claims)
        lines.append(signed + b"." + _encoded(_key().sign(signed)))
    path.write_bytes(b"\n".join(lines))


def _part(value: object) -> bytes:
    return _encoded(json.dumps(value, separators=(",", ":")).encode())


def _encoded(raw: bytes) -> bytes:
    return urlsafe_b64encode(raw).rstrip(b"=")
