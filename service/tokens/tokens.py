"""Tokens: from a JWT to a Proof, or to the reason why not.

A token is checked in this order: its size, its form, its header, its signature, its claims; nothing of a token whose
signature does not hold is looked at but its algorithm and key id. Every refusal has a cause, for metrics and the
audit log, and a sentence for the sender that says no more than is needed to put it right.

Knows keys and clocks as they are handed in; no socket, no file. Checking costs one signature, some 100 µs, and a few µs
for a token whose signature was found to hold lately: a client that comes back shows the token that it has. What
changes is looked at each time: the keys (any change of them, and no signature is remembered), the times, the audience.

Source: RFC 7519; RFC 8725 for what to refuse.
"""

import re
from base64 import urlsafe_b64decode
from collections.abc import Callable, Collection
from hashlib import sha256
from typing import Annotated, Final, TypeVar

import msgspec
from joserfc.errors import JoseError
from joserfc.jws import JWSRegistry
from msgspec import UNSET, Meta, Struct, UnsetType

from portico.wire.faults import PeerFault
from portico.wire.strict_json import check_keys, decode, fields_of
from service.core.proof import PATTERN_FIELDS, ROLES, KeyAwaited, NotProven, Patterns, Proof, Role

from .keys import PUBLIC_ALGORITHMS, SECRET_ALGORITHMS, KeyRing

MAX_TOKEN: Final = 8192
"""Characters of a token: as long as a whole request head may be."""
MAX_PATTERNS: Final = 100
REMEMBERED: Final = 16_384
"""Tokens whose signature need not be checked again, at most: some 10 MB, if they are so many."""

T = TypeVar("T")
Text = Annotated[str, Meta(min_length=1, max_length=256)]
OneOrMore = Text | Annotated[list[Text], Meta(max_length=MAX_PATTERNS)]


_FORM: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*")


class _Header(Struct):
    alg: str
    kid: Annotated[str, Meta(max_length=256)] | None = None
    crit: object = None
    b64: object = None


class _Claims(Struct):
    # Null is no way to leave a claim out: where absence means "any" or "for ever", a signer that has lost what it was
    # to say would give everything away.
    sub: Text | UnsetType = UNSET
    role: str = "client"
    exp: float | UnsetType = UNSET
    nbf: float | UnsetType = UNSET
    iat: float | UnsetType = UNSET
    iss: Text | UnsetType = UNSET
    aud: OneOrMore | UnsetType = UNSET
    jti: Text | UnsetType = UNSET
    tenant: Text | UnsetType = UNSET
    client_id: OneOrMore | UnsetType = UNSET
    node_id: OneOrMore | UnsetType = UNSET
    domain_id: OneOrMore | UnsetType = UNSET
    cluster_id: OneOrMore | UnsetType = UNSET
    channel_id: OneOrMore | UnsetType = UNSET
    commands: OneOrMore | UnsetType = UNSET


_header_decoder: Final = msgspec.json.Decoder(_Header)
_claims_decoder: Final = msgspec.json.Decoder(_Claims)
_HEADER_KEYS: Final = fields_of(_Header)
_CLAIM_KEYS: Final = fields_of(_Claims)


class TokenVerifier:
    """Checks tokens against the keys in force.

    `keys` gives the ring of the moment. `issuer` and `audience`: what the token must name (None: not asked). `leeway`
    in seconds, for clocks that differ. `wall` is Unix time. `on_unknown_key` hears of a token whose key is not there
    (its id; None where it names none), so that keys which have just been rotated in can be fetched, and says whether
    one may come; it must not wait.
    """

    def __init__(
        self,
        keys: Callable[[], KeyRing],
        *,
        wall: Callable[[], float],
        issuer: str | None = None,
        audience: Collection[str] = (),
        leeway: float = 30.0,
        on_unknown_key: Callable[[str | None], bool] = lambda key_id: False,
    ) -> None:
        self._keys = keys
        self._wall = wall
        self._issuer = issuer
        self._audience = frozenset(audience)
        self._leeway = leeway
        self._on_unknown_key = on_unknown_key
        # By the token's digest. Two generations: the older is dropped when the newer is full.
        self._verified: dict[bytes, _Claims] = {}
        self._verified_before: dict[bytes, _Claims] = {}
        self._verified_by: KeyRing | None = None

    def verify(self, token: str) -> Proof:
        """The proof that a token is. Raises NotProven; KeyAwaited where it may be one in a moment."""
        if len(token) > MAX_TOKEN:
            raise NotProven("too_long", f"The token is longer than {MAX_TOKEN} characters.")
        if not _FORM.fullmatch(token):
            raise NotProven("malformed", "The token is no signed JWT: three parts of base64url with dots between.")
        if self._verified_by is not (ring := self._keys()):
            self._verified, self._verified_before, self._verified_by = {}, {}, ring
        digest = sha256(token.encode()).digest()
        claims = self._verified.get(digest) or self._verified_before.get(digest)
        if claims is None:
            claims = self._claims(token)
        proof = self._proof(claims)
        self._remember(digest, claims)
        return proof

    def _claims(self, token: str) -> _Claims:
        """What a token says, once its signature was found to hold."""
        head, payload, signature = map(_decoded, token.split("."))
        self._check_signature(token.rpartition(".")[0].encode(), signature, _header(head))
        return _read(_claims_decoder, _CLAIM_KEYS, payload)

    def _remember(self, digest: bytes, claims: _Claims) -> None:
        if digest in self._verified:
            return
        if len(self._verified) >= REMEMBERED // 2:
            self._verified_before, self._verified = self._verified, {}
        self._verified[digest] = claims

    def _check_signature(self, signed: bytes, signature: bytes, header: _Header) -> None:
        if header.alg not in SECRET_ALGORITHMS and header.alg not in PUBLIC_ALGORITHMS:
            raise NotProven("algorithm", "The token is signed by an algorithm that is not taken here.")
        ring = self._keys()
        candidates = ring.candidates(header.alg, header.kid)
        unknown = not candidates if header.kid is None else not ring.knows(header.kid)
        awaited = unknown and self._on_unknown_key(header.kid)
        # Not through the library's registry, which warns at every token that says `EdDSA` instead of `Ed25519`.
        algorithm = JWSRegistry.algorithms[header.alg]
        for key in candidates:
            try:
                if algorithm.verify(signed, signature, key):
                    return
            except (JoseError, ValueError, TypeError):
                continue
        if awaited:
            raise KeyAwaited
        if not candidates:
            raise NotProven("unknown_key", "The token is signed with a key that is not known here.")
        raise NotProven("signature", "The token's signature does not hold.")

    def _proof(self, claims: _Claims) -> Proof:
        now = self._wall()
        if claims.exp is not UNSET and claims.exp + self._leeway <= now:
            raise NotProven("expired", "The token has expired.")
        if claims.nbf is not UNSET and claims.nbf - self._leeway > now:
            raise NotProven("not_yet", "The token is not valid yet.")
        if claims.iat is not UNSET and claims.iat - self._leeway > now:
            raise NotProven("not_yet", "The token was issued in the future.")
        if self._issuer is not None and claims.iss != self._issuer:
            raise NotProven("issuer", "The token is of another issuer.")
        # RFC 7519, section 4.1.3: a token for an audience is refused by whoever doesn't know itself to be in it.
        if (self._audience or claims.aud is not UNSET) and self._audience.isdisjoint(_several(claims.aud) or ()):
            raise NotProven("audience", "The token is for another audience (PORTICO_TOKEN_AUDIENCE).")
        return _proof_of(claims)


def read_claims(payload: bytes) -> Proof:
    """The proof that claims are which somebody trusted has given, as JSON, without a token around them: for whom they
    are meant, by whom, and from when on, is not asked. Raises NotProven where they can't be read. Their
    end is looked at by whoever asked."""
    return _proof_of(_read(_claims_decoder, _CLAIM_KEYS, payload))


def _proof_of(claims: _Claims) -> Proof:
    if claims.role not in ROLES:
        raise NotProven("claims", f"The token's `role` must be one of {', '.join(ROLES)}.")
    role: Role = claims.role
    if role == "client" and claims.sub is UNSET:
        raise NotProven("claims", "The token names no user: `sub` is missing.")
    fields: dict[str, Patterns] = {}
    for name in PATTERN_FIELDS:
        allowed = _several(getattr(claims, name))
        if allowed is not None:
            fields[name] = allowed
    return Proof(
        user_id=_given(claims.sub),
        role=role,
        fields=fields,
        commands=_several(claims.commands),
        tenant=_given(claims.tenant),
        token_id=_given(claims.jti),
        issued_at=_given(claims.iat),
        expires_at=_given(claims.exp),
    )


def _header(raw: bytes) -> _Header:
    header = _read(_header_decoder, _HEADER_KEYS, raw)
    if header.crit is not None or header.b64 is not None:
        raise NotProven("malformed", "The token's header asks for an extension that is not known here (crit).")
    return header


def _decoded(part: str) -> bytes:
    try:
        return urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except ValueError:
        raise NotProven("malformed", "A part of the token is not base64url.") from None


def _given(claim: T | UnsetType) -> T | None:
    return None if claim is UNSET else claim


def _several(claim: str | list[str] | UnsetType) -> Patterns | None:
    if claim is UNSET:
        return None
    return (claim,) if isinstance(claim, str) else tuple(claim)


def _read(decoder: msgspec.json.Decoder[T], keys: tuple[bytes, ...], payload: bytes) -> T:
    try:
        # A claim given twice is read differently by different programs (RFC 8725, section 2.4), so it is refused.
        check_keys(payload, keys, inside=False)
        return decode(decoder, payload)
    except PeerFault as fault:
        raise NotProven("claims", f"The token's claims cannot be read: {fault.message}") from None
