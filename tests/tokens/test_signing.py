"""Tokens that are made hold; of those of others it is said what they claim and what a person can see is wrong."""

import base64
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from service.tokens.keys import BadKey, KeyRing, public_keys, secret_key
from service.tokens.signing import (
    NotAToken,
    NotSigned,
    default_algorithm,
    private_key,
    read_unverified,
    shared_secret,
    sign,
)
from service.tokens.tokens import MAX_TOKEN, TokenVerifier

from .signing import ALGORITHMS, NOW, SECRET, private, public_pem

CLAIMS: dict[str, object] = {"sub": "ann", "exp": NOW + 60}


def pem(kind: str) -> bytes:
    """The private key of an algorithm, as a file has it."""
    made: bytes = private(kind).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return made


@pytest.mark.parametrize("kind", [kind for kind in ALGORITHMS if kind[:2] not in ("HS", "PS")])
def test_what_is_made_with_a_private_key_holds(kind: str) -> None:
    key = private_key(pem(kind))
    made = sign(CLAIMS, key, kind, "k1")
    assert read_unverified(made, NOW).header == {"alg": kind, "typ": "JWT", "kid": "k1"}
    ring = KeyRing().with_more(public_keys(public_pem(kind)))
    assert TokenVerifier(lambda: ring, wall=lambda: NOW).verify(sign(CLAIMS, key, kind)).user_id == "ann"
    assert sign(CLAIMS, key)


def test_what_is_made_with_a_secret_holds() -> None:
    key = shared_secret(SECRET)
    assert default_algorithm(key) == "HS256"
    ring = KeyRing().with_more(secret_key(SECRET))
    assert TokenVerifier(lambda: ring, wall=lambda: NOW).verify(sign(CLAIMS, key)).user_id == "ann"
    for algorithm in ("RS256", "none", "ES256"):
        with pytest.raises(NotSigned, match="no algorithm for this kind of key"):
            sign(CLAIMS, key, algorithm)
    with pytest.raises(NotSigned, match=f"takes {MAX_TOKEN} at most"):
        sign({"sub": "x" * MAX_TOKEN}, key)


@pytest.mark.parametrize(
    "text", [b"", b"{}", b"[" * 5000, b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"]
)
def test_what_is_no_private_key(text: bytes) -> None:
    with pytest.raises(BadKey, match="no private key"):
        private_key(text)
    with pytest.raises(BadKey, match="takes the private one"):
        private_key(public_pem("ES256"))
    with pytest.raises(BadKey, match="at least"):
        shared_secret("short")


def token(header: object, claims: object, signature: str = "c2ln") -> str:
    parts = (base64.urlsafe_b64encode(msgspec.json.encode(part)).rstrip(b"=").decode() for part in (header, claims))
    return f"{'.'.join(parts)}.{signature}"


@pytest.mark.parametrize(
    ("header", "claims", "signature", "problems"),
    [
        ({"alg": "HS256"}, CLAIMS, "c2ln", []),
        ({"alg": "none"}, CLAIMS, "", ["Its alg is none that is taken", "It is not signed."]),
        ({"alg": "HS256", "crit": ["b64"]}, CLAIMS, "c2ln", ["Its header asks for an extension"]),
        ({"alg": "HS256"}, {"sub": "ann"}, "c2ln", ["It has no exp"]),
        ({"alg": "HS256"}, {"sub": "ann", "exp": NOW - 7200}, "c2ln", ["It has expired, 2 h ago."]),
        ({"alg": "HS256"}, {"sub": "ann", "exp": NOW * 1000}, "c2ln", ["Its exp is in milliseconds"]),
        ({"alg": "HS256"}, {**CLAIMS, "nbf": NOW + 90}, "c2ln", ["It is not valid yet, but in 2 min."]),
        ({"alg": "HS256"}, {**CLAIMS, "iat": NOW + 30}, "c2ln", ["It was issued in the future, in 30 s"]),
        ({"alg": "HS256"}, {**CLAIMS, "iat": True}, "c2ln", ["Its iat is no number"]),
        ({"alg": "HS256"}, {**CLAIMS, "tenant": None}, "c2ln", ["Its tenant is null: leave it out"]),
        ({"alg": "HS256"}, {**CLAIMS, "email": None}, "c2ln", []),
        ({"alg": "HS256"}, {**CLAIMS, "role": "king"}, "c2ln", ["Its role is none of"]),
        ({"alg": "HS256"}, {"exp": NOW + 1}, "c2ln", ["It names no user"]),
        ({"alg": "HS256"}, {"exp": NOW + 1, "role": "worker"}, "c2ln", []),
        ({"alg": "HS256"}, {**CLAIMS, "x": "y" * MAX_TOKEN}, "c2ln", ["It is longer than"]),
    ],
)
def test_what_can_be_seen_of_a_token(header: Any, claims: Any, signature: str, problems: list[str]) -> None:
    read = read_unverified(token(header, claims, signature), NOW)
    assert (read.header, read.claims) == (header, claims)
    assert len(read.problems) == len(problems)
    for said, expected in zip(read.problems, problems, strict=True):
        assert said.startswith(expected)


@pytest.mark.parametrize(
    "text", ["", "a", "a.b", "a.b.c.d", "a b.c.d", "e30.!.c", "W10.e30.c", "e30.bnVsbA.c", "_w.e30.c"]
)
def test_what_is_no_token_is_not_repeated(text: str) -> None:
    with pytest.raises(NotAToken) as refused:
        read_unverified(text, NOW)
    assert len(text) < 5 or text not in str(refused.value)
