"""Keys: with what a token's signature is checked, and which keys may check which algorithm.

A shared secret checks HS256, HS384 and HS512, and nothing else; a public key checks the algorithms of its own type, and
never HS. So a token that was signed by HMAC with the public key's text (which everybody knows) finds no key. `none` is
no algorithm here.

Which key: where the token names one (`kid`), that one only. Where it names none, every key of the right type is tried,
at most MAX_TRIED of them.

Signatures are checked by joserfc's algorithms, but those of Ed25519 by our own, for its speed (see `ed25519`).

Source: RFC 7515, RFC 7517, RFC 7518 section 3, RFC 8037, RFC 8725 (the attacks named there).
"""

import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final, Protocol

import msgspec
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import ECKey, Key, KeySet, OctKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from . import ed25519

SECRET_ALGORITHMS: Final = ("HS256", "HS384", "HS512")
PUBLIC_ALGORITHMS: Final = (
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
    "Ed25519",
)
MIN_SECRET: Final = 32
"""Bytes that a shared secret must have: RFC 7518 section 3.2 asks for the size of the hash, 256 bits and more."""
MIN_RSA_BITS: Final = 2048
MAX_KEYS: Final = 100
"""Keys that one file or one JWKS answer may hold."""
MAX_TRIED: Final = 8
Check = Callable[[bytes, bytes], bool]
"""Whether a signature holds: called with what is signed and the signature. Never raises."""
_CURVES: Final = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}


class BadKey(ValueError):
    """A key that is not to be used; the text is one sentence, without the key."""


class KeyEvents(Protocol):
    """Who hears how a source is doing."""

    def on_keys(self, source: str, count: int) -> None:
        """The source's keys are in force; `count` of them."""

    def on_key_trouble(self, source: str, problem: str) -> None:
        """The source could not be read; the older keys stay. `problem` is one sentence."""


class KeyRing:
    """The keys in force. Replaced whole when they change, so a check sees the old keys or the new, never a mixture."""

    def __init__(self, keys: Sequence[Key] = ()) -> None:
        self._by_id: Final[dict[str, list[Key]]] = {}
        self._all: Final = list(keys)
        for key in keys:
            if key.kid is not None:
                self._by_id.setdefault(key.kid, []).append(key)

    def __len__(self) -> int:
        return len(self._all)

    def knows(self, key_id: str) -> bool:
        """Whether a key has this id."""
        return key_id in self._by_id

    def candidates(self, algorithm: str, key_id: str | None) -> list[Key]:
        """The keys that may have signed a token with this algorithm and key id; empty where there is none."""
        if key_id is None:
            keys: Iterable[Key] = self._all
        else:
            # A shared secret has no id, whatever the token says of one.
            keys = self._by_id.get(key_id) or [key for key in self._all if key.kid is None]
        return [key for key in keys if _may_check(key, algorithm)][:MAX_TRIED]

    def checks(self, algorithm: str, key_id: str | None) -> tuple[Check, ...]:
        """What finds out whether one of the `candidates` has signed: some µs to make, so keep it while the ring is in
        force."""
        return tuple(_check(key, algorithm) for key in self.candidates(algorithm, key_id))

    def with_more(self, other: "KeyRing") -> "KeyRing":
        """Both rings' keys."""
        return KeyRing([*self._all, *other._all])


def secret_key(secret: str) -> KeyRing:
    """The ring of a shared secret. Raises BadKey where it is too short to withstand guessing."""
    if len(secret.encode()) < MIN_SECRET:
        raise BadKey(
            f"A shared secret for tokens needs at least {MIN_SECRET} bytes, better all of them random "
            "(portico token secret makes one)."
        )
    return KeyRing([OctKey.import_key(secret.encode())])


def public_keys(text: bytes, *, published: bool = False) -> KeyRing:
    """The ring of a file or an answer: PEM blocks one after another, or a JWK or JWKS in JSON.

    Private keys in a file serve by their public part; where the text is `published`, whoever reads it could sign with
    them, and it is refused. Keys meant for encryption, and types that no algorithm here is of,
    are left out. Raises BadKey where nothing usable is found, or a key is too weak.
    """
    with warnings.catch_warnings():
        # The library warns of weak keys; here they are refused.
        warnings.simplefilter("ignore", SecurityWarning)
        keys = _read_pem(text) if b"-----BEGIN" in text else _read_json(text)
    usable = [key for key in keys if not isinstance(key, OctKey) and key.get("use", "sig") == "sig"]
    for key in usable:
        if published and key.is_private:
            raise BadKey("There is a private key in it, by which whoever reads it could sign; publish the public ones.")
        if isinstance(key, RSAKey) and key.public_key.key_size < MIN_RSA_BITS:
            raise BadKey(f"An RSA key has {key.public_key.key_size} bits; at least {MIN_RSA_BITS} are needed.")
        if isinstance(key, OKPKey) and key.curve_name == "Ed25519" and not ed25519.is_sound(_raw(key)):
            raise BadKey("An Ed25519 key in it is none that belongs to a private one: anybody could sign for it.")
    if not usable:
        raise BadKey("There is no public key for signatures in it: PEM blocks, a JWK or a JWKS are understood.")
    if len(usable) > MAX_KEYS:
        raise BadKey(f"There are {len(usable)} keys in it; at most {MAX_KEYS} are taken.")
    return KeyRing(usable)


def _read_pem(text: bytes) -> list[Key]:
    end = b"-----END "
    blocks: list[bytes] = []
    for part in text.split(b"-----BEGIN ")[1:]:
        body, found, tail = part.partition(end)
        if not found:
            # A file that is being written: with the keys that are there already, tokens of the others would be refused.
            raise BadKey("A PEM block in it has no end.")
        blocks.append(b"-----BEGIN " + body + end + tail.split(b"\n", 1)[0].rstrip() + b"\n")
    return [_imported(block) for block in blocks]


def _imported(block: bytes) -> Key:
    for kind in (RSAKey, ECKey, OKPKey):
        try:
            return kind.import_key(block)
        except (JoseError, ValueError, TypeError):
            continue
    raise BadKey("A PEM block in it is no RSA, EC or Ed25519 key.")


def _read_json(text: bytes) -> list[Key]:
    try:
        found = msgspec.json.decode(text, type=dict[str, object])
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        raise BadKey("It is neither PEM nor a JSON object.") from None
    listed = found.get("keys") if "keys" in found else [found]
    if not isinstance(listed, list):
        raise BadKey("Its `keys` is no list.")
    keys: list[Key] = []
    for each in listed[: MAX_KEYS + 1]:
        if not isinstance(each, dict) or each.get("kty") not in ("RSA", "EC", "OKP"):
            continue
        try:
            keys.extend(KeySet.import_key_set({"keys": [each]}).keys)
        except (JoseError, ValueError, TypeError, KeyError):
            # A key that can't be read (another curve, a broken number) is left out; the others are used.
            continue
    return keys


def _check(key: Key, algorithm: str) -> Check:
    if isinstance(key, OKPKey):
        return ed25519.check_with(_raw(key))
    # Not through the library's registry, which warns at some of the names.
    return partial(_holds, JWSRegistry.algorithms[algorithm].verify, key)


def _holds(verify: Callable[[bytes, bytes, Key], bool], key: Key, signed: bytes, signature: bytes) -> bool:
    try:
        return verify(signed, signature, key)
    except (JoseError, ValueError, TypeError):
        return False


def _raw(key: OKPKey) -> bytes:
    public: bytes = key.public_key.public_bytes_raw()
    return public


def _may_check(key: Key, algorithm: str) -> bool:
    named = key.get("alg")
    if named is not None and named != algorithm:
        return False
    if isinstance(key, OctKey):
        return algorithm in SECRET_ALGORITHMS
    if isinstance(key, RSAKey):
        return algorithm[:2] in ("RS", "PS")
    if isinstance(key, ECKey):
        return _CURVES.get(algorithm) == key.curve_name
    return algorithm in ("EdDSA", "Ed25519") and key.curve_name == "Ed25519"
