"""Keys and tokens for tests: every kind of key once, made when it is first asked for."""

import json
from base64 import urlsafe_b64encode
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from joserfc import jws
from joserfc.jwk import ECKey, Key, OctKey, OKPKey, RSAKey

NOW = 1_800_000_000.0
SECRET = "an-example-secret-of-more-than-32-bytes!"

ALGORITHMS = ("HS256", "HS384", "HS512", "RS256", "PS256", "ES256", "ES384", "ES512", "Ed25519")


_CURVES: dict[str, ec.EllipticCurve] = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}


@cache
def private(kind: str) -> Any:
    """The private key that signs with an algorithm, as `cryptography` has it."""
    if kind[:2] in ("RS", "PS"):
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    if kind[:2] == "ES":
        return ec.generate_private_key(_CURVES[kind])
    return ed25519.Ed25519PrivateKey.generate()


def signing_key(kind: str) -> Key:
    """The same as joserfc has it; for HS the shared secret."""
    if kind[:2] == "HS":
        return OctKey.import_key(SECRET)
    pem = private(kind).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    kinds: dict[str, type[RSAKey] | type[ECKey] | type[OKPKey]] = {"RS": RSAKey, "PS": RSAKey, "ES": ECKey}
    return kinds.get(kind[:2], OKPKey).import_key(pem)


def another_key(kind: str) -> Key:
    """A key of the same kind that is not the one of `signing_key`."""
    if kind[:2] == "ES":
        return ECKey.generate_key({"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}[kind])
    return OctKey.generate_key(256) if kind[:2] == "HS" else OKPKey.generate_key("Ed25519")


def public_pem(kind: str) -> bytes:
    """The public key as a PEM block."""
    pem: bytes = private(kind).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem


def jwk(kind: str, **more: object) -> dict[str, object]:
    """The public key as a JWK."""
    return {**signing_key(kind).as_dict(private=False), **more}


def token(kind: str = "HS256", /, key: Key | None = None, header: dict[str, Any] | None = None, **claims: Any) -> str:
    """A token with these claims (user `ann`, good for a minute, unless they say otherwise; None leaves one out)."""
    body = {"sub": "ann", "exp": NOW + 60, **claims}
    text = json.dumps({name: value for name, value in body.items() if value is not None})
    return signed(kind, text.encode(), key, header)


def signed(kind: str, payload: bytes, key: Key | None = None, header: dict[str, Any] | None = None) -> str:
    """These bytes, signed."""
    registry = jws.JWSRegistry(algorithms=[kind], strict_check_header=False)
    return jws.serialize_compact({"alg": kind, **(header or {})}, payload, key or signing_key(kind), registry=registry)


def part(value: object) -> str:
    """One part of a token, made by hand."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return urlsafe_b64encode(raw).rstrip(b"=").decode()
