"""Tokens: from a JWT to a Proof, or to the reason why not.

A token is checked in this order: its size, its form, its header, its signature, its claims; nothing of a token whose
signature does not hold is looked at but its algorithm and key id. Every refusal has a cause, for metrics and the
audit log, and a sentence for the sender that says no more than is needed to put it right.

Knows keys and clocks as they are handed in; no socket, no file. Checking costs one signature (by Ed25519 55 µs) and
some 10 µs, and a few µs for a token whose signature was found to hold lately: a client that comes back shows the token
that it has. What changes is looked at each time: the keys (any change of them, and no signature is remembered) and the
times. A signer's header is the same in all of its tokens, and is read once.

Source: RFC 7519; RFC 8725 for what to refuse.
"""

import re
from binascii import a2b_base64
from collections.abc import Callable, Collection
from hashlib import sha256
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import astuple

from portico.wire.faults import PeerFault
from portico.wire.messages import check_name
from portico.wire.strict_json import check_keys, decode, fields_of, has_only
from service.core.proof import PATTERN_FIELDS, ROLES, KeyAwaited, NotProven, Patterns, Proof

from .keys import PUBLIC_ALGORITHMS, SECRET_ALGORITHMS, Check, KeyRing

MAX_TOKEN: Final = 8192
"""Characters of a token: as long as a whole request head may be."""
MAX_PATTERNS: Final = 100
REMEMBERED: Final = 16_384
"""Tokens whose signature need not be checked again, at most: some 7 MB, if they are so many."""
HEADERS: Final = 64
"""Headers whose keys are known without reading them again, at most."""

T = TypeVar("T")
S = TypeVar("S", bound=Struct)
Text = Annotated[str, Meta(min_length=1, max_length=256)]
OneOrMore = Text | Annotated[list[Text], Meta(max_length=MAX_PATTERNS)]


_FORM: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*")
_STANDARD: Final = bytes.maketrans(b"-_", b"+/")


class _Header(Struct):
    alg: str
    kid: Annotated[str, Meta(max_length=256)] | UnsetType | None = UNSET
    crit: object = UNSET
    b64: object = UNSET


class _Claims(Struct):
    # Null is no way to leave a claim out: where absence means "any" or "for ever", a signer that has lost what it was
    # to say would give everything away.
    sub: Text | UnsetType = UNSET
    role: str | UnsetType = UNSET
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
    one may come; it must not wait. `on_doubt` likewise hears of one that isn't signed by the key that it names, in
    whose place there may be another.
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
        on_doubt: Callable[[str | None], bool] = lambda key_id: False,
    ) -> None:
        self._keys = keys
        self._wall = wall
        self._issuer = issuer
        self._audience = frozenset(audience)
        self._leeway = leeway
        self._on_unknown_key = on_unknown_key
        self._on_doubt = on_doubt
        # By the token's digest. Two generations: the older is dropped when the newer is full.
        self._verified: dict[bytes, Proof] = {}
        self._verified_before: dict[bytes, Proof] = {}
        self._checks: dict[bytes, tuple[Check, ...]] = {}  # by a header as it is in tokens
        self._verified_by: KeyRing | None = None

    def verify(self, token: str) -> Proof:
        """Check a token, and return what it proves. Raises NotProven, or KeyAwaited while its key is being fetched."""
        if len(token) > MAX_TOKEN:
            raise NotProven("too_long", f"The token is longer than {MAX_TOKEN} characters.")
        if not _FORM.fullmatch(token):
            raise NotProven("malformed", "The token is no signed JWT: three parts of base64url with dots between.")
        if self._verified_by is not (ring := self._keys()):
            self._verified, self._verified_before, self._checks, self._verified_by = {}, {}, {}, ring
        raw = token.encode()
        digest = sha256(raw).digest()
        proof = self._verified.get(digest) or self._verified_before.get(digest)
        if proof is None:
            claims = self._claims(raw, ring)
            # First, so that an expired token is answered as expired, whatever else is wrong with it.
            self._check_times(None, _given(claims.exp))
            self._check_claims(claims)
            proof = _proof_of(claims)
        self._check_times(proof.issued_at, proof.expires_at)
        self._remember(digest, proof)
        return proof

    def _claims(self, token: bytes, ring: KeyRing) -> _Claims:
        """What a token says, once its signature was found to hold."""
        signed, _, signature = token.rpartition(b".")
        head, _, payload = signed.partition(b".")
        self._check_signature(head, signed, _decoded(signature), ring)
        return _read(_claims_decoder, _CLAIM_KEYS, _decoded(payload))

    def _remember(self, digest: bytes, proof: Proof) -> None:
        if digest in self._verified:
            return
        if len(self._verified) >= REMEMBERED // 2:
            self._verified_before, self._verified = self._verified, {}
        self._verified[digest] = proof

    def _check_signature(self, head: bytes, signed: bytes, signature: bytes, ring: KeyRing) -> None:
        checks = self._checks.get(head)
        if checks is not None:
            if not any(check(signed, signature) for check in checks):
                raise self._not_signed(*_header(_decoded(head)))
            return
        algorithm, key_id = _header(_decoded(head))
        checks = ring.checks(algorithm, key_id)
        unknown = not checks if key_id is None else not ring.knows(key_id)
        awaited = unknown and self._on_unknown_key(key_id)
        if any(check(signed, signature) for check in checks):
            # Only headers of tokens that hold are kept, so strangers can't fill this.
            if not unknown:
                if len(self._checks) >= HEADERS:
                    self._checks.clear()
                self._checks[head] = checks
            return
        if awaited:
            raise KeyAwaited
        raise self._not_signed(algorithm, key_id, is_checked=bool(checks))

    def _not_signed(self, algorithm: str, key_id: str | None, *, is_checked: bool = True) -> PeerFault:
        """What to say of a token that isn't signed by a key that is here. `is_checked`: there was one to check it."""
        if algorithm in PUBLIC_ALGORITHMS and self._on_doubt(key_id):
            return KeyAwaited()
        if not is_checked:
            return NotProven("unknown_key", "The token is signed with a key that is not known here.")
        return NotProven("signature", "The token's signature does not hold.")

    def _check_claims(self, claims: _Claims) -> None:
        """What stays as it is once it was so."""
        if claims.nbf is not UNSET and claims.nbf - self._leeway > self._wall():
            raise NotProven("not_yet", "The token is not valid yet.")
        if self._issuer is not None and claims.iss != self._issuer:
            raise NotProven("issuer", "The token is of another issuer.")
        # RFC 7519, section 4.1.3: a token for an audience is refused by a receiver that isn't in it.
        meant = None if claims.aud is UNSET else _patterns(claims.aud)
        if (self._audience or meant is not None) and self._audience.isdisjoint(meant or ()):
            raise NotProven("audience", "The token is for another audience (PORTICO_TOKEN_AUDIENCE).")

    def _check_times(self, issued_at: float | None, expires_at: float | None) -> None:
        now = self._wall()
        if expires_at is not None and expires_at + self._leeway <= now:
            raise NotProven("expired", "The token has expired.")
        if issued_at is not None and issued_at - self._leeway > now:
            raise NotProven("not_yet", "The token was issued in the future.")


def read_claims(payload: bytes) -> Proof:
    """What claims in JSON prove that a trusted party gave without a token around them, as the connect hook does.

    Issuer, audience and `nbf` are not checked, and neither is `exp`: the caller looks at the proof's end. Raises
    NotProven for claims that can't be read.
    """
    return _proof_of(_read(_claims_decoder, _CLAIM_KEYS, payload))


def _proof_of(claims: _Claims) -> Proof:
    role = "client" if claims.role is UNSET else claims.role
    if role not in ROLES:
        raise NotProven("claims", f"The token's `role` must be one of {', '.join(ROLES)}.")
    if role == "client" and claims.sub is UNSET:
        raise NotProven("claims", "The token names no user: `sub` is missing.")
    if claims.sub is not UNSET:
        _check_user(claims.sub)
    fields: dict[str, Patterns] = {}
    for name in PATTERN_FIELDS:
        claim = getattr(claims, name)
        if claim is not UNSET:
            fields[name] = _patterns(claim)
    return Proof(
        _given(claims.sub),
        role,
        fields,
        None if claims.commands is UNSET else _patterns(claims.commands),
        _given(claims.tenant),
        _given(claims.jti),
        _given(claims.iat),
        _given(claims.exp),
    )


def _check_user(user_id: str) -> None:
    """Raises NotProven for a user whom no registration could name, who would become one by the token all the same."""
    try:
        check_name(user_id, "sub")
    except PeerFault as fault:
        raise NotProven("claims", f"The token's claims cannot be read: {fault.message}") from None


def _header(raw: bytes) -> tuple[str, str | None]:
    """The algorithm and the key id that a header names."""
    header = _read(_header_decoder, _HEADER_KEYS, raw)
    if header.crit not in (None, UNSET) or header.b64 not in (None, UNSET):
        raise NotProven("malformed", "The token's header asks for an extension that is not known here (crit).")
    if header.alg not in SECRET_ALGORITHMS and header.alg not in PUBLIC_ALGORITHMS:
        raise NotProven("algorithm", "The token is signed by an algorithm that is not taken here.")
    return header.alg, _given(header.kid)


def _decoded(part: bytes) -> bytes:
    try:
        # As many "=" as may be missing: more than that are passed over.
        return a2b_base64(part.translate(_STANDARD) + b"==")
    except ValueError:
        raise NotProven("malformed", "A part of the token is not base64url.") from None


def _given(claim: T | UnsetType) -> T | None:
    return None if claim is UNSET else claim


def _patterns(claim: str | list[str]) -> Patterns:
    return (claim,) if isinstance(claim, str) else tuple(claim)


def _read(decoder: msgspec.json.Decoder[S], keys: tuple[bytes, ...], payload: bytes) -> S:
    try:
        read = decode(decoder, payload)
        # A claim given twice is read differently by different programs (RFC 8725, section 2.4), so it is refused.
        if not has_only(len(keys) - astuple(read).count(UNSET), payload):
            check_keys(payload, keys, inside=False)
    except PeerFault as fault:
        raise NotProven("claims", f"The token's claims cannot be read: {fault.message}") from None
    return read
