"""Keys: what files and answers may hold, and which key may check what."""

import json

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from service.tokens.keys import MAX_KEYS, BadKey, public_keys, secret_key

from .signing import SECRET, jwk, public_pem


def test_pem_blocks_one_after_another() -> None:
    ring = public_keys(b"# ours\n" + public_pem("RS256") + b"\n\n" + public_pem("Ed25519") + public_pem("ES384"))
    assert len(ring) == 3
    assert [len(ring.candidates(name, None)) for name in ("RS256", "PS512", "Ed25519", "ES384", "ES256", "HS256")] == [
        1,
        1,
        1,
        1,
        0,
        0,
    ]


def test_a_jwk_and_a_jwks() -> None:
    assert len(public_keys(json.dumps(jwk("ES256", kid="a")).encode())) == 1
    ring = public_keys(json.dumps({"keys": [jwk("ES256", kid="a"), jwk("RS256", kid="b", alg="RS256")]}).encode())
    assert ring.knows("a")
    assert len(ring.candidates("RS256", "b")) == 1
    # A key that says its algorithm serves no other.
    assert ring.candidates("PS256", "b") == []
    # A key id names one key, and no other is tried in its place.
    assert ring.candidates("ES256", "b") == []


def test_what_is_of_no_use_takes_nothing_from_the_rest() -> None:
    keys = [
        {"kty": "oct", "k": "c2VjcmV0", "kid": "secret"},
        {"kty": "EC", "crv": "P-256", "x": "??", "y": "!!", "kid": "broken"},
        {"kty": "OKP", "crv": "X25519", "x": "AAAA", "kid": "exchange"},
        {"kty": "new"},
        "text",
        jwk("ES256", kid="encryption", use="enc"),
        jwk("ES256", kid="good"),
    ]
    ring = public_keys(json.dumps({"keys": keys}).encode())
    assert ring.knows("good")
    assert not ring.knows("encryption")
    assert not ring.knows("secret")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"<html>login</html>",
        b"[]",
        b"{}",
        b'{"keys":{}}',
        b'{"keys":[]}',
        b"\xff\xfe",
        b"[" * 100_000,
        b"-----BEGIN X-----",
    ],
)
def test_nothing_usable(text: bytes) -> None:
    with pytest.raises(BadKey):
        public_keys(text)


def test_weak_keys_are_refused() -> None:
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key()
    with pytest.raises(BadKey, match="1024 bits"):
        public_keys(weak.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(BadKey, match="32 bytes") as refused:
        secret_key("too-short-secret")
    assert "too-short-secret" not in str(refused.value)
    assert len(secret_key(SECRET)) == 1


def test_too_many_keys() -> None:
    with pytest.raises(BadKey, match="at most"):
        public_keys(json.dumps({"keys": [jwk("Ed25519", kid=str(n)) for n in range(MAX_KEYS + 1)]}).encode())
