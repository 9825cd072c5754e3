"""Signatures by Ed25519: whatever libsodium accepts OpenSSL does too, and keys by which anybody can sign are none."""

import json
from base64 import urlsafe_b64encode
from collections.abc import Iterator

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from service.tokens import ed25519
from service.tokens.keys import BadKey, public_keys

from .edwards import BASE, EIGHTH, ORDER, ZERO, P, add, challenge, encoded, signed, times

SECRET, NONCE = 0x1234567890ABCDEF << 100, 0xFEDCBA0987654321 << 90
KEY = encoded(times(SECRET, BASE))
FIRST = encoded(times(NONCE, BASE))
TEXT = b"eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhbm4ifQ"

SMALL = [times(number, EIGHTH) for number in range(8)]
ODD = [
    (1 | 1 << 255).to_bytes(32, "little"),  # zero, of a negative x
    (1 + P).to_bytes(32, "little"),  # zero, by a number too large
    P.to_bytes(32, "little"),
    (P - 1).to_bytes(32, "little"),
    bytes(32),
    b"\xff" * 32,
]
"""Points, or none, that are not encoded in the one way, or are of small order."""


def openssl(key: bytes, text: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, text)
    except (InvalidSignature, ValueError):
        return False
    return True


def edge_cases() -> Iterator[tuple[bytes, bytes, bytes]]:
    """Keys, texts and signatures at which verifiers are known to differ."""
    good = signed(SECRET, KEY, NONCE, FIRST, TEXT)
    second = int.from_bytes(good[32:], "little")
    for more in range(1, 16):  # the second half must be below the order, or there are several of each signature
        if (number := second + more * ORDER) < 1 << 256:
            yield KEY, TEXT, FIRST + number.to_bytes(32, "little")
    for small in SMALL:
        mixed = encoded(add(times(NONCE, BASE), small))
        yield KEY, TEXT, signed(SECRET, KEY, NONCE, mixed, TEXT)
        yield KEY, TEXT, signed(SECRET, KEY, 0, encoded(small), TEXT)
        key = encoded(add(times(SECRET, BASE), small))
        for number in range(8):  # some of them have a challenge that makes the small part vanish
            text = TEXT + b"%d" % number
            yield key, text, signed(SECRET, key, NONCE, FIRST, text)
            yield encoded(small), text, FIRST + NONCE.to_bytes(32, "little")
    for odd in ODD:
        yield odd, TEXT, FIRST + NONCE.to_bytes(32, "little")
        yield KEY, TEXT, signed(SECRET, KEY, 0, odd, TEXT)
    for length in (0, 32, 63, 65, 96):
        yield KEY, TEXT, (good + good)[:length]
    yield KEY, TEXT[1:], good + TEXT[:1]
    yield KEY, good[-1:] + TEXT, good[:-1]


def test_whatever_holds_here_holds_for_openssl() -> None:
    cases = list(edge_cases())
    ours = [ed25519.check_with(key)(text, signature) for key, text, signature in cases]
    theirs = [openssl(key, text, signature) for key, text, signature in cases]
    assert [case for case, here, there in zip(cases, ours, theirs, strict=True) if here and not there] == []
    # Both are asked something: there are keys with a small part that OpenSSL takes, and ones by which anybody signs.
    assert sum(theirs) > 20
    assert sum(ours) > 5
    assert len(cases) - sum(theirs) > 0


def test_a_signature_of_an_honest_signer_holds_and_a_changed_one_does_not() -> None:
    for number in range(50):
        private = Ed25519PrivateKey.generate()
        check = ed25519.check_with(private.public_key().public_bytes_raw())
        text = TEXT * number
        signature = private.sign(text)
        assert check(text, signature)
        at = number % 64
        assert not check(text, signature[:at] + bytes([signature[at] ^ 1 << number % 8]) + signature[at + 1 :])
        assert not check(text + b".", signature)
        assert ed25519.is_sound(private.public_key().public_bytes_raw())
    assert ed25519.check_with(KEY)(TEXT, signed(SECRET, KEY, NONCE, FIRST, TEXT))
    assert challenge(FIRST, KEY, TEXT) < ORDER


@pytest.mark.parametrize("at", range(8))
def test_a_key_by_which_anybody_can_sign_is_refused(at: int) -> None:
    """No private key belongs to it, and of some texts anybody makes signatures that hold."""
    for key in (encoded(SMALL[at]), encoded(add(times(SECRET, BASE), SMALL[at]))):
        text = json.dumps({"kty": "OKP", "crv": "Ed25519", "x": urlsafe_b64encode(key).rstrip(b"=").decode()}).encode()
        if key == KEY:
            assert len(public_keys(text)) == 1
        else:
            with pytest.raises(BadKey, match="anybody could sign"):
                public_keys(text)
    assert SMALL[0] == ZERO


@pytest.mark.parametrize("key", ODD)
def test_a_key_that_is_encoded_in_another_way_is_refused(key: bytes) -> None:
    assert not ed25519.is_sound(key)
