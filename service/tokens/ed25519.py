"""Ed25519: the signatures of tokens by EdDSA, checked by libsodium, which takes half of OpenSSL's time.

The signature is what a token that was never seen costs: OpenSSL, by which joserfc has it checked, takes 105 µs, and
libsodium 55 µs. Everything else of a token (which keys may check it, its header, its claims) is the same for every
algorithm, and not known here.

At least as strict as OpenSSL: what libsodium accepts, OpenSSL accepts. Beyond that it refuses keys and first halves of
signatures that are points of small order or not encoded in the one way; keys are looked at once, when they are read
(`is_sound`). By a key of small order anybody can sign.

Source: RFC 8032 section 5.1.7; RFC 8037.
"""

from collections.abc import Callable
from typing import Final

from nacl.bindings import crypto_core_ed25519_is_valid_point, crypto_sign_BYTES, crypto_sign_open
from nacl.exceptions import BadSignatureError

SIGNATURE: Final[int] = crypto_sign_BYTES
"""Bytes of a signature."""


def is_sound(public_key: bytes) -> bool:
    """Whether it is a point of the group that keys are of: no small order, no part of small order, encoded in the one
    way. Every key that was made from a private one is."""
    return crypto_core_ed25519_is_valid_point(public_key)


def check_with(public_key: bytes) -> Callable[[bytes, bytes], bool]:
    """A function `check(text, signature)` that says whether a signature holds by this key of 32 bytes. Never raises."""

    def check(text: bytes, signature: bytes) -> bool:
        # libsodium takes both as one string: with another length the signature would end elsewhere in the same bytes.
        if len(signature) != SIGNATURE:
            return False
        try:
            crypto_sign_open(signature + text, public_key)
        except BadSignatureError:
            return False
        return True

    return check
